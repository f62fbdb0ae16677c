//! Bringing the cluster up: what it needs to know is written, its node is started, and its steps are followed.

use super::{
    cgroups::Hierarchies,
    down,
    layout::{API_SERVICE, COVERED, Layout, NODE, NODE_ADDRESS},
    machine,
    mode::Mode,
    namespaces, network, node,
    parts::Part,
    record::{self, Lock, Record, Step},
    settings, status, sysctls, versions,
};
use crate::{progress, workspace::Workspace};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Brings it up, or says that it is up and starts what of it has ended. As root, with everything built. What is said on the
/// way goes to `say`.
///
/// # Errors
/// What is in the way, or what failed; in that case nothing is left of it but the logs.
pub(super) fn up(workspace: &Workspace, wanted: Option<Mode>, say: &mut dyn FnMut(&str)) -> Result<()> {
    let started = Instant::now();
    let layout = Layout::of(workspace);
    let lock = Lock::take()?;
    if let Some(record) = Record::read() {
        if status::is_up(&record) {
            return keep(&layout, &record, wanted, say);
        }
        down::tidy(&lock, say)?;
    }
    let possible = Hierarchies::of_this_machine().and_then(|hierarchies| {
        machine::verify(&hierarchies)?;
        Ok((Mode::choose(wanted, &hierarchies)?, versions::kubernetes(workspace)?, hierarchies))
    });
    let (mode, release, hierarchies) = match possible {
        Ok(possible) => possible,
        Err(error) => {
            // Nothing was changed but this.
            Record::remove(lock)?;
            return Err(error);
        }
    };
    say(&format!("cluster: bringing up Kubernetes {release} ({})", mode.name()));
    let mut say_when = |what: &str| say(&format!("  {:>7}  {what}", progress::seconds(started.elapsed())));
    if let Err(error) = bring_up(workspace, &layout, mode, &hierarchies, &lock, &mut say_when) {
        down::clean(Record::read().as_ref()).context("take down again what did not come up")?;
        Record::remove(lock)?;
        return Err(error.context("the cluster did not come up, and is taken down again"));
    }
    say(&format!("cluster: up in {}; node {NODE} is Ready", progress::seconds(started.elapsed())));
    say_how(&layout, say);
    Ok(())
}

/// It is up.
fn keep(layout: &Layout, record: &Record, wanted: Option<Mode>, say: &mut dyn FnMut(&str)) -> Result<()> {
    ensure!(
        record.directory == layout.run(),
        "a cluster is up on this machine already, of another checkout ({}): `cargo xtask cluster down` takes it down",
        record.directory.display()
    );
    ensure!(
        wanted.is_none_or(|mode| mode == record.mode),
        "the cluster is up in mode {}: `cargo xtask cluster down` first",
        record.mode.name()
    );
    for part in status::ended() {
        super::control::ask(super::control::Request::Start(part))?;
        say(&format!("cluster: {} had ended, and is started again", part.name()));
    }
    say(&format!("cluster: is up already ({})", record.mode.name()));
    say_how(layout, say);
    Ok(())
}

fn say_how(layout: &Layout, say: &mut dyn FnMut(&str)) {
    say(&format!("  export KUBECONFIG={}", layout.kubeconfig().display()));
    say(&format!("  {} get nodes", layout.program("kubectl").display()));
}

fn bring_up(
    workspace: &Workspace,
    layout: &Layout,
    mode: Mode,
    hierarchies: &Hierarchies,
    lock: &Lock,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    make_directories(layout)?;
    let record = Record {
        directory: layout.run(),
        mode,
        boot: record::this_boot(),
        started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        versions: versions::all(workspace, layout)?,
        sysctls: sysctls::read(),
        subtree_control: hierarchies.subtree_control(),
        made: namespaces::missing_directories(),
    };
    record.write(lock)?;
    namespaces::make_directories(&record.made)?;
    make_certificates(layout)?;
    settings::write(layout, mode, hierarchies)?;
    follow(start_node(layout)?, say)
}

/// An empty directory for it, and no logs of the last one.
fn make_directories(layout: &Layout) -> Result<()> {
    down::remove_run(&layout.run())?;
    let covered = COVERED.into_iter().filter_map(|(_, own)| own).chain(["cgroup"]);
    let directories =
        covered.map(|name| layout.node(name)).chain([layout.pki(""), layout.logs(), layout.static_pods()]);
    for directory in directories {
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    }
    fs::set_permissions(layout.pki(""), fs::Permissions::from_mode(0o700)).context("keep the keys to root")?;
    for part in Part::ALL {
        let log = layout.log(part);
        if log.exists() {
            fs::remove_file(&log).with_context(|| format!("remove {}", log.display()))?;
        }
    }
    Ok(())
}

fn make_certificates(layout: &Layout) -> Result<()> {
    let mut command = Command::new(layout.program("kube-pki"));
    command.arg(layout.pki("")).args([NODE, &NODE_ADDRESS.to_string(), &API_SERVICE.to_string()]);
    let output = command.stdin(Stdio::null()).output().context("run kube-pki")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let kubeconfig = layout.kubeconfig();
    fs::copy(layout.pki("admin.kubeconfig"), &kubeconfig).context("copy the administrator's kubeconfig")?;
    give_to_the_user(&kubeconfig)
}

/// Whoever went through sudo is the administrator.
fn give_to_the_user(path: &Path) -> Result<()> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if let (Some(user), Some(group)) = (number("SUDO_UID"), number("SUDO_GID")) {
        chown(path, Some(user), Some(group)).with_context(|| format!("give {} to its user", path.display()))?;
    }
    Ok(())
}

fn start_node(layout: &Layout) -> Result<Child> {
    let path = layout.logs().join("node.log");
    let log = fs::File::create(&path).with_context(|| format!("write {}", path.display()))?;
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args(["cluster", "node"]).stdin(Stdio::null());
    command.stdout(log.try_clone().context("a log for both streams")?).stderr(log);
    command.spawn().context("start the node")
}

/// Says what is done as it is done, until all is.
fn follow(mut node: Child, say: &mut dyn FnMut(&str)) -> Result<()> {
    let mut seen = 0;
    loop {
        // Before the steps are read: its last words are among them.
        let ended = node.try_wait().context("wait for the node")?;
        for step in record::steps().into_iter().skip(seen) {
            seen += 1;
            match step {
                Step::Ready => return Ok(()),
                Step::Failed(why) => bail!("{why}"),
                Step::Done(what) => {
                    say(&what);
                    if what == node::WAITS_FOR_NETWORK {
                        network::connect(node.id())?;
                    }
                }
            }
        }
        if let Some(status) = ended {
            bail!("the node's first process ended: {status}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}
