//! What the tests' pods run to send known amounts: datagrams of one size, so that the bytes on the wire are known beforehand.
//!
//! `talk to ADDRESS:PORT COUNT SIZE` sends COUNT datagrams with SIZE bytes in each, and `talk on ADDRESS:PORT` as many as each line that it reads
//! says, from one socket; `talk sink PORT` takes them; `talk give
//! ADDRESS:PORT BYTES` sends so many over TCP and takes what comes back; `talk ask ADDRESS:PORT COUNT` asks so many questions for a
//! name, and `talk answer PORT` answers them, as resolvers and DNS servers do; `talk now` prints the time in nanoseconds since 1970.

use std::{
    io::{self, Write as _},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    process::ExitCode,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How many are sent before a breath: a receiver's queue takes so many.
const BURST: u64 = 100;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["to", address, count, size] => send(address, count, size),
        ["on", address] => send_on(address),
        ["sink", port] => sink(port),
        ["give", address, bytes] => give(address, bytes),
        ["ask", address, count] => ask(address, count),
        ["answer", port] => answer(port),
        ["now"] => now(),
        _ => Err("talk to ADDRESS:PORT COUNT SIZE | talk on ADDRESS:PORT | talk sink PORT | talk give ADDRESS:PORT BYTES | talk ask ADDRESS:PORT COUNT | \
                  talk answer PORT | talk now"
            .into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("talk: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn send(address: &str, count: &str, size: &str) -> Outcome {
    let address = address.parse()?;
    send_from(&any_socket(address)?, address, count, size)
}

fn send_on(address: &str) -> Outcome {
    let address = address.parse()?;
    let socket = any_socket(address)?;
    for line in io::stdin().lines() {
        let line = line?;
        let (count, size) = line.split_once(' ').ok_or("a line is COUNT SIZE")?;
        send_from(&socket, address, count, size)?;
    }
    Ok(())
}

fn any_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })
}

fn send_from(socket: &UdpSocket, address: SocketAddr, count: &str, size: &str) -> Outcome {
    let (count, size): (u64, usize) = (count.parse()?, size.parse()?);
    let datagram = vec![0; size];
    for number in 1..=count {
        // Not connected: an answer that says that nobody listens ends nothing.
        let sent = socket.send_to(&datagram, address)?;
        if sent != size {
            return Err(format!("{sent} of {size} bytes were sent").into());
        }
        if number % BURST == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    println!("sent {count}");
    Ok(())
}

fn give(address: &str, bytes: &str) -> Outcome {
    let (mut left, piece): (usize, _) = (bytes.parse()?, vec![0; 65536]);
    let mut stream = TcpStream::connect(address)?;
    while left > 0 {
        let part = left.min(piece.len());
        stream.write_all(&piece[..part])?;
        left -= part;
    }
    stream.shutdown(Shutdown::Write)?;
    println!("sent {bytes} and took {}", io::copy(&mut stream, &mut io::sink())?);
    Ok(())
}

fn sink(port: &str) -> Outcome {
    let socket = UdpSocket::bind(("0.0.0.0", port.parse()?))?;
    let mut datagram = vec![0; 65536];
    loop {
        socket.recv_from(&mut datagram)?;
    }
}

/// Questions for the address of `name.example`, one after the other.
fn ask(address: &str, count: &str) -> Outcome {
    let (address, count): (SocketAddr, u16) = (address.parse()?, count.parse()?);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(address)?;
    let mut answered = 0;
    for id in 1..=count {
        let mut question = id.to_be_bytes().to_vec();
        question.extend(b"\x01\0\0\x01\0\0\0\0\0\0\x04name\x07example\0\0\x01\0\x01");
        socket.send(&question)?;
        let mut answer = [0; 512];
        answered += u16::from(socket.recv(&mut answer).is_ok_and(|size| size > 2 && answer[..2] == question[..2]));
    }
    println!("{answered} of {count} answered");
    Ok(())
}

/// To each question: that there is no such name.
fn answer(port: &str) -> Outcome {
    const IS_ANSWER: u8 = 0x80;
    const NO_SUCH_NAME: u8 = 3;
    let socket = UdpSocket::bind(("0.0.0.0", port.parse()?))?;
    let mut message = [0; 512];
    loop {
        let (size, from) = socket.recv_from(&mut message)?;
        if size > 3 {
            message[2] |= IS_ANSWER;
            message[3] |= NO_SUCH_NAME;
            socket.send_to(&message[..size], from)?;
        }
    }
}

fn now() -> Outcome {
    println!("{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos());
    Ok(())
}
