//! One that asks a DNS server, in every way there is.

use super::{
    HEADER_BYTES, answer, answered, converse, not_understood, question, read_message, with_length, write_message,
};
use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

/// Understands `udp NAME COUNT`, `stranger NAME COUNT` (by a socket whose first datagram went elsewhere),
/// `elsewhere NAME COUNT ADDRESS` (by a socket that is connected to that address: no answer comes in), `segmented NAME COUNT` (in one datagram that
/// the kernel cuts), `interrupted NAME COUNT ADDRESS` (by a socket without connection, to which that address of this host sends an answer
/// before the server does), `both NAME COUNT ADDRESS` (by such a socket, of that server as well), `forge NAME COUNT` (an answer that nobody asked for, and a question), `tcp NAME COUNT` (one after the
/// other) and `pipeline NAME COUNT` (all in one). Says how many nanoseconds it took. A question for `none` is not waited for.
#[derive(clap::Args)]
pub(crate) struct Ask {
    #[arg(long)]
    to: SocketAddr,
    #[arg(long)]
    from: Option<SocketAddr>,
}

impl Ask {
    pub(crate) fn run(self) -> Result<()> {
        let mut connection: Option<TcpStream> = None;
        converse("ready", |words| {
            let begun = Instant::now();
            match words {
                ["udp", name, count] => self.ask_by(&self.socket(true)?, name, count.parse()?)?,
                ["stranger", name, count] => {
                    let socket = self.socket(false)?;
                    let elsewhere = if self.to.is_ipv4() { "127.0.0.1:9" } else { "[::1]:9" };
                    socket.send_to(b"first", elsewhere)?;
                    self.ask_by(&socket, name, count.parse()?)?;
                }
                ["elsewhere", name, count, connected] => {
                    let socket = self.socket(false)?;
                    socket.connect(connected)?;
                    for number in 0..count.parse()? {
                        socket.send_to(&question(name, number), self.to)?;
                    }
                }
                ["interrupted", name, count, address] => {
                    let (socket, other) = (self.socket(false)?, UdpSocket::bind(address)?);
                    let asks = SocketAddr::new(other.local_addr()?.ip(), socket.local_addr()?.port());
                    for number in 0..count.parse()? {
                        let question = question(name, number);
                        socket.send_to(&question, self.to)?;
                        other.send_to(&answered(&question, Ipv4Addr::new(203, 0, 113, 66)), asks)?;
                        for _ in 0..2 {
                            socket.recv(&mut [0; 2048]).context("no answer")?;
                        }
                    }
                }
                ["both", name, count, other] => {
                    let socket = self.socket(false)?;
                    for number in 0..count.parse()? {
                        let question = question(name, number);
                        socket.send_to(&question, self.to)?;
                        socket.send_to(&question, other)?;
                        socket.recv(&mut [0; 2048]).context("no answer")?;
                    }
                }
                ["segmented", name, count] => {
                    let (socket, count): (_, u16) = (self.socket(true)?, count.parse()?);
                    let all: Vec<_> = (0..count).map(|number| question(name, number)).collect();
                    setsockopt(&socket, sockopt::UdpGsoSegment, &i32::try_from(all[0].len())?)?;
                    socket.send(&all.concat())?;
                    for _ in 0..count {
                        socket.recv(&mut [0; 2048]).context("no answer")?;
                    }
                }
                ["forge", name, count] => {
                    let socket = self.socket(false)?;
                    for number in 0..count.parse()? {
                        let forged = answer(&question(name, number)).context("a name that is not answered")?;
                        socket.send_to(&forged, self.to)?;
                        socket.send_to(&question(name, number), self.to)?;
                    }
                }
                ["tcp", name, count] => {
                    let open = connect(&mut connection, self.to)?;
                    for number in 0..count.parse()? {
                        write_message(open, &question(name, number), name.starts_with("pieces"))?;
                        ensure!(read_message(open)?.is_some(), "the server hung up");
                    }
                }
                ["pipeline", name, count] => {
                    let count: u16 = count.parse()?;
                    let open = connect(&mut connection, self.to)?;
                    let all: Vec<_> = (0..count).flat_map(|number| with_length(&question(name, number))).collect();
                    open.write_all(&all)?;
                    for _ in 0..count {
                        ensure!(read_message(open)?.is_some(), "the server hung up");
                    }
                }
                other => return not_understood(other),
            }
            Ok(begun.elapsed().as_nanos().to_string())
        })
    }

    fn socket(&self, connected: bool) -> Result<UdpSocket> {
        let any = if self.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(self.from.unwrap_or(any.parse()?))?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        if connected {
            socket.connect(self.to)?;
        }
        Ok(socket)
    }

    fn ask_by(&self, socket: &UdpSocket, name: &str, count: u16) -> Result<()> {
        let is_connected = socket.peer_addr().is_ok();
        for number in 0..count {
            let message = question(name, number);
            if is_connected {
                socket.send(&message)?;
            } else {
                socket.send_to(&message, self.to)?;
            }
            if name.starts_with("none") {
                continue;
            }
            let mut answer = [0; 2048];
            loop {
                let bytes = socket.recv(&mut answer).context("no answer")?;
                ensure!(bytes >= HEADER_BYTES, "{:?} is no answer", &answer[..bytes]);
                if answer[..2] == message[..2] {
                    break;
                }
            }
            if name.starts_with("twice") {
                socket.recv(&mut answer).context("no second answer")?;
            }
        }
        Ok(())
    }
}

fn connect(connection: &mut Option<TcpStream>, to: SocketAddr) -> Result<&mut TcpStream> {
    if connection.is_none() {
        let open = TcpStream::connect(to)?;
        open.set_nodelay(true)?;
        open.set_read_timeout(Some(Duration::from_secs(20)))?;
        *connection = Some(open);
    }
    connection.as_mut().context("no connection")
}
