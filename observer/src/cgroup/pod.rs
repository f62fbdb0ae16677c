//! What a cgroup's path says about the pod it belongs to: its UID and the id of its container.
//!
//! The kubelet's own layout: `/kubepods[/CLASS]/pod<UID>/<container>` with the cgroupfs driver,
//! `/kubepods.slice[/kubepods-CLASS.slice]/kubepods[-CLASS]-pod<UID>.slice/<container>` with the systemd driver, where the
//! UID has underscores for dashes. All may lie deeper, when the kubelet itself runs in a container (kind, k3d).

use super::container::ContainerRef;
use std::borrow::Cow;

/// The pod a cgroup belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef<'a> {
    /// The UID as the API shows it. For a static pod it is the hash of its manifest, which its mirror pod has in the
    /// annotation `kubernetes.io/config.hash`.
    pub uid: Cow<'a, str>,
    /// The id of the container right below the pod; absent for a cgroup of the pod that is in none (a runtime's monitor).
    pub container: Option<&'a str>,
}

impl<'a> PodRef<'a> {
    /// Recognises the pod in a path below the v2 root. What a container makes below itself (an init system, containers of
    /// its own) belongs to the container that the kubelet knows.
    pub fn of_path(path: &'a str) -> Option<Self> {
        let mut parts = path.split('/');
        let (part, uid) = parts.find_map(|part| Some((part, uid_of(part)?)))?;
        let container = parts.next().and_then(|below| ContainerRef::of_part(part, below)).map(|container| container.id);
        Some(Self { uid, container })
    }

    /// The path of the container that a path is in, which is where the kubelet's limits are; `None` outside of containers of
    /// pods.
    pub fn container_path(path: &'a str) -> Option<&'a str> {
        let id = Self::of_path(path)?.container?;
        let after = path.find(id)? + id.len();
        Some(&path[..path[after..].find('/').map_or(path.len(), |slash| after + slash)])
    }
}

/// `pod<UID>` or `kubepods[-CLASS]-pod<UID>.slice`.
fn uid_of(part: &str) -> Option<Cow<'_, str>> {
    let uid = match part.strip_suffix(".slice") {
        Some(slice) => {
            let (class, uid) = slice.rsplit_once("-pod")?;
            class.split('-').any(|word| word == "kubepods").then_some(uid)?
        }
        None => part.strip_prefix("pod")?,
    };
    let hexadecimal = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let separators = uid.bytes().filter(|byte| matches!(byte, b'-' | b'_')).count();
    if hexadecimal != 32 || hexadecimal + separators != uid.len() || !matches!(separators, 0 | 4) {
        return None;
    }
    Some(if uid.contains('_') { Cow::Owned(uid.replace('_', "-")) } else { Cow::Borrowed(uid) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1c3f0d5a7b9c2e4f1c3f0d5a7b9c2e4f1c3f0d5a7b9c2e4f1c3f0d5a7b9c2e";
    const UID: &str = "0a1b2c3d-0000-1111-2222-333344445555";

    fn of(path: &str) -> Option<(String, bool)> {
        let path = path.replace("ID", ID);
        PodRef::of_path(&path).map(|pod| {
            assert!(pod.container.is_none_or(|id| id == ID), "{pod:?}");
            (pod.uid.into_owned(), pod.container.is_some())
        })
    }

    #[test]
    fn both_drivers_name_the_pod_and_its_container() {
        let slice =
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_0000_1111_2222_333344445555.slice";
        let guaranteed = "/kubepods.slice/kubepods-pod0a1b2c3d_0000_1111_2222_333344445555.slice";
        for (path, in_a_container) in [
            (format!("/kubepods/besteffort/pod{UID}/ID"), true),
            (format!("/kubepods/pod{UID}/ID"), true),
            (format!("/kubepods/pod{UID}/crio-ID"), true),
            (format!("{slice}/cri-containerd-ID.scope"), true),
            (format!("{guaranteed}/crio-ID.scope"), true),
            (format!("{slice}/docker-ID.scope"), true),
            (format!("{slice}/crio-conmon-ID.scope"), false),
            (guaranteed.to_owned(), false),
            (format!("/kubepods/pod{UID}"), false),
        ] {
            assert_eq!(of(&path), Some((UID.to_owned(), in_a_container)), "{path}");
        }
    }

    #[test]
    fn what_is_below_a_container_is_the_containers() {
        let inner = "0".repeat(64);
        assert_eq!(of(&format!("/kubepods/pod{UID}/ID/docker/{inner}")), Some((UID.to_owned(), true)));
        assert_eq!(of(&format!("/kubepods/pod{UID}/ID/init.scope")), Some((UID.to_owned(), true)));
    }

    #[test]
    fn whatever_is_in_a_container_has_the_containers_path() {
        let container = format!("/kubepods.slice/kubepods-pod{}.slice/crio-{ID}.scope", UID.replace('-', "_"));
        for below in ["", "/init.scope", "/docker/x"] {
            let path = format!("{container}{below}");
            assert_eq!(PodRef::container_path(&path), Some(&*container));
        }
        assert_eq!(PodRef::container_path(&format!("/kubepods/pod{UID}")), None);
        assert_eq!(PodRef::container_path("/system.slice/sshd.service"), None);
    }

    #[test]
    fn a_kubelet_in_a_container_has_its_pods_deeper() {
        let path = format!("/system.slice/docker-{}.scope/kubelet/kubepods/burstable/pod{UID}/ID", "1".repeat(64));
        assert_eq!(of(&path), Some((UID.to_owned(), true)));
        let slice = "kubelet-kubepods-burstable-pod0a1b2c3d_0000_1111_2222_333344445555.slice";
        assert_eq!(of(&format!("/kubelet.slice/{slice}/cri-containerd-ID.scope")), Some((UID.to_owned(), true)));
    }

    #[test]
    fn a_static_pods_uid_is_a_hash() {
        let hash = "8f3c2b1a0d9e8f7c6b5a4d3e2f1a0b9c";
        assert_eq!(of(&format!("/kubepods/burstable/pod{hash}/ID")), Some((hash.to_owned(), true)));
    }

    #[test]
    fn what_is_no_pod_is_none() {
        for path in [
            "/",
            "/kubepods.slice",
            "/kubepods/besteffort",
            "/system.slice/podman.service",
            "/pod-of-whales/x",
            "/kubepods/podxyz",
            "/machine.slice/libpod-ID.scope",
            "/user.slice/my-pod0a1b2c3d_0000_1111_2222_333344445555.slice/x",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
