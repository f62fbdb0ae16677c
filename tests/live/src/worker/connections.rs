//! Many connections, one after the other.

use super::{converse, not_understood, tcp};
use anyhow::{Context as _, Result};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// Connections that are opened and closed at the same time.
const AT_ONCE: usize = 4;

/// Understands `open FIRST COUNT BYTES` (to one address of 127.0.0.0/8 after the other, FIRST being 127.1.0.0, each connection leaves
/// that many bytes and closes), `halves FIRST COUNT BYTES` (the same, four at a time, and each shuts its half down, waits for an answer and
/// closes while the server does), `hold FIRST COUNT` (they stay open), `refused COUNT` (to a port where nobody listens) and `try
/// ADDRESS:PORT SECONDS` (which goes on asking for so long, and says at once that it is done).
#[derive(clap::Args)]
pub(super) struct Connections {
    /// Where the server listens on all addresses.
    #[arg(long)]
    port: u16,
}

impl Connections {
    pub(super) fn run(self) -> Result<()> {
        let mut held = Vec::new();
        converse("ready", |words| {
            match words {
                ["open", first, count, bytes] => {
                    for number in numbers(first, count)? {
                        let mut stream = self.connect(number)?;
                        tcp::bring(&mut stream, bytes.parse()?)?;
                        tcp::close(stream)?;
                    }
                }
                ["halves", first, count, bytes] => {
                    let (numbers, bytes) = (numbers(first, count)?, bytes.parse()?);
                    let next = AtomicU32::new(numbers.start);
                    let work = || -> Result<()> {
                        loop {
                            let number = next.fetch_add(1, Relaxed);
                            if number >= numbers.end {
                                return Ok(());
                            }
                            tcp::bring_and_shut(self.connect(number)?, bytes)?;
                        }
                    };
                    std::thread::scope(|threads| -> Result<()> {
                        let all = [(); AT_ONCE].map(|()| threads.spawn(work));
                        all.into_iter().try_for_each(|one| one.join().expect("no panic"))
                    })?;
                }
                ["hold", first, count] => {
                    for number in numbers(first, count)? {
                        held.push(self.connect(number)?);
                    }
                }
                ["refused", count] => {
                    for number in numbers("0", count)? {
                        let nobody = SocketAddr::from((address(number), 1));
                        anyhow::ensure!(TcpStream::connect(nobody).is_err(), "somebody listens at {nobody}");
                    }
                }
                ["try", to, seconds] => {
                    let (to, limit) = (to.parse()?, Duration::from_secs(seconds.parse()?));
                    std::thread::spawn(move || TcpStream::connect_timeout(&to, limit));
                }
                other => return not_understood(other),
            }
            Ok("done".into())
        })
    }

    fn connect(&self, number: u32) -> Result<TcpStream> {
        let to = SocketAddr::from((address(number), self.port));
        let stream = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn numbers(first: &str, count: &str) -> Result<std::ops::Range<u32>> {
    let (first, count): (u32, u32) = (first.parse()?, count.parse()?);
    Ok(first..first + count)
}

/// 127.1.0.0 and those after it.
pub(crate) fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number)
}
