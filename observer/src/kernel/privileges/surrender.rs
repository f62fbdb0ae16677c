//! Giving the privileges up, for the whole process and for good.

use super::User;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::fs;
use std::io;

const STATUS: &str = "/proc/self/status";

/// Why the privileges could not be given up. The agent must not go on.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// Capabilities belong to threads: with more than one, the others would keep theirs.
    #[error(
        "cannot drop privileges: {count} threads run already, and only the calling one would lose them; this is a bug, report it"
    )]
    Threads {
        /// How many there are.
        count: u64,
    },
    /// A system call refused.
    #[error(
        "cannot drop privileges: {step}: {reason}; start with --user keep, or give the capabilities CAP_SETUID, CAP_SETGID and CAP_SETPCAP"
    )]
    Refused {
        /// What was tried.
        step: &'static str,
        /// The system's words.
        reason: String,
    },
    /// The kernel's account of this process is not what it should be now.
    #[error(
        "privileges are still there after the drop: {field} of {STATUS} is {found}, not {expected}; this is a bug, report it"
    )]
    Remains {
        /// The line of the status file.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// /proc is not there to verify by.
    #[error("cannot verify that privileges are gone: {STATUS}: {reason}; mount /proc")]
    Unverified {
        /// The system's words.
        reason: String,
    },
}

/// What the process is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its user id.
    pub uid: u32,
    /// Whether `CAP_BPF` is left.
    pub bpf_kept: bool,
    /// Whether the bounding set is empty too; without `CAP_SETPCAP` it cannot be changed, which `no_new_privs` makes up for.
    pub bounding_cleared: bool,
}

/// Whether reading would fail without `CAP_BPF`: `trial` makes a read through bpf(2) and says if it worked. The effective
/// capabilities are set aside meanwhile, and are all back when this returns.
///
/// # Errors
/// [`DropError::Refused`] when the sets cannot be changed.
pub fn reading_needs_bpf(trial: impl FnOnce() -> bool) -> Result<bool, DropError> {
    let before = caps::read(None, CapSet::Effective).map_err(refused("reading the capabilities"))?;
    caps::clear(None, CapSet::Effective).map_err(refused("setting the capabilities aside"))?;
    let worked = trial();
    caps::set(None, CapSet::Effective, &before).map_err(refused("taking the capabilities back"))?;
    Ok(!worked)
}

/// Takes from this process, for good: every capability of every set (with `keep_bpf` all but a `CAP_BPF` that it holds), its
/// user and all groups if `user` says whom to become, and the means to get them back by executing something
/// (`no_new_privs`). It also makes the process undumpable: no other process of that user can trace it or read its memory.
///
/// Must be called while the process is one thread. Verified by what the kernel then says about the process.
///
/// # Errors
/// [`DropError`]; some of the privileges may be gone then.
pub fn drop_everything(user: Option<User>, keep_bpf: bool) -> Result<Dropped, DropError> {
    let threads = Status::read()?.number("Threads:", 10)?;
    if threads != 1 {
        return Err(DropError::Threads { count: threads });
    }
    let bounding_cleared = clear_bounding()?;
    let held = caps::read(None, CapSet::Permitted).map_err(refused("reading the capabilities"))?;
    let kept: CapsHashSet = held.into_iter().filter(|held| keep_bpf && *held == Capability::CAP_BPF).collect();
    caps::securebits::set_keepcaps(!kept.is_empty()).map_err(refused("PR_SET_KEEPCAPS"))?;
    if let Some(user) = user {
        become_user(user)?;
    }
    clear_capabilities(&kept)?;
    caps::securebits::set_keepcaps(false).map_err(refused("PR_SET_KEEPCAPS"))?;
    prctl::set_no_new_privs().map_err(refused("PR_SET_NO_NEW_PRIVS"))?;
    // A change of the user does this too, unless fs.suid_dumpable is 1.
    prctl::set_dumpable(false).map_err(refused("PR_SET_DUMPABLE"))?;
    verify(user, &kept, bounding_cleared)?;
    let uid = Uid::effective().as_raw();
    Ok(Dropped { uid, bpf_kept: !kept.is_empty(), bounding_cleared })
}

/// Whether it could be cleared.
fn clear_bounding() -> Result<bool, DropError> {
    let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP);
    if !may.map_err(refused("reading the capabilities"))? {
        return Ok(false);
    }
    // By number and not by name, so that capabilities younger than this program go too. The first number that the kernel
    // does not know ends it.
    let mut dropped = 0_u32;
    for number in 0..64_u64 {
        // SAFETY: PR_CAPBSET_DROP takes one number and touches no memory of this process.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0_u64, 0_u64, 0_u64) };
        match io::Error::last_os_error() {
            _ if result == 0 => dropped += 1,
            error if error.raw_os_error() == Some(libc::EINVAL) && dropped > 0 => break,
            error => return Err(refused("PR_CAPBSET_DROP")(error)),
        }
    }
    Ok(true)
}

/// Groups first: without the user's privileges they could not be changed any more.
fn become_user(user: User) -> Result<(), DropError> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setgroups(&[]).map_err(refused("setgroups"))?;
    setresgid(gid, gid, gid).map_err(refused("setresgid"))?;
    setresuid(uid, uid, uid).map_err(refused("setresuid"))
}

/// Effective before permitted, of which it has to be a part. Capabilities younger than this program go with it, since the
/// sets are written whole.
fn clear_capabilities(kept: &CapsHashSet) -> Result<(), DropError> {
    caps::clear(None, CapSet::Ambient).map_err(refused("clearing the ambient capabilities"))?;
    caps::clear(None, CapSet::Inheritable).map_err(refused("clearing the inheritable capabilities"))?;
    caps::set(None, CapSet::Effective, kept).map_err(refused("clearing the effective capabilities"))?;
    caps::set(None, CapSet::Permitted, kept).map_err(refused("clearing the permitted capabilities"))
}

fn verify(user: Option<User>, kept: &CapsHashSet, bounding_cleared: bool) -> Result<(), DropError> {
    let status = Status::read()?;
    let mask: u64 = kept.iter().map(Capability::bitmask).sum();
    for (field, expected) in [("CapInh:", 0), ("CapPrm:", mask), ("CapEff:", mask), ("CapAmb:", 0)] {
        status.expect(field, &format!("{expected:016x}"))?;
    }
    if bounding_cleared {
        status.expect("CapBnd:", &format!("{:016x}", 0))?;
    }
    if let Some(User { uid, gid }) = user {
        status.expect("Uid:", &[uid; 4].map(|uid| uid.to_string()).join("\t"))?;
        status.expect("Gid:", &[gid; 4].map(|gid| gid.to_string()).join("\t"))?;
        status.expect("Groups:", "")?;
    }
    status.expect("NoNewPrivs:", "1")
}

/// The kernel's account of this process.
struct Status(String);

impl Status {
    fn read() -> Result<Self, DropError> {
        let text = fs::read_to_string(STATUS).map_err(|error| DropError::Unverified { reason: error.to_string() });
        Ok(Self(text?))
    }

    fn field(&self, name: &'static str) -> Result<&str, DropError> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        value.ok_or_else(|| DropError::Unverified { reason: format!("there is no line {name}") })
    }

    fn number(&self, name: &'static str, radix: u32) -> Result<u64, DropError> {
        let value = self.field(name)?;
        u64::from_str_radix(value, radix).map_err(|error| DropError::Unverified { reason: format!("{name} {error}") })
    }

    fn expect(&self, name: &'static str, expected: &str) -> Result<(), DropError> {
        let found = self.field(name)?;
        if found == expected {
            return Ok(());
        }
        Err(DropError::Remains { field: name, found: found.into(), expected: expected.into() })
    }
}

fn refused<E: ToString>(step: &'static str) -> impl FnOnce(E) -> DropError {
    move |error| DropError::Refused { step, reason: error.to_string() }
}
