//! Cgroups of a fifth of a second: make one, live in it, send a known number of bytes, leave it, remove it, and again.
//! When each was made is told, so that the test knows how many there were a second.

use super::converse;
use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};
use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    time::{Duration, Instant},
};

/// Understands `live`: goes through all of its cgroups; answers with when each was made, in nanoseconds of the clock
/// that all processes share.
#[derive(clap::Args)]
pub(super) struct ShortLived {
    /// The cgroup to make them in; also where it goes in between.
    #[arg(long)]
    parent: PathBuf,
    /// The number of the first: `s<number>` is its name, and `number + 1` datagrams go out of it.
    #[arg(long)]
    first: u64,
    #[arg(long)]
    count: u64,
    #[arg(long)]
    size: usize,
    #[arg(long)]
    to: SocketAddr,
    /// How long each lives, and from one to the next.
    #[arg(long)]
    life_ms: u64,
    #[arg(long)]
    period_ms: u64,
}

impl ShortLived {
    pub(super) fn run(self) -> Result<()> {
        let payload = vec![0; self.size];
        converse("ready", |words| {
            if words != ["live"] {
                return super::not_understood(words);
            }
            let start = Instant::now();
            let mut births = Vec::new();
            for index in 0..self.count {
                let due = start + Duration::from_millis(index * self.period_ms);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                births.push(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos().to_string());
                self.live_once(self.first + index, &payload)?;
            }
            Ok(births.join(" "))
        })
    }

    fn live_once(&self, number: u64, payload: &[u8]) -> Result<()> {
        let born = Instant::now();
        let path = self.parent.join(format!("s{number}"));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        crate::cgroup::join(&path, 0)?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(self.to)?;
        for _ in 0..=number {
            socket.send(payload)?;
        }
        drop(socket);
        let end = born + Duration::from_millis(self.life_ms);
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        crate::cgroup::join(&self.parent, 0)?;
        fs::remove_dir(&path).with_context(|| format!("remove {}", path.display()))
    }
}
