//! One million random label sets, rendered and read back by a parser that is not ours.

use super::books::{TestBooks, cgroup, quiet_entity};
use crate::ledger::{CpuUsage, Identity};
use crate::metrics::{Encoder, MAX_VALUE_BYTES};
use std::collections::HashSet;

const THREADS: u64 = 4;
const PAGES_PER_THREAD: u64 = 50;
const LABEL_SETS_PER_PAGE: u64 = 5000;
const _: () = assert!(THREADS * PAGES_PER_THREAD * LABEL_SETS_PER_PAGE == 1_000_000);

#[test]
fn a_million_random_label_sets_read_back_unchanged() {
    std::thread::scope(|scope| {
        for seed in 0..THREADS {
            scope.spawn(move || render_and_read(Random(seed)));
        }
    });
}

fn render_and_read(mut random: Random) {
    let mut encoder = Encoder::new();
    for page in 0..PAGES_PER_THREAD {
        let mut books = TestBooks::empty(&random.name(page));
        for number in 0..LABEL_SETS_PER_PAGE {
            let id = page * LABEL_SETS_PER_PAGE + number;
            let mut entity = quiet_entity(id, cgroup(&random.path(number)));
            entity.books.cpu = Some(CpuUsage { usage_us: id, throttling: None });
            books.entities.push(entity);
        }
        let page = encoder.render(&books.snapshot());
        compare(std::str::from_utf8(&page).unwrap(), &books);
    }
}

fn compare(page: &str, books: &TestBooks) {
    let (_, families) = nom_openmetrics::parser::prometheus(page).unwrap();
    let samples = families.iter().flat_map(|family| &family.samples);
    let samples: Vec<_> = samples.filter(|sample| sample.name() == "observer_cpu_usage_seconds_total").collect();
    assert_eq!(samples.len(), books.entities.len());
    let mut seen = HashSet::new();
    for (sample, entity) in samples.into_iter().zip(&books.entities) {
        let [node, path] = sample.labels() else { panic!("{sample:?}") };
        assert_eq!((node.name, path.name), ("node", "cgroup"));
        assert_same(&node.value, &books.node_name);
        let Identity::Cgroup { path: expected } = &entity.identity else { unreachable!("only cgroups here") };
        assert_same(&path.value, expected);
        assert!(seen.insert(path.value.as_str()), "{:?} is there twice", path.value);
        let usage = entity.books.cpu.unwrap().usage_us;
        assert_eq!((sample.number() * 1e6).round() as u64, usage, "of {expected:?}");
    }
}

/// Equal, or cut at the limit.
fn assert_same(read: &str, written: &str) {
    if written.len() <= MAX_VALUE_BYTES {
        assert_eq!(read, written);
    } else {
        let kept = read.rsplit_once('~').unwrap().0;
        assert!(read.len() <= MAX_VALUE_BYTES && read.len() > MAX_VALUE_BYTES - 4, "{read:?}");
        assert!(written.starts_with(kept), "{read:?} is no cut of {written:?}");
    }
}

/// `splitmix64`: quick enough for a million names in a debug build.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Never equal for different numbers: at the front or, beyond a long common beginning, at the end.
    fn path(&mut self, number: u64) -> String {
        match self.next() % 16 {
            0 => format!("/{}/{number}", "ü/common".repeat(40)),
            _ => format!("/{number}/{}", self.name(number)),
        }
    }

    /// Half of it characters that the format, its readers or terminals treat apart, the rest from random bytes.
    fn name(&mut self, number: u64) -> String {
        const APART: &[u8; 16] = b"\\\\\\\"\"\"\n\n\r\t{},= \x01";
        let words = if number.is_multiple_of(64) { self.next() % 40 } else { self.next() % 4 };
        let mut bytes = Vec::with_capacity(8 * words as usize);
        for _ in 0..words {
            let (word, which) = (self.next().to_le_bytes(), self.next());
            let pick = |(at, byte): (usize, u8)| {
                if which >> at & 1 == 0 { byte } else { APART[(byte & 15) as usize] }
            };
            bytes.extend(word.into_iter().enumerate().map(pick));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
