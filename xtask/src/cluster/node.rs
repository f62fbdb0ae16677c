//! The first process of the node: makes the node around itself, starts the parts one after the other, says how far it is,
//! and stays as their parent.

use super::{
    cgroups::{self, Hierarchies},
    control,
    layout::{Layout, NODE},
    namespaces, network,
    parts::Part,
    process::Process,
    record::{self, Record, Step},
    supervisor::Supervisor,
};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// The name of this process in the record, and of its cgroup.
pub(super) const NAME: &str = "node";
/// What is said when the namespaces are there and the cable can be plugged in.
pub(super) const WAITS_FOR_NETWORK: &str = "network and mount namespaces made";
/// How long a part may take to be ready: many times what it takes on two busy CPUs.
const PATIENCE: Duration = Duration::from_mins(2);

/// Does it all; returns only when it fails, and has said so in the record.
///
/// # Errors
/// What failed.
pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let failed = start(workspace).and_then(|(listener, supervisor)| {
        record::add_step(&Step::Ready)?;
        control::serve(&listener, &supervisor)
    });
    if let Err(error) = &failed {
        record::add_step(&Step::Failed(format!("{error:#}")))?;
    }
    failed
}

fn start(workspace: &Workspace) -> Result<(std::os::unix::net::UnixListener, Arc<Supervisor>)> {
    let layout = Layout::of(workspace);
    let record = Record::read().context("there is no record of a cluster that is to be brought up")?;
    let hierarchies = Hierarchies::of_this_machine()?;
    // What a terminal sends to whoever brought the cluster up is not for it.
    nix::unistd::setsid().context("leave the terminal's session")?;
    let own = std::process::id();
    cgroups::enter(&hierarchies.programs().join(NAME), own)?;
    record::add_process(&Process::named(NAME, own).context("this process is not in /proc")?)?;
    let listener = control::listen()?;
    namespaces::make(&layout, record.mode, &hierarchies.v2)?;
    done(WAITS_FOR_NETWORK)?;
    network::set_up_in_node()?;
    let supervisor = Supervisor::new(layout.clone(), hierarchies.seen_in_node(record.mode));
    let start = Start { layout: &layout, supervisor: &supervisor };
    start.all()?;
    Ok((listener, supervisor))
}

fn done(what: &str) -> Result<()> {
    record::add_step(&Step::Done(what.to_owned()))
}

/// The start of the parts.
struct Start<'a> {
    layout: &'a Layout,
    supervisor: &'a Arc<Supervisor>,
}

impl Start<'_> {
    fn all(&self) -> Result<()> {
        self.supervisor.start(Part::Etcd)?;
        self.supervisor.start(Part::KubeApiserver)?;
        // While the API server gets ready:
        self.supervisor.start(Part::Containerd)?;
        self.wait_for(Part::Containerd, || Path::new("/run/containerd/containerd.sock").exists())?;
        self.import_images()?;
        self.wait_for(Part::KubeApiserver, || self.kubectl(&["get", "--raw", "/readyz"]).is_some())?;
        done("API server ready")?;
        for part in [Part::Kubelet, Part::KubeControllerManager, Part::KubeScheduler, Part::KubeProxy] {
            self.supervisor.start(part)?;
        }
        let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        self.wait_for(Part::Kubelet, || self.kubectl(&["get", "node", NODE, "-o", ready]).as_deref() == Some("True"))?;
        done("node Ready")?;
        let account = ["-n", "default", "get", "serviceaccount", "default"];
        self.wait_for(Part::KubeControllerManager, || self.kubectl(&account).is_some())?;
        done("pods can be made")
    }

    fn import_images(&self) -> Result<()> {
        let images = archives(&self.layout.images())?;
        for image in &images {
            import(|program| self.supervisor.command(program), image)?;
        }
        done(&format!("containerd up, {} images in it", images.len()))
    }

    /// Asks ten times a second until the answer is yes, as long as the part runs.
    fn wait_for(&self, part: Part, mut answer: impl FnMut() -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !answer() {
            self.supervisor.check(part)?;
            let log = self.layout.log(part);
            ensure!(
                Instant::now() < end,
                "{} is not ready after {} s: {}",
                part.name(),
                PATIENCE.as_secs(),
                log.display()
            );
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// What kubectl says, if it succeeds.
    fn kubectl(&self, arguments: &[&str]) -> Option<String> {
        let mut command = self.supervisor.command(self.layout.program("kubectl"));
        command.env("KUBECONFIG", self.layout.kubeconfig()).args(["--request-timeout=5s"]).args(arguments);
        let output = command.stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The image archives in a directory.
fn archives(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut archives: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "tar")).collect();
    archives.sort();
    Ok(archives)
}

/// Has containerd take an image in, from inside the node.
///
/// # Errors
/// When it does not.
pub(super) fn import(command: impl Fn(&str) -> Command, archive: &Path) -> Result<()> {
    let mut ctr = command("ctr");
    ctr.args(["--namespace", "k8s.io", "images", "import"]).arg(archive).stdin(Stdio::null());
    let output = ctr.output().context("run ctr")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("containerd does not take {}: {}", archive.display(), super::last_lines(&errors, 3));
    }
    Ok(())
}
