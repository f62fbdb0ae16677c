use super::*;

#[test]
fn nodes_are_told_of_all_at_once() {
    let mut tenancies = Tenancies::default();
    let node = |address: &str, name: &str| (address.parse::<IpAddr>().unwrap(), Arc::from(name));
    let words = |address: &str| words_of(address.parse().unwrap());
    tenancies.nodes(&[node("10.0.0.1", "one"), node("10.0.0.2", "two"), node("fd00::2", "two")], &[], 5);
    tenancies.nodes(&[node("10.0.0.1", "one"), node("10.0.0.3", "two")], &[], 9);
    let holders =
        |address: &str| -> Vec<_> { tenancies.of(words(address)).iter().map(|one| one.until_unix_seconds).collect() };
    assert_eq!(
        (holders("10.0.0.1"), holders("10.0.0.2"), holders("10.0.0.3")),
        (vec![None], vec![Some(9)], vec![None])
    );
}

#[test]
fn an_address_that_a_node_gets_later_is_its_from_then_on_and_what_was_carried_before_is_nobodys() {
    let mut tenancies = Tenancies::default();
    let address: IpAddr = "192.0.2.9".parse().unwrap();
    let words = words_of(address);
    assert_eq!(tenancies.booked_under(words, 3), 0);
    let node = [(address, Arc::from("one"))];
    tenancies.nodes(&node, &[address], 9);
    let moves = tenancies.take_moves();
    assert!(moves.values().all(|target| target.of(3) == NOBODY), "what was nobody's stays so");
    assert!(tenancies.get(words, 0).is_none());
    let number = tenancies.booked_under(words, 10);
    assert_eq!(tenancies.get(words, number).and_then(|one| one.since_unix_seconds), Some(9));
    // Told of once more, nothing changes; and it may go, and come back.
    tenancies.nodes(&node, &[], 12);
    tenancies.nodes(&[], &[], 20);
    tenancies.nodes(&node, &[address], 30);
    let known: Vec<_> = tenancies.of(words).iter().map(|one| one.covers(5)).collect();
    assert!(known.iter().all(|covers| !covers) && tenancies.of(words).iter().any(|one| one.covers(31)));
}
