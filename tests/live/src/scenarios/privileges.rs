//! What the agent can do with some privileges or none, and what it says of that.

use super::refusals::{LIMIT, refused};
use crate::{
    agent::{Agent, Ended, binary, run_to_end},
    machine::{self, patience},
    trial::{Need, Place, test},
    worker::Seat,
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::{
    ffi::OsString,
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("without_privileges_each_feature_names_its_capability", Place::Both, &[Need::Root], no_privileges),
        test(
            "check_without_privileges_says_the_agent_could_not_run",
            Place::Both,
            &[Need::Root],
            check_without_privileges,
        ),
        test(
            "without_one_capability_the_features_are_lost_that_are_said_to_need_it",
            Place::Both,
            &[Need::Root, Need::Iterators],
            one_capability_less,
        ),
        test(
            "check_says_what_sys_admin_alone_is_good_for_here",
            Place::Both,
            &[Need::Root, Need::Iterators],
            admin_alone,
        ),
    ]
}

/// As uid 65534. The executable may lie where only root can go: it is copied.
fn as_nobody(arguments: &[&str]) -> Result<Ended> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("observer");
    fs::copy(binary()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let mut command = std::process::Command::new(copy);
    command.args(arguments).uid(65534).gid(65534).env("NO_COLOR", "1");
    run_to_end(command, patience(LIMIT))
}

fn no_privileges() -> Result<()> {
    let ended = as_nobody(&["agent", "--metrics-listen", "127.0.0.1:0"])?;
    refused(&ended, 1, &["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"])
}

fn check_without_privileges() -> Result<()> {
    let ended = as_nobody(&["check"])?;
    ensure!(ended.code == Some(1), "{ended:?}");
    for word in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "missing"] {
        ensure!(ended.stdout.contains(word), "no {word:?} in: {}", ended.stdout);
    }
    Ok(())
}

/// The capability that is missing, whether anything can be counted without it, and what is said to be lost.
const ONE_LESS: [(&str, bool, &[&str]); 3] = [
    (
        "CAP_BPF",
        false,
        &["privileges: bytes", "privileges: flows", "privileges: scheduler", "privileges: cgroup events"],
    ),
    (
        "CAP_PERFMON",
        false,
        &["privileges: bytes", "privileges: flows", "privileges: scheduler", "privileges: cgroup events"],
    ),
    ("CAP_NET_ADMIN", true, &["privileges: bytes", "privileges: flows"]),
];

/// The kernel is the judge: what `check` says is what an agent comes to.
fn one_capability_less() -> Result<()> {
    for (name, can_count, lost) in ONE_LESS {
        let check = run_to_end(without(name, &["check"])?, patience(LIMIT))?;
        ensure!(check.code == Some(i32::from(!can_count)), "check without {name}: {check:?}");
        for line in check.stdout.lines().filter(|line| line.contains("privileges: ")) {
            let is_lost = lost.iter().any(|need| line.contains(need));
            ensure!(line.contains(&format!("{name} not held")) == is_lost, "check without {name}: {line}");
        }
        let agent = without(name, &["agent", "--metrics-listen", "127.0.0.1:0", "--node-name", "live"])?;
        if !can_count {
            refused(&run_to_end(agent, patience(LIMIT))?, 1, &[name, "not permitted to count anything"])?;
            continue;
        }
        let page = Agent::start_command(agent)?.scrape()?;
        for (program, up) in [("observer_egress", "0"), ("observer_ingress", "0"), ("observer_switch", "1")] {
            let found = page.one("observer_bpf_program_up", &[("program", program)])?;
            ensure!(found.value == up, "without {name}: {found:?}");
        }
    }
    Ok(())
}

/// What that capability is good for differs between kernels: the kernel is the judge again.
fn admin_alone() -> Result<()> {
    let check = run_to_end(with_only(["CAP_SYS_ADMIN"], &["check"])?, patience(LIMIT))?;
    ensure!(check.code == Some(0), "{check:?}");
    // Flows are told of sockets that packets have shown.
    let needs = [
        ("bytes", "observer_egress"),
        ("flows", "observer_egress"),
        ("scheduler", "observer_switch"),
        ("cgroup events", "observer_mkdir"),
    ];
    let said_of = |need: &str| {
        let head = format!("privileges: {need} ");
        let line = check.stdout.lines().find(|line| line.contains(&head)).unwrap_or_default();
        (line.starts_with("ok") && line.contains("CAP_SYS_ADMIN held"), line)
    };
    let agent = with_only(["CAP_SYS_ADMIN"], &["agent", "--metrics-listen", "127.0.0.1:0", "--node-name", "live"])?;
    let page = Agent::start_command(agent)?.scrape()?;
    for (need, program) in needs {
        let up = page.one("observer_bpf_program_up", &[("program", program)])?.value == "1";
        let (is_ok, line) = said_of(need);
        ensure!(up == is_ok, "{program} is up: {up}; check says: {line}");
    }
    let bytes = page.one("observer_bpf_program_up", &[("program", "observer_egress")])?;
    ensure!((bytes.value == "1") == (machine::kernel() >= (6, 9)), "{bytes:?} on {:?}", machine::kernel());
    Ok(())
}

/// The agent with all that it uses of root's capabilities but one.
fn without(capability: &str, arguments: &[&str]) -> Result<std::process::Command> {
    with_only(["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"].into_iter().filter(|kept| *kept != capability), arguments)
}

/// The agent with no capabilities but these, and those that it lets go of the others with.
fn with_only<'a>(kept: impl IntoIterator<Item = &'a str>, arguments: &[&str]) -> Result<std::process::Command> {
    let mut job: Vec<OsString> = vec!["bound".into()];
    job.extend(
        kept.into_iter().chain(["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"]).map(|kept| format!("--keep={kept}").into()),
    );
    job.push(binary()?.into());
    job.extend(arguments.iter().map(OsString::from));
    Ok(Seat::default().command(job))
}
