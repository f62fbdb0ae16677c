//! A scrape over HTTP/1.1, with one connection kept open from scrape to scrape as Prometheus keeps it.

use anyhow::{Context as _, Result, bail};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// An answer; a compressed body is left so.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream: BufReader::with_capacity(256 * 1024, stream) })
    }

    /// Asks for a path and reads the whole answer.
    pub(crate) fn get(&mut self, path: &str, gzip: bool) -> Result<Response> {
        let accept = if gzip { "Accept-Encoding: gzip\r\n" } else { "" };
        let host = self.stream.get_ref().peer_addr()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{accept}\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?.split(' ').nth(1).context("a status line")?.parse()?;
        let (mut length, mut chunked) = (None, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':') {
                None => break,
                Some(("content-length", value)) => length = Some(value.trim().parse()?),
                Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
                Some(_) => {}
            }
        }
        let mut body = Vec::new();
        match (length, chunked) {
            (Some(length), false) => self.take(length, &mut body)?,
            (None, true) => while self.chunk(&mut body)? {},
            _ => bail!("{path}: an answer without a length"),
        }
        Ok(Response { status, body })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the agent closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    fn take(&mut self, length: u64, body: &mut Vec<u8>) -> Result<()> {
        let read = self.stream.by_ref().take(length).read_to_end(body)?;
        if read as u64 != length {
            bail!("the agent closed the connection after {read} of {length} bytes");
        }
        Ok(())
    }

    /// Reads one chunk; the empty one is the last.
    fn chunk(&mut self, body: &mut Vec<u8>) -> Result<bool> {
        let length = u64::from_str_radix(&self.line()?, 16).context("a chunk's length")?;
        self.take(length, body)?;
        self.line()?;
        Ok(length > 0)
    }
}

/// The value of the first series of a family whose labels hold `label="value"`.
pub(crate) fn value(page: &[u8], family: &str, label: &str) -> Option<f64> {
    let page = std::str::from_utf8(page).ok()?;
    let series = page.lines().filter(|line| line.strip_prefix(family).is_some_and(|rest| rest.starts_with('{')));
    series.filter(|line| line.contains(label)).find_map(|line| line.rsplit(' ').next()?.parse().ok())
}

/// How many series a family has on a page.
pub(crate) fn series(page: &[u8], family: &str) -> usize {
    let starts = |line: &&[u8]| line.strip_prefix(family.as_bytes()).is_some_and(|rest| rest.starts_with(b"{"));
    page.split(|byte| *byte == b'\n').filter(starts).count()
}

/// Lines of a page that carry a sample.
pub(crate) fn samples(page: &[u8]) -> usize {
    page.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &[u8] = b"# HELP a_total x\n# TYPE a_total counter\na_total{cgroup=\"/x\",scope=\"node\"} 7\na_total{cgroup=\"/y\"} 8\n";

    #[test]
    fn a_value_is_found_by_family_and_label() {
        assert_eq!(value(PAGE, "a_total", "cgroup=\"/y\""), Some(8.0));
        assert_eq!(value(PAGE, "a", "cgroup=\"/y\""), None);
        assert_eq!(samples(PAGE), 2);
        assert_eq!((series(PAGE, "a_total"), series(PAGE, "a")), (2, 0));
    }
}
