//! A DNS server that answers as the first label of a name says, over UDP and TCP, and one that asks it. The messages are put together
//! by hand, so that they can come in pieces.

mod ask;
mod serve;

pub(crate) use ask::Ask;
pub(crate) use serve::Serve;

use super::{converse, not_understood};
use anyhow::Result;
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    thread,
    time::Duration,
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
    Some(if rcode == 0 { answered(&answer, address) } else { answer })
}

/// A message that asks, or refuses, made one that answers with an address.
fn answered(message: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let mut answer = message.to_vec();
    (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
    // The name that was asked for; a minute; four bytes.
    answer.extend([0xc0, HEADER_BYTES as u8]);
    answer.extend(A_IN);
    answer.extend([0, 0, 0, 60, 0, 4]);
    answer.extend(address.octets());
    answer
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
