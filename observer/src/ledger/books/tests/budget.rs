//! The budget of series.

use super::*;

/// Every entity has ten series.
const EACH: usize = 10;

fn shown(ledger: &Ledger) -> usize {
    ledger.entities().iter().filter(|entity| entity.shown).count()
}

fn node(pods: u64) -> (Ledger, Known) {
    let names = Known::default();
    let mut ledger = Ledger::default();
    for at in 1..=pods {
        names.container_at(at, &format!("u{at}"), &format!("c{at}"));
        names.name_pod(&format!("u{at}"), &format!("p{at}"), "web", "deployment");
        names.name_container(&format!("c{at}"), "app");
        ledger.book(&bytes(at, 100 * at), &names, 1);
    }
    (ledger, names)
}

#[test]
fn beyond_the_budget_the_smallest_share_one_series_and_every_sum_stays_whole() {
    let (mut ledger, names) = node(20);
    let before = all(&ledger);
    // `unattributed`, `other`, and eight more.
    ledger.keep_within(10 * EACH, |_| EACH);
    assert_eq!((shown(&ledger), all(&ledger)), (10, before));
    assert_eq!(sent(&ledger, "other shop"), Some((1..=12).map(|at| 100 * at).sum()));
    assert_eq!((sent(&ledger, "p12/app"), sent(&ledger, "p13/app")), (None, Some(1300)));
    ledger.book(&bytes(3, 5), &names, 2);
    ledger.book_cpu(3, CpuUsage { usage_us: 9, throttling: None });
    assert_eq!(all(&ledger), before + 5);
    let web = workload(&ledger, "web").unwrap();
    assert_eq!((sum(&web.books), web.books.cpu.unwrap().usage_us), (before + 5, 9));
}

#[test]
fn one_that_grows_gets_a_series_of_its_own_and_no_counter_falls() {
    let (mut ledger, names) = node(20);
    ledger.keep_within(10 * EACH, |_| EACH);
    let mut before: HashMap<EntityId, u64> = HashMap::new();
    for round in 0..50 {
        ledger.book(&bytes(1, 1000), &names, 2);
        ledger.keep_within(10 * EACH, |_| EACH);
        for entity in ledger.entities().iter().filter(|entity| entity.shown) {
            let now = sum(&entity.books);
            // What was folded begins again at zero, as a counter may.
            let then = before.insert(entity.id, now).unwrap_or(0);
            assert!(now >= then || now < 2000, "round {round}: {:?} fell from {then} to {now}", entity.identity);
        }
        let other = ledger.entities().iter().find(|entity| matches!(entity.identity, Identity::Other { .. })).unwrap();
        assert!(sum(&other.books) >= 7800, "other fell");
    }
    assert!(sent(&ledger, "p1/app").is_some(), "the largest of all is told by its name");
    assert_eq!(all(&ledger), (1..=20).map(|at| 100 * at).sum::<u64>() + 50_000);
}

#[test]
fn when_there_is_room_again_they_come_back() {
    let (mut ledger, names) = node(20);
    ledger.keep_within(10 * EACH, |_| EACH);
    for _ in 0..20 {
        ledger.keep_within(100 * EACH, |_| EACH);
    }
    assert_eq!(shown(&ledger), 22);
    ledger.book(&bytes(1, 5), &names, 2);
    assert_eq!(sent(&ledger, "p1/app"), Some(5), "what it had counted is on `other`");
    // With nothing folded into it, `other` goes after two minutes.
    ledger.expire(10);
    ledger.expire(10 + KEEP_NS);
    assert_eq!((shown(&ledger), sent(&ledger, "other shop")), (21, None));
}

#[test]
fn a_folded_entity_that_gets_its_name_is_still_counted_once() {
    let names = Known::default();
    let mut ledger = Ledger::default();
    for at in 1..=4 {
        names.container_at(at, &format!("u{at}"), &format!("c{at}"));
        ledger.book(&bytes(at, 100 * at), &names, 1);
    }
    // `unattributed`, `other` and one more.
    ledger.keep_within(3 * EACH, |_| EACH);
    assert_eq!((shown(&ledger), all(&ledger)), (3, 1000));
    for at in 1..=4 {
        names.name_pod(&format!("u{at}"), "db-0", "db", "statefulset");
        names.name_container(&format!("c{at}"), "db");
        ledger.pod_changed(&format!("u{at}"), &names, 2);
    }
    assert_eq!(all(&ledger), 1000);
    assert_eq!(sum(&workload(&ledger, "db").unwrap().books), 1000);
}

#[test]
fn two_folded_entities_that_become_one_have_both_their_counts() {
    let names = Known::default();
    let mut ledger = Ledger::default();
    for at in 1..=2 {
        names.container_at(at, &format!("u{at}"), &format!("c{at}"));
        ledger.book(&bytes(at, 100 * at), &names, 1);
    }
    ledger.keep_within(0, |_| EACH);
    for at in 1..=2 {
        names.name_pod(&format!("u{at}"), "db-0", "db", "statefulset");
        names.name_container(&format!("c{at}"), "db");
        ledger.pod_changed(&format!("u{at}"), &names, 2);
    }
    let folded: Vec<usize> = (0..ledger.entities.len()).filter(|at| !ledger.entities[*at].shown).collect();
    assert_eq!(
        folded.iter().map(|at| sum(&ledger.counted(*at))).collect::<Vec<_>>(),
        [300],
        "its rank when it comes back"
    );
}

#[test]
fn a_budget_that_holds_nothing_leaves_what_cannot_be_folded() {
    let (mut ledger, _names) = node(3);
    ledger.keep_within(0, |_| EACH);
    assert_eq!((shown(&ledger), all(&ledger)), (2, 600));
}
