//! What the agent says when it cannot run, or not with everything: one line that says what, where and what to do. Missing privileges are
//! in a file of their own.

use crate::{
    agent::{Agent, Ended, binary, command, run_to_end},
    cgroup::{Cgroup, v2_root},
    machine::{self, patience, wait_until},
    page::Counted,
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::{ffi::OsString, fs, net::TcpListener, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("an_unknown_flag_is_wrong_use", Place::Both, &[], unknown_flag),
        test("a_bad_value_of_a_flag_is_wrong_use_and_named", Place::Both, &[], bad_value),
        test("a_bad_key_in_the_configuration_is_named_with_its_line", Place::Both, &[], bad_key),
        test("a_bad_value_in_the_configuration_is_named_with_its_line", Place::Both, &[], bad_configured_value),
        test("a_configuration_that_is_not_there_is_named", Place::Both, &[], no_configuration),
        test("a_port_in_use_is_named", Place::Both, &[Need::Root], port_in_use),
        test("too_low_a_limit_of_open_files_is_named", Place::Both, &[Need::Root], few_open_files),
        test("check_says_yes_where_the_agent_runs", Place::Both, &[Need::Root], check_says_yes),
        test(
            "the_verifier_takes_every_program_and_would_take_one_of_twice_the_size",
            Place::Both,
            &[Need::Root, Need::Iterators],
            verifiers_limit,
        ),
        test("without_any_cgroups_it_says_what_to_mount", Place::Both, &[Need::Root], no_cgroups),
        test("where_only_version_1_is_mounted_it_says_how_to_boot", Place::Both, &[Need::Root], only_v1),
        test("a_path_in_a_hierarchy_of_version_1_is_refused", Place::Both, &[Need::Root, Need::CgroupV1], path_in_v1),
        test("a_directory_inside_of_the_hierarchy_is_refused", Place::Both, &[Need::Root], path_inside),
        test("without_btf_it_says_what_is_lost_and_counts_bytes_all_the_same", Place::Both, &[Need::Root], no_btf),
        test("the_configuration_file_is_heeded_and_the_command_line_wins", Place::Both, &[], configuration_is_heeded),
    ]
}

pub(super) const LIMIT: Duration = Duration::from_secs(10);

fn run(arguments: &[&str]) -> Result<Ended> {
    run_to_end(command(arguments)?, patience(LIMIT))
}

/// Ended with this code, after one line of error, or clap's few, that holds each of the words.
pub(super) fn refused(ended: &Ended, code: i32, words: &[&str]) -> Result<()> {
    ensure!(ended.code == Some(code), "{ended:?} instead of {code}");
    ensure!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    for word in words {
        ensure!(ended.stderr.contains(word), "no {word:?} in: {}", ended.stderr);
    }
    if code == 1 {
        let errors = ended.stderr.lines().filter(|line| line.to_lowercase().contains("error")).count();
        ensure!(errors <= 1, "more than a line of errors: {}", ended.stderr);
    }
    Ok(())
}

fn unknown_flag() -> Result<()> {
    refused(&run(&["agent", "--no-such-flag"])?, 2, &["--no-such-flag"])
}

fn bad_value() -> Result<()> {
    refused(&run(&["agent", "--metrics-listen", "nowhere"])?, 2, &["--metrics-listen", "nowhere"])?;
    refused(&run(&["agent", "--intranet-cidr", "10.0.0.0/99"])?, 2, &["--intranet-cidr", "10.0.0.0/99"])?;
    refused(&run(&["agent", "--max-cgroups", "0"])?, 2, &["--max-cgroups"])?;
    refused(&run(&["agent", "--sample-interval", "soon"])?, 2, &["--sample-interval", "soon"])
}

fn configured(text: &str) -> Result<(tempfile::NamedTempFile, String)> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))?;
    let path = file.path().display().to_string();
    Ok((file, path))
}

fn bad_key() -> Result<()> {
    let (_file, path) = configured("max-cgroups = 100\n\nmax-cgrups = 100\n")?;
    refused(&run(&["agent", "--config", &path])?, 2, &[&path, "3", "max-cgrups"])
}

fn bad_configured_value() -> Result<()> {
    let (_file, path) = configured("# ours\nnode-name = \"a\"\nsample-interval = \"soon\"\n")?;
    refused(&run(&["agent", "--config", &path])?, 2, &[&path, "3", "sample-interval"])
}

fn no_configuration() -> Result<()> {
    let ended = run(&["agent", "--config", "/nonexistent/observer.toml"])?;
    ensure!(matches!(ended.code, Some(1 | 2)), "{ended:?}");
    ensure!(ended.stderr.contains("/nonexistent/observer.toml"), "{}", ended.stderr);
    Ok(())
}

fn configuration_is_heeded() -> Result<()> {
    let (_file, path) = configured("max-cgroups = 100\nnode-name = \"from-the-file\"\n")?;
    let ended = run(&["agent", "--config", &path, "--node-name", "from-the-flag", "--print-config"])?;
    ensure!(ended.code == Some(0), "{ended:?}");
    ensure!(ended.stdout.contains("from-the-flag") && !ended.stdout.contains("from-the-file"), "{}", ended.stdout);
    let line = ended.stdout.lines().find(|line| line.starts_with("max-cgroups")).unwrap_or_default();
    let value = line.split('#').next().unwrap_or_default().trim();
    ensure!(value == "max-cgroups = 100", "{line:?}");
    Ok(())
}

fn port_in_use() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    refused(&run(&["agent", "--metrics-listen", &address])?, 1, &[&address, "in use"])
}

fn few_open_files() -> Result<()> {
    let limited = |limit: u32, arguments: &[&str]| -> Result<Command> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {limit} && exec \"$@\"")).arg("sh").arg(binary()?).args(arguments);
        Ok(shell)
    };
    let agent = ["agent", "--metrics-listen", "127.0.0.1:0", "--debug-listen", "off", "--node-name", "live"];
    for limit in [8, 16, 255] {
        let words = [&limit.to_string(), "RLIMIT_NOFILE", "256", "ulimit -n"];
        refused(&run_to_end(limited(limit, &agent)?, patience(LIMIT))?, 1, &words)?;
    }
    let check = run_to_end(limited(255, &["check"])?, patience(LIMIT))?;
    ensure!(check.code == Some(1) && check.stdout.contains("255 at once, fewer than 256"), "{check:?}");
    // What it says it needs is enough.
    let page = Agent::start_command(limited(256, &agent)?)?.scrape()?;
    let switch = page.one("observer_bpf_program_up", &[("program", "observer_switch")])?;
    ensure!(switch.value == "1", "{switch:?}");
    Ok(())
}

fn check_says_yes() -> Result<()> {
    let ended = run(&["check"])?;
    ensure!(ended.code == Some(0), "{ended:?}");
    for word in ["kernel", "BTF", "ok"] {
        ensure!(ended.stdout.to_lowercase().contains(&word.to_lowercase()), "no {word:?} in: {}", ended.stdout);
    }
    let json = run(&["check", "--output", "json"])?;
    let parsed: serde_json::Value = serde_json::from_str(&json.stdout)?;
    ensure!(parsed.is_object() || parsed.is_array(), "{parsed}");
    Ok(())
}

/// A program that one kernel takes after half a million instructions can be too large for the next.
fn verifiers_limit() -> Result<()> {
    let ended = run(&["check"])?;
    let programs: Vec<_> = ended.stdout.lines().filter(|line| line.contains(" load: ")).collect();
    ensure!(programs.len() == 15, "{ended:?}");
    for program in programs {
        // Socket storage is not for programs on tracepoints there: docs/kernel.md tells users.
        if program.contains("observer_accept") && machine::kernel() < (5, 15) {
            ensure!(program.starts_with("degraded") && program.contains("flows"), "{program}");
            continue;
        }
        ensure!(program.starts_with("ok"), "{}", ended.stdout);
        let numbers: Vec<u32> = program.split(' ').filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [followed, most] => ensure!(followed <= most / 2, "{program}"),
            _ => ensure!(machine::kernel() < (5, 16) && numbers.is_empty(), "{program}"),
        }
    }
    Ok(())
}

/// The agent in a mount namespace of its own where something is not to be seen.
fn hidden(options: &[&str], arguments: &[&str]) -> Result<Command> {
    let mut job: Vec<OsString> = vec!["hide".into()];
    job.extend(options.iter().map(OsString::from));
    job.push(binary()?.into());
    job.extend(arguments.iter().map(OsString::from));
    Ok(Seat::default().command(job))
}

/// Every mount of cgroups of these versions, the last first: each is on top of those before it.
fn cgroup_mounts(versions: &[&str]) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let of_version = |line: &&str| versions.iter().any(|kind| line.contains(&format!(" - {kind} ")));
    let places = mounts.lines().filter(of_version).filter_map(|line| line.split(' ').nth(4));
    Ok(places.map(str::to_owned).rev().collect())
}

fn without_mounts(mounts: &[String], options: &[&str]) -> Result<Ended> {
    let unmounted = mounts.iter().flat_map(|path| ["--unmount", path]);
    let options: Vec<&str> = unmounted.chain(options.iter().copied()).collect();
    run_to_end(hidden(&options, &["agent", "--metrics-listen", "127.0.0.1:0"])?, patience(LIMIT))
}

fn no_cgroups() -> Result<()> {
    let ended = without_mounts(&cgroup_mounts(&["cgroup", "cgroup2"])?, &[])?;
    refused(&ended, 1, &["no cgroup hierarchy", "mount -t cgroup2"])
}

/// As a machine that boots with v1 alone is: the controllers' hierarchies where there are some, and always one without.
fn only_v1() -> Result<()> {
    let root = v2_root()?.display().to_string();
    let ended = without_mounts(&cgroup_mounts(&["cgroup2"])?, &["--mount-v1", &root])?;
    refused(&ended, 1, &["only cgroup v1", "systemd.unified_cgroup_hierarchy=1", "of no use"])
}

fn path_in_v1() -> Result<()> {
    let path = cgroup_mounts(&["cgroup"])?.pop().context("no hierarchy of version 1")?;
    let ended = run(&["agent", "--metrics-listen", "127.0.0.1:0", "--cgroup-path", &path])?;
    refused(&ended, 1, &[&path, "v2"])
}

/// An agent there would be a second one for the node, and know the names of a few cgroups only.
fn path_inside() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let root = v2_root()?;
    let path = root.join(folder.label.trim_start_matches('/')).display().to_string();
    let ended = run(&["agent", "--metrics-listen", "127.0.0.1:0", "--cgroup-path", &path])?;
    refused(&ended, 1, &[&path, "not its mount point", &root.display().to_string()])
}

/// An agent on a machine that has no BTF.
pub(super) fn agent_without_btf() -> Result<Agent> {
    let arguments = ["agent", "--metrics-listen", "127.0.0.1:0", "--node-name", "live"];
    Agent::start_command(hidden(&["--empty", "/sys/kernel/btf"], &arguments)?)
}

/// Without BTF no struct offset is known: the scheduler's program cannot run, the packets' can.
fn no_btf() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let sink = Worker::start(Seat::in_cgroup(&folder), ["udp-sink", "--bind", "127.0.0.1:0"])?;
    let agent = agent_without_btf()?;
    let log = agent.log_text();
    for word in ["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"] {
        ensure!(log.contains(word), "no word of {word} in:\n{log}");
    }
    let page = agent.scrape()?;
    let program = |name: &str| -> Result<&str> {
        let mut lines = page.text.lines().filter(|line| line.starts_with("observer_bpf_program_up{"));
        lines.find(|line| line.contains(&format!("program=\"{name}"))).with_context(|| format!("no program {name}"))
    };
    let switch = program("observer_switch")?;
    ensure!(switch.ends_with(" 0") && switch.contains("BTF"), "{switch}");
    ensure!(
        program("observer_egress")?.ends_with(" 1") && program("observer_ingress")?.ends_with(" 1"),
        "{}",
        page.text
    );
    // No event tells of a new cgroup: a walk of the tree finds its name.
    let cgroup = folder.child("sender")?;
    let mut talk = Worker::start(Seat::in_cgroup(&cgroup), ["udp-talk", "--to", &sink.greeting, "--size", "72"])?;
    talk.ask("send 10")?;
    let expected = Counted { bytes: 1000, packets: 10 };
    let booked = wait_until(patience(Duration::from_secs(5)), || {
        Ok(agent.scrape()?.traffic(&cgroup.label)?.transmit == expected)
    })?;
    ensure!(booked, "{}, not {expected}", agent.scrape()?.traffic(&cgroup.label)?);
    Ok(())
}
