//! The node's own addresses: what makes a socket's other end `node`.

use super::{
    file::words,
    network::{Network, Vantage},
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Each address once, in order; loopback addresses included.
    pub list: Vec<IpAddr>,
    /// Whose they are.
    pub vantage: Vantage,
}

/// The addresses of the node's network namespace, from `net/fib_trie` (the kernel's own local routes) and
/// `net/if_inet6`.
///
/// # Errors
/// When `net/fib_trie` cannot be read, or `net/if_inet6` cannot. That a kernel without IPv6
/// has no such file is no error.
pub fn addresses(network: &Network) -> io::Result<Addresses> {
    let (mut content, mut list) = (Vec::new(), Vec::new());
    let vantage = network.read("fib_trie", &mut content)?;
    list.extend(local_v4(&content).map(IpAddr::V4));
    match network.read("if_inet6", &mut content) {
        // Addresses of two namespaces are no node's.
        Ok(same) if same == vantage => list.extend(lines(&content).filter_map(parse_v6).map(IpAddr::V6)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    list.sort_unstable();
    list.dedup();
    Ok(Addresses { list, vantage })
}

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split(|byte| *byte == b'\n')
}

/// A leaf `|-- ADDRESS` is followed by its routes; an own address is one with the route `/32 host LOCAL`.
fn local_v4(content: &[u8]) -> impl Iterator<Item = Ipv4Addr> {
    let mut leaf = None;
    lines(content).filter_map(move |line| {
        let mut words = words(line);
        match (words.next()?, words.next()?, words.next()) {
            (b"|--", address, _) => {
                leaf = str::from_utf8(address).ok().and_then(|address| address.parse().ok());
                None
            }
            (b"/32", b"host", Some(b"LOCAL")) => leaf,
            _ => None,
        }
    })
}

/// `00000000000000000000000000000001 01 80 10 80       lo`
fn parse_v6(line: &[u8]) -> Option<Ipv6Addr> {
    let digits = str::from_utf8(words(line).next()?).ok()?;
    if digits.len() != 32 {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    const FIB_TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.0.0.0/24 2 0 2
        |-- 10.0.0.0
           /24 link UNICAST
        |-- 10.0.0.5
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
     |-- 10.9.9.9
        /32 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
Local:
  +-- 0.0.0.0/0 3 0 5
        |-- 10.0.0.5
           /32 host LOCAL
           /24 link UNICAST
";
    const IF_INET6: &str = "\
fe80000000000000021122fffe334455 02 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
";

    fn proc_with(process: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let net = root.path().join(process).join("net");
        fs::create_dir_all(&net).unwrap();
        for (name, content) in files {
            fs::write(net.join(name), content).unwrap();
        }
        root
    }

    fn of_the_host(root: &tempfile::TempDir) {
        fs::create_dir(root.path().join("2")).unwrap();
        fs::write(root.path().join("2/comm"), "kthreadd\n").unwrap();
    }

    #[test]
    fn own_addresses_are_told_from_routes_and_broadcasts() {
        let root = proc_with("1", &[("fib_trie", FIB_TRIE), ("if_inet6", IF_INET6)]);
        assert_eq!(
            addresses(&Network::from(root.path())).unwrap().vantage,
            Vantage::Own,
            "a container's process 1 is not the node's"
        );
        of_the_host(&root);
        let found = addresses(&Network::from(root.path())).unwrap();
        let expected = ["10.0.0.5", "127.0.0.1", "::1", "fe80::211:22ff:fe33:4455"].map(|text| text.parse().unwrap());
        assert_eq!(found, Addresses { list: expected.to_vec(), vantage: Vantage::Node });
    }

    #[test]
    fn a_kernel_without_ipv6_has_its_v4_addresses() {
        let root = proc_with("self", &[("fib_trie", FIB_TRIE)]);
        let found = addresses(&Network::from(root.path())).unwrap();
        assert_eq!((found.list.len(), found.vantage), (2, Vantage::Own));
    }

    #[test]
    fn no_proc_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(addresses(&Network::from(root.path())).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_running_kernel_has_its_loopback_address() {
        let found = addresses(&Network::from(Path::new("/proc"))).unwrap();
        assert!(found.list.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{found:?}");
    }
}
