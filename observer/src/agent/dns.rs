//! What a DNS server's answer tells: which name has which addresses.

use domain::{
    base::{Message, iana::Rtype},
    rdata::{A, Aaaa},
};
use std::net::IpAddr;

/// The name that was asked for, in lower case and without the last dot, and the addresses that it was answered with, whatever names are in
/// between. A message that is cut tells as far as it goes.
pub(super) fn read(message: &[u8]) -> Option<(String, Vec<IpAddr>)> {
    let message = Message::from_slice(message).ok()?;
    let question = message.first_question()?;
    let mut addresses = Vec::new();
    let records = if message.is_error() { None } else { message.answer().ok() };
    for record in records.into_iter().flatten().map_while(Result::ok) {
        match record.rtype() {
            Rtype::A => addresses
                .extend(record.into_record::<A>().ok().flatten().map(|record| IpAddr::V4(record.data().addr()))),
            Rtype::AAAA => addresses
                .extend(record.into_record::<Aaaa>().ok().flatten().map(|record| IpAddr::V6(record.data().addr()))),
            _ => {}
        }
    }
    let name = question.qname().to_string();
    let name = name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase();
    Some((name, addresses))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `WWW.example` and an alias, with an address of either family.
    fn answer() -> Vec<u8> {
        let mut message = vec![0, 7, 0x81, 0x80, 0, 1, 0, 3, 0, 0, 0, 0];
        message.extend(b"\x03WWW\x07example\0\0\x01\0\x01");
        // The name is an alias of the domain's.
        message.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x02\xc0\x10");
        message.extend(b"\xc0\x10\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x07");
        message.extend(b"\xc0\x10\0\x1c\0\x01\0\0\0\x3c\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07");
        message
    }

    #[test]
    fn an_answer_names_its_addresses_by_what_was_asked_for() {
        let addresses: Vec<IpAddr> = ["203.0.113.7", "2001:db8::7"].map(|address| address.parse().unwrap()).into();
        assert_eq!(read(&answer()), Some(("www.example".into(), addresses)));
    }

    #[test]
    fn a_cut_answer_tells_as_far_as_it_goes_and_noise_tells_nothing() {
        let whole = answer();
        for bytes in 0..whole.len() {
            let told = read(&whole[..bytes]).map_or(0, |(_, addresses)| addresses.len());
            assert_eq!(read(&whole[..bytes]).is_some(), bytes >= 29, "{bytes}");
            // The first address ends before the other one's 28 bytes.
            assert_eq!(told, usize::from(bytes >= whole.len() - 28), "{bytes}");
        }
        let mut error = whole.clone();
        error[3] = 0x83;
        assert_eq!(read(&error), Some(("www.example".into(), Vec::new())));
        // A name that goes round in circles.
        let mut circle = whole;
        circle[12..14].copy_from_slice(&[0xc0, 0x0c]);
        assert_eq!(read(&circle), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_server_sends_is_too_much(message in proptest::collection::vec(0_u8.., 0..512)) {
            let _ = read(&message);
        }
    }
}
