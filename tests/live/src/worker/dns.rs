//! A DNS server that answers as the first label of a name says, over UDP and TCP, and one that asks it. The messages are put together
//! by hand, so that they can come in pieces.

use super::{converse, not_understood};
use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const HEADER_BYTES: usize = 12;
/// Asked for recursively; of one name.
const QUERY: [u8; 10] = [1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
/// An address, of the Internet.
const A_IN: [u8; 4] = [0, 1, 0, 1];
/// How long a server waits that is slow.
pub(crate) const SLOW: Duration = Duration::from_millis(300);
/// Between two pieces of a message: each is a segment of its own.
const PAUSE: Duration = Duration::from_millis(2);
/// Bytes at the start of a message in pieces that come one by one: its length, its id, its flags, and more.
const SINGLE_BYTES: usize = 9;

/// Understands `count`: questions that came and answers that were sent so far. The first label of a name says what is answered: `rcode-N`
/// that, `none` nothing, `twice` (over UDP) the same again, `other` an address of another name, `capitals` one that repeats the name in
/// capitals, `bare` one that repeats no question, `slow` an address after a while, `pieces` (over TCP) one in pieces, `at-A-B-C-D` that address.
#[derive(clap::Args)]
pub(super) struct Serve {
    #[arg(long)]
    bind: SocketAddr,
}

#[derive(Clone, Default)]
struct Counts {
    questions: Arc<AtomicU64>,
    answers: Arc<AtomicU64>,
}

impl Serve {
    pub(super) fn run(self) -> Result<()> {
        let datagrams = UdpSocket::bind(self.bind).with_context(|| format!("bind {}", self.bind))?;
        let listener = TcpListener::bind(self.bind).with_context(|| format!("listen on {}", self.bind))?;
        let counts = Counts::default();
        let of_udp = counts.clone();
        thread::spawn(move || -> Result<()> {
            let mut buffer = [0; 2048];
            loop {
                let (bytes, from) = datagrams.recv_from(&mut buffer)?;
                if let Some(answer) = of_udp.answer(&buffer[..bytes]) {
                    datagrams.send_to(&answer, from)?;
                    if first_label(&answer).as_deref() == Some("twice") {
                        datagrams.send_to(&answer, from)?;
                    }
                }
            }
        });
        let of_tcp = counts.clone();
        thread::spawn(move || -> Result<()> {
            for connection in listener.incoming() {
                let (connection, counts) = (connection?, of_tcp.clone());
                thread::spawn(move || counts.serve(connection));
            }
            Ok(())
        });
        converse(&format!("ready {}", self.bind), |words| match words {
            ["count"] => {
                let count = |of: &AtomicU64| of.load(Ordering::Acquire);
                Ok(format!("{} {}", count(&counts.questions), count(&counts.answers)))
            }
            other => not_understood(other),
        })
    }
}

impl Counts {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        self.questions.fetch_add(1, Ordering::AcqRel);
        let answer = answer(question)?;
        self.answers.fetch_add(1, Ordering::AcqRel);
        Some(answer)
    }

    fn serve(&self, mut connection: TcpStream) -> Result<()> {
        connection.set_nodelay(true)?;
        while let Some(question) = read_message(&mut connection)? {
            let in_pieces = first_label(&question).as_deref() == Some("pieces");
            if let Some(answer) = self.answer(&question) {
                write_message(&mut connection, &answer, in_pieces)?;
            }
        }
        Ok(())
    }
}

/// What a name is answered with, after as long as that takes; nothing, if it is not.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let label = first_label(question)?;
    let words: Vec<_> = label.split('-').collect();
    let mut rcode = 0;
    let mut address = Ipv4Addr::new(203, 0, 113, 1);
    match words[..] {
        ["none"] => return None,
        ["slow"] => thread::sleep(SLOW),
        ["rcode", number] => rcode = number.parse().ok()?,
        ["at", a, b, c, d] => address = format!("{a}.{b}.{c}.{d}").parse().ok()?,
        _ => {}
    }
    let mut answer = question.to_vec();
    match words[0] {
        "other" => answer[HEADER_BYTES + 1..].iter_mut().take(label.len()).for_each(|letter| *letter = b'x'),
        "capitals" => answer[HEADER_BYTES..].make_ascii_uppercase(),
        "bare" => {
            answer.truncate(HEADER_BYTES);
            answer[5] = 0;
        }
        _ => {}
    }
    (answer[2], answer[3]) = (0x81, 0x80 | rcode);
    if rcode == 0 {
        answer[7] = 1;
        // The name that was asked for; a minute; four bytes.
        answer.extend([0xc0, HEADER_BYTES as u8]);
        answer.extend(A_IN);
        answer.extend([0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

fn first_label(message: &[u8]) -> Option<String> {
    let (length, rest) = message.get(HEADER_BYTES..)?.split_first()?;
    Some(String::from_utf8_lossy(rest.get(..usize::from(*length))?).into_owned())
}

/// Nothing at the end of the connection.
fn read_message(connection: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    if connection.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    connection.read_exact(&mut length[1..])?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    connection.read_exact(&mut message)?;
    Ok(Some(message))
}

fn with_length(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn write_message(connection: &mut TcpStream, message: &[u8], in_pieces: bool) -> Result<()> {
    let whole = with_length(message);
    let (start, rest) = whole.split_at(if in_pieces { SINGLE_BYTES } else { 0 });
    for byte in start {
        connection.write_all(&[*byte])?;
        thread::sleep(PAUSE);
    }
    connection.write_all(rest)?;
    Ok(())
}

/// Understands `udp NAME COUNT`, `stranger NAME COUNT` (by a socket whose first datagram went elsewhere),
/// `elsewhere NAME COUNT ADDRESS` (by a socket that is connected to that address: no answer comes in), `segmented NAME COUNT` (in one datagram that
/// the kernel cuts), `forge NAME COUNT` (an answer that nobody asked for, and a question), `tcp NAME COUNT` (one after the
/// other) and `pipeline NAME COUNT` (all in one). Says how many nanoseconds it took. A question for `none` is not waited for.
#[derive(clap::Args)]
pub(super) struct Ask {
    #[arg(long)]
    to: SocketAddr,
    #[arg(long)]
    from: Option<SocketAddr>,
}

impl Ask {
    pub(super) fn run(self) -> Result<()> {
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

fn question(name: &str, id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend(QUERY);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(A_IN);
    message
}
