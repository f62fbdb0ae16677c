//! Tests in a real Kubernetes: each does with kubectl what a user would do, and holds what it sees against what the kubelet
//! and the kernel say.
//!
//! `cargo xtask test --level cluster` starts it on a cluster of its own, or with `--kubeconfig FILE` on anyone's. It can be run
//! by itself: `KUBECONFIG` names the cluster, `OBSERVER_KUBECTL` the kubectl (default: that in `PATH`), `OBSERVER_TEST_IMAGE` the
//! image of the tests' pods, if the cluster knows it by another name. `OBSERVER_CLUSTER_XTASK` names the xtask whose cluster it
//! is, and that may be asked to take parts of it away; `OBSERVER_CLUSTER_STATIC_PODS` is where its kubelet looks for pods, and
//! `OBSERVER_CLUSTER_AGAIN` says that the tests have run in its other mode before. `HELM` renders the chart, and
//! `OBSERVER_CLUSTER_DEFINITIONS` has the definitions of the Prometheus operator's objects, without which nobody can judge these.

mod cluster;
mod installed;
mod kubectl;
mod namespace;
mod plugin;
mod pod;
mod prometheus;
mod scenarios;
mod trial;

use observer_test_kit::http;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().collect();
    if let [_, verb, address, path] = words.as_slice()
        && verb == "get"
    {
        return get(address, path);
    }
    if words.get(1).is_some_and(|word| word == "serve-outside") {
        return match scenarios::reconciliation::serve_outside() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("observer-cluster: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Some take away what the others need.
    arguments.test_threads = Some(1);
    let trials = scenarios::all();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    // A node holds one agent.
    if let Err(error) = observer_test_kit::lock() {
        eprintln!("observer-cluster: {error:#}");
        return ExitCode::FAILURE;
    }
    let namespace = match namespace::make() {
        Ok(namespace) => namespace,
        Err(error) => {
            eprintln!("observer-cluster: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(namespace);
    print!("{}", observer_test_kit::slowest::told());
    conclusion.exit_code()
}

/// What a test has to be in the node for: `observer-cluster get ADDRESS PATH` prints what a server there answers.
fn get(address: &str, path: &str) -> ExitCode {
    let answer = address.parse().map_err(anyhow::Error::from).and_then(|address| http::get(address, path));
    match answer.as_ref().map(|answer| (answer.status, answer.text())) {
        Ok((200, Ok(text))) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        outcome => {
            eprintln!("observer-cluster: {address}{path}: {outcome:?}");
            ExitCode::FAILURE
        }
    }
}
