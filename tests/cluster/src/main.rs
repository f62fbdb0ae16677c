//! Tests in a real Kubernetes: each does with kubectl what a user would do, and holds what it sees against what the kubelet
//! and the kernel say.
//!
//! `cargo xtask test --level cluster` starts it on a cluster of its own, or with `--kubeconfig FILE` on anyone's. It can be run
//! by itself: `KUBECONFIG` names the cluster, `OBSERVER_KUBECTL` the kubectl (default: that in `PATH`), `OBSERVER_TEST_IMAGE` the
//! image of the tests' pods, if the cluster knows it by another name. `OBSERVER_CLUSTER_XTASK` names the xtask whose cluster it
//! is, and that may be asked to take parts of it away.

mod cluster;
mod kubectl;
mod namespace;
mod pod;
mod scenarios;
mod trial;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Some take away what the others need.
    arguments.test_threads = Some(1);
    let trials = scenarios::all();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
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
    conclusion.exit_code()
}
