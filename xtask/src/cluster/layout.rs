//! Where the cluster's files are, and the names and addresses that it uses on this machine.

use super::parts::Part;
use crate::workspace::Workspace;
use std::{
    ffi::OsString,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// The node's name.
pub(crate) const NODE: &str = "node1";
/// The machine's end of the cable to the node.
pub(super) const LINK: &str = "obs-cluster";
/// Its address; like the node's one of those that are kept for documentation, so no network has it.
pub(super) const MACHINE_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The node's address.
pub(super) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The addresses of pods.
pub(super) const PODS: &str = "10.244.0.0/24";
/// The addresses of services, and the API server's among them.
pub(super) const SERVICES: &str = "10.96.0.0/16";
pub(super) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The image that holds a pod together.
pub(super) const PAUSE_IMAGE: &str = "localhost/observer-pause";
/// The image of the tests' pods.
pub(super) const TEST_IMAGE: &str = "localhost/observer-test";
/// The tag of both.
pub(super) const IMAGE_TAG: &str = "1";

/// What a node's programs write at paths that cannot be chosen: the path, and the directory of ours that is seen there
/// inside the node; without one it is memory.
pub(super) const COVERED: [(&str, Option<&str>); 8] = [
    ("/var/lib/kubelet", Some("kubelet")),
    ("/var/log/pods", Some("pods")),
    ("/var/log/containers", Some("containers")),
    ("/var/lib/cni", Some("cni")),
    ("/var/lib/containerd", Some("containerd")),
    ("/etc/cni/net.d", Some("networks")),
    ("/run/containerd", None),
    ("/run/netns", None),
];

/// The directory target/cluster and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Of a workspace.
    pub(crate) fn of(workspace: &Workspace) -> Self {
        Self { root: workspace.target().join("cluster") }
    }

    /// All of it.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A program that was built: one file, which does what the name says that it is called by.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    /// Where the Go tool-chain keeps modules (`mod`) and what it has built (`build`).
    pub(super) fn go_cache(&self, kind: &str) -> PathBuf {
        self.root.join("go").join(kind)
    }

    /// The distribution's packages, unpacked one over the other.
    pub(super) fn packages(&self) -> PathBuf {
        self.root.join("packages")
    }

    /// The definitions of objects that Kubernetes does not know by itself.
    pub(crate) fn definitions(&self) -> PathBuf {
        self.root.join("definitions")
    }

    /// The archives of the images that a cluster starts with.
    pub(super) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The archive of the image of the tests' pods.
    pub(crate) fn test_image(&self) -> PathBuf {
        self.images().join("test.tar")
    }

    /// All of a cluster that is up; gone when it is down.
    pub(super) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// A file of a cluster that is up.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.run().join(name)
    }

    /// Keys, certificates and kubeconfigs.
    pub(super) fn pki(&self, name: &str) -> PathBuf {
        self.run().join("pki").join(name)
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    /// Where the kubelet looks for pods that it runs without being told by the API server.
    pub(crate) fn static_pods(&self) -> PathBuf {
        self.file("static-pods")
    }

    /// What is seen inside the node at one of the paths of [`COVERED`].
    pub(super) fn node(&self, name: &str) -> PathBuf {
        self.run().join("node").join(name)
    }

    /// The logs of the last cluster; they stay when it is down.
    pub(super) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log of a part.
    pub(super) fn log(&self, part: Part) -> PathBuf {
        self.logs().join(format!("{}.log", part.name()))
    }

    /// The search path of all that runs in the node.
    pub(super) fn search_path(&self) -> OsString {
        let packages = self.packages();
        let own = [self.root.join("bin"), packages.join("usr/bin"), packages.join("usr/sbin")];
        let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
        std::env::join_paths(own.into_iter().chain(system)).unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into())
    }
}
