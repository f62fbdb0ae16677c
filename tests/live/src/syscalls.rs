//! The system calls that no safe wrapper offers: bpf(2), the offload ioctls, vfork, packet sockets, handles of
//! processes, sockets that are connected to nobody again or send options. The only unsafe code of the live tests.
#![allow(unsafe_code, reason = "thin wrappers over system calls; each block says why it is sound")]

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    sched::CloneFlags,
    sys::{
        prctl::set_pdeathsig,
        signal::Signal,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use std::{
    io,
    net::{TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::Command,
    time::Duration,
};

/// A command of bpf(2).
#[derive(Clone, Copy)]
enum BpfCommand {
    ProgLoad = 5,
    ProgGetFdById = 13,
    MapGetFdById = 14,
    LinkCreate = 28,
    LinkGetFdById = 30,
}

/// A kernel object that has an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum BpfKind {
    Program,
    Map,
    Link,
}

fn bpf(command: BpfCommand, attributes: &mut [u64]) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are plain words with the size that is passed along; every pointer in them outlives the
    // call. Each command used here returns a new descriptor or -1.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, command as i32, attributes.as_mut_ptr(), size_of_val(attributes));
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as RawFd)) }
    }
}

/// From now on each packet of an IPv6 socket has a header of options for the destination, which say nothing: eight bytes more.
pub(crate) fn send_with_options(socket: &TcpStream) -> Result<(), Errno> {
    const PADDING: u8 = 1;
    let options = [0u8, 0, PADDING, 4, 0, 0, 0, 0];
    // SAFETY: the options outlive the call, which copies them; the descriptor is open.
    Errno::result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_DSTOPTS,
            options.as_ptr().cast(),
            options.len() as u32,
        )
    })
    .map(drop)
}

/// Connects a socket of datagrams to nobody.
pub(crate) fn disconnect(socket: &UdpSocket) -> Result<(), Errno> {
    // An address without family, of as many bytes as the longest has.
    let nobody = [0u8; size_of::<libc::sockaddr_in6>()];
    // SAFETY: the address outlives the call, which reads as many bytes of it as it is told; the descriptor is open.
    Errno::result(unsafe { libc::connect(socket.as_raw_fd(), nobody.as_ptr().cast(), nobody.len() as u32) }).map(drop)
}

/// Whether the kernel still has the object.
pub(crate) fn bpf_object_exists(kind: BpfKind, id: u32) -> Result<bool> {
    let command = match kind {
        BpfKind::Program => BpfCommand::ProgGetFdById,
        BpfKind::Map => BpfCommand::MapGetFdById,
        BpfKind::Link => BpfCommand::LinkGetFdById,
    };
    match bpf(command, &mut [u64::from(id), 0]) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("look for {kind:?} {id}")),
    }
}

/// Loads a traffic-control program of raw instructions.
pub(crate) fn load_classifier(instructions: &[u64]) -> io::Result<OwnedFd> {
    const SCHED_CLS: u64 = 3;
    let licence = c"MIT";
    let mut attributes = [0u64; 8];
    attributes[0] = SCHED_CLS | ((instructions.len() as u64) << 32);
    attributes[1] = instructions.as_ptr() as u64;
    attributes[2] = licence.as_ptr() as u64;
    bpf(BpfCommand::ProgLoad, &mut attributes)
}

/// Attaches a classifier to what a device of the current namespace receives, until the link is dropped (6.6 and later).
pub(crate) fn attach_to_ingress(program: BorrowedFd<'_>, device_index: u32) -> io::Result<OwnedFd> {
    const TCX_INGRESS: u64 = 46;
    let mut attributes = [0u64; 4];
    attributes[0] = program.as_raw_fd() as u64 | (u64::from(device_index) << 32);
    attributes[1] = TCX_INGRESS;
    bpf(BpfCommand::LinkCreate, &mut attributes)
}

nix::ioctl_readwrite_bad!(siocethtool, libc::SIOCETHTOOL, libc::ifreq);

/// Sends words, of which the first is the command, to a device's ethtool interface and reads them back.
fn ethtool(device: &str, words: &mut [u32]) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        bail!("{device} is too long for a device's name");
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the request is whole; the words are as many as each command here reads and writes, and outlive the call.
    unsafe { siocethtool(socket.as_raw_fd(), &raw mut request) }.with_context(|| format!("set up {device}"))?;
    Ok(())
}

/// Turns segmentation and receive offloads of a device of the current namespace on or off.
pub(crate) fn set_offloads(device: &str, on: bool) -> Result<()> {
    const SET_TSO: u32 = 0x1f;
    const SET_GSO: u32 = 0x24;
    const SET_GRO: u32 = 0x2c;
    const SET_FEATURES: u32 = 0x3b;
    for command in [SET_TSO, SET_GSO, SET_GRO] {
        ethtool(device, &mut [command, on.into()])?;
    }
    // UDP's has no command of its own: it is a bit among the features.
    let (blocks, bit) = feature(device, "tx-udp-segmentation")?;
    let mut words = vec![0; 2 + 2 * blocks];
    words[0] = SET_FEATURES;
    words[1] = blocks as u32;
    words[2 + bit / 32 * 2] = 1 << (bit % 32);
    words[3 + bit / 32 * 2] = u32::from(on) << (bit % 32);
    ethtool(device, &mut words)
}

/// How many blocks of 32 features a device has, and which one has this name.
fn feature(device: &str, name: &str) -> Result<(usize, usize)> {
    const SET_INFO: u32 = 0x37;
    const STRINGS: u32 = 0x1b;
    const FEATURES: u32 = 4;
    const NAME: usize = 32;
    let mut words = [SET_INFO, 0, 1 << FEATURES, 0, 0];
    ethtool(device, &mut words)?;
    let count = words[4] as usize;
    let mut words = vec![0; 3 + count * NAME / 4];
    (words[0], words[1], words[2]) = (STRINGS, FEATURES, count as u32);
    ethtool(device, &mut words)?;
    let names: Vec<u8> = words[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let bit = names
        .chunks(NAME)
        .position(|text| text.split(|byte| *byte == 0).next() == Some(name.as_bytes()))
        .with_context(|| format!("{device} knows no feature {name}"))?;
    Ok((count.div_ceil(32), bit))
}

/// One instruction of the packet filter: operation, jumps, operand.
pub(crate) type FilterStep = (u16, u8, u8, u32);

/// A packet socket that hands over the frames of one device that pass the filter, both directions.
pub(crate) fn packet_socket(device_index: u32, filter: &[FilterStep]) -> Result<OwnedFd> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // Bound only after the filter is in place, so that no frame slips past it: protocol 0 receives nothing.
    // SAFETY: no pointers; the result is checked.
    let fd = Errno::result(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })
        .context("open a packet socket")?;
    // SAFETY: a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut steps: Vec<libc::sock_filter> =
        filter.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program and its steps outlive the call; the kernel copies them.
    Errno::result(unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as u32,
        )
    })
    .context("attach a filter to a packet socket")?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: device_index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address outlives the call and its size is right.
    Errno::result(unsafe { libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as u32) })
        .context("bind a packet socket")?;
    Ok(socket)
}

/// Which way a frame went, and its whole length.
pub(crate) struct Frame {
    pub(crate) outgoing: bool,
    pub(crate) bytes: u64,
}

/// The next frame; `None` when there is none.
pub(crate) fn next_frame(socket: BorrowedFd<'_>) -> Result<Option<Frame>> {
    let mut byte = [0u8; 1];
    // SAFETY: all zero is a valid address.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut from_bytes = size_of_val(&from) as u32;
    // SAFETY: buffer and address are ours, with their sizes.
    let length = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            byte.as_mut_ptr().cast(),
            byte.len(),
            libc::MSG_TRUNC | libc::MSG_DONTWAIT,
            (&raw mut from).cast(),
            &raw mut from_bytes,
        )
    };
    match Errno::result(length) {
        Ok(length) => Ok(Some(Frame { outgoing: from.sll_pkttype == libc::PACKET_OUTGOING, bytes: length as u64 })),
        // Said once, of the time before the device was up.
        Err(Errno::ENETDOWN) => next_frame(socket),
        Err(Errno::EAGAIN) => Ok(None),
        Err(error) => Err(error).context("read a packet socket"),
    }
}

/// Takes over a descriptor that came out of a control message.
pub(crate) fn own_received(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Sleeps in a child that shares our memory; we are in uninterruptible sleep until it exits. Returns the child, which
/// has to be waited for.
pub(crate) fn vfork_and_sleep(length: Duration) -> Result<Pid> {
    let mut stack = vec![0u8; 256 * 1024];
    let until = libc::timespec { tv_sec: length.as_secs().cast_signed(), tv_nsec: length.subsec_nanos().into() };
    let child = Box::new(move || {
        // SAFETY: the child shares our memory but runs alone, on a stack of its own, and calls nothing but the kernel.
        unsafe {
            libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const until, std::ptr::null_mut());
            libc::_exit(0)
        }
    });
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    // SAFETY: with CLONE_VFORK we only go on when the child is gone, so stack and closure outlive it.
    unsafe { nix::sched::clone(child, &mut stack, flags, Some(libc::SIGCHLD)) }.context("vfork")
}

/// Starts a child that exits at once; the caller waits for it.
pub(crate) fn fork_and_exit() -> Result<Pid> {
    // SAFETY: this process has one thread; the child only exits.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => Ok(child),
        // SAFETY: ends the child without running anything of ours.
        ForkResult::Child => unsafe { libc::_exit(0) },
    }
}

/// A handle of a process, which never comes to mean another.
pub(crate) fn open_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a result that is no error is a new descriptor.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as RawFd)) }
    }
}

/// Sends a signal to a process; 0 only asks whether it is there.
pub(crate) fn signal_process(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let nothing: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the kernel takes the missing details as those of kill(2).
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has a command's process killed when the thread that starts it ends, until it changes its user.
pub(crate) fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only a system call is made.
    unsafe {
        command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
    }
}

/// Collects every child that has ended; true when there is none left.
pub(crate) fn reap_all() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(nix::sys::wait::WaitStatus::StillAlive) => return false,
            Ok(_) => {}
            Err(_) => return true,
        }
    }
}

/// Gives the calling process a niceness.
pub(crate) fn set_niceness(niceness: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives the calling thread a scheduling policy, and its priority in that.
pub(crate) fn set_policy(policy: i32, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters outlive the call.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
