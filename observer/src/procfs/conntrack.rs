//! Where the node sends what it is told to send elsewhere: connections to a service's address, and the pod that each goes to.

use super::{
    file::{number, words},
    network::Network,
};
use crate::ledger::Translated;
use std::{
    fs::File,
    io::{self, Seek as _},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// The file, below the network's directory.
const NAME: &str = "nf_conntrack";
/// What is read at once. The kernel hands out a page at a time.
const BUFFER_BYTES: usize = 16 * 1024;
/// For how long it is read at the most. For every page that it hands out the kernel looks for the place from the table's beginning, so
/// that a table twice as long takes four times as long: this is enough for some ten thousand connections.
const MOST_TIME: Duration = Duration::from_millis(500);

/// The node's table of connections. Only root and root's group may open it; once open, it can be read again and again.
#[derive(Debug)]
pub struct Conntrack {
    file: File,
}

impl Conntrack {
    /// Opens that of the node.
    ///
    /// # Errors
    /// When there is none, or it may not be opened: the text says why that can be, and what helps.
    pub fn open(network: &Network) -> Result<Self, String> {
        let file = network.open(NAME).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => ": that needs root, or group 0",
                io::ErrorKind::NotFound if !network.directory().exists() => ": there is no such directory",
                io::ErrorKind::NotFound => {
                    ": the kernel tracks no connections (no module nf_conntrack when the agent started), or does not list them \
                     (no CONFIG_NF_CONNTRACK_PROCFS)"
                }
                _ => "",
            };
            format!("cannot open {}: {error}{hint}", network.directory().join(NAME).display())
        })?;
        Ok(Self { file })
    }

    /// Tells of every connection that is translated; false if there was no time for all. One that comes or goes meanwhile may be told of twice
    /// or not at all.
    ///
    /// # Errors
    /// When it cannot be read any more.
    pub fn read(&mut self, each: impl FnMut(Translated)) -> io::Result<bool> {
        self.file.rewind()?;
        read(&self.file, Instant::now() + MOST_TIME, each)
    }
}

fn read(mut file: impl io::Read, end: Instant, mut each: impl FnMut(Translated)) -> io::Result<bool> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    loop {
        let bytes = file.read(&mut buffer[filled..])?;
        if bytes == 0 {
            return Ok(true);
        }
        filled += bytes;
        let whole = buffer[..filled].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        buffer[..whole].split(|byte| *byte == b'\n').filter_map(parse).for_each(&mut each);
        // A line is told in parts, and none is as long as the buffer.
        if whole == 0 && filled == buffer.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{NAME}: a line without an end")));
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
        if Instant::now() >= end {
            return Ok(false);
        }
    }
}

/// `ipv4 2 tcp 6 100 ESTABLISHED src=A dst=B sport=1 dport=2 src=C dst=A sport=3 dport=1 [ASSURED] mark=0 …`: what was asked, and
/// what is expected to come back.
fn parse(line: &[u8]) -> Option<Translated> {
    let mut words = words(line);
    let protocol = number(words.nth(3)?)?;
    let (source, spoken_to) = ends(&mut words)?;
    let (behind, _) = ends(&mut words)?;
    (spoken_to != behind).then_some(Translated { protocol, source, spoken_to, behind })
}

/// The next source and destination. Of what has no ports there are none: no service is told apart by its address alone.
fn ends<'a>(words: &mut impl Iterator<Item = &'a [u8]>) -> Option<(SocketAddr, SocketAddr)> {
    let source = words.find_map(|word| word.strip_prefix(b"src="))?;
    let mut value = |name: &[u8]| words.next()?.strip_prefix(name);
    let (destination, source_port, destination_port) = (value(b"dst=")?, value(b"sport=")?, value(b"dport=")?);
    let end = |address, port| Some(SocketAddr::new(number::<IpAddr>(address)?.to_canonical(), number(port)?));
    Some((end(source, source_port)?, end(destination, destination_port)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
ipv4     2 tcp      6 431999 ESTABLISHED src=10.244.0.5 dst=10.96.0.1 sport=43210 dport=443 src=192.168.1.10 dst=10.244.0.5 sport=6443 dport=43210 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 431999 ESTABLISHED src=10.244.0.5 dst=10.244.0.9 sport=43211 dport=80 src=10.244.0.9 dst=10.244.0.5 sport=80 dport=43211 [ASSURED] mark=0 zone=0 use=2
ipv4     2 udp      17 29 src=10.244.0.5 dst=10.96.0.10 sport=5353 dport=53 packets=1 bytes=64 [UNREPLIED] src=10.244.0.2 dst=10.244.0.5 sport=53 dport=5353 packets=0 bytes=0 mark=0 secctx=null zone=0 use=2
ipv4     2 icmp     1 29 src=10.244.0.5 dst=10.96.0.10 type=8 code=0 id=1 src=10.244.0.2 dst=10.244.0.5 type=0 code=0 id=1 mark=0 use=2
ipv6     10 tcp      6 119 TIME_WAIT src=fd00:0000:0000:0000:0000:0000:0000:0005 dst=fd00:0000:0000:0000:0000:0000:0001:0001 sport=1 dport=80 src=fd00:0000:0000:0000:0000:0000:0000:0009 dst=fd00:0000:0000:0000:0000:0000:0000:0005 sport=8080 dport=1 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 60 SYN_SENT src=10.244.0.5 dst=10.96.0.1 sport=1 dport=443 [UNREPLIED]
nonsense
";

    fn later() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    fn translated(text: &str) -> Vec<(u8, String, String, String)> {
        let mut all = Vec::new();
        let each = |Translated { protocol, source, spoken_to, behind }| {
            all.push((protocol, source.to_string(), spoken_to.to_string(), behind.to_string()));
        };
        assert!(read(text.as_bytes(), later(), each).unwrap());
        all
    }

    fn row(protocol: u8, source: &str, spoken_to: &str, behind: &str) -> (u8, String, String, String) {
        (protocol, source.into(), spoken_to.into(), behind.into())
    }

    #[test]
    fn only_what_goes_elsewhere_is_told() {
        let expected = [
            row(6, "10.244.0.5:43210", "10.96.0.1:443", "192.168.1.10:6443"),
            row(17, "10.244.0.5:5353", "10.96.0.10:53", "10.244.0.2:53"),
            row(6, "[fd00::5]:1", "[fd00::1:1]:80", "[fd00::9]:8080"),
        ];
        assert_eq!(translated(TEXT), expected);
    }

    #[test]
    fn lines_are_whole_however_they_are_cut() {
        struct InParts<'a>(&'a [u8], usize);
        impl io::Read for InParts<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let bytes = self.1.min(self.0.len()).min(buffer.len());
                buffer[..bytes].copy_from_slice(&self.0[..bytes]);
                self.0 = &self.0[bytes..];
                Ok(bytes)
            }
        }
        let long = TEXT.repeat(100);
        for size in [1, 7, 4096, BUFFER_BYTES * 2] {
            let mut count = 0;
            assert!(read(InParts(long.as_bytes(), size), later(), |_| count += 1).unwrap());
            assert_eq!(count, 300, "{size} bytes at a time");
        }
    }

    #[test]
    fn what_there_is_no_time_for_is_not_read_and_that_is_told() {
        let (long, mut count) = (TEXT.repeat(1000), 0);
        assert!(!read(long.as_bytes(), Instant::now(), |_| count += 1).unwrap());
        assert!((10..1000).contains(&count), "{count}");
        assert!(
            read(vec![b'x'; 2 * BUFFER_BYTES].as_slice(), later(), |_| ())
                .unwrap_err()
                .to_string()
                .contains("without an end")
        );
    }

    #[test]
    fn why_it_cannot_be_opened_is_told() {
        let root = tempfile::tempdir().unwrap();
        let named = Network::new("/proc".into(), Some(root.path().to_owned()));
        let told = Conntrack::open(&named).unwrap_err();
        assert!(told.contains("nf_conntrack") && told.contains("CONFIG_NF_CONNTRACK_PROCFS"), "{told}");
        let gone = Network::new("/proc".into(), Some(root.path().join("gone")));
        assert!(Conntrack::open(&gone).unwrap_err().contains("no such directory"));
        let not_the_hosts = Network::new(root.path().to_owned(), None);
        assert!(Conntrack::open(&not_the_hosts).unwrap_err().contains("process 1 is not the node's"));
    }
}
