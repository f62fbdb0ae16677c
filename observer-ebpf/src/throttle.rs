//! How much of a wait was a CPU quota's, so that it can be told from one for a neighbour.
//!
//! The kernel adds up for each group's run queue how long its tasks were kept from running by a quota, its own or one above, when the
//! quota is there again. Whoever then runs first has waited for it, looks at the sum, and writes down the span for those who
//! have waited beside. No hook, and nothing at all where no quota ever ran out.

use crate::offsets::{
    CFS_RQ_THROTTLE_COUNT, CFS_RQ_THROTTLED_NS, CFS_RQ_THROTTLED_SINCE, HAS_QUOTAS, is_nonzero, peek,
};
use aya_ebpf::{macros::map, maps::LruHashMap};
use observer_ebpf::{THROTTLE_SPANS, THROTTLES_PER_CPU, Throttle};

/// The size is set at load. The queues that were throttled last are kept: an address can be another's one day.
#[map]
static THROTTLES: LruHashMap<u64, Throttle> = LruHashMap::with_max_entries(THROTTLES_PER_CPU, 0);

/// How much of a wait in a queue, which ends now, was throttled.
#[inline(always)]
pub(crate) fn look(queue: u64, from_ns: u64, now_ns: u64) -> u64 {
    if HAS_QUOTAS.load() == 0 {
        return 0;
    }
    let sum_ns: u64 = peek(queue, &CFS_RQ_THROTTLED_NS);
    if sum_ns == 0 {
        return 0;
    }
    let Some(throttle) = THROTTLES.get_ptr_mut(queue) else {
        // It may have been throttled long before this wait. Without memory the waits are blamed on others.
        let mut first = Throttle { seen_ns: sum_ns, seen: 1, kept_ns: sum_ns.min(now_ns), ..Throttle::default() };
        first.spans[1] = [now_ns.saturating_sub(sum_ns), now_ns];
        let _ = THROTTLES.insert(queue, first, 0);
        return sum_ns.min(now_ns - from_ns);
    };
    // SAFETY: a valid entry, which only the CPU of that queue writes, with interrupts off.
    unsafe {
        let new_ns = sum_ns.wrapping_sub((*throttle).seen_ns);
        if new_ns > 0 {
            (*throttle).seen_ns = sum_ns;
            remember(throttle, now_ns.saturating_sub(new_ns), now_ns);
        }
    }
    let mut throttled_ns = 0;
    for number in 0..THROTTLE_SPANS as u64 {
        // SAFETY: as above.
        throttled_ns += overlap(unsafe { *span(throttle, number) }, from_ns);
    }
    // SAFETY: as above.
    let (oldest, share) = unsafe { (*span(throttle, (*throttle).seen + 1), (*throttle).share) };
    // Before the spans that are remembered it was as it was in them.
    throttled_ns += (oldest[0].saturating_sub(from_ns) * share) >> SHARE_BITS;
    throttled_ns.min(now_ns - from_ns)
}

/// Writes a span down in the place of the oldest, and how much of the time before it was throttled. Without a loop, since the verifier
/// follows both sides of each branch in it.
///
/// # Safety
/// `throttle` must be a valid entry of the map.
#[inline(always)]
unsafe fn remember(throttle: *mut Throttle, begin_ns: u64, end_ns: u64) {
    // SAFETY: the caller's.
    unsafe {
        let seen = (*throttle).seen + 1;
        let place = span(throttle, seen);
        let before_ns = (*throttle).kept_ns - ((*place)[1] - (*place)[0]);
        *place = [begin_ns, end_ns];
        (*throttle).seen = seen;
        (*throttle).kept_ns = before_ns + (end_ns - begin_ns);
        // Until every place is taken the oldest is the first.
        let [oldest_ns, _] = *span(throttle, if seen > THROTTLE_SPANS as u64 { seen + 1 } else { 1 });
        let all_ns = begin_ns.saturating_sub(oldest_ns);
        (*throttle).share = if all_ns == 0 { 0 } else { (before_ns << SHARE_BITS) / all_ns };
    }
}

/// Fixed point: times of up to a day stay within 64 bits.
const SHARE_BITS: u32 = 16;

/// 1 for a queue whose tasks may run, 0 while it is throttled.
#[inline(always)]
pub(crate) fn counts(queue: u64) -> u64 {
    if HAS_QUOTAS.load() == 0 {
        return 1;
    }
    1 - is_nonzero(u64::from(peek::<u32>(queue, &CFS_RQ_THROTTLE_COUNT)))
}

/// How much of a wait that has not ended was throttled: the newest span, what nobody has looked at, and what lasts.
#[inline(always)]
pub(crate) fn so_far(queue: u64, from_ns: u64, now_ns: u64) -> u64 {
    if HAS_QUOTAS.load() == 0 {
        return 0;
    }
    let sum_ns: u64 = peek(queue, &CFS_RQ_THROTTLED_NS);
    let lasts_ns = if peek::<u32>(queue, &CFS_RQ_THROTTLE_COUNT) == 0 {
        0
    } else {
        now_ns.saturating_sub(peek::<u64>(queue, &CFS_RQ_THROTTLED_SINCE).max(from_ns))
    };
    let seen_ns = match THROTTLES.get_ptr_mut(queue) {
        None => sum_ns,
        // SAFETY: a valid entry; whoever writes it meanwhile is read right the next time.
        Some(throttle) => unsafe {
            let newest = *span(throttle, (*throttle).seen);
            // Before the newest span it was as it was in those that are remembered.
            let before_ns = (newest[0].saturating_sub(from_ns) * (*throttle).share) >> SHARE_BITS;
            sum_ns.saturating_sub((*throttle).seen_ns) + overlap(newest, from_ns) + before_ns
        },
    };
    (lasts_ns + seen_ns).min(now_ns.saturating_sub(from_ns))
}

/// How much of a span came after a time.
#[inline(always)]
fn overlap([begin, end]: [u64; 2], from_ns: u64) -> u64 {
    end.saturating_sub(begin.max(from_ns))
}

/// # Safety
/// `throttle` must be a valid entry of the map.
#[inline(always)]
unsafe fn span(throttle: *mut Throttle, number: u64) -> *mut [u64; 2] {
    // SAFETY: the caller's, and masked.
    unsafe { (&raw mut (*throttle).spans).cast::<[u64; 2]>().add(number as usize & (THROTTLE_SPANS - 1)) }
}
