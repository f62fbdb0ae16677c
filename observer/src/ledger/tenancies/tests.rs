use super::*;

const ADDRESS: AddressWords = [0, 7];

fn pod(name: &str) -> Holder {
    Holder::Pod(Arc::new(PodHolder {
        uid: format!("uid-of-{name}").into(),
        namespace: "shop".into(),
        name: name.into(),
        workload: None,
        node: Some("worker-1".into()),
    }))
}

/// Who had it, in order, with since and until when.
fn told(tenancies: &Tenancies) -> Vec<(String, Option<u64>, Option<u64>)> {
    let name = |tenancy: &Tenancy| match &tenancy.holder {
        Some(Holder::Pod(pod)) => pod.name.to_string(),
        Some(Holder::Service { name, .. } | Holder::Node { name }) => name.to_string(),
        None => String::new(),
    };
    let all = tenancies.of(ADDRESS);
    all.map(|tenancy| (name(tenancy), tenancy.since_unix_seconds, tenancy.until_unix_seconds)).collect()
}

fn holder(tenancies: &Tenancies, number: u32) -> Option<String> {
    match tenancies.get(ADDRESS, number)?.holder.as_ref()? {
        Holder::Pod(pod) => Some(pod.name.to_string()),
        _ => None,
    }
}

#[test]
fn what_was_carried_before_anybody_was_asked_is_the_first_ones() {
    let mut tenancies = Tenancies::default();
    assert_eq!(tenancies.booked_under(ADDRESS), 0);
    let moved = tenancies.held(ADDRESS, &pod("a"), Some(90), false, 100).unwrap();
    assert_eq!((moved.address, moved.from), (ADDRESS, 0));
    assert_eq!(holder(&tenancies, moved.to).as_deref(), Some("a"));
}

#[test]
fn a_pod_of_the_node_that_goes_takes_its_flows_along_and_the_next_one_has_its_own() {
    let mut tenancies = Tenancies::default();
    tenancies.held(ADDRESS, &pod("a"), Some(90), true, 100);
    let of_a = tenancies.booked_under(ADDRESS);
    assert_eq!(tenancies.booked_under(ADDRESS), of_a, "who has it is told of");
    tenancies.had(ADDRESS, &pod("a"), Some(90), 110);
    // The next one sends before anybody has told of it.
    let of_next = tenancies.booked_under(ADDRESS);
    assert_ne!(of_next, of_a);
    assert_eq!(holder(&tenancies, of_next), None);
    assert_eq!(tenancies.held(ADDRESS, &pod("b"), Some(112), true, 113), None, "nothing has to move");
    assert_eq!(tenancies.booked_under(ADDRESS), of_next);
    assert_eq!([of_a, of_next].map(|number| holder(&tenancies, number)), [Some("a".into()), Some("b".into())]);
    assert_eq!(told(&tenancies), [("a".into(), Some(90), Some(110)), ("b".into(), Some(112), None)]);
    // It is told of again that it is gone, later.
    tenancies.had(ADDRESS, &pod("a"), Some(90), 150);
    assert_eq!(told(&tenancies)[0].2, Some(110));
    assert_eq!(tenancies.booked_under(ADDRESS), of_next);
}

#[test]
fn what_was_asked_for_is_kept_apart_until_it_is_asked_for_again() {
    let mut tenancies = Tenancies::default();
    let first = tenancies.held(ADDRESS, &pod("a"), Some(90), false, 100).unwrap().to;
    let open = tenancies.booked_under(ADDRESS);
    assert_ne!(open, first);
    assert_eq!(tenancies.shown(ADDRESS, open), first, "shown as the one before");
    assert_eq!(holder(&tenancies, open).as_deref(), Some("a"));
    // It is still the same one.
    let moved = tenancies.held(ADDRESS, &pod("a"), Some(90), false, 130);
    assert_eq!(moved, Some(Move { address: ADDRESS, from: open, to: first }));
    assert_eq!(tenancies.get(ADDRESS, first).unwrap().as_of_unix_seconds, 130);
    // And then it is another.
    let open = tenancies.booked_under(ADDRESS);
    assert_eq!(tenancies.held(ADDRESS, &pod("b"), Some(140), false, 150), None);
    assert_eq!([first, open].map(|number| holder(&tenancies, number)), [Some("a".into()), Some("b".into())]);
    assert_eq!(told(&tenancies), [("a".into(), Some(90), Some(140)), ("b".into(), Some(140), None)]);
}

#[test]
fn an_address_that_nobody_has_any_more_was_somebodys() {
    let mut tenancies = Tenancies::default();
    let first = tenancies.held(ADDRESS, &pod("a"), None, false, 100).unwrap().to;
    assert_eq!(tenancies.free(ADDRESS, 120), None);
    assert_eq!(told(&tenancies), [("a".into(), None, Some(120))]);
    let open = tenancies.booked_under(ADDRESS);
    assert_eq!((tenancies.shown(ADDRESS, open), holder(&tenancies, open)), (open, None));
    assert_eq!(holder(&tenancies, first).as_deref(), Some("a"));
    // An open one that was kept apart ends the one before, too.
    let mut tenancies = Tenancies::default();
    tenancies.held(ADDRESS, &pod("a"), None, false, 100);
    let open = tenancies.booked_under(ADDRESS);
    tenancies.free(ADDRESS, 120);
    assert_eq!((tenancies.shown(ADDRESS, open), holder(&tenancies, open)), (open, None));
    assert_eq!(told(&tenancies), [("a".into(), None, Some(120))]);
}

#[test]
fn a_finished_pod_beside_the_one_that_has_its_address_now_comes_before_it() {
    let mut tenancies = Tenancies::default();
    let of_job = tenancies.had(ADDRESS, &pod("job"), Some(10), 20).unwrap().to;
    tenancies.held(ADDRESS, &pod("web"), Some(25), false, 30);
    assert_eq!(told(&tenancies), [("job".into(), Some(10), Some(20)), ("web".into(), Some(25), None)]);
    assert_eq!(holder(&tenancies, of_job).as_deref(), Some("job"));
    // One that is told of only now.
    tenancies.had(ADDRESS, &pod("older"), Some(1), 5);
    let names: Vec<_> = told(&tenancies).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["older", "job", "web"]);
    let current = tenancies.booked_under(ADDRESS);
    assert_eq!(holder(&tenancies, current).as_deref(), Some("web"));
}

#[test]
fn what_a_watch_says_is_not_overruled_by_an_answer_from_a_cache() {
    let mut tenancies = Tenancies::default();
    tenancies.held(ADDRESS, &pod("b"), Some(50), true, 60);
    tenancies.held(ADDRESS, &pod("a"), Some(10), false, 61);
    tenancies.free(ADDRESS, 62);
    assert_eq!(told(&tenancies), [("b".into(), Some(50), None)]);
}

#[test]
fn a_tenancy_covers_the_times_in_which_it_can_have_been() {
    let of = |since_unix_seconds, until_unix_seconds| Tenancy {
        number: 1,
        holder: None,
        since_unix_seconds,
        until_unix_seconds,
        as_of_unix_seconds: 0,
    };
    assert!(of(None, None).covers(5) && of(Some(5), Some(5)).covers(5));
    assert!(!of(Some(6), None).covers(5) && !of(None, Some(4)).covers(5));
}

#[test]
fn there_is_room_for_so_many_and_the_one_asked_for_least_lately_makes_room() {
    let mut tenancies = Tenancies::default();
    let address = |number: usize| [1, number as u64];
    for number in 0..MOST_ADDRESSES {
        tenancies.held(address(number), &pod("a"), None, number < 10, 1);
        tenancies.note_asked(address(number), 1000 - number as u64 % 1000);
    }
    assert_eq!(tenancies.left_out(), 0);
    tenancies.held(ADDRESS, &pod("new"), None, false, 2);
    assert_eq!((tenancies.addresses.len(), tenancies.left_out()), (MOST_ADDRESSES, 1));
    assert!((0..10).all(|number| tenancies.is_followed(address(number))), "those that are told of stay");
    assert_eq!(told(&tenancies).len(), 1);
    for round in 0..30 {
        tenancies.held(ADDRESS, &pod(&format!("pod-{round}")), Some(round), false, round + 1);
    }
    assert_eq!(told(&tenancies).len(), MOST_OF_ONE);
}

#[test]
fn nodes_are_told_of_all_at_once() {
    let mut tenancies = Tenancies::default();
    let node = |address: &str, name: &str| (address.parse::<IpAddr>().unwrap(), Arc::from(name));
    let words = |address: &str| words_of(address.parse().unwrap());
    let moved = tenancies.nodes(&[node("10.0.0.1", "one"), node("10.0.0.2", "two"), node("fd00::2", "two")], 5);
    assert_eq!(moved.len(), 3);
    tenancies.nodes(&[node("10.0.0.1", "one"), node("10.0.0.3", "two")], 9);
    let holders = |address: &str| tenancies.of(words(address)).map(|one| one.until_unix_seconds).collect::<Vec<_>>();
    assert_eq!(
        (holders("10.0.0.1"), holders("10.0.0.2"), holders("10.0.0.3")),
        (vec![None], vec![Some(9)], vec![None])
    );
}

#[test]
fn a_port_of_a_node_tells_the_pod_that_listens_there_then() {
    let mut tenancies = Tenancies::default();
    let on_node = |name: &str, port, since, until| {
        let Holder::Pod(pod) = pod(name) else { unreachable!() };
        OnNode { pod, ports: [(port, 6)].into(), since_unix_seconds: since, until_unix_seconds: until }
    };
    tenancies.on_node(on_node("old", 9100, Some(10), None));
    let name = |tenancies: &Tenancies, node: &str, port, protocol, at| {
        tenancies.by_port(node, port, protocol, at).map(|known| known.pod.name.to_string())
    };
    tenancies.only_on_node("worker-1", &HashSet::from(["uid-of-new".into()]), 20);
    tenancies.on_node(on_node("new", 9100, Some(22), None));
    assert_eq!(name(&tenancies, "worker-1", 9100, 6, 15).as_deref(), Some("old"));
    assert_eq!(name(&tenancies, "worker-1", 9100, 6, 25).as_deref(), Some("new"));
    for (node, port, protocol, at) in
        [("worker-2", 9100, 6, 15), ("worker-1", 9101, 6, 15), ("worker-1", 9100, 17, 15), ("worker-1", 9100, 6, 21)]
    {
        assert_eq!(name(&tenancies, node, port, protocol, at), None, "{node} {port} {protocol} {at}");
    }
}

#[test]
fn addresses_are_as_the_kernel_has_them() {
    use observer_ebpf::flows::address_of;
    for text in ["10.244.0.7", "fd00::7"] {
        let address: IpAddr = text.parse().unwrap();
        assert_eq!(std::net::Ipv6Addr::from(address_of(words_of(address))).to_canonical().to_string(), text);
    }
}

#[test]
fn a_pod_that_gets_another_address_has_the_first_one_no_more() {
    let mut tenancies = Tenancies::default();
    tenancies.held(ADDRESS, &pod("a"), Some(1), true, 5);
    tenancies.held([0, 8], &pod("a"), Some(9), true, 10);
    tenancies.held([0, 9], &pod("b"), Some(9), true, 10);
    tenancies.only_has("uid-of-a", &[[0, 8]], 10);
    assert_eq!(told(&tenancies), [("a".into(), Some(1), Some(10))]);
    assert!(!tenancies.is_followed(ADDRESS) && tenancies.is_followed([0, 8]) && tenancies.is_followed([0, 9]));
}
