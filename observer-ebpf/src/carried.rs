//! Bytes and packets in one word, so that a packet is one addition: what a socket has carried one way and nobody has been told of, and what
//! a slot has sent. Where such a word goes on for ever, what is much in it moves to a second one now and then.

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

/// The bits of the bytes that stay in a word when what is much moves on.
const BYTES_THAT_STAY: u32 = 30;

/// The bits of the packets that stay.
const PACKETS_THAT_STAY: u32 = MUCH.trailing_zeros() - BYTES_BITS;

/// Where the packets begin in the second word.
const PACKETS_IN_SECOND: u32 = 32;

/// A word as what stays in it, and what moves to a second one: `[stays, moves]`. Both add up with others of their kind.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
pub const fn split(whole: u64) -> [u64; 2] {
    let (bytes, packets) = parts(whole);
    let (some_bytes, some_packets) = (bytes & ((1 << BYTES_THAT_STAY) - 1), packets & ((1 << PACKETS_THAT_STAY) - 1));
    let moves = (bytes >> BYTES_THAT_STAY) + (packets >> PACKETS_THAT_STAY << PACKETS_IN_SECOND);
    [word(some_bytes, some_packets), moves]
}

/// The bytes and the packets of both words together: up to 2^62 and 2^52.
pub const fn joined([first, second]: [u64; 2]) -> (u64, u64) {
    let (bytes, packets) = parts(first);
    let more_bytes = (second & ((1 << PACKETS_IN_SECOND) - 1)) << BYTES_THAT_STAY;
    (bytes + more_bytes, packets + (second >> PACKETS_IN_SECOND << PACKETS_THAT_STAY))
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
    fn what_is_much_moves_to_a_second_word_and_nothing_is_lost() {
        for bytes in [40, 1500, 65_575] {
            let (mut words, mut times, every) = ([0; 2], 0, 1 << 14);
            for packets in (every..=1 << 28).step_by(every as usize) {
                words[0] += word(bytes * every, every);
                if words[0] & MUCH != 0 {
                    let [stays, moves] = split(words[0]);
                    words = [stays, words[1] + moves];
                    times += 1;
                    assert_eq!(stays & MUCH, 0);
                }
                assert_eq!(joined(words), (bytes * packets, packets));
            }
            assert_eq!(times, 1 << 8, "once for each million of packets");
        }
    }

    #[test]
    fn two_words_hold_what_a_machine_sends_in_its_life() {
        let words = [word((1 << 30) - 1, (1 << 20) - 1), ((1 << 20) - 1) << 32 | 0xffff_ffff];
        assert_eq!(joined(words), ((1 << 62) - 1, (1 << 40) - 1));
    }

    #[test]
    fn each_way_has_a_word() {
        let traffic = traffic(word(1500, 1), word(80, 2));
        let Traffic { transmit_bytes, transmit_packets, receive_bytes, receive_packets } = traffic;
        assert_eq!([transmit_bytes, transmit_packets, receive_bytes, receive_packets], [1500, 1, 80, 2]);
    }
}
