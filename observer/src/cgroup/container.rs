//! What a cgroup's path says about the container in it: counting never waits for anybody to name it.
//!
//! The forms are those that the runtimes write: the systemd driver as `<runtime>-<id>.scope` (CRI-O `crio-`, containerd
//! `cri-containerd-`, Docker `docker-`, Podman `libpod-`), the cgroupfs driver as the bare id in the folder of the
//! runtime or of the pod.

/// Who made the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// containerd through the CRI, or bare.
    Containerd,
    /// CRI-O.
    CriO,
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// A pod's container by the cgroupfs driver, whose path does not name the runtime.
    Unnamed,
}

impl Runtime {
    /// Its name in a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Unnamed => "container",
        }
    }
}

/// The container a cgroup belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContainerRef<'a> {
    /// Who made it.
    pub runtime: Runtime,
    /// Its id: 64 hexadecimal digits.
    pub id: &'a str,
}

/// Bytes of a container id.
const ID_BYTES: usize = 64;
const SCOPES: [(&str, Runtime); 5] = [
    ("cri-containerd-", Runtime::Containerd),
    ("crio-", Runtime::CriO),
    ("docker-", Runtime::Docker),
    ("libpod-", Runtime::Podman),
    // containerd through nerdctl.
    ("nerdctl-", Runtime::Containerd),
];

impl<'a> ContainerRef<'a> {
    /// Recognises the container in a path below the v2 root. A cgroup that the container made for itself (an init system,
    /// a nested container) belongs to the innermost container named.
    pub fn of_path(path: &'a str) -> Option<Self> {
        let mut parent = "";
        let mut found = None;
        for part in path.split('/') {
            found = Self::of_part(parent, part).or(found);
            parent = part;
        }
        found
    }

    /// Recognises a container by one component of a path and the one above it.
    pub(super) fn of_part(parent: &str, part: &'a str) -> Option<Self> {
        if let Some(scope) = part.strip_suffix(".scope") {
            return SCOPES.iter().find_map(|(prefix, runtime)| Self::new(*runtime, scope.strip_prefix(prefix)?));
        }
        // cgroupfs driver: CRI-O and Podman keep their prefix, containerd names a CRI container by the id alone.
        for (prefix, runtime) in SCOPES {
            if let Some(id) = part.strip_prefix(prefix).filter(|_| runtime != Runtime::Docker) {
                return Self::new(runtime, id);
            }
        }
        match parent {
            // containerd without a CRI names a folder for its namespace; Docker's is `moby`.
            "docker" | "moby" => Self::new(Runtime::Docker, part),
            "libpod_parent" => Self::new(Runtime::Podman, part),
            "default" | "k8s.io" => Self::new(Runtime::Containerd, part),
            pod if is_pod(pod) => Self::new(Runtime::Unnamed, part),
            _ => None,
        }
    }

    fn new(runtime: Runtime, id: &'a str) -> Option<Self> {
        let valid = id.len() == ID_BYTES && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        valid.then_some(Self { runtime, id })
    }
}

/// `pod<UID>` of the cgroupfs driver, `kubepods-<class>-pod<UID>.slice` of the systemd driver.
fn is_pod(part: &str) -> bool {
    let name = part.strip_suffix(".slice").unwrap_or(part);
    name.rsplit_once("pod").is_some_and(|(before, uid)| (before.is_empty() || before.ends_with('-')) && uid.len() >= 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1c3f0d5a7b9c2e4f1c3f0d5a7b9c2e4f1c3f0d5a7b9c2e4f1c3f0d5a7b9c2e";

    fn runtime_of(path: &str) -> Option<Runtime> {
        let path = path.replace("ID", ID);
        ContainerRef::of_path(&path).map(|container| {
            assert_eq!(container.id, ID);
            container.runtime
        })
    }

    #[test]
    fn the_systemd_driver_names_the_runtime() {
        let pod =
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_0000_1111_2222_333344445555.slice";
        assert_eq!(runtime_of(&format!("{pod}/cri-containerd-ID.scope")), Some(Runtime::Containerd));
        assert_eq!(runtime_of(&format!("{pod}/crio-ID.scope")), Some(Runtime::CriO));
        assert_eq!(runtime_of(&format!("{pod}/docker-ID.scope")), Some(Runtime::Docker));
        assert_eq!(runtime_of("/machine.slice/libpod-ID.scope"), Some(Runtime::Podman));
        assert_eq!(runtime_of("/machine.slice/libpod-ID.scope/container"), Some(Runtime::Podman));
        assert_eq!(
            runtime_of("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope"),
            Some(Runtime::Podman)
        );
        assert_eq!(runtime_of("/system.slice/docker-ID.scope"), Some(Runtime::Docker));
        assert_eq!(runtime_of("/system.slice/nerdctl-ID.scope"), Some(Runtime::Containerd));
    }

    #[test]
    fn the_cgroupfs_driver_is_told_by_the_folder() {
        let pod = "/kubepods/besteffort/pod0a1b2c3d-0000-1111-2222-333344445555";
        assert_eq!(runtime_of(&format!("{pod}/ID")), Some(Runtime::Unnamed));
        assert_eq!(runtime_of(&format!("{pod}/crio-ID")), Some(Runtime::CriO));
        assert_eq!(runtime_of("/kubepods/pod0a1b2c3d-0000-1111-2222-333344445555/ID"), Some(Runtime::Unnamed));
        assert_eq!(runtime_of("/docker/ID"), Some(Runtime::Docker));
        assert_eq!(runtime_of("/default/ID"), Some(Runtime::Containerd));
        assert_eq!(runtime_of("/libpod_parent/libpod-ID"), Some(Runtime::Podman));
    }

    #[test]
    fn the_innermost_container_is_meant() {
        let outer = "0".repeat(64);
        assert_eq!(runtime_of(&format!("/system.slice/docker-{outer}.scope/docker/ID")), Some(Runtime::Docker));
        assert_eq!(runtime_of("/system.slice/docker-ID.scope/init.scope"), Some(Runtime::Docker));
    }

    #[test]
    fn what_is_no_container_is_none() {
        for path in
            ["/", "/system.slice/sshd.service", "/system.slice/docker-short.scope", "/docker", "/kubepods/besteffort"]
        {
            assert_eq!(ContainerRef::of_path(path), None, "{path}");
        }
        assert_eq!(runtime_of("/ID"), None);
        assert_eq!(runtime_of("/user.slice/ID"), None);
        assert_eq!(runtime_of("/system.slice/crio-conmon-ID.scope"), None);
    }
}
