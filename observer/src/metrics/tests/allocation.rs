//! What rendering allocates: nothing, once it is warm.

use super::books::TestBooks;
use crate::metrics::Encoder;

#[test]
fn a_warm_encoder_allocates_nothing() {
    let books = TestBooks::full(250);
    let mut encoder = Encoder::new();
    // The first page finds the size, the second makes the buffer.
    for _ in 0..2 {
        drop(encoder.render(&books.snapshot()));
    }
    let mut page = None;
    let allocated = allocation_counter::measure(|| page = Some(encoder.render(&books.snapshot())));
    let lines = str::from_utf8(&page.unwrap()).unwrap().lines().count();
    assert!(lines > 9000, "{lines} lines are no full page");
    assert_eq!(allocated.count_total, 0, "{lines} lines took {allocated:?}");
}

#[test]
fn who_left_is_forgotten() {
    let mut encoder = Encoder::new();
    let books = TestBooks::full(250);
    drop(encoder.render(&books.snapshot()));
    let nobody = TestBooks::empty("n");
    let freed = allocation_counter::measure(|| drop(encoder.render(&nobody.snapshot())));
    assert!(freed.count_current < -250, "{freed:?}");
}
