//! What bpf(2) can do here, found out by trying: a probe creates a tiny map or loads a program of a few instructions, and
//! closes it at once. Nothing is attached, nothing stays.

use super::btf::{Btf, BtfError};
use super::load::{Kernel, LoadError, LoadOptions};
use super::privileges::Feature;
use super::{offsets, sys};
use crate::ledger::ProgramFacts;
use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{BpfHelper, SyscallError, is_helper_supported, is_map_supported, is_program_supported};
use aya_obj::generated::{BPF_F_MMAPABLE, bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_map_type, bpf_prog_type};
use std::io;
use std::mem;
use std::os::fd::{FromRawFd, OwnedFd};

/// Whether the kernel can do something.
#[derive(Debug)]
pub enum Support {
    /// It just did.
    Yes,
    /// It cannot.
    No,
    /// It does not let this process try.
    Forbidden,
    /// The attempt failed otherwise.
    Failed(io::Error),
}

/// Something tried, and what came of it.
#[derive(Debug)]
pub struct Attempt {
    /// The kernel's own name of it.
    pub what: &'static str,
    /// The outcome.
    pub support: Support,
}

/// The kinds of map that the programs keep their books in; none can be spared.
pub fn maps() -> Vec<Attempt> {
    let kinds = [
        ("hash", MapType::Hash),
        ("stack", MapType::Stack),
        ("sk_storage", MapType::SkStorage),
        ("lpm_trie", MapType::LpmTrie),
        ("ringbuf", MapType::RingBuf),
    ];
    let shared = Attempt { what: "array in shared memory", support: shared_array().into() };
    let tried = |(what, kind)| {
        let support = is_map_supported(kind).map_err(|SyscallError { io_error, .. }| io_error).into();
        Attempt { what, support }
    };
    std::iter::once(shared).chain(kinds.map(tried)).collect()
}

/// The helpers that the programs on the packets' way call.
pub fn packet_helpers() -> Vec<Attempt> {
    let helpers = [
        ("bpf_sk_storage_get", BpfHelper::BPF_FUNC_sk_storage_get),
        ("bpf_skb_cgroup_id", BpfHelper::BPF_FUNC_skb_cgroup_id),
        ("bpf_skb_load_bytes", BpfHelper::BPF_FUNC_skb_load_bytes),
    ];
    let tried = |(what, helper)| Attempt {
        what,
        support: is_helper_supported(ProgramType::CgroupSkb, helper).map_err(cause).into(),
    };
    helpers.map(tried).into()
}

/// Programs on the packets' way: the type `cgroup_skb`.
pub fn packet_programs() -> Support {
    is_program_supported(ProgramType::CgroupSkb).map_err(cause).into()
}

/// A program on a tracepoint, with typed arguments (`tp_btf`), that reads the clock.
pub fn tracepoint_program(btf: &Btf<'_>, tracepoint: &str) -> Support {
    match btf.typedef_id(&format!("btf_trace_{tracepoint}")) {
        Some(target) => load_tracing_program(bpf_attach_type::BPF_TRACE_RAW_TP, target).map(|_closed| true).into(),
        None => Support::No,
    }
}

/// A program that iterates over what the kernel keeps.
pub fn iterator_program(btf: &Btf<'_>, iterator: &str) -> Support {
    match btf.function_id(&format!("bpf_iter_{iterator}")) {
        Some(target) => load_tracing_program(bpf_attach_type::BPF_TRACE_ITER, target).map(|_closed| true).into(),
        None => Support::No,
    }
}

/// How many fields of the kernel's structs a feature's programs need; the error names the first that is absent.
/// [`Feature::Bytes`] needs none.
///
/// # Errors
/// As [`Btf::field`].
pub fn fields(btf: &Btf<'_>, feature: Feature) -> Result<usize, BtfError> {
    match feature {
        Feature::Bytes => Ok(0),
        Feature::Flows => {
            let programs = [offsets::accept, offsets::resend, offsets::sockets];
            programs.into_iter().try_fold(0, |count, of| Ok(count + of(btf)?.len()))
        }
        Feature::Scheduler => offsets::switch(btf).map(|globals| globals.len()),
        Feature::CgroupEvents => offsets::lifetimes(btf).map(|globals| globals.len()),
    }
}

/// Loads the agent's own programs, with tables as large as the agent's, and closes them: the verifier's word on each.
///
/// # Errors
/// When the tables cannot be made.
pub fn own_programs(options: &LoadOptions<'_>) -> Result<Vec<ProgramFacts>, LoadError> {
    Kernel::load(options).map(|(kernel, _events)| kernel.programs())
}

impl From<io::Result<bool>> for Support {
    fn from(result: io::Result<bool>) -> Self {
        match result {
            Ok(true) => Self::Yes,
            Ok(false) => Self::No,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Self::Forbidden,
            Err(error) => Self::Failed(error),
        }
    }
}

fn cause(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(SyscallError { io_error, .. }) => io_error,
        other => io::Error::other(other),
    }
}

fn shared_array() -> io::Result<bool> {
    // SAFETY: all zeroes is a valid `bpf_attr`.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    // SAFETY: the member of the union that BPF_MAP_CREATE reads.
    let map = unsafe { &mut attr.__bindgen_anon_1 };
    (map.map_type, map.map_flags) = (bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, BPF_F_MMAPABLE);
    (map.key_size, map.value_size, map.max_entries) = (4, 8, 1);
    match sys::bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr) {
        Ok(fd) => {
            drop(own(fd));
            Ok(true)
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

fn instruction(code: u8, imm: i32) -> bpf_insn {
    bpf_insn { code, _bitfield_align_1: [], _bitfield_1: bpf_insn::new_bitfield_1(0, 0), off: 0, imm }
}

/// Loads `call bpf_ktime_get_ns; r0 = 0; exit`.
fn load_tracing_program(attach_type: bpf_attach_type, target: u32) -> io::Result<OwnedFd> {
    let clock = BpfHelper::BPF_FUNC_ktime_get_ns as i32;
    let instructions = [instruction(0x85, clock), instruction(0xb7, 0), instruction(0x95, 0)];
    // SAFETY: all zeroes is a valid `bpf_attr`.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    // SAFETY: the member of the union that BPF_PROG_LOAD reads.
    let program = unsafe { &mut attr.__bindgen_anon_3 };
    program.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    program.expected_attach_type = attach_type as u32;
    program.attach_btf_id = target;
    program.insns = instructions.as_ptr() as u64;
    program.insn_cnt = instructions.len() as u32;
    program.license = c"GPL".as_ptr() as u64;
    sys::bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).map(own)
}

fn own(fd: i64) -> OwnedFd {
    // SAFETY: bpf(2) has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

#[cfg(test)]
mod tests {
    use super::super::{btf, privileges::Held};
    use super::*;
    use caps::Capability;
    use std::path::Path;

    /// Whether this process may try; says so when not.
    fn may_try() -> bool {
        let held = Held::read();
        let may = [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_NET_ADMIN].map(|need| held.has(need));
        if may.contains(&false) {
            eprintln!("skipped: needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN");
        }
        !may.contains(&false)
    }

    #[test]
    fn what_a_5_10_kernel_has_is_found() {
        if !may_try() {
            return;
        }
        for Attempt { what, support } in maps().into_iter().chain(packet_helpers()) {
            assert!(matches!(support, Support::Yes), "{what}: {support:?}");
        }
        assert!(matches!(packet_programs(), Support::Yes));
    }

    #[test]
    fn tracepoints_are_told_from_names_that_are_none() {
        let Ok(blob) = btf::read(Path::new(btf::VMLINUX)) else {
            eprintln!("skipped: this kernel shows no BTF");
            return;
        };
        let btf = Btf::parse(&blob).unwrap();
        assert!(matches!(tracepoint_program(&btf, "no_such_tracepoint"), Support::No));
        if may_try() {
            for tracepoint in ["sched_switch", "cgroup_mkdir", "cgroup_rmdir"] {
                let support = tracepoint_program(&btf, tracepoint);
                assert!(matches!(support, Support::Yes), "{tracepoint}: {support:?}");
            }
            assert!(
                matches!(
                    load_tracing_program(bpf_attach_type::BPF_TRACE_RAW_TP, 1).map(|_| true).into(),
                    Support::Failed(_)
                ),
                "type 1 is an integer"
            );
        }
        assert!(fields(&btf, Feature::Scheduler).unwrap() > fields(&btf, Feature::CgroupEvents).unwrap());
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let support = |errno| Support::from(Err(io::Error::from_raw_os_error(errno)));
        assert!(matches!(support(libc::EPERM), Support::Forbidden));
        assert!(matches!(support(libc::ENOMEM), Support::Failed(_)));
        assert!(matches!(Support::from(Ok(false)), Support::No));
    }
}
