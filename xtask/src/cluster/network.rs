//! The cable between the machine and the node. The node has no other way out: nothing leaves the machine.

use super::layout::{LINK, MACHINE_ADDRESS, NODE_ADDRESS, SERVICES};
use crate::setup::find;
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// The node's end.
const NODE_LINK: &str = "eth0";

/// True when the machine's end is there.
pub(super) fn is_there() -> bool {
    Path::new("/sys/class/net").join(LINK).exists()
}

/// Plugs it in: on the machine's side, into the network namespace of a process.
///
/// # Errors
/// When `ip` fails.
pub(super) fn connect(pid: u32) -> Result<()> {
    let pid = pid.to_string();
    ip(&["link", "add", LINK, "type", "veth", "peer", "name", NODE_LINK, "netns", &pid])?;
    ip(&["addr", "add", &format!("{MACHINE_ADDRESS}/30"), "dev", LINK])?;
    ip(&["link", "set", LINK, "up"])
}

/// Sets it up on the node's side, when it is plugged in.
///
/// # Errors
/// When it is not plugged in within ten seconds, or `ip` fails.
pub(super) fn set_up_in_node() -> Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    let end = Instant::now() + Duration::from_secs(10);
    while !Path::new("/sys/class/net").join(NODE_LINK).exists() {
        ensure!(Instant::now() < end, "whoever brings the cluster up has not plugged in its network");
        thread::sleep(Duration::from_millis(10));
    }
    ip(&["addr", "add", &format!("{NODE_ADDRESS}/30"), "dev", NODE_LINK])?;
    ip(&["link", "set", NODE_LINK, "up"])?;
    // Pods in the node's own network reach services too: kube-proxy changes where to, once there is a way.
    ip(&["route", "add", SERVICES, "dev", NODE_LINK])?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("let the node forward packets")
}

/// Takes it away. It goes with the node, but not at once.
///
/// # Errors
/// When it is there and stays.
pub(super) fn disconnect() -> Result<()> {
    if is_there() {
        let removed = ip(&["link", "delete", LINK]);
        // It may have gone by itself just then.
        if is_there() {
            removed?;
        }
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let program = find("ip").context("no `ip` here (Debian: iproute2)")?;
    let output = Command::new(program).args(arguments).output().context("run ip")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), errors.trim());
    Ok(())
}
