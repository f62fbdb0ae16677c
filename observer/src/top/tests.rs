//! The view by its keys, and what of it is on a screen.

use super::{Act, Sort, View, columns::fitting, draw, draw::fitted, merged, table, view::Mode};
use crate::server::{Averages, Doings, EntityRow, FarEnd, FlowRow, FlowsAnswer, PairsAnswer, SnapshotAnswer, Who};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use std::{collections::BTreeMap, time::Duration};

fn pod(name: &str, load1: f64, bytes: f64, wait: f64, memory: Option<u64>) -> EntityRow {
    let text = |text: &str| Some(text.to_owned());
    EntityRow {
        entity: Who {
            namespace: text("shop"),
            pod: text(name),
            container: text("app"),
            workload: text("web"),
            ..Who::default()
        },
        now: Doings {
            transmit_bytes_per_second: bytes,
            wait_seconds_per_second: wait,
            load: Averages { load1, ..Averages::default() },
            ..Doings::default()
        },
        transmit_bytes: BTreeMap::from([("cluster".to_owned(), 7), ("internet".to_owned(), 900)]),
        memory_working_set_bytes: memory,
        ..EntityRow::default()
    }
}

fn snapshot() -> SnapshotAnswer {
    SnapshotAnswer {
        node: "worker-1".into(),
        load: Some(Averages { load1: 4.4, load5: 3.0, load15: 2.0 }),
        entities: vec![
            pod("loader", 3.2, 10.0, 0.1, Some(10)),
            pod("sender", 0.1, 9e6, 0.2, Some(20)),
            pod("waiter", 0.3, 20.0, 2.5, None),
            pod("eater", 0.2, 5.0, 0.0, Some(3_000_000_000)),
        ],
        ..SnapshotAnswer::default()
    }
}

fn view() -> View {
    let mut view = View::new(Sort::Load, true);
    view.take(Ok((snapshot(), None)));
    view
}

fn press(view: &mut View, codes: impl IntoIterator<Item = KeyCode>) -> Act {
    let mut act = Act::Draw;
    for code in codes {
        act = view.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
    act
}

fn letters(view: &mut View, text: &str) -> Act {
    press(view, text.chars().map(KeyCode::Char))
}

fn names(view: &View) -> Vec<&str> {
    view.rows().iter().filter_map(|row| row.entity.pod.as_deref()).collect()
}

fn screen(view: &View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn each_key_sorts_by_what_it_says_and_the_largest_is_first() {
    let mut view = view();
    for (key, first) in [("b", "sender"), ("w", "waiter"), ("m", "eater"), ("l", "loader")] {
        letters(&mut view, key);
        assert_eq!(names(&view)[0], first, "{key}");
        let screen = screen(&view, 120, 20);
        let row = screen.lines().find(|line| line.contains("shop/")).unwrap();
        assert!(row.contains(first), "{screen}");
    }
    // What is not known is not the least of what is.
    letters(&mut view, "m");
    assert_eq!(names(&view).last(), Some(&"waiter"));
}

#[test]
fn the_filter_takes_letters_as_they_are_typed_and_lets_go_of_them() {
    let mut view = view();
    letters(&mut view, "/er");
    assert_eq!(names(&view), ["loader", "waiter", "eater", "sender"]);
    letters(&mut view, "q");
    assert!(names(&view).is_empty() && screen(&view, 80, 12).contains("nobody of that name"));
    press(&mut view, [KeyCode::Backspace, KeyCode::Backspace, KeyCode::Backspace]);
    letters(&mut view, "WEB wait");
    assert_eq!(names(&view), ["waiter"], "by workload, in any case, and each word");
    press(&mut view, [KeyCode::Enter]);
    assert!(screen(&view, 80, 12).contains("filter: WEB wait"));
    // It is no filter's letter any more.
    assert_eq!(letters(&mut view, "q"), Act::Quit);
    press(&mut view, [KeyCode::Esc]);
    assert_eq!(names(&view).len(), 4);
}

#[test]
fn a_filter_typed_before_the_terminal_is_ours_ends_with_the_line_feed_that_it_has_then() {
    let mut view = view();
    letters(&mut view, "/wait");
    view.key(KeyEvent::new(KeyCode::Char('j'), KeyModifiers::CONTROL));
    letters(&mut view, "b");
    assert_eq!(names(&view), ["waiter"]);
}

#[test]
fn who_is_chosen_stays_chosen_wherever_they_go() {
    let mut view = view();
    press(&mut view, [KeyCode::Down, KeyCode::Down]);
    assert_eq!(names(&view)[view.selected], "eater");
    let mut next = snapshot();
    next.entities[3].now.load.load1 = 9.0;
    view.take(Ok((next, None)));
    assert_eq!(names(&view)[view.selected], "eater");
    press(&mut view, [KeyCode::End, KeyCode::Down]);
    assert_eq!(view.selected, 3);
    view.take(Ok((SnapshotAnswer::default(), None)));
    assert_eq!(view.selected, 0, "and nobody is, where nobody is left");
    press(&mut view, [KeyCode::Enter]);
    assert_eq!(view.one(), None);
}

#[test]
fn one_is_opened_and_an_answer_of_another_is_not_shown() {
    let mut view = view();
    press(&mut view, [KeyCode::Enter]);
    assert_eq!(view.one(), Some("shop/loader/app"));
    let other = FlowsAnswer { node: "other".into(), ..FlowsAnswer::default() };
    view.take_detail("shop/sender/app", Ok(other), Ok(PairsAnswer::default()));
    assert!(screen(&view, 100, 24).contains("asking ..."));
    view.take_detail("shop/loader/app", Ok(FlowsAnswer::default()), Ok(PairsAnswer::default()));
    let shown = screen(&view, 100, 24);
    assert!(shown.contains("internet") && shown.contains("900 B") && shown.contains("nothing was carried"), "{shown}");
    press(&mut view, [KeyCode::Esc]);
    assert_eq!(view.one(), None);
}

#[test]
fn nothing_of_one_is_cut_off_and_its_end_is_where_the_scrolling_ends() {
    let mut view = view();
    press(&mut view, [KeyCode::Enter]);
    let remote =
        FarEnd { kind: "pod".into(), namespace: Some("shop".into()), name: "x".repeat(50), ..FarEnd::default() };
    let flow = FlowRow {
        remote_address: Some("2001:db8::7".into()),
        remote_port: Some(65_535),
        remote: Some(remote),
        protocol: "tcp".into(),
        scope: "internet".into(),
        ..FlowRow::default()
    };
    let answer = FlowsAnswer { flows: vec![flow; 30], ..FlowsAnswer::default() };
    view.take_detail("shop/loader/app", Ok(answer), Ok(PairsAnswer::default()));
    for (width, height) in [(80, 24), (40, 12), (40, 7)] {
        press(&mut view, [KeyCode::Home]);
        let first = screen(&view, width, height);
        press(&mut view, [KeyCode::End]);
        let last = screen(&view, width, height);
        assert!(last.contains("nobody waited long"), "{last}");
        press(&mut view, [KeyCode::PageUp]);
        let before = screen(&view, width, height);
        assert!(before != last && before != first && before.contains("q end"), "{before}");
        if height > 12 {
            assert!(before.contains("[2001:db8::7]:65535") && before.contains("tcp, internet"), "{before}");
        }
    }
}

#[test]
fn a_pause_keeps_what_is_shown_and_trouble_is_told() {
    let mut view = view();
    letters(&mut view, "p");
    view.take(Ok((SnapshotAnswer::default(), None)));
    assert_eq!(names(&view).len(), 4);
    assert!(screen(&view, 80, 12).contains("paused"));
    view.take(Err("no agent listens".into()));
    assert!(screen(&view, 80, 12).contains("no agent listens"));
    letters(&mut view, "p");
    view.take(Ok((snapshot(), Some("worker-2 does not answer".into()))));
    assert!(names(&view).len() == 4 && screen(&view, 80, 12).contains("worker-2 does not answer"));
    view.take(Ok((SnapshotAnswer::default(), None)));
    assert!(names(&view).is_empty() && !screen(&view, 80, 12).contains("no agent"));
}

#[test]
fn who_waits_for_an_answer_is_told_so_until_it_comes() {
    let mut view = view();
    assert!(!view.wait(Duration::from_millis(1900)), "that is not long");
    assert!(view.wait(Duration::from_secs(3)) && !view.wait(Duration::from_millis(3400)));
    assert!(screen(&view, 80, 12).contains("no answer for 3 s"));
    assert!(view.wait(Duration::ZERO) && !screen(&view, 80, 12).contains("no answer"));
}

#[test]
fn what_is_wrong_with_one_is_told_with_it_and_hides_nothing_of_the_others() {
    let mut view = view();
    view.take(Ok((snapshot(), Some("worker-2 does not answer".into()))));
    press(&mut view, [KeyCode::Enter]);
    view.take_detail("shop/loader/app", Err("flows are each node's own".into()), Err("so are pairs".into()));
    let shown = screen(&view, 100, 24);
    assert!(shown.contains("flows are each node's own") && shown.contains("worker-2 does not answer"), "{shown}");
    assert!(!shown.contains("asking ..."), "{shown}");
    press(&mut view, [KeyCode::Esc, KeyCode::Down, KeyCode::Enter]);
    assert!(screen(&view, 100, 24).contains("asking ..."), "of another one");
}

#[test]
fn names_have_their_columns_however_wide_their_letters_and_keep_their_node() {
    assert_eq!(fitted("web", 5), "web  ");
    assert_eq!(fitted("shop/web-0", 6), "~web-0");
    // Each of these takes two.
    assert_eq!(fitted("店/\u{5e97}\u{5e97}", 9), "店/店店  ");
    assert_eq!(fitted("店店店店", 6), "~店店 ");
    assert_eq!(fitted("n1: /system.slice/kubelet.service", 21), "n1: ~/kubelet.service");
    assert_eq!(fitted("a-node-with-a-long-name: /system.slice", 12), "~ystem.slice", "no room for the node");
}

#[test]
fn the_largest_second_of_several_nodes_is_said_to_be_one_nodes() {
    let mut view = view();
    assert!(screen(&view, 120, 12).contains("in the largest second of a minute"));
    view.take(Ok((merged(&[snapshot(), snapshot()]), None)));
    assert!(screen(&view, 120, 12).contains("in the largest second of a node in the last minute"));
}

#[test]
fn a_window_of_any_size_is_drawn_and_a_narrow_one_keeps_what_it_is_sorted_by() {
    let mut view = view();
    for mode in [Mode::Usual, Mode::Typing, Mode::Help] {
        view.mode = mode;
        for (width, height) in [(1, 1), (5, 3), (39, 30), (40, 7), (60, 8), (300, 100)] {
            screen(&view, width, height);
        }
    }
    view.mode = Mode::Usual;
    for width in [40, 60, 80] {
        let shown = screen(&view, width, 24);
        assert!(shown.contains("? help  q end") && shown.contains("s/s"), "{width}: {shown}");
    }
    view.trouble = Some("worker-2 does not answer within 30 seconds; is it an agent's debug listener?".into());
    assert!(screen(&view, 40, 24).contains("listener?") && screen(&view, 40, 7).contains("worker-2"));
    view.trouble = None;
    assert!(screen(&view, 30, 5).contains("too small"));
    for sort in [Sort::Load, Sort::Bytes, Sort::Wait, Sort::Memory] {
        let columns = fitting(40, sort);
        assert!(columns.iter().any(|column| column.sort == Some(sort)), "{sort:?}");
    }
    assert_eq!(fitting(200, Sort::Load).len(), 8);
}

#[test]
fn ctrl_c_ends_even_while_a_filter_is_typed_and_help_goes_with_any_key() {
    let mut view = view();
    letters(&mut view, "?");
    assert!(screen(&view, 100, 24).contains("sort by load"));
    letters(&mut view, "b");
    assert!(view.mode == Mode::Usual && view.sort == Sort::Load, "the key that closes it does nothing else");
    letters(&mut view, "/");
    assert_eq!(view.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Act::Quit);
}

#[test]
fn a_table_of_text_has_the_most_at_the_top_and_no_more_than_was_asked_for() {
    let text = table(&snapshot(), Sort::Bytes, 2);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("worker-1  load 4.40 3.00 2.00"), "{text}");
    assert!(lines[2].starts_with("shop/sender/app") && lines[2].contains("9.00 MB/s"), "{text}");
    assert!(lines[3].starts_with("shop/waiter/app"), "{text}");
}
