//! The programs of the object: where each is attached, what it needs, and why it is down if it is.

use super::{
    btf::{self, Btf, BtfError},
    offsets::{self, Global, program},
    privileges::Held,
};
use crate::{causes, ledger::ProgramFacts};
use aya::{
    Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, Iter, Program, ProgramError,
    },
};
use aya_obj::generated::bpf_prog_info;
use caps::Capability::{CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON};
use std::{os::fd::BorrowedFd, path::Path};

/// Where a program is attached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hook {
    /// The root of the cgroup hierarchy.
    Packets(CgroupSkbAttachType),
    /// There, too.
    Sockets,
    /// A tracepoint with typed arguments.
    Tracepoint(&'static str),
    /// An iterator's element, on demand.
    Iterator(&'static str),
}

/// What a program is told of the places of fields.
#[derive(Clone, Copy, Debug)]
enum Fields {
    /// These, without which it cannot be.
    Needed(fn(&Btf<'_>) -> Result<Vec<Global>, BtfError>),
    /// These, if there is type information.
    IfKnown(fn(&Btf<'_>) -> Vec<Global>),
}

/// A program of the object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    hook: Hook,
    fields: Fields,
}

/// Every program, in the order in which they are loaded and attached: lifetimes first, so that no cgroup is missed between
/// the walk of the tree and the first count; then who hears of sockets that go, so that what is counted of them is told; and
/// what is received before what is sent, so that who asks is seen first.
pub(super) const PROGRAMS: [Entry; 15] = [
    Entry { name: program::MKDIR, hook: Hook::Tracepoint("cgroup_mkdir"), fields: Fields::Needed(offsets::lifetimes) },
    Entry { name: program::RMDIR, hook: Hook::Tracepoint("cgroup_rmdir"), fields: Fields::Needed(offsets::lifetimes) },
    Entry { name: program::RELEASE, hook: Hook::Sockets, fields: Fields::Needed(offsets::release) },
    Entry {
        name: program::ACCEPT,
        hook: Hook::Tracepoint("inet_sock_set_state"),
        fields: Fields::Needed(offsets::accept),
    },
    Entry {
        name: program::INGRESS,
        hook: Hook::Packets(CgroupSkbAttachType::Ingress),
        fields: Fields::IfKnown(offsets::packets),
    },
    Entry {
        name: program::EGRESS,
        hook: Hook::Packets(CgroupSkbAttachType::Egress),
        fields: Fields::IfKnown(offsets::packets),
    },
    Entry {
        name: program::CONNECT,
        hook: Hook::Tracepoint("inet_sock_set_state"),
        fields: Fields::Needed(offsets::tcp),
    },
    Entry {
        name: program::RESEND,
        hook: Hook::Tracepoint("tcp_retransmit_skb"),
        fields: Fields::Needed(offsets::resend),
    },
    Entry {
        name: program::SYNACK,
        hook: Hook::Tracepoint("tcp_retransmit_synack"),
        fields: Fields::Needed(offsets::tcp),
    },
    Entry { name: program::RESET, hook: Hook::Tracepoint("tcp_send_reset"), fields: Fields::Needed(offsets::tcp) },
    Entry {
        name: program::WAS_RESET,
        hook: Hook::Tracepoint("tcp_receive_reset"),
        fields: Fields::Needed(offsets::tcp),
    },
    Entry {
        name: program::SOCKETS,
        hook: Hook::Iterator("bpf_sk_storage_map"),
        fields: Fields::Needed(offsets::sockets),
    },
    Entry { name: program::SWITCH, hook: Hook::Tracepoint("sched_switch"), fields: Fields::Needed(offsets::switch) },
    Entry {
        name: program::MIGRATE,
        hook: Hook::Tracepoint("sched_migrate_task"),
        fields: Fields::Needed(offsets::migrate),
    },
    Entry { name: program::LASTING, hook: Hook::Iterator("bpf_map_elem"), fields: Fields::Needed(offsets::lasting) },
];

/// A program and why it does not run, if it does not.
#[derive(Clone, Debug)]
pub(super) struct ProgramState {
    pub(super) entry: Entry,
    pub(super) down_because: Option<String>,
}

impl ProgramState {
    /// What is told of it.
    pub(super) fn facts(&self, info: Option<bpf_prog_info>) -> ProgramFacts {
        ProgramFacts {
            name: self.entry.name,
            down_because: self.down_because.clone(),
            run_time: info.filter(|info| info.run_time_ns > 0).map(|info| (info.run_time_ns, info.run_cnt)),
            verified_instructions: info.map(|info| info.verified_insns).filter(|count| *count > 0),
        }
    }
}

/// The places of fields, for each of [`PROGRAMS`], or why they are not known: without type information the programs that read
/// the kernel's structures stay down; bytes are counted all the same.
pub(super) fn find_fields(types: &Path) -> Vec<Result<Vec<Global>, String>> {
    let read = btf::read(types);
    let parsed = read
        .as_ref()
        .map_err(ToString::to_string)
        .and_then(|bytes| Btf::parse(bytes).map_err(|error| error.to_string()));
    let find = |entry: &Entry| match entry.fields {
        Fields::IfKnown(of) => Ok(parsed.as_ref().map_or_else(|_| Vec::new(), of)),
        Fields::Needed(of) => {
            parsed.as_ref().map_err(Clone::clone).and_then(|types| of(types).map_err(|error| error.to_string()))
        }
    };
    PROGRAMS.iter().map(find).collect()
}

impl Entry {
    /// Loads it; the error says in one line why it cannot be had.
    pub(super) fn load(self, ebpf: &mut Ebpf, targets: &Result<aya::Btf, String>) -> Result<(), String> {
        let program = self.of(ebpf)?;
        let targets = || targets.as_ref().map_err(Clone::clone);
        let loaded = match self.hook {
            Hook::Packets(_) => <&mut CgroupSkb>::try_from(program).and_then(CgroupSkb::load),
            Hook::Sockets => <&mut CgroupSock>::try_from(program).and_then(CgroupSock::load),
            Hook::Tracepoint(name) => {
                let targets = targets()?;
                <&mut BtfTracePoint>::try_from(program).and_then(|program| program.load(name, targets))
            }
            Hook::Iterator(name) => {
                let targets = targets()?;
                <&mut Iter>::try_from(program).and_then(|program| program.load(name, targets))
            }
        };
        loaded.map_err(|error| reason(&error))
    }

    /// Attaches it, to `root` if it is for packets or sockets. An iterator is attached by who reads it.
    pub(super) fn attach(self, ebpf: &mut Ebpf, root: BorrowedFd<'_>) -> Result<(), String> {
        let program = self.of(ebpf)?;
        let attached = match self.hook {
            // A link to a cgroup lets others attach beside it whatever the mode.
            Hook::Packets(kind) => <&mut CgroupSkb>::try_from(program)
                .and_then(|program| program.attach(root, kind, CgroupAttachMode::Single).map(drop)),
            Hook::Sockets => <&mut CgroupSock>::try_from(program)
                .and_then(|program| program.attach(root, CgroupAttachMode::Single).map(drop)),
            Hook::Tracepoint(_) => {
                <&mut BtfTracePoint>::try_from(program).and_then(|program| program.attach().map(drop))
            }
            Hook::Iterator(_) => return Ok(()),
        };
        attached.map_err(|error| reason(&error))
    }

    fn of(self, ebpf: &mut Ebpf) -> Result<&mut Program, String> {
        ebpf.program_mut(self.name).ok_or_else(|| "the object does not hold it".into())
    }
}

/// Takes a program out of the kernel.
pub(super) fn unload(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSkb(program) => program.unload(),
        Program::CgroupSock(program) => program.unload(),
        Program::BtfTracePoint(program) => program.unload(),
        Program::Iter(program) => program.unload(),
        _ => Ok(()),
    }
}

/// How the reason begins of a program that somebody forbids.
pub const NOT_PERMITTED: &str = "not permitted to load it";

/// One line that says why; the verifier's last words when it refused.
fn reason(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        tracing::debug!(log, "the verifier's log");
        let statistics = |line: &str| {
            ["processed ", "insns processed ", "verification time", "stack depth"]
                .iter()
                .any(|head| line.starts_with(head))
        };
        let words = log.lines().rev().find(|line| !line.is_empty() && !statistics(line)).unwrap_or("");
        return match io_error.raw_os_error() {
            Some(libc::EPERM) if [CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN].iter().all(|need| Held::read().has(*need)) => {
                format!(
                    "{NOT_PERMITTED}, although the capabilities are held: this kernel, a security module or a seccomp filter \
                     forbids programs of its kind"
                )
            }
            Some(libc::EPERM) => {
                format!("{NOT_PERMITTED}: CAP_BPF, CAP_PERFMON or (for bytes) CAP_NET_ADMIN is missing")
            }
            _ => format!("the kernel refused it: {io_error}; {words}"),
        };
    }
    causes::in_one_line(error)
}
