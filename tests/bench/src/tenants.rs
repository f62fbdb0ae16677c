//! Pods as a node has them: cgroups named as containerd names them, in each a process that waits, runs and talks.

use crate::{
    arena::{Arena, Cgroup},
    worker::Worker,
};
use anyhow::{Context as _, Result};
use std::{
    fs,
    io::{BufRead as _, Write as _},
    net::UdpSocket,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

/// Milliseconds from one talk of a pod to the next.
const TALKS_EVERY_MS: &str = "100";
/// Payload of a pod's packets.
const PAYLOAD: usize = 200;
/// The same as the kernel books it: with the headers of UDP and IPv4.
pub(crate) const PACKET_BYTES: u64 = PAYLOAD as u64 + 28;

/// Running pods. Dropping them ends them and removes their cgroups: fields are dropped in order.
#[derive(Debug)]
pub(crate) struct Tenants {
    workers: Vec<Worker>,
    parent: Cgroup,
}

impl Tenants {
    /// Starts `count` pods of one container each, and waits until each has sent something.
    pub(crate) fn start(arena: &Arena, count: u32) -> Result<Self> {
        let parent = arena.cgroup("kubepods.slice")?;
        let mut tenants = Self { workers: Vec::new(), parent };
        for number in 0..count {
            let pod = format!("kubepods-burstable-pod{}.slice", pod_uid(number).replace('-', "_"));
            let cgroup = tenants.parent.join(pod).join(format!("cri-containerd-{}.scope", container_id(number)));
            fs::create_dir_all(&cgroup).with_context(|| format!("make the cgroup {}", cgroup.display()))?;
            let worker = Worker::start(&["tenant", TALKS_EVERY_MS], Some(&cgroup))?;
            arena.bind_in_v1(&cgroup, worker.pid())?;
            tenants.workers.push(worker);
        }
        for worker in &mut tenants.workers {
            worker.hear()?;
        }
        Ok(tenants)
    }
}

/// The UID of a pod by its number, as its cgroup's path has it.
pub(crate) fn pod_uid(number: u32) -> String {
    format!("{number:08x}-0000-4000-8000-{number:012x}")
}

/// The id of a pod's container by its number, as its cgroup's path has it.
pub(crate) fn container_id(number: u32) -> String {
    format!("{number:064x}")
}

/// A pod's process: a few packets to itself over the loopback, and a rest. Ends when its stdin ends.
pub(crate) fn live(rest: Duration) -> Result<()> {
    let (sender, ended) = channel::<()>();
    thread::spawn(move || {
        let _ = std::io::stdin().lock().lines().count();
        drop(sender);
    });
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(socket.local_addr()?)?;
    let mut first = true;
    loop {
        for _ in 0..3 {
            socket.send(&[0; PAYLOAD])?;
            socket.recv(&mut [0; PAYLOAD])?;
        }
        if first {
            let mut output = std::io::stdout();
            writeln!(output, "talking")?;
            output.flush()?;
            first = false;
        }
        if ended.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
            return Ok(());
        }
    }
}
