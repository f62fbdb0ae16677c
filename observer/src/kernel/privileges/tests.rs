//! Dropping is tried in a forked child: what is gone is gone. The child tells what it found through a pipe.

use super::user::choose;
use super::*;
use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, geteuid, setresuid};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};

/// Runs `act` in a child and returns what it wrote.
fn in_child(act: impl FnOnce() -> String) -> String {
    let (mut reader, mut writer) = io::pipe().unwrap();
    // SAFETY: the child allocates, which glibc allows after a fork, takes no lock that another test could hold (no output
    // of the test harness), and ends by _exit.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            let told = told.unwrap_or_else(|_| "panicked".into());
            let sent = writer.write_all(told.as_bytes());
            // SAFETY: ends the child without running the harness's exit handlers.
            unsafe { libc::_exit(i32::from(sent.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut told = String::new();
            reader.read_to_string(&mut told).unwrap();
            waitpid(child, None).unwrap();
            told
        }
    }
}

fn is_root() -> bool {
    let root = geteuid().is_root() && caps::has_cap(None, CapSet::Effective, Capability::CAP_SETUID).unwrap_or(false);
    if !root {
        eprintln!("skipped: needs root with CAP_SETUID to have something to drop");
    }
    root
}

fn status(field: &str) -> String {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    text.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned()
}

/// Creates an array map, which bpf(2) lets only holders of `CAP_BPF` do here.
fn bpf_map() -> io::Result<OwnedFd> {
    const BPF_MAP_CREATE: libc::c_long = 0;
    let mut attributes = [0_u32; 18];
    attributes[..4].copy_from_slice(&[2, 4, 8, 1]); // array, key and value bytes, entries
    let size = size_of_val(&attributes);
    // SAFETY: the attributes outlive the call, and the kernel reads `size` bytes of them.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, attributes.as_ptr(), size) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[test]
fn everything_is_gone_after_the_drop() {
    if !is_root() {
        return;
    }
    let told = in_child(|| {
        let dropped = drop_everything(Some(NOBODY), false).unwrap();
        assert_eq!(dropped, Dropped { uid: 65534, bpf_kept: false, bounding_cleared: true });
        // What a process with privileges could do, and what would get them back.
        let root_again = setresuid(0.into(), 0.into(), 0.into()).is_ok();
        let reads_shadow = File::open("/etc/shadow").is_ok();
        let makes_maps = bpf_map().is_ok();
        let raises = caps::raise(None, CapSet::Effective, Capability::CAP_BPF).is_ok();
        let dumpable = nix::sys::prctl::get_dumpable().unwrap();
        let fields = ["Uid:", "Gid:", "Groups:", "CapEff:", "CapPrm:", "CapInh:", "CapAmb:", "CapBnd:", "NoNewPrivs:"];
        format!("{root_again} {reads_shadow} {makes_maps} {raises} {dumpable} {:?}", fields.map(status))
    });
    let ids = "65534\\t65534\\t65534\\t65534";
    let none = "0000000000000000";
    assert_eq!(
        told,
        format!(
            "false false false false false [\"{ids}\", \"{ids}\", \"\", \"{none}\", \"{none}\", \"{none}\", \"{none}\", \"{none}\", \"1\"]"
        )
    );
}

#[test]
fn only_cap_bpf_is_left_when_it_is_to_be_kept() {
    if !is_root() || bpf_map().is_err() {
        return;
    }
    let told = in_child(|| {
        let dropped = drop_everything(Some(NOBODY), true).unwrap();
        let makes_maps = bpf_map().is_ok();
        format!("{} {} {} {makes_maps} {}", dropped.bpf_kept, status("CapEff:"), status("CapPrm:"), status("Uid:"))
    });
    let bpf = format!("{:016x}", Capability::CAP_BPF.bitmask());
    assert_eq!(told, format!("true {bpf} {bpf} true 65534\t65534\t65534\t65534"));
}

#[test]
fn the_user_can_be_kept_while_the_capabilities_go() {
    if !is_root() {
        return;
    }
    let told = in_child(|| {
        let dropped = drop_everything(None, false).unwrap();
        format!("{} {} {}", dropped.uid, status("CapEff:"), bpf_map().is_ok())
    });
    assert_eq!(told, "0 0000000000000000 false");
}

#[test]
fn a_second_drop_without_privileges_is_fine() {
    let told = in_child(|| {
        let first = drop_everything(None, false).is_ok();
        let second = drop_everything(None, false).unwrap();
        format!("{first} {}", second.bounding_cleared)
    });
    assert_eq!(told, "true false");
}

#[test]
fn a_process_of_several_threads_is_refused() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let waiting = std::thread::spawn(move || receiver.recv());
    let error = drop_everything(None, false).unwrap_err();
    drop(sender);
    waiting.join().unwrap().unwrap_err();
    assert!(matches!(error, DropError::Threads { count } if count > 1), "{error}");
}

#[test]
fn a_user_without_the_right_is_told_so() {
    if !is_root() {
        return;
    }
    let told = in_child(|| {
        drop_everything(Some(NOBODY), false).unwrap();
        drop_everything(Some(User { uid: 1, gid: 1 }), false).unwrap_err().to_string()
    });
    assert!(told.starts_with("cannot drop privileges: setgroups: EPERM"), "{told}");
}

#[test]
fn the_trial_runs_without_capabilities_and_gives_them_back() {
    if !is_root() {
        return;
    }
    let told = in_child(|| {
        let before = status("CapEff:");
        let needs = reading_needs_bpf(|| bpf_map().is_ok()).unwrap();
        let needs_not = reading_needs_bpf(|| status("CapEff:") == "0000000000000000").unwrap();
        format!("{needs} {needs_not} {}", status("CapEff:") == before)
    });
    assert_eq!(told, "true false true");
}

const DATABASE: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\nalso:x:1\nnobody:x:65534:65533::/:/sbin/nologin\n\
                        observer:x:990:980::/:/bin/false\nodd:x:4294967295:0::/:\n";

#[test]
fn users_are_found_by_name_and_number() {
    let by = |flag| choose(flag, DATABASE, 0);
    assert_eq!(by(None), Ok(Some(User { uid: 65534, gid: 65533 })));
    assert_eq!(by(Some("keep")), Ok(None));
    assert_eq!(by(Some("observer")), Ok(Some(User { uid: 990, gid: 980 })));
    assert_eq!(by(Some("990")), Ok(Some(User { uid: 990, gid: 980 })));
    assert_eq!(by(Some("1234")), Ok(Some(User { uid: 1234, gid: 1234 })));
    assert_eq!(choose(None, "", 0), Ok(Some(NOBODY)), "no database: an empty image");
    for unknown in ["nemo", "odd", "also", "broken", ""] {
        assert_eq!(by(Some(unknown)), Err(UserError::Unknown { name: unknown.into() }));
    }
    for number in ["4294967295", "12x", "99999999999"] {
        assert_eq!(by(Some(number)), Err(UserError::Number { number: number.into() }));
    }
}

#[test]
fn only_root_becomes_somebody_else() {
    assert_eq!(choose(None, DATABASE, 990), Ok(None));
    assert_eq!(choose(Some("observer"), DATABASE, 990), Ok(None));
    assert_eq!(choose(Some("nobody"), DATABASE, 990), Err(UserError::NotRoot { name: "nobody".into() }));
}

#[test]
fn each_feature_names_what_it_misses() {
    use Capability::{CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN};
    let missing = |held: &[Capability], feature| Held::of(held, "6.8.0-49-generic").missing_for(feature);
    assert_eq!(missing(&[], Feature::Bytes), [CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON]);
    assert_eq!(missing(&[CAP_BPF, CAP_NET_ADMIN], Feature::Bytes), [CAP_PERFMON]);
    assert_eq!(missing(&[CAP_BPF], Feature::Scheduler), [CAP_PERFMON]);
    assert_eq!(missing(&[CAP_BPF, CAP_PERFMON], Feature::CgroupEvents), []);
    assert_eq!(missing(&[CAP_SYS_ADMIN], Feature::Scheduler), []);
    assert_eq!(missing(&[CAP_SYS_ADMIN], Feature::Bytes), [CAP_NET_ADMIN]);
    assert_eq!(missing(&[CAP_SYS_ADMIN, CAP_NET_ADMIN], Feature::Bytes), []);
    assert_eq!(Held::of(&[CAP_SYS_ADMIN], "6.9.0").missing_for(Feature::Bytes), []);
    assert_eq!(Held::of(&[CAP_SYS_ADMIN], "unknown").missing_for(Feature::Bytes), [CAP_NET_ADMIN]);
    assert_eq!(Held::of(&[CAP_SYS_ADMIN], "6.9.0").stands_in(Feature::Bytes), [CAP_SYS_ADMIN]);
    assert_eq!(Held::of(&[CAP_SYS_ADMIN, CAP_BPF], "6.9.0").stands_in(Feature::Scheduler), [CAP_BPF, CAP_SYS_ADMIN]);
    assert_eq!(Held::of(&[CAP_PERFMON, CAP_BPF], "6.9.0").stands_in(Feature::Scheduler), [CAP_BPF, CAP_PERFMON]);
    assert_eq!(listed(&[CAP_BPF]), "CAP_BPF");
    assert_eq!(listed(&[CAP_BPF, CAP_NET_ADMIN]), "CAP_BPF and CAP_NET_ADMIN");
    assert_eq!(listed(&[CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON]), "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
}
