//! Machines made up, and this one as root and as nobody.

use super::finding::{Finding, State};
use super::*;
use crate::kernel::privileges::Feature;
use caps::Capability::{CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON};

/// A pure v2 host with everything, as far as it can be made up.
fn host() -> Machine {
    Machine {
        release: "6.12.0".into(),
        btf: btf::VMLINUX.into(),
        bpffs: "/sys/fs/bpf".into(),
        proc: "/proc".into(),
        network: Network::from(Path::new("/proc")),
        hierarchy: Ok(Mount { path: "/sys/fs/cgroup".into(), root: "/".into(), hybrid: false, true_root: true }),
        mountinfo: Vec::new(),
        held: Held::of(&[CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON], "6.12.0"),
        in_user_namespace: false,
        open_files: Ok(1024),
    }
}

fn of<'a>(findings: &'a [Finding], need: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.need == need).unwrap()
}

#[test]
fn no_btf_costs_the_scheduler_and_says_which_kernel_to_boot() {
    let report = Machine { btf: "/nonexistent/btf".into(), ..host() }.examined();
    let found = of(&report.findings, "BTF");
    assert_eq!((found.state, found.lost), (State::Degraded, Some(Feature::Scheduler)));
    assert!(
        found.detail.contains("/nonexistent/btf") && found.detail.contains("no run-queue wait"),
        "{}",
        found.detail
    );
    assert!(found.fix.as_ref().unwrap().contains("CONFIG_DEBUG_INFO_BTF=y"));
}

#[test]
fn cgroup_v1_only_is_missing_and_says_how_to_boot() {
    let machine = Machine { hierarchy: Err(MountError::V1Only), ..host() };
    let findings = machine.cgroups();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].state, State::Missing);
    assert!(findings[0].fix.as_ref().unwrap().contains("boot with systemd.unified_cgroup_hierarchy=1"));
    assert_eq!(machine.other_agent().state, State::Unknown);
    assert!(!Report { findings }.can_run());
}

#[test]
fn a_part_of_the_hierarchy_and_a_hybrid_one_are_told() {
    let part = Mount { path: "/nonexistent".into(), root: "/a".into(), hybrid: true, true_root: false };
    let findings = Machine { hierarchy: Ok(part), ..host() }.cgroups();
    assert!(of(&findings, "cgroup v2").detail.contains("hybrid"));
    assert_eq!(of(&findings, "cgroup root").state, State::Degraded);
    for need in ["cpu controller", "memory controller"] {
        assert_eq!(of(&findings, need).state, State::Degraded);
    }
    assert!(Report { findings }.can_run());
}

#[test]
fn a_controller_that_is_in_v1_is_found_there() {
    let v1 =
        b"50 40 0:29 /a /v1/cpu ro - cgroup cgroup rw,cpu\n51 40 0:32 /b /v1/memory ro - cgroup cgroup rw,memory\n";
    let part = Mount { path: "/nonexistent".into(), root: "/a".into(), hybrid: true, true_root: false };
    let findings = Machine { hierarchy: Ok(part), mountinfo: v1.to_vec(), ..host() }.cgroups();
    let cpu = of(&findings, "cpu controller");
    assert_eq!((cpu.state, &*cpu.detail), (State::Ok, "in a v1 hierarchy, read at /v1/cpu"));
    let memory = of(&findings, "memory controller");
    assert_eq!(memory.state, State::Degraded, "it is another part of the hierarchy");
    assert!(memory.fix.as_ref().unwrap().contains("cgroup_disable=memory"));
}

#[test]
fn each_missing_capability_costs_its_feature_and_all_cost_everything() {
    let findings = Machine { held: Held::of(&[CAP_BPF, CAP_PERFMON], "6.12.0"), ..host() }.capabilities();
    let bytes = of(&findings, "privileges: bytes");
    assert_eq!((bytes.state, bytes.lost), (State::Degraded, Some(Feature::Bytes)));
    assert!(bytes.detail.starts_with("CAP_NET_ADMIN not held: no bytes"), "{}", bytes.detail);
    assert_eq!(of(&findings, "privileges: scheduler").state, State::Ok);
    assert!(Report { findings }.can_run());

    let findings = Machine { held: Held::of(&[CAP_BPF], "6.12.0"), ..host() }.capabilities();
    assert!(findings.iter().all(|finding| finding.state == State::Missing), "{findings:?}");
    assert!(!Report { findings }.can_run());
    let rootless = Machine { held: Held::default(), in_user_namespace: true, ..host() };
    assert!(of(&rootless.capabilities(), "privileges: bytes").detail.contains("user namespace"));
}

#[test]
fn an_agent_that_runs_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mount = Mount { path: directory.path().into(), root: "/".into(), hybrid: false, true_root: true };
    let machine = Machine { hierarchy: Ok(mount), ..host() };
    assert_eq!(machine.other_agent().state, State::Ok);
    let lock = crate::kernel::lock::NodeLock::take(directory.path(), Path::new("/proc")).unwrap();
    let found = machine.other_agent();
    assert_eq!(found.state, State::Missing);
    assert!(found.detail.contains(&format!("pid {}", std::process::id())), "{}", found.detail);
    drop(lock);
}

#[test]
fn the_report_reads_as_a_table_and_as_json() {
    let findings = vec![
        Finding::ok("kernel", "6.12.0"),
        Finding::without(Feature::Bytes, "privileges: bytes", "CAP_NET_ADMIN not held", "run as root"),
        Finding::without(Feature::CgroupEvents, "privileges: x", "CAP_PERFMON not held", "run as root"),
    ];
    let report = Report { findings };
    let text = report.to_text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "ok        kernel             6.12.0");
    assert_eq!(lines[1], "degraded  privileges: bytes  CAP_NET_ADMIN not held: no bytes and packets per cgroup");
    assert_eq!(lines[2].split_whitespace().next(), Some("degraded"), "a fix for two is said once");
    assert_eq!(lines[3].trim_start(), "fix: run as root");
    assert_eq!(lines[4], "The agent can run here, with what is degraded or unknown above.");
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["can_run"], true);
    assert_eq!(json["findings"][0], serde_json::json!({"need": "kernel", "state": "ok", "detail": "6.12.0"}));
    assert_eq!(json["findings"][1]["fix"], "run as root");
}

#[test]
fn this_machine_is_examined_with_whatever_privileges_there_are() {
    let arguments = Arguments { output: Output::Text, proc_path: "/proc".into(), net_path: None, cgroup_path: None };
    let report = Machine::this(&arguments).examined();
    for finding in &report.findings {
        assert_eq!(finding.fix.is_some(), finding.state != State::Ok, "{finding:?}");
        assert!(!finding.detail.contains('\n'), "{finding:?}");
    }
    assert!(report.findings.len() > 15);
}

#[test]
fn the_agent_of_this_container_is_no_other_and_on_a_host_every_agent_is_one() {
    let proc = tempfile::tempdir().unwrap();
    for (pid, cgroup) in [("7", std::fs::read("/proc/self/cgroup").unwrap()), ("8", b"0::/../elsewhere\n".to_vec())] {
        std::fs::create_dir(proc.path().join(pid)).unwrap();
        std::fs::write(proc.path().join(pid).join("cgroup"), cgroup).unwrap();
    }
    let container = Machine { proc: proc.path().to_owned(), ..host() };
    assert!(container.is_of_this_container(7));
    assert!(!container.is_of_this_container(8) && !container.is_of_this_container(9));
    assert!(!host().is_of_this_container(std::process::id()));
}
