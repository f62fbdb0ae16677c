//! What docs/security.md promises of the pod, whatever the values of the chart are.

use crate::objects::Objects;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Capabilities, PodSpec};

/// The user and the group that own nothing.
const NOBODY: i64 = 65534;
/// What may be mounted: the volume, the node's directory, and where it is in the container.
const DIRECTORIES: [(&str, &str, &str); 2] =
    [("cgroup", "/sys/fs/cgroup", "/host/sys/fs/cgroup"), ("proc", "/proc", "/host/proc")];

/// Every promise of the pod.
///
/// # Errors
/// The first that is broken.
pub(crate) fn hold(objects: &Objects) -> Result<()> {
    not_privileged(objects)?;
    nobody(objects)?;
    no_namespace_of_the_host(objects.pod()?)?;
    two_directories(objects)?;
    least_roles(objects)
}

/// Not privileged: three capabilities, all others dropped.
///
/// # Errors
/// When it is broken.
pub(crate) fn not_privileged(objects: &Objects) -> Result<()> {
    let context = objects.container()?.security_context.as_ref().context("no security context")?;
    ensure!(context.privileged != Some(true), "privileged");
    let list = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
    let expected = Capabilities { drop: list(&["ALL"]), add: list(&["BPF", "PERFMON", "NET_ADMIN"]) };
    ensure!(context.capabilities.as_ref() == Some(&expected), "capabilities: {:?}", context.capabilities);
    ensure!(context.proc_mount.is_none(), "procMount");
    Ok(())
}

/// A user who owns nothing, a root file system that cannot be written, and the runtime's own seccomp profile.
///
/// # Errors
/// When it is broken.
pub(crate) fn nobody(objects: &Objects) -> Result<()> {
    let pod = objects.pod()?.security_context.as_ref().context("no security context of the pod")?;
    let container = objects.container()?.security_context.as_ref().context("no security context")?;
    ensure!(pod.run_as_non_root == Some(true), "may run as root");
    ensure!((pod.run_as_user, pod.run_as_group) == (Some(NOBODY), Some(NOBODY)), "not nobody: {pod:?}");
    // Group 0 may open the table of connections.
    let groups = pod.supplemental_groups.as_deref().unwrap_or_default();
    ensure!(groups.iter().all(|group| *group == 0) && pod.fs_group.is_none(), "supplementary groups {groups:?}");
    ensure!(pod.sysctls.is_none(), "sysctls");
    let profile = pod.seccomp_profile.as_ref().context("no seccomp profile")?;
    ensure!(profile.type_ == "RuntimeDefault", "seccomp {}", profile.type_);
    ensure!(container.read_only_root_filesystem == Some(true), "its root file system can be written");
    let overruled = [container.run_as_user, container.run_as_group].iter().any(Option::is_some)
        || container.run_as_non_root.is_some()
        || container.seccomp_profile.is_some();
    ensure!(!overruled, "the container overrules its pod");
    Ok(())
}

/// Network, processes and IPC of its own.
///
/// # Errors
/// When it is broken.
pub(crate) fn no_namespace_of_the_host(pod: &PodSpec) -> Result<()> {
    ensure!(pod.host_network != Some(true), "hostNetwork");
    ensure!(pod.host_pid != Some(true), "hostPID");
    ensure!(pod.host_ipc != Some(true), "hostIPC");
    ensure!(pod.share_process_namespace != Some(true), "shareProcessNamespace");
    let ports = pod.containers.iter().flat_map(|container| container.ports.iter().flatten());
    ensure!(ports.into_iter().all(|port| port.host_port.is_none()), "hostPort");
    Ok(())
}

/// What the history may be written to: the volume, and where it is in the container.
const STATE: (&str, &str) = ("state", "/var/lib/observer");

/// Two directories of the node, both read-only, and one for the history, which alone can be written: an emptyDir with a limit or
/// a directory of the node. Nothing else is mounted.
///
/// # Errors
/// When it is broken.
pub(crate) fn two_directories(objects: &Objects) -> Result<()> {
    let mut volumes = Vec::new();
    for volume in objects.pod()?.volumes.iter().flatten().filter(|volume| volume.name != STATE.0) {
        let host = volume.host_path.as_ref().with_context(|| format!("the volume {} is no hostPath", volume.name))?;
        ensure!(host.type_.as_deref() == Some("Directory"), "{} may be anything", host.path);
        volumes.push((volume.name.as_str(), host.path.as_str()));
    }
    ensure!(volumes == DIRECTORIES.map(|(name, path, _)| (name, path)), "volumes: {volumes:?}");
    for volume in objects.pod()?.volumes.iter().flatten().filter(|volume| volume.name == STATE.0) {
        let bounded = volume.empty_dir.as_ref().is_some_and(|volume| volume.size_limit.is_some());
        ensure!(bounded || volume.host_path.is_some(), "the history's volume is {volume:?}");
    }
    let mounts = objects.container()?.volume_mounts.as_deref().unwrap_or_default();
    let (state, mounts): (Vec<_>, Vec<_>) = mounts.iter().partition(|mount| mount.name == STATE.0);
    ensure!(state.iter().all(|mount| mount.mount_path == STATE.1 && mount.mount_propagation.is_none()), "{state:?}");
    for mount in &mounts {
        ensure!(mount.read_only == Some(true), "{} can be written", mount.mount_path);
        // Later mounts of the node stay outside, and none goes back.
        ensure!(mount.mount_propagation.is_none(), "{} propagates mounts", mount.mount_path);
    }
    let mounts: Vec<_> = mounts.iter().map(|mount| (mount.name.as_str(), mount.mount_path.as_str())).collect();
    ensure!(mounts == DIRECTORIES.map(|(name, _, place)| (name, place)), "mounts: {mounts:?}");
    ensure!(objects.container()?.volume_devices.is_none(), "devices");
    Ok(())
}

/// The verbs that the account has, as `GROUP/RESOURCE VERB`.
pub(crate) fn verbs(objects: &Objects) -> Vec<String> {
    let rules = objects.roles.iter().flat_map(|role| role.rules.iter().flatten());
    let mut verbs = Vec::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                verbs.extend(rule.verbs.iter().map(|verb| format!("{group}/{resource} {verb}")));
            }
        }
    }
    verbs
}

/// No verb but those that a feature needs.
///
/// # Errors
/// When it is broken.
pub(crate) fn least_roles(objects: &Objects) -> Result<()> {
    let verbs = verbs(objects);
    let least = [
        "/pods list",
        "/pods watch",
        "/nodes get",
        "/nodes list",
        "/services list",
        "networking.k8s.io/servicecidrs list",
        "networking.k8s.io/ipaddresses get",
        "apps/replicasets get",
        "batch/jobs get",
    ];
    ensure!(objects.roles.is_empty() || verbs == least, "{verbs:?}");
    let urls = objects.roles.iter().flat_map(|role| role.rules.iter().flatten()).any(|r| r.non_resource_urls.is_some());
    ensure!(!urls, "non-resource URLs");
    Ok(())
}
