//! Many connections at once, each to an address of its own, all of which have carried something.

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

/// Holds both ends of as many connections, and says so; then does as it is told.
pub(crate) fn hold(count: u32) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("open as many files as there may be")?;
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 0));
    let mut ends = Vec::new();
    for number in 0..count {
        let mut near = TcpStream::connect((Ipv4Addr::from(first + number), port))?;
        let mut far = listener.accept()?.0;
        turn(&mut near, &mut far)?;
        ends.push((near, far));
    }
    println!("ready");
    let (near, far) = ends.first_mut().context("one connection at least")?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let Some(length) = line.strip_prefix("turns ") else { bail!("{line} is no request") };
        let end = Instant::now() + Duration::from_millis(length.parse()?);
        let mut turns = 0;
        while Instant::now() < end {
            turn(near, far)?;
            turns += 1;
        }
        println!("{turns}");
    }
    Ok(())
}

/// A byte to and fro.
fn turn(near: &mut TcpStream, far: &mut TcpStream) -> Result<()> {
    let mut byte = [7];
    near.write_all(&byte)?;
    far.read_exact(&mut byte)?;
    far.write_all(&byte)?;
    near.read_exact(&mut byte)?;
    Ok(())
}
