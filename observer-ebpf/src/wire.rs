//! A packet's bytes on the wire: what a device counts after segmentation, given what the hook sees before it.

/// `gso_size` of a packet whose segments are a list of their own (SCTP): only `gso_segs` tells how many.
pub const GSO_BY_FRAGS: u32 = 0xffff;

/// L3 bytes and packets of one `sk_buff` on the wire.
///
/// `bytes` is its L3 length, `headers` the length of the L3 and L4 headers that every segment repeats, `gso_size` the
/// payload of a segment (0: not segmented), `gso_segs` the kernel's own count. The count is derived from the size, as
/// the kernel's segmentation does: a sender that trims a packet, or a guest's packet, may leave `gso_segs` behind.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the verifier sees one function, without a call")]
pub const fn on_the_wire(bytes: u32, headers: u32, gso_size: u32, gso_segs: u32) -> (u64, u64) {
    let segments = if gso_size == GSO_BY_FRAGS {
        gso_segs
    } else if gso_size == 0 || bytes <= headers {
        1
    } else {
        (bytes - headers).div_ceil(gso_size)
    };
    let segments = if segments == 0 { 1 } else { segments };
    (bytes as u64 + (segments as u64 - 1) * headers as u64, segments as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_is_not_segmented_is_itself() {
        assert_eq!(on_the_wire(1500, 52, 0, 0), (1500, 1));
        assert_eq!(on_the_wire(40, 52, 1448, 1), (40, 1));
    }

    #[test]
    fn each_segment_repeats_the_headers() {
        assert_eq!(on_the_wire(52 + 3 * 1448, 52, 1448, 3), (3 * 1500, 3));
        assert_eq!(on_the_wire(52 + 2 * 1448 + 1, 52, 1448, 3), (2 * 1500 + 53, 3));
    }

    #[test]
    fn a_stale_count_of_segments_does_not_matter() {
        assert_eq!(on_the_wire(52 + 2 * 1448, 52, 1448, 9), (3000, 2));
    }

    #[test]
    fn a_list_of_fragments_counts_by_the_kernels_number() {
        assert_eq!(on_the_wire(32 + 200, 32, GSO_BY_FRAGS, 3), (32 + 200 + 64, 3));
    }
}
