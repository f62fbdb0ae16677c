//! One HTTP request over a plain socket: all a scrape needs, and nothing that could hide what is on the wire.

use anyhow::{Context as _, Result, ensure};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The code: 200.
    pub status: u16,
    head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as text.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body).context("the body is not UTF-8")
    }
}

/// Asks and reads to the end. `headers` are whole lines without their ends.
pub fn request(method: &str, address: SocketAddr, path: &str, headers: &[&str]) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("read {path} from {address}"))?;
    answer(bytes, method == "HEAD")
}

/// GET.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    request("GET", address, path, &[])
}

fn answer(mut bytes: Vec<u8>, head_only: bool) -> Result<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("an answer without an end of its head")?;
    let body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).context("the head is not UTF-8")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without a status")?;
    let mut answer = Answer { status, head, body };
    if answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        answer.body = unchunked(&answer.body)?;
    } else if let Some(length) = answer.header("content-length")
        && !head_only
    {
        ensure!(length.parse::<usize>()? == answer.body.len(), "{length} announced, {} came", answer.body.len());
    }
    Ok(answer)
}

fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").context("a chunk without its length")?;
        let length = std::str::from_utf8(&rest[..line])?;
        let length = usize::from_str_radix(length.split(';').next().unwrap_or_default().trim(), 16)?;
        if length == 0 {
            return Ok(body);
        }
        rest = &rest[line + 2..];
        ensure!(rest.len() >= length + 2, "a chunk cut short");
        body.extend_from_slice(&rest[..length]);
        rest = &rest[length + 2..];
    }
}
