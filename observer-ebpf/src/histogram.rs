//! The wait histogram: which bucket a wait falls into, and each bucket's upper bound.

/// Buckets in the kernel: bounds of 2^10 (1.024 us) to 2^32 ns (4.3 s), one for each power of two, and one above all.
pub const BUCKETS: usize = 24;
/// The first bound is `1 << FIRST_BOUND_BITS` nanoseconds.
pub const FIRST_BOUND_BITS: u32 = 10;
/// Buckets that are exported: every second bound, so steps of four from 1.024 us to 4.295 s.
pub const EXPORTED: usize = 12;

/// The bucket of a wait: the first whose bound is not below it. A wait of exactly a bound is in that bound's bucket.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the verifier sees one function, without a call")]
pub const fn bucket(wait_ns: u64) -> usize {
    // `n <= 2^k` is `(n - 1) < 2^k`. There is no instruction for the leading zeros, so: a binary search over five bits.
    let mut rest = wait_ns.saturating_sub(1) >> FIRST_BOUND_BITS;
    // Most waits on most machines are shorter than the first bound: spare them the search.
    if rest == 0 {
        return 0;
    }
    if rest >= 1 << (BUCKETS - 2) {
        return BUCKETS - 1;
    }
    let mut bits = 0;
    if rest > 0xffff {
        bits += 16;
        rest >>= 16;
    }
    if rest > 0xff {
        bits += 8;
        rest >>= 8;
    }
    if rest > 0xf {
        bits += 4;
        rest >>= 4;
    }
    if rest > 3 {
        bits += 2;
        rest >>= 2;
    }
    if rest > 1 {
        bits += 1;
        rest >>= 1;
    }
    bits + rest as usize
}

/// The upper bound of a bucket in nanoseconds, inclusive; `None` for the last, which has none.
pub const fn bound_ns(bucket: usize) -> Option<u64> {
    if bucket < BUCKETS - 1 { Some(1 << (FIRST_BOUND_BITS as usize + bucket)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_is_in_the_first_bucket_whose_bound_is_not_below_it() {
        for bits in 0..64 {
            for wait in [(1u64 << bits) - 1, 1 << bits, (1 << bits) + 1] {
                let expected = (0..BUCKETS - 1).find(|b| wait <= bound_ns(*b).unwrap()).unwrap_or(BUCKETS - 1);
                assert_eq!(bucket(wait), expected, "{wait} ns");
            }
        }
    }
}
