//! Bytes and packets in one word, so that a packet is one addition: what a socket has carried one way and nobody has been told of.

use crate::Traffic;

/// The bits of the bytes. Packets of the largest size, 2^16 bytes and some headers, fill those of the packets first.
const BYTES_BITS: u32 = 40;

/// In a word that has this bit there is so much that it has to be told of: 2^20 packets. It takes sixteen times as many to fill the word.
pub const MUCH: u64 = 1 << 60;

/// Bytes and packets as one word; such words add up.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the verifier sees one function, without a call")]
pub const fn word(bytes: u64, packets: u64) -> u64 {
    bytes + (packets << BYTES_BITS)
}

/// The bytes and the packets of a word.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
pub const fn parts(word: u64) -> (u64, u64) {
    (word & ((1 << BYTES_BITS) - 1), word >> BYTES_BITS)
}

/// What was sent and what was received.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
pub const fn traffic(sent: u64, received: u64) -> Traffic {
    let ((transmit_bytes, transmit_packets), (receive_bytes, receive_packets)) = (parts(sent), parts(received));
    Traffic { transmit_bytes, transmit_packets, receive_bytes, receive_packets }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_add_up_until_there_is_much_and_long_after() {
        // IPv6 has headers beside the 2^16 - 1 bytes.
        let (bytes, size) = (65_575, 1 << 16);
        let mut sum = 0;
        for packets in (size..1 << 24).step_by(1 << 16) {
            sum += word(bytes * size, size);
            assert_eq!(parts(sum), (bytes * packets, packets));
            assert_eq!(sum >= MUCH, packets >= 1 << 20);
        }
    }

    #[test]
    fn each_way_has_a_word() {
        let traffic = traffic(word(1500, 1), word(80, 2));
        let Traffic { transmit_bytes, transmit_packets, receive_bytes, receive_packets } = traffic;
        assert_eq!([transmit_bytes, transmit_packets, receive_bytes, receive_packets], [1500, 1, 80, 2]);
    }
}
