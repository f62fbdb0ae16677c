//! The configuration files of the parts. JSON where the part reads YAML: the one is a subset of the other.

use super::{
    cgroups::Hierarchies,
    layout::{IMAGE_TAG, Layout, NODE, PAUSE_IMAGE, PODS},
    mode::Mode,
};
use anyhow::{Context, Result};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Writes all of them.
///
/// # Errors
/// When one cannot be written.
pub(super) fn write(layout: &Layout, mode: Mode, hierarchies: &Hierarchies) -> Result<()> {
    // Where version 1 has taken the controllers, nothing in the node's view can be limited.
    let limits = mode == Mode::Hybrid || hierarchies.v2_has_controllers();
    let files = [
        ("containerd.toml", containerd(layout, limits)?),
        ("kubelet.json", kubelet(layout, limits).to_string()),
        ("kube-proxy.json", kube_proxy(layout).to_string()),
        // Pods would be given this machine's; nothing there can be reached from them.
        ("resolv.conf", String::new()),
        ("node/networks/10-observer.conflist", network().to_string()),
    ];
    for (name, text) in files {
        let path = layout.file(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// <https://github.com/containerd/containerd/blob/v1.6.20/docs/cri/config.md>; later releases read this version too.
fn containerd(layout: &Layout, limits: bool) -> Result<String> {
    let packages = layout.packages();
    let runc = packages.join("usr/sbin/runc");
    let runc = if limits { runc } else { layout.program("runc-without-limits") };
    // An overlay cannot be laid over another one, which is what a container's root is.
    let snapshotter = if is_overlay(&layout.run())? { "native" } else { "overlayfs" };
    Ok(format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}:{IMAGE_TAG}"
  # A profile would stay in the kernel when the cluster is gone.
  disable_apparmor = true
  # Where root lacks CAP_SYS_RESOURCE no process can lower its own, and runc would end there.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      SystemdCgroup = false
"#,
        plugins = packages.join("usr/lib/cni").display(),
        runc = runc.display(),
    ))
}

fn is_overlay(path: &Path) -> Result<bool> {
    let facts = statfs(path).with_context(|| format!("ask what file system {} is on", path.display()))?;
    Ok(facts.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
}

/// <https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/>.
fn kubelet(layout: &Layout, limits: bool) -> Value {
    let mut settings = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "resolvConf": layout.file("resolv.conf"),
        "staticPodPath": layout.static_pods(),
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": layout.pki("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": layout.pki("kubelet-serving.crt"),
        "tlsPrivateKeyFile": layout.pki("kubelet-serving.key"),
        // The disk is the developer's, and how full it is not the cluster's business.
        "evictionHard": { "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%" },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 250,
        "nodeStatusUpdateFrequency": "5s",
    });
    if limits {
        settings["evictionHard"]["memory.available"] = "100Mi".into();
    } else {
        // There is no file that it could set.
        settings["singleProcessOOMKill"] = true.into();
    }
    settings
}

/// <https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/>.
fn kube_proxy(layout: &Layout) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": PODS,
        "hostnameOverride": NODE,
        "clientConnection": { "kubeconfig": layout.pki("kube-proxy.kubeconfig") },
        // The table of connections is sized for the whole machine.
        "conntrack": { "maxPerCore": 0, "min": 0 },
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    })
}

/// Pods on a bridge: <https://www.cni.dev/plugins/current/main/bridge/>.
fn network() -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "observer",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": PODS }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
        ],
    })
}
