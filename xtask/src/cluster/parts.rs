//! The parts of the cluster: the programs that run, with their arguments.

use super::layout::{Layout, NODE, NODE_ADDRESS, PODS, SERVICES};
use std::path::{Path, PathBuf};

/// A program of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// Keeps the API server's objects.
    Etcd,
    /// The API.
    KubeApiserver,
    /// Runs containers.
    Containerd,
    /// Runs the node's pods.
    Kubelet,
    /// Makes pods of Deployments, Jobs and the like.
    KubeControllerManager,
    /// Gives pods to nodes.
    KubeScheduler,
    /// Makes services reachable.
    KubeProxy,
}

impl Part {
    /// Every one, in the order in which they start.
    pub(super) const ALL: [Self; 7] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::Containerd,
        Self::Kubelet,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::KubeProxy,
    ];

    /// Its name: that of the program, of its cgroup and of its log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::KubeProxy => "kube-proxy",
        }
    }

    /// The one of a name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// Its program.
    pub(super) fn program(self, layout: &Layout) -> PathBuf {
        match self {
            Self::Containerd => layout.packages().join("usr/bin/containerd"),
            _ => layout.program(self.name()),
        }
    }

    /// Its arguments.
    pub(super) fn arguments(self, layout: &Layout) -> Vec<String> {
        match self {
            Self::Etcd => etcd(layout),
            Self::KubeApiserver => kube_apiserver(layout),
            Self::Containerd => vec![flag("config", &layout.file("containerd.toml"))],
            Self::Kubelet => vec![
                flag("config", &layout.file("kubelet.json")),
                flag("kubeconfig", &layout.pki("kubelet.kubeconfig")),
                format!("--hostname-override={NODE}"),
                format!("--node-ip={NODE_ADDRESS}"),
                "--root-dir=/var/lib/kubelet".into(),
            ],
            Self::KubeControllerManager => kube_controller_manager(layout),
            Self::KubeScheduler => client_of_the_api(layout, self),
            Self::KubeProxy => vec![flag("config", &layout.file("kube-proxy.json"))],
        }
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn etcd(layout: &Layout) -> Vec<String> {
    vec![
        format!("--name={NODE}"),
        flag("data-dir", &layout.file("etcd")),
        // What is in it is not worth waiting for a disk.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".into(),
        format!("--initial-cluster={NODE}=http://127.0.0.1:2380"),
    ]
}

fn kube_apiserver(layout: &Layout) -> Vec<String> {
    let pki = |name: &str, file: &str| flag(name, &layout.pki(file));
    vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        "--bind-address=0.0.0.0".into(),
        "--secure-port=6443".into(),
        format!("--advertise-address={NODE_ADDRESS}"),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--allow-privileged=true".into(),
        // As kubeadm sets it up: roles, and a kubelet that reads and writes what is its own and nothing else.
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        pki("client-ca-file", "ca.crt"),
        pki("tls-cert-file", "kube-apiserver.crt"),
        pki("tls-private-key-file", "kube-apiserver.key"),
        pki("kubelet-client-certificate", "apiserver-kubelet-client.crt"),
        pki("kubelet-client-key", "apiserver-kubelet-client.key"),
        pki("kubelet-certificate-authority", "ca.crt"),
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        pki("service-account-key-file", "service-accounts.pub"),
        pki("service-account-signing-key-file", "service-accounts.key"),
        // Aggregated APIs, such as that of a metrics server.
        "--enable-aggregator-routing=true".into(),
        pki("requestheader-client-ca-file", "front-proxy-ca.crt"),
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        pki("proxy-client-cert-file", "front-proxy-client.crt"),
        pki("proxy-client-key-file", "front-proxy-client.key"),
    ]
}

fn kube_controller_manager(layout: &Layout) -> Vec<String> {
    let pki = |name: &str, file: &str| flag(name, &layout.pki(file));
    let mut arguments = client_of_the_api(layout, Part::KubeControllerManager);
    arguments.extend([
        pki("client-ca-file", "ca.crt"),
        pki("root-ca-file", "ca.crt"),
        pki("cluster-signing-cert-file", "ca.crt"),
        pki("cluster-signing-key-file", "ca.key"),
        pki("requestheader-client-ca-file", "front-proxy-ca.crt"),
        pki("service-account-private-key-file", "service-accounts.key"),
        "--use-service-account-credentials=true".into(),
        // As kubeadm sets it up: nodes have the range of their pods in their spec.
        "--allocate-node-cidrs=true".into(),
        format!("--cluster-cidr={PODS}"),
    ]);
    arguments
}

/// What the two that only talk to the API have in common. Each is alone, so there is no leader to elect.
fn client_of_the_api(layout: &Layout, part: Part) -> Vec<String> {
    let kubeconfig = layout.pki(&format!("{}.kubeconfig", part.name()));
    let names = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"];
    let mut arguments: Vec<_> = names.iter().map(|name| flag(name, &kubeconfig)).collect();
    arguments.extend(["--bind-address=127.0.0.1".into(), "--leader-elect=false".into()]);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_part_is_named_on_the_command_line_as_its_program_is() {
        for part in Part::value_variants() {
            assert_eq!(part.to_possible_value().unwrap().get_name(), part.name());
            assert_eq!(Part::of_name(part.name()), Some(*part));
        }
        assert_eq!(Part::value_variants(), Part::ALL);
    }
}
