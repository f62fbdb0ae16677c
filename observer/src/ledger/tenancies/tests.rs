use super::{
    address::{MOST_OF_ONE, MOST_SLICES},
    *,
};
use crate::ledger::{PodHolder, WorkloadNames};
use std::sync::Arc;

mod nodes;

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
    let all = tenancies.of(ADDRESS).iter();
    all.map(|tenancy| (name(&tenancy.holder), tenancy.since_unix_seconds, tenancy.until_unix_seconds)).collect()
}

fn name(holder: &Holder) -> String {
    match holder {
        Holder::Pod(pod) => pod.name.to_string(),
        Holder::Service { name, .. } | Holder::Node { name } => name.to_string(),
    }
}

/// What is carried, at which second, and whose that is in the end.
struct Story {
    tenancies: Tenancies,
    booked: Vec<(u64, u32)>,
}

impl Story {
    fn new() -> Self {
        Self { tenancies: Tenancies::default(), booked: Vec::new() }
    }

    fn carry(&mut self, second: u64) {
        let number = self.tenancies.booked_under(ADDRESS, second);
        self.booked.push((second, number));
    }

    /// After everything has moved that has to.
    fn whose(&mut self) -> Vec<(u64, Option<String>)> {
        let moves = self.tenancies.take_moves();
        for (second, number) in &mut self.booked {
            *number = moves.get(&(ADDRESS, *number)).map_or(*number, |target| target.of(*second));
        }
        let whose = |number| self.tenancies.get(ADDRESS, number).map(|tenancy| name(&tenancy.holder));
        self.booked.iter().map(|(second, number)| (*second, whose(*number))).collect()
    }
}

fn of(second: u64, name: &str) -> (u64, Option<String>) {
    (second, (!name.is_empty()).then(|| name.to_owned()))
}

#[test]
fn what_was_carried_before_anybody_was_asked_is_the_first_ones_from_its_beginning_on() {
    let mut story = Story::new();
    for second in [85, 95, 99] {
        story.carry(second);
    }
    story.tenancies.held(ADDRESS, &pod("a"), Some(90), false, 100);
    assert_eq!(story.whose(), [of(85, ""), of(95, "a"), of(99, "a")]);
    // The same of one of whom nobody was told before it was over.
    let mut story = Story::new();
    for second in [85, 95, 101, 105] {
        story.carry(second);
    }
    story.tenancies.had(ADDRESS, &pod("a"), Some(90), 99, false);
    assert_eq!(story.whose(), [of(85, ""), of(95, "a"), of(101, "a"), of(105, "")]);
    // Since when it has it may not be known.
    let mut story = Story::new();
    story.carry(85);
    story.tenancies.held(ADDRESS, &pod("a"), None, false, 100);
    assert_eq!(story.whose(), [of(85, "a")]);
}

#[test]
fn a_short_one_does_not_end_before_it_begins() {
    let mut tenancies = Tenancies::default();
    tenancies.held(ADDRESS, &pod("a"), Some(101), true, 101);
    tenancies.had(ADDRESS, &pod("a"), Some(101), 100, true);
    assert_eq!(told(&tenancies), [("a".into(), Some(100), Some(100))]);
}

/// What owns it is asked for when it is first told of, and known later.
#[test]
fn a_pod_that_had_ended_by_then_has_its_workload_once_that_is_known() {
    let workload = WorkloadNames { name: "once".into(), kind: "job".into() };
    let Holder::Pod(ended) = pod("a") else { unreachable!() };
    let known = Holder::Pod(Arc::new(PodHolder { workload: Some(Arc::new(workload)), ..(*ended).clone() }));
    let mut tenancies = Tenancies::default();
    for holder in [pod("a"), known.clone(), pod("a")] {
        tenancies.had(ADDRESS, &holder, Some(3), 7, true);
    }
    assert_eq!(told(&tenancies), [("a".into(), Some(3), Some(7))]);
    assert_eq!(tenancies.of(ADDRESS)[0].holder, known);
    // Of one that is there it may not be found out in time.
    for holder in [&known, &pod("a")] {
        tenancies.held([0, 8], holder, Some(3), false, 8);
    }
    assert_eq!(tenancies.of([0, 8])[0].holder, known);
}

#[test]
fn what_is_nobodys_again_is_the_next_ones_from_its_beginning_on() {
    let mut story = Story::new();
    story.carry(85);
    story.tenancies.held(ADDRESS, &pod("a"), Some(80), false, 100);
    // There was no room for it.
    let known = story.tenancies.addresses.remove(&ADDRESS).unwrap();
    let from = known.tenancies[0].number;
    story.tenancies.moves.push(Move { address: ADDRESS, from, to: Target::all(NOBODY) });
    story.carry(110);
    story.tenancies.held(ADDRESS, &pod("b"), Some(105), false, 120);
    assert_eq!(story.whose(), [of(85, ""), of(110, "b")]);
}

#[test]
fn a_pod_of_the_node_that_goes_takes_its_flows_along_and_the_next_one_has_its_own() {
    let mut story = Story::new();
    story.tenancies.held(ADDRESS, &pod("a"), Some(90), true, 100);
    story.carry(105);
    story.carry(106);
    assert_eq!(story.booked[0].1, story.booked[1].1, "who has it is told of");
    story.tenancies.had(ADDRESS, &pod("a"), Some(90), 110, true);
    // What had been handed over before is booked after the end was told of; and the next one sends before anybody has told of it.
    story.carry(109);
    story.carry(113);
    story.carry(114);
    assert_eq!(story.whose()[2..], [of(109, "a"), of(113, ""), of(114, "")]);
    story.tenancies.held(ADDRESS, &pod("b"), Some(112), true, 115);
    story.carry(116);
    story.carry(108);
    let expected = [of(105, "a"), of(106, "a"), of(109, "a"), of(113, "b"), of(114, "b"), of(116, "b"), of(108, "a")];
    assert_eq!(story.whose(), expected);
    assert_eq!(told(&story.tenancies), [("a".into(), Some(90), Some(110)), ("b".into(), Some(112), None)]);
    // It is told of again that it is gone, later.
    story.tenancies.had(ADDRESS, &pod("a"), Some(90), 150, true);
    assert_eq!(told(&story.tenancies)[0].2, Some(110));
    assert!(story.tenancies.is_followed(ADDRESS));
}

#[test]
fn what_was_asked_for_is_kept_apart_by_seconds_until_it_is_asked_for_again() {
    let mut story = Story::new();
    story.tenancies.held(ADDRESS, &pod("a"), Some(90), false, 100);
    story.carry(101);
    story.carry(101);
    story.carry(104);
    let [.., (_, first), (_, last)] = story.booked[..] else { unreachable!() };
    assert!(first != last && story.tenancies.shown(ADDRESS, first) == story.tenancies.shown(ADDRESS, last));
    assert_eq!(story.whose(), [of(101, "a"), of(101, "a"), of(104, "a")], "shown as the one before");
    assert!(story.tenancies.is_open(ADDRESS, last));
    // It is still the same one.
    story.tenancies.held(ADDRESS, &pod("a"), Some(90), false, 130);
    assert!(!story.tenancies.addresses[&ADDRESS].slices.iter().any(|slice| slice.number == last));
    assert_eq!(story.tenancies.of(ADDRESS)[0].as_of_unix_seconds, 130);
    // And then it is another, since a while.
    for second in [138, 139, 140, 145] {
        story.carry(second);
    }
    story.tenancies.held(ADDRESS, &pod("b"), Some(140), false, 150);
    assert_eq!(story.whose()[3..], [of(138, "a"), of(139, "a"), of(140, "b"), of(145, "b")]);
    assert_eq!(told(&story.tenancies), [("a".into(), Some(90), Some(140)), ("b".into(), Some(140), None)]);
}

#[test]
fn of_many_seconds_the_last_are_told_apart() {
    let mut story = Story::new();
    story.tenancies.held(ADDRESS, &pod("a"), Some(90), false, 100);
    for second in 101..150 {
        story.carry(second);
    }
    assert_eq!(story.tenancies.addresses[&ADDRESS].slices.len(), MOST_SLICES);
    story.tenancies.held(ADDRESS, &pod("b"), Some(147), false, 150);
    let whose = story.whose();
    assert!(whose[..46].iter().all(|(_, name)| name.as_deref() == Some("a")), "{whose:?}");
    assert_eq!(whose[46..], [of(147, "b"), of(148, "b"), of(149, "b")]);
}

#[test]
fn what_was_carried_until_nobody_had_an_address_any_more_was_whose_it_was() {
    let mut story = Story::new();
    story.tenancies.held(ADDRESS, &pod("a"), None, false, 100);
    story.carry(110);
    story.tenancies.free(ADDRESS, 120);
    assert_eq!(told(&story.tenancies), [("a".into(), None, Some(120))]);
    story.carry(125);
    story.tenancies.free(ADDRESS, 130);
    assert_eq!(story.whose(), [of(110, "a"), of(125, "")]);
    // Of whom nobody knows anything it is noted that somebody was asked.
    let mut tenancies = Tenancies::default();
    tenancies.free(ADDRESS, 5);
    tenancies.note_asked(ADDRESS, 5);
    assert_eq!((tenancies.booked_under(ADDRESS, 6), tenancies.asked(ADDRESS)), (0, Some(5)));
}

#[test]
fn a_pod_that_is_found_to_have_ended_keeps_what_it_carried() {
    let mut story = Story::new();
    story.tenancies.held(ADDRESS, &pod("job"), Some(10), false, 12);
    story.carry(15);
    story.carry(40);
    story.tenancies.had(ADDRESS, &pod("job"), Some(10), 20, false);
    story.tenancies.free(ADDRESS, 50);
    assert_eq!(story.whose(), [of(15, "job"), of(40, "")]);
    // One of which nothing was known before.
    let mut story = Story::new();
    story.carry(15);
    story.tenancies.had(ADDRESS, &pod("job"), Some(10), 20, false);
    assert_eq!(story.whose(), [of(15, "job")]);
}

#[test]
fn one_that_ended_in_between_ends_the_one_before() {
    let mut tenancies = Tenancies::default();
    tenancies.held(ADDRESS, &pod("a"), Some(10), false, 12);
    tenancies.had(ADDRESS, &pod("b"), Some(20), 30, false);
    assert_eq!(told(&tenancies), [("a".into(), Some(10), Some(20)), ("b".into(), Some(20), Some(30))]);
    tenancies.had(ADDRESS, &pod("older"), Some(1), 5, false);
    tenancies.held(ADDRESS, &pod("web"), Some(33), false, 40);
    let names: Vec<_> = told(&tenancies).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["older", "a", "b", "web"]);
    // Who is told of at once stays the last.
    tenancies.held(ADDRESS, &pod("own"), Some(50), true, 51);
    tenancies.had(ADDRESS, &pod("late"), Some(60), 61, false);
    assert_eq!(told(&tenancies).last(), Some(&("own".into(), Some(50), None)));
}

#[test]
fn what_a_watch_says_is_not_overruled_by_an_answer_from_a_cache() {
    let mut tenancies = Tenancies::default();
    tenancies.held(ADDRESS, &pod("b"), Some(50), true, 60);
    tenancies.held(ADDRESS, &pod("a"), Some(10), false, 61);
    tenancies.free(ADDRESS, 62);
    assert_eq!(told(&tenancies), [("b".into(), Some(50), None)]);
    // Nor is its end.
    tenancies.had(ADDRESS, &pod("b"), Some(50), 70, true);
    tenancies.held(ADDRESS, &pod("b"), Some(50), false, 71);
    assert_eq!(told(&tenancies), [("b".into(), Some(50), Some(70))]);
    // The watch itself may have been wrong, and an end that was found out later, too.
    tenancies.held(ADDRESS, &pod("b"), Some(50), true, 72);
    assert_eq!(told(&tenancies), [("b".into(), Some(50), None)]);
    let mut tenancies = Tenancies::default();
    tenancies.held(ADDRESS, &pod("c"), Some(50), false, 60);
    tenancies.free(ADDRESS, 61);
    tenancies.held(ADDRESS, &pod("c"), Some(50), false, 62);
    assert_eq!(told(&tenancies), [("c".into(), Some(50), None)]);
}

#[test]
fn a_tenancy_covers_the_times_in_which_it_can_have_been() {
    let of = |since_unix_seconds, until_unix_seconds| Tenancy {
        number: 1,
        holder: pod("a"),
        since_unix_seconds,
        until_unix_seconds,
        as_of_unix_seconds: 0,
        is_end_told: false,
    };
    assert!(of(None, None).covers(5) && of(Some(5), Some(5)).covers(5));
    assert!(!of(Some(6), None).covers(5) && !of(None, Some(4)).covers(5));
}

#[test]
fn there_is_room_for_so_many_and_the_one_used_least_lately_makes_room() {
    let mut tenancies = Tenancies::default();
    let address = |number: usize| [1, number as u64];
    for number in 0..MOST_ADDRESSES {
        tenancies.held(address(number), &pod("a"), None, number < 10, 1000 + number as u64);
    }
    tenancies.note_asked(address(10), 100_000);
    assert_eq!(tenancies.left_out(), 0);
    tenancies.take_moves();
    tenancies.held(ADDRESS, &pod("new"), None, false, 2);
    assert_eq!((tenancies.addresses.len(), tenancies.left_out()), (MOST_ADDRESSES, 1));
    assert!((0..10).all(|number| tenancies.is_followed(address(number))), "those that are told of stay");
    assert_eq!((tenancies.of(address(10)).len(), tenancies.of(address(11)).len()), (1, 0));
    assert_eq!(
        tenancies
            .take_moves()
            .into_iter()
            .filter(|((other, _), to)| *other == address(11) && to.number == NOBODY)
            .count(),
        1
    );
    for round in 0..30 {
        tenancies.held(ADDRESS, &pod(&format!("pod-{round}")), Some(round), false, round + 1);
    }
    assert_eq!(told(&tenancies).len(), MOST_OF_ONE);
}

#[test]
fn moves_that_follow_each_other_are_one() {
    let mut tenancies = Tenancies::default();
    let of = |from, to| Move { address: ADDRESS, from, to: Target::all(to) };
    tenancies.moves = vec![of(0, 1), of(5, 1), of(1, 0), of(0, 7), of(3, 3)];
    let moves = tenancies.take_moves();
    assert_eq!(moves, HashMap::from([0, 5, 1].map(|from| ((ADDRESS, from), Target::all(7)))));
    assert!(tenancies.take_moves().is_empty());
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
