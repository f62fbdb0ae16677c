//! The network devices' own counters.

use super::{
    file::{number, words},
    network::{Network, Vantage},
};
use crate::ledger::Device;
use std::io;

/// Reads net/dev each second without allocating while the devices stay the same.
#[derive(Debug, Default)]
pub struct DeviceReader {
    content: Vec<u8>,
}

impl DeviceReader {
    /// Replaces `devices` by those of the node's network namespace (`net/dev`), in the kernel's order, and says whose they are.
    ///
    /// # Errors
    /// When there is none to be read; `devices` is then as it was.
    pub fn read(&mut self, network: &Network, devices: &mut Vec<Device>) -> io::Result<Vantage> {
        let vantage = network.read("dev", &mut self.content)?;
        parse(&self.content, devices);
        Ok(vantage)
    }
}

/// Overwrites in place, so that a device's name keeps its memory. Lines that are no device's (the two of the head) are
/// passed over.
fn parse(content: &[u8], devices: &mut Vec<Device>) {
    let mut count = 0;
    for (name, receive_bytes, transmit_bytes) in content.split(|byte| *byte == b'\n').filter_map(parse_line) {
        if count == devices.len() {
            devices.push(Device::default());
        }
        let device = &mut devices[count];
        if device.name != name {
            name.clone_into(&mut device.name);
        }
        (device.receive_bytes, device.transmit_bytes) = (receive_bytes, transmit_bytes);
        count += 1;
    }
    devices.truncate(count);
}

fn parse_line(line: &[u8]) -> Option<(&str, u64, u64)> {
    // A name may hold a colon (an old-style alias), the counters cannot.
    let colon = line.iter().rposition(|byte| *byte == b':')?;
    let name = str::from_utf8(line[..colon].trim_ascii()).ok()?;
    // Eight columns for what was received, eight for what was sent.
    let mut counters = words(&line[colon + 1..]).map(number);
    Some((name, counters.next()??, counters.nth(7)??))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    const TEXT: &[u8] = b"\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1000 20    0    0    0     0          0         0     3000 20    0    0    0     0       0          0
  eth0:18446744073709551615  7 1    2    3     4          5         6       42  8    9    10    11     12       13          14
";

    fn device(name: &str, receive_bytes: u64, transmit_bytes: u64) -> Device {
        Device { name: name.to_owned(), receive_bytes, transmit_bytes }
    }

    #[test]
    fn bytes_of_both_directions_are_read() {
        let mut devices = vec![device("gone", 1, 2), device("gone too", 1, 2), device("and this", 1, 2)];
        parse(TEXT, &mut devices);
        assert_eq!(devices, [device("lo", 1000, 3000), device("eth0", u64::MAX, 42)]);
    }

    #[test]
    fn reading_again_allocates_nothing() {
        let mut devices = Vec::new();
        parse(TEXT, &mut devices);
        assert_eq!(allocation_counter::measure(|| parse(TEXT, &mut devices)).count_total, 0);
    }

    #[test]
    fn the_nodes_namespace_is_preferred_and_the_fallback_is_told() {
        let root = tempfile::tempdir().unwrap();
        let network = Network::from(root.path());
        let (mut reader, mut devices) = (DeviceReader::default(), Vec::new());
        assert_eq!(reader.read(&network, &mut devices).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::create_dir_all(root.path().join("self/net")).unwrap();
        fs::write(root.path().join("self/net/dev"), "own: 1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\n").unwrap();
        assert_eq!(reader.read(&network, &mut devices).unwrap(), Vantage::Own);
        assert_eq!(devices, [device("own", 1, 2)]);
        fs::create_dir_all(root.path().join("1/net")).unwrap();
        fs::write(root.path().join("1/net/dev"), TEXT).unwrap();
        fs::create_dir(root.path().join("2")).unwrap();
        fs::write(root.path().join("2/comm"), "kthreadd\n").unwrap();
        assert_eq!(reader.read(&network, &mut devices).unwrap(), Vantage::Node);
        assert_eq!(devices.len(), 2);
    }

    #[test]
    fn the_running_kernel_has_a_loopback_device() {
        let mut devices = Vec::new();
        DeviceReader::default().read(&Network::from(Path::new("/proc")), &mut devices).unwrap();
        assert!(devices.iter().any(|device| device.name == "lo"), "{devices:?}");
    }
}
