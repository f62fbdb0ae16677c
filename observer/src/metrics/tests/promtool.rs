//! Prometheus' own opinion of a page.

use super::books::{TestBooks, cgroup};
use crate::metrics::Encoder;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

/// What `promtool check metrics` says, and whether it was content; `None` where it is not installed.
fn promtool(page: &[u8]) -> Option<(bool, String)> {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = match promtool.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: promtool is not installed (apt-get install prometheus)");
            return None;
        }
        promtool => promtool.unwrap(),
    };
    promtool.stdin.take().unwrap().write_all(page).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn promtool_has_nothing_to_say_on_a_page_with_every_family_and_every_character() {
    let mut books = TestBooks::full(3);
    let every_character: String = (1..=0x2ff).filter_map(char::from_u32).collect();
    for (at, entity) in books.entities.iter_mut().enumerate().skip(1) {
        let part: String = every_character.chars().skip((at - 1) * 100).take(100).collect();
        entity.identity = cgroup(&format!("/{part}"));
    }
    let page = Encoder::new().render(&books.snapshot());
    let Some((content, said)) = promtool(&page) else { return };
    assert!(content && said.is_empty(), "{said}");
}

#[test]
fn promtool_is_heard_when_it_complains() {
    let Some((content, said)) = promtool(b"# TYPE a counter\na{x=\"\\q\"} 1\n") else { return };
    assert!(!content && !said.is_empty());
}
