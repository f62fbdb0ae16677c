//! TCP both ways: a server that takes and gives as many bytes as it is asked to, and a client that asks.
//!
//! A request is one byte, `U`, `T` or `D`, and a count of eight bytes. `U`: that many bytes follow, and one comes back. `T`: that many
//! bytes follow. `D`: that many bytes come back.

use super::{converse, handover, not_understood, say};
use crate::syscalls::send_with_options;
use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    fcntl::{SpliceFFlags, splice},
    sys::{
        sendfile::sendfile,
        socket::{setsockopt, sockopt},
    },
};
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixListener,
    path::PathBuf,
    time::Duration,
};

const CHUNK: usize = 64 * 1024;

#[derive(clap::Args)]
pub(super) struct Serve {
    #[arg(long)]
    bind: SocketAddr,
    /// Hand the listener over to the worker at this socket, and go on without it.
    #[arg(long)]
    hand_listener_to: Option<PathBuf>,
    /// Hand each connection over to the worker at this socket.
    #[arg(long)]
    hand_connections_to: Option<PathBuf>,
    /// Accept nobody.
    #[arg(long)]
    accept_nobody: bool,
}

impl Serve {
    pub(super) fn run(self) -> Result<()> {
        let listener = TcpListener::bind(self.bind).with_context(|| format!("listen on {}", self.bind))?;
        say(&format!("ready {}", listener.local_addr()?))?;
        if let Some(path) = self.hand_listener_to {
            handover::give(&path, listener)?;
            return converse("handed over", not_understood);
        }
        if !self.accept_nobody {
            serve(&listener, self.hand_connections_to);
        }
        until_the_end()
    }
}

/// Serves each connection in a thread of its own.
fn serve(listener: &TcpListener, hand_to: Option<PathBuf>) {
    let listener = listener.try_clone();
    std::thread::spawn(move || -> Result<()> {
        let listener = listener?;
        loop {
            let (stream, _) = listener.accept()?;
            if let Some(path) = &hand_to {
                handover::give(path, stream)?;
            } else {
                std::thread::spawn(move || obey(stream));
            }
        }
    });
}

fn until_the_end() -> Result<()> {
    while super::listen()?.is_some() {}
    Ok(())
}

/// Serves what was accepted, or the listener that was opened, elsewhere.
#[derive(clap::Args)]
pub(super) struct Handle {
    /// Where to receive them.
    #[arg(long)]
    take: PathBuf,
    /// What comes is a listener.
    #[arg(long)]
    listener: bool,
}

impl Handle {
    pub(super) fn run(self) -> Result<()> {
        let door = UnixListener::bind(&self.take)?;
        say("ready")?;
        if self.listener {
            serve(&TcpListener::from(handover::take(&door)?), None);
        } else {
            std::thread::spawn(move || -> Result<()> {
                loop {
                    let stream = TcpStream::from(handover::take(&door)?);
                    std::thread::spawn(move || obey(stream));
                }
            });
        }
        until_the_end()
    }
}

fn obey(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let mut request = [0; 9];
        if let Err(error) = stream.read_exact(&mut request) {
            // The client shut its end down; dropping the stream now ends ours.
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error.into()) };
        }
        let (operation, count) = request.split_first().context("nine bytes")?;
        let count = u64::from_le_bytes(count.try_into()?);
        match operation {
            b'U' => {
                take_in(&mut stream, count, &mut chunk)?;
                stream.write_all(b".")?;
            }
            b'T' => take_in(&mut stream, count, &mut chunk)?,
            b'D' => put_out(&mut stream, count, &chunk)?,
            other => bail!("{other} is no request"),
        }
    }
}

fn take_in(stream: &mut TcpStream, count: u64, chunk: &mut [u8]) -> Result<()> {
    let mut left = count;
    while left > 0 {
        let most = chunk.len().min(usize::try_from(left)?);
        let read = stream.read(&mut chunk[..most])?;
        ensure!(read > 0, "the connection ended {left} bytes early");
        left -= read as u64;
    }
    Ok(())
}

fn put_out(stream: &mut TcpStream, count: u64, chunk: &[u8]) -> Result<()> {
    let mut left = count;
    while left > 0 {
        let most = chunk.len().min(usize::try_from(left)?);
        stream.write_all(&chunk[..most])?;
        left -= most as u64;
    }
    Ok(())
}

/// Understands `upload BYTES write|sendfile|splice`, `download BYTES`, `options` (over IPv6: from now on with a header of them),
/// `close`, and `leave BYTES`: all is written, and the connection closed, before the first byte may have come there; `abandon BYTES`:
/// asks for that many, and closes when the first have come.
#[derive(clap::Args)]
pub(super) struct Talk {
    #[arg(long)]
    to: SocketAddr,
}

impl Talk {
    pub(super) fn run(self) -> Result<()> {
        let stream = TcpStream::connect_timeout(&self.to, Duration::from_mins(1))
            .with_context(|| format!("connect to {}", self.to))?;
        stream.set_nodelay(true)?;
        let mut stream = Some(stream);
        let mut chunk = vec![0; CHUNK];
        converse("ready", |words| {
            let mut open = stream.take().context("the connection is closed")?;
            match words {
                ["leave", bytes] => leave(open, bytes.parse()?)?,
                ["abandon", bytes] => {
                    ask(&mut open, b'D', bytes.parse()?)?;
                    open.read_exact(&mut [0; 1])?;
                }
                ["close"] => close(open)?,
                other => {
                    let answer = talk(&mut open, other, &mut chunk);
                    stream = Some(open);
                    return answer;
                }
            }
            Ok("done".into())
        })
    }
}

fn talk(open: &mut TcpStream, words: &[&str], chunk: &mut [u8]) -> Result<String> {
    match words {
        ["upload", bytes, how] => upload(open, bytes.parse()?, how, chunk)?,
        ["download", bytes] => {
            let count: u64 = bytes.parse()?;
            ask(open, b'D', count)?;
            take_in(open, count, chunk)?;
        }
        ["options"] => send_with_options(open)?,
        other => return not_understood(other),
    }
    Ok("done".into())
}

fn ask(stream: &mut TcpStream, operation: u8, count: u64) -> Result<()> {
    let mut request = [operation; 9];
    request[1..].copy_from_slice(&count.to_le_bytes());
    Ok(stream.write_all(&request)?)
}

/// Sends and closes.
fn leave(mut stream: TcpStream, count: u64) -> Result<()> {
    setsockopt(&stream, sockopt::SndBuf, &(4 << 20))?;
    bring(&mut stream, count)
}

/// Sends what is not answered.
pub(super) fn bring(stream: &mut TcpStream, count: u64) -> Result<()> {
    ask(stream, b'T', count)?;
    put_out(stream, count, &vec![0x5a; CHUNK])
}

/// Brings so many bytes, shuts this half down, and ends the other as soon as it has an answer, while the server does.
pub(super) fn bring_and_shut(mut stream: TcpStream, count: u64) -> Result<()> {
    ask(&mut stream, b'U', count)?;
    put_out(&mut stream, count, &vec![0x5a; CHUNK])?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0; 1]).context("the server's answer")
}

/// Ends a connection: the server second, while our socket is still whole, since a socket in `TIME_WAIT` is none that a program sees.
pub(super) fn close(mut stream: TcpStream) -> Result<()> {
    stream.shutdown(Shutdown::Write)?;
    ensure!(stream.read(&mut [0; 1])? == 0, "more bytes than asked for");
    Ok(())
}

fn upload(stream: &mut TcpStream, count: u64, how: &str, chunk: &[u8]) -> Result<()> {
    ask(stream, b'U', count)?;
    match how {
        "write" => put_out(stream, count, chunk)?,
        "sendfile" => send_file(stream, count)?,
        "splice" => splice_file(stream, count)?,
        other => bail!("{other} is no way to send"),
    }
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).context("the server's answer")
}

fn file_of(count: u64) -> Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut io::repeat(7).take(count), &mut file)?;
    file.rewind()?;
    Ok(file)
}

fn send_file(stream: &TcpStream, count: u64) -> Result<()> {
    let file = file_of(count)?;
    let mut left = usize::try_from(count)?;
    while left > 0 {
        let sent = sendfile(stream, &file, None, left)?;
        ensure!(sent > 0, "the file ended early");
        left -= sent;
    }
    Ok(())
}

fn splice_file(stream: &TcpStream, count: u64) -> Result<()> {
    let file = file_of(count)?;
    let (out, into) = nix::unistd::pipe()?;
    let mut left = usize::try_from(count)?;
    while left > 0 {
        let mut held = splice(&file, None, &into, None, left.min(CHUNK), SpliceFFlags::empty())?;
        ensure!(held > 0, "the file ended early");
        left -= held;
        while held > 0 {
            let more = if left > 0 { SpliceFFlags::SPLICE_F_MORE } else { SpliceFFlags::empty() };
            held -= splice(&out, None, stream, None, held, more)?;
        }
    }
    Ok(())
}
