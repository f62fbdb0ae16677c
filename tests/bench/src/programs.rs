//! The kernel programs under measurement: the shapes' object, loaded with the offsets of the running kernel, and
//! attaching, detaching and reading one program at a time.

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program, TestRun as _, TestRunOptions,
        cgroup_skb::CgroupSkbLink, tp_btf::BtfTracePointLink,
    },
};
use observer::kernel::{Events, Kernel, LoadOptions, btf};
use observer_ebpf::{
    DEFAULT_SLOTS,
    causes::{DEFAULT_WAIT_THRESHOLD_NS, NO_CAUSES},
};
use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
};

/// The field that each read-only global of the shapes stands for.
const OFFSETS: [(&str, &str, &str); 10] = [
    ("TASK_PID", "task_struct", "pid"),
    ("TASK_LAST_QUEUED", "task_struct", "sched_info.last_queued"),
    ("TASK_CFS_RQ", "task_struct", "se.cfs_rq"),
    ("TASK_CGROUPS", "task_struct", "cgroups"),
    ("TASK_STATE", "task_struct", "__state"),
    ("CFS_RQ_RQ", "cfs_rq", "rq"),
    ("RQ_CLOCK", "rq", "clock"),
    ("CSS_SET_DFL_CGRP", "css_set", "dfl_cgrp"),
    ("CGROUP_KN", "cgroup", "kn"),
    ("KERNFS_NODE_ID", "kernfs_node", "id"),
];

/// The tracepoint that each program of the shapes is for.
const TRACEPOINTS: [(&str, &str); 10] = [
    ("switch_empty", "sched_switch"),
    ("sent_empty", "net_dev_queue"),
    ("received_empty", "netif_receive_skb"),
    ("switch_cgroup_hash", "sched_switch"),
    ("array_wakeup", "sched_wakeup"),
    ("array_wakeup_new", "sched_wakeup_new"),
    ("array_switch", "sched_switch"),
    ("hash_wakeup", "sched_wakeup"),
    ("hash_wakeup_new", "sched_wakeup_new"),
    ("hash_switch", "sched_switch"),
];

/// Before the name of a program of observer's: the one without the causes of waits.
const PLAIN: &str = "plain:";

/// Every program that is measured, loaded and attached to nothing.
pub(crate) struct Programs {
    objects: PathBuf,
    shapes: Ebpf,
    observer: (Kernel, Events),
    /// The same without the causes of waits.
    plain: (Kernel, Events),
}

/// A program's link: detached when dropped.
#[derive(Debug)]
pub(crate) enum Attached {
    Tracepoint { _link: BtfTracePointLink },
    Cgroup { _link: CgroupSkbLink },
}

/// What the kernel's statistics say of a program.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunTime {
    pub(crate) nanoseconds: u64,
    pub(crate) runs: u64,
}

impl Programs {
    /// Loads the shapes, and observer's own programs as the agent does, from the directory of the eBPF objects.
    pub(crate) fn load(objects: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = objects.join(name);
            fs::read(&path).with_context(|| {
                format!("read {}; `cargo xtask bench` builds it before it starts this program", path.display())
            })
        };
        let (shapes, observer) = (read("shapes.bpf.o")?, read("observer.bpf.o")?);
        let options = LoadOptions {
            object: &observer,
            slots: DEFAULT_SLOTS + 1,
            btf: Path::new(btf::VMLINUX),
            wait_threshold_ns: DEFAULT_WAIT_THRESHOLD_NS,
        };
        Ok(Self {
            objects: objects.to_owned(),
            shapes: load_shapes(&shapes)?,
            observer: Kernel::load(&options)?,
            plain: Kernel::load(&LoadOptions { wait_threshold_ns: NO_CAUSES, ..options })?,
        })
    }

    /// Loads everything again, before the old programs go: so each lies at another place of the kernel's memory, which
    /// alone moves a program's cost by some nanoseconds, and the rounds see more than one place.
    pub(crate) fn reload(&mut self) -> Result<()> {
        *self = Self::load(&self.objects)?;
        Ok(())
    }

    /// Why a program of observer's could not be loaded; `None` if it was, and for the shapes, which always load.
    pub(crate) fn missing(&self, name: &str) -> Option<String> {
        self.observer.0.programs().into_iter().find(|program| program.name == name)?.down_because
    }

    fn program(&mut self, name: &str) -> Result<&mut Program> {
        let program = match name.strip_prefix(PLAIN) {
            Some(name) => self.plain.0.program_mut(name),
            None => self.shapes.program_mut(name).or_else(|| self.observer.0.program_mut(name)),
        };
        program.ok_or_else(|| anyhow!("no program is named {name}"))
    }

    /// Attaches a tracepoint program.
    pub(crate) fn attach(&mut self, name: &str) -> Result<Attached> {
        let program: &mut BtfTracePoint = self.program(name)?.try_into()?;
        let id = program.attach().with_context(|| format!("attach {name}"))?;
        Ok(Attached::Tracepoint { _link: program.take_link(id)? })
    }

    /// Attaches a packet program to a cgroup.
    pub(crate) fn attach_to_cgroup(
        &mut self,
        name: &str,
        cgroup: &fs::File,
        direction: CgroupSkbAttachType,
    ) -> Result<Attached> {
        let program: &mut CgroupSkb = self.program(name)?.try_into()?;
        let id =
            program.attach(cgroup, direction, CgroupAttachMode::Single).with_context(|| format!("attach {name}"))?;
        Ok(Attached::Cgroup { _link: program.take_link(id)? })
    }

    /// Runs a packet program in the kernel, on a packet of its own with a socket of its own.
    pub(crate) fn test_run(&mut self, name: &str, frame: &[u8], repeat: u32) -> Result<()> {
        let program: &mut CgroupSkb = self.program(name)?.try_into()?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        program.test_run(options).map(drop).with_context(|| format!("BPF_PROG_TEST_RUN of {name}"))
    }

    /// What a program has used since it was loaded, as far as the kernel's statistics were on.
    pub(crate) fn run_time(&mut self, name: &str) -> Result<RunTime> {
        let fd = self.program(name)?.fd()?.as_fd().as_raw_fd();
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
        let field = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(line.with_context(|| format!("{name} in a program's fdinfo"))?.trim().parse()?)
        };
        Ok(RunTime { nanoseconds: field("run_time_ns")?, runs: field("run_cnt")? })
    }
}

fn load_shapes(object: &[u8]) -> Result<Ebpf> {
    let bytes = btf::read(Path::new(btf::VMLINUX))?;
    let types = btf::Btf::parse(&bytes)?;
    let mut globals = Vec::new();
    for (global, record, field) in OFFSETS {
        let place = match types.field(record, field) {
            // Its name before Linux 5.14.
            Err(_) if field == "__state" => types.field(record, "state"),
            other => other,
        }?;
        globals.push((global, u64::from(place.byte_offset)));
    }
    let mut loader = EbpfLoader::new();
    for (global, value) in &globals {
        loader.override_global(global, value, true);
    }
    let mut ebpf = loader.load(object).context("load the shapes")?;
    let targets = Btf::from_sys_fs()?;
    for (name, program) in ebpf.programs_mut() {
        match program {
            Program::CgroupSkb(program) => program.load(),
            Program::BtfTracePoint(program) => {
                let (_, tracepoint) = TRACEPOINTS
                    .iter()
                    .find(|(shape, _)| *shape == name)
                    .with_context(|| format!("a tracepoint for {name}"))?;
                program.load(tracepoint, &targets)
            }
            other => return Err(anyhow!("{name} is of an unexpected type: {:?}", other.prog_type())),
        }
        .with_context(|| format!("load the shape {name}"))?;
    }
    Ok(ebpf)
}
