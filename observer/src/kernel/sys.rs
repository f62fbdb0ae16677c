//! The bpf(2) calls that aya has no name for: batches of a hash map, iterators over a map, and what a program cost. Also the clock that the
//! programs stamp with, and the number of CPUs that they index by.

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_info};
use std::{
    fs, io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of `bpf_ktime_get_ns`.
pub fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("every Linux has CLOCK_MONOTONIC");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Nanoseconds that the calling thread has had a CPU.
pub fn thread_ns() -> u64 {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    let ran = nix::time::clock_gettime(clock).expect("every Linux has CLOCK_THREAD_CPUTIME_ID");
    ran.tv_sec() as u64 * 1_000_000_000 + ran.tv_nsec() as u64
}

/// One more than the largest number of a CPU that is plugged in. Not of the possible ones: a hypervisor may name 128 for a
/// machine of four, and every slot has books for each.
pub fn present_cpus() -> io::Result<u32> {
    cpus_in("/sys/devices/system/cpu/present")
}

/// One more than the largest number of a CPU that may ever be plugged in.
pub(super) fn possible_cpus() -> io::Result<u32> {
    cpus_in("/sys/devices/system/cpu/possible")
}

fn cpus_in(path: &str) -> io::Result<u32> {
    let text = fs::read_to_string(path)?;
    cpus_of(&text).ok_or_else(|| io::Error::other(format!("{path} holds {text:?}, which is no list of CPUs")))
}

/// The end of a list such as `0-7` or `0,2-3`.
fn cpus_of(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u32>().ok()).map(|last| last + 1)
}

pub(super) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: every caller fills the part of `attr` that the command reads, with pointers that outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Reads all entries of a hash map, a few hundred at a time. `K` and `V` must be plain data of the map's own sizes.
pub(super) fn read_hash<K: aya::Pod + Default, V: aya::Pod + Default>(
    map: BorrowedFd<'_>,
    keys: &mut Vec<K>,
    values: &mut Vec<V>,
) -> io::Result<()> {
    batches(bpf_cmd::BPF_MAP_LOOKUP_BATCH, map, keys, values)
}

/// Takes all entries out of a hash map. After an error, `keys` and `values` hold what had been taken out before.
pub(super) fn take_hash<K: aya::Pod + Default, V: aya::Pod + Default>(
    map: BorrowedFd<'_>,
    keys: &mut Vec<K>,
    values: &mut Vec<V>,
) -> io::Result<()> {
    batches(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_BATCH, map, keys, values)
}

fn batches<K: aya::Pod + Default, V: aya::Pod + Default>(
    command: bpf_cmd,
    map: BorrowedFd<'_>,
    keys: &mut Vec<K>,
    values: &mut Vec<V>,
) -> io::Result<()> {
    keys.clear();
    values.clear();
    let mut chunk = 256;
    let mut position = 0u32;
    let mut started = false;
    loop {
        let at = keys.len();
        keys.resize(at + chunk, K::default());
        values.resize(at + chunk, V::default());
        let mut next = 0u32;
        // SAFETY: all zeroes is a valid `bpf_attr`.
        let mut attr: bpf_attr = unsafe { mem::zeroed() };
        // SAFETY: the member of the union that both commands read.
        let batch = unsafe { &mut attr.batch };
        batch.in_batch = if started { (&raw const position) as u64 } else { 0 };
        batch.out_batch = (&raw mut next) as u64;
        batch.keys = keys[at..].as_mut_ptr() as u64;
        batch.values = values[at..].as_mut_ptr() as u64;
        batch.count = chunk as u32;
        batch.map_fd = map.as_raw_fd() as u32;
        let result = bpf(command, &mut attr);
        // SAFETY: the kernel wrote how many entries it copied.
        let count = unsafe { attr.batch.count } as usize;
        let finished = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                // One bucket holds more than the room given: again, with more.
                keys.truncate(at);
                values.truncate(at);
                chunk *= 4;
                continue;
            }
            Err(error) => {
                keys.truncate(at);
                values.truncate(at);
                return Err(error);
            }
        };
        keys.truncate(at + count);
        values.truncate(at + count);
        if finished {
            return Ok(());
        }
        position = next;
        started = true;
    }
}

/// Links an iterator over the elements of maps with one map.
pub(super) fn link_map_iterator(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: all zeroes is a valid `bpf_attr`.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    // `union bpf_iter_link_info`, of which this is all that an iterator over elements has.
    let map_fd = map.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
    attr.link_create.__bindgen_anon_3.__bindgen_anon_1.iter_info = (&raw const map_fd) as u64;
    attr.link_create.__bindgen_anon_3.__bindgen_anon_1.iter_info_len = size_of_val(&map_fd) as u32;
    descriptor(bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)?)
}

/// A pass of a linked iterator: a file to be read to its end.
pub(super) fn begin_iterator(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: all zeroes is a valid `bpf_attr`.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    attr.iter_create.link_fd = link.as_raw_fd() as u32;
    descriptor(bpf(bpf_cmd::BPF_ITER_CREATE, &mut attr)?)
}

fn descriptor(result: i64) -> io::Result<OwnedFd> {
    let number = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: a descriptor that bpf(2) has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What the kernel tells of a program.
pub(super) fn program_info(program: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    // SAFETY: all zeroes is valid for both.
    let (mut attr, mut info): (bpf_attr, bpf_prog_info) = unsafe { (mem::zeroed(), mem::zeroed()) };
    // SAFETY: the member of the union that BPF_OBJ_GET_INFO_BY_FD reads.
    let request = unsafe { &mut attr.info };
    request.bpf_fd = program.as_raw_fd() as u32;
    request.info = (&raw mut info) as u64;
    request.info_len = size_of::<bpf_prog_info>() as u32;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_a_cpu() {
        assert!(present_cpus().unwrap() >= 1);
        assert!(possible_cpus().unwrap() >= present_cpus().unwrap());
    }

    #[test]
    fn a_list_of_cpus_ends_with_the_largest() {
        for (list, cpus) in [("0\n", 1), ("0-7\n", 8), ("0,2-3", 4), ("0-3,8", 9)] {
            assert_eq!(cpus_of(list), Some(cpus), "{list:?}");
        }
        assert_eq!(cpus_of("\n"), None);
    }
}
