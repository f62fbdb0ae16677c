//! Tests of observer on a real kernel: each drives the real agent as a user would and holds its figures against a
//! truth that is not ours: device counters, schedstat, /proc, promtool, a real Prometheus.
//!
//! `OBSERVER_BIN` names the agent (default: `observer` beside this file, else `../release/observer`). `--guest` or
//! `OBSERVER_GUEST=1` says that this is a guest with nothing else in it: no tolerance for neighbours. `OBSERVER_LONG=1`
//! runs every test in a guest too, and on a host each storm alone beside all at once; `OBSERVER_STORM_SECONDS` is how long
//! they last. `observer-live worker …` is what the tests run inside namespaces and cgroups.

mod agent;
mod census;
mod cgroup;
mod controllers;
mod dns;
mod flows;
mod loss;
mod machine;
mod netns;
mod quota;
mod scenarios;
mod syscalls;
mod trial;
mod truth;
mod worker;

use observer_test_kit::{http, page};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == "worker") {
        return worker::run();
    }
    arguments.retain(|argument| {
        let guest = argument == "--guest";
        if guest {
            machine::declare_guest();
        }
        !guest
    });
    let mut arguments = libtest_mimic::Arguments::from_iter(arguments);
    // Most tests start an agent, and a node holds one.
    arguments.test_threads = Some(1);
    let trials = scenarios::all();
    if let Some(name) = trial::unknown_name(&trials) {
        eprintln!("observer-live: {name} is to run on every kernel (trial.rs), and no test has that name");
        return ExitCode::FAILURE;
    }
    let lock = if arguments.list { None } else { Some(observer_test_kit::lock()) };
    if let Some(Err(error)) = lock {
        eprintln!("observer-live: {error:#}");
        return ExitCode::FAILURE;
    }
    cgroup::remove_leftovers();
    let code = libtest_mimic::run(&arguments, trials).exit_code();
    agent::end_kept();
    print!("{}", observer_test_kit::slowest::told());
    code
}
