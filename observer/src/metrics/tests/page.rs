//! What is on a page: every family once, every series once, and the right numbers.

use super::books::{TestBooks, cgroup, quiet_entity};
use crate::metrics::{CONTAINER_LABELS, ENTITY, Encoder, Kind, MOST_SERIES, families, series_of};
use nom_openmetrics::Sample;
use observer_ebpf::Scope;
use std::collections::{HashMap, HashSet};

fn render(books: &TestBooks) -> String {
    String::from_utf8(Encoder::new().render(&books.snapshot()).to_vec()).unwrap()
}

/// The samples of a page by their name and label set, as an independent parser reads them.
fn read(page: &str) -> HashMap<String, f64> {
    let (_, groups) = nom_openmetrics::parser::prometheus(page).unwrap();
    let samples: Vec<Sample<'_>> = groups.into_iter().flat_map(|family| family.samples).collect();
    let series: HashMap<String, f64> = samples.iter().map(|sample| (key(sample), sample.number())).collect();
    assert_eq!(series.len(), samples.len(), "a series is there twice");
    series
}

fn key(sample: &Sample<'_>) -> String {
    let labels: Vec<String> = sample.labels().iter().map(|label| format!("{}={:?}", label.name, label.value)).collect();
    format!("{}{{{}}}", sample.name(), labels.join(","))
}

#[test]
fn every_family_of_the_catalogue_is_on_a_full_page_once_and_in_its_order() {
    let page = render(&TestBooks::full(3));
    let types: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let expected: Vec<String> = families().map(|family| format!("{} {}", family.name, family.kind.word())).collect();
    assert_eq!(types, expected);
    assert!(page.ends_with('\n'));
}

#[test]
fn an_entity_with_everything_has_as_many_series_as_are_counted_and_fewer_than_the_most() {
    let mut books = TestBooks::empty("n");
    let without = read(&render(&books)).len();
    books.entities.push(TestBooks::full(1).entities.remove(1));
    let series = read(&render(&books)).len() - without;
    assert_eq!(series, series_of(&books.entities[0]));
    assert!((series as u64) < MOST_SERIES, "{series}");
}

#[test]
fn every_series_has_the_labels_that_the_catalogue_names() {
    let page = render(&TestBooks::full(3));
    let (_, groups) = nom_openmetrics::parser::prometheus(&page).unwrap();
    for (family, row) in groups.iter().zip(families()) {
        let seen: HashSet<&str> = family.samples.iter().flat_map(Sample::labels).map(|label| label.name).collect();
        let named = row.series.labels().iter().flat_map(|label| match *label {
            ENTITY => [&CONTAINER_LABELS[..], &["cgroup"]].concat(),
            other => vec![other],
        });
        assert_eq!(seen, named.collect(), "{}", row.name);
        for sample in &family.samples {
            let suffixes: &[&str] = if row.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(
                suffixes.iter().any(|suffix| sample.name() == format!("{}{suffix}", row.name)),
                "{}",
                sample.name()
            );
        }
    }
}

#[test]
fn the_numbers_are_those_of_the_books() {
    let mut books = TestBooks::empty("n");
    let mut entity = quiet_entity(1, cgroup("/a"));
    let traffic = &mut entity.books.traffic[Scope::Intranet as usize];
    (traffic.transmit_bytes, traffic.receive_packets) = (u64::MAX >> 11, 3);
    entity.books.uninterruptible_ns = 1;
    entity.recent.receive_peak.push(1, 12.5);
    books.entities.push(entity);
    let page = render(&books);
    let series = read(&page);
    let labels = "{node=\"n\",cgroup=\"/a\"}";
    let intranet = "{node=\"n\",cgroup=\"/a\",scope=\"intranet\"}";
    for (key, expected) in [
        (format!("observer_network_transmit_bytes_total{intranet}"), (u64::MAX >> 11) as f64),
        (format!("observer_network_receive_bytes_total{intranet}"), 0.0),
        (format!("observer_network_receive_packets_total{intranet}"), 3.0),
        (format!("observer_network_receive_peak_bytes_per_second{labels}"), 12.5),
        (format!("observer_network_transmit_peak_bytes_per_second{labels}"), 0.0),
        (format!("observer_uninterruptible_seconds_total{labels}"), 1e-9),
        ("observer_node_network_unattributed_transmit_bytes_total{node=\"n\"}".to_owned(), 0.0),
        ("observer_series{}".to_owned(), series.len() as f64),
    ] {
        assert_eq!(series.get(&key).map(|number| number.to_bits()), Some(expected.to_bits()), "{key} on\n{page}");
    }
    for absent in ["\"loopback\"", "_bucket", "_cpu_usage", "\nobserver_node_load", "_bpf_run"] {
        assert!(!page.contains(absent), "{absent} on\n{page}");
    }
}

#[test]
fn the_unattributed_entity_is_also_the_nodes_unattributed_traffic() {
    let series = read(&render(&TestBooks::full(2)));
    let of = |scope: &str| {
        let labels = format!("{{node=\"worker-1\",cgroup=\"unattributed\",scope=\"{scope}\"}}");
        series[&format!("observer_network_receive_bytes_total{labels}")]
    };
    let sum: f64 = Scope::ALL.into_iter().map(|scope| of(scope.label())).sum();
    let node = series["observer_node_network_unattributed_receive_bytes_total{node=\"worker-1\"}"];
    assert_eq!(sum.to_bits(), node.to_bits());
}

#[test]
fn the_histogram_is_cumulative_and_its_sum_exact() {
    let mut books = TestBooks::empty("n");
    let mut entity = quiet_entity(1, cgroup("/a"));
    entity.books.waits = std::array::from_fn(|bucket| 1 << bucket);
    entity.books.wait_ns = 123_000_000_456;
    books.entities.push(entity);
    let page = render(&books);
    let lines: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("observer_run_queue_wait_seconds_")).collect();
    let mut expected = Vec::new();
    for exported in 0..12 {
        // Buckets 0 to 2 * exported hold 1 + 2 + 4 + … waits.
        let below = (1u64 << (2 * exported + 1)) - 1;
        let bound = 1024.0 * 4f64.powi(exported) / 1e9;
        expected.push((bound, below));
    }
    expected.push((f64::INFINITY, (1 << 24) - 1));
    let buckets: Vec<(f64, u64)> = lines[..13]
        .iter()
        .map(|line| {
            let (bound, count) = line.split_once("le=\"").unwrap().1.split_once("\"} ").unwrap();
            (bound.parse().unwrap(), count.parse().unwrap())
        })
        .collect();
    assert_eq!(buckets, expected);
    assert_eq!(lines[13], "sum{node=\"n\",cgroup=\"/a\"} 123.000000456");
    assert_eq!(lines[14], "count{node=\"n\",cgroup=\"/a\"} 16777215");
    assert_eq!(lines.len(), 15);
}

#[test]
fn label_sets_follow_entities_that_come_go_move_and_change_their_name() {
    let mut encoder = Encoder::new();
    let mut books = TestBooks::full(5);
    let mut check = |books: &TestBooks| {
        let page = encoder.render(&books.snapshot());
        assert_eq!(String::from_utf8(page.to_vec()).unwrap(), render(books));
    };
    check(&books);
    books.entities.remove(2);
    check(&books);
    books.entities.swap(1, 3);
    check(&books);
    let other = quiet_entity(99, cgroup("/new"));
    books.entities.insert(0, other);
    books.entities[0].books.uninterruptible_ns = 1;
    check(&books);
    books.entities[0].identity = cgroup("/renamed");
    check(&books);
    books.node_name = "worker-2".to_owned();
    check(&books);
}
