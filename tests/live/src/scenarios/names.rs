//! Cgroups whose names were made to hurt: each has its books under a label of its own, and no terminal obeys one.

use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    machine::wait_until,
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    time::Duration,
};

/// Wire bytes of a datagram of 72 bytes over IPv4.
const DATAGRAM: u64 = 100;
/// The longest label value, by docs/metrics.md; what is longer is cut.
const LONGEST: usize = 256;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("cgroups_with_hostile_names_have_each_its_bytes_under_its_own_label", Place::Both, &[Need::Root], labels),
        test("a_hostile_name_sends_a_terminal_nothing_but_text", Place::Both, &[Need::Root], summary),
    ]
}

/// What reads alike once it is escaped, cut or shown, and what ends a label, a line or a terminal's patience.
fn hostile_names() -> Vec<OsString> {
    let texts = [
        "\\xff\\xfe",
        "\"quoted\"",
        "back\\slash",
        "ends in a backslash\\",
        "\\n",
        "n",
        "a=\"b\",c=\"d\"} 1",
        "}",
        "{,=}",
        " blanks ",
        "#",
        "\ttab\rreturn",
        "\u{202e}backwards",
        "\u{fffd}",
        "e\u{301}",
        "\u{e9}",
        "\u{7f}\u{85}\u{1}",
        "unattributed",
    ];
    let bytes: [&[u8]; 6] =
        [b"\xff\xfe", b"\xff", b"cut short \xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80"];
    let long = [[b'a'; 255], [b'\\'; 255], [b'"'; 255], [0xff; 255], [0x80; 255]];
    let mut names: Vec<Vec<u8>> = texts.map(|text| text.as_bytes().to_vec()).to_vec();
    names.extend(bytes.map(<[u8]>::to_vec));
    for name in long {
        names.push(name.to_vec());
        // Different where a label has long been cut.
        names.push([&name[..254], b"~"].concat());
    }
    names.push("\u{e9}".repeat(127).into_bytes());
    names.extend((1..=20).map(random_name));
    names.into_iter().map(OsString::from_vec).collect()
}

/// Any bytes that the kernel takes: it refuses the end of a line beside what no file may be called.
fn random_name(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let bytes = std::iter::repeat_with(move || {
        // Knuth's MMIX.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    bytes.filter(|byte| !matches!(byte, 0 | b'/' | b'\n')).take(12 * seed as usize).collect()
}

/// The bytes that each label below the folder has sent, as a parser reads them that is not ours.
fn sent_by_label(page: &str, folder: &str) -> Result<BTreeMap<String, u64>> {
    let parsed = nom_openmetrics::parser::prometheus(page);
    let (_, families) = parsed.map_err(|error| anyhow::anyhow!("the page is not to be parsed: {error:?}"))?;
    let mut sent = BTreeMap::new();
    for sample in families.iter().flat_map(|family| &family.samples) {
        if sample.name() != "observer_network_transmit_bytes_total" {
            continue;
        }
        let label = sample.labels().iter().find(|label| label.name == "cgroup").context("a series of no cgroup")?;
        if label.value.starts_with(folder) {
            *sent.entry(label.value.clone()).or_default() += sample.number() as u64;
        }
    }
    Ok(sent)
}

/// A cgroup of that name, and a worker that has sent so many datagrams out of it.
fn sender(folder: &Cgroup, name: &OsStr, to: &str, count: u64) -> Result<(Cgroup, Worker)> {
    let cgroup = folder.child(name).with_context(|| name.display().to_string())?;
    let mut talk = Worker::start(Seat::in_cgroup(&cgroup), ["udp-talk", "--to", to, "--size", "72"])?;
    talk.ask(&format!("send {count}"))?;
    Ok((cgroup, talk))
}

/// The only label that has sent that many datagrams.
fn label_of(sent: &BTreeMap<String, u64>, count: u64) -> Result<&str> {
    let mut labels = sent.iter().filter(|(_, bytes)| **bytes == count * DATAGRAM).map(|(label, _)| label);
    let label = labels.next().with_context(|| format!("no label has the {count} datagrams"))?;
    ensure!(labels.next().is_none(), "more than one label has {count} datagrams");
    ensure!(label.len() <= LONGEST, "{label:?} is longer than a label may be");
    Ok(label)
}

fn labels() -> Result<()> {
    let names = hostile_names();
    let folder = Cgroup::for_test()?;
    ensure!(folder.child("line\nline").is_err(), "the kernel takes names of two lines now: add one");
    let agent = Agent::start(&[])?;
    let sink = Worker::start(Seat::default(), ["udp-sink", "--bind", "127.0.0.1:0"])?;
    let mut senders = Vec::new();
    for (name, count) in names.iter().zip(1..) {
        senders.push(sender(&folder, name, &sink.greeting, count)?);
    }
    std::thread::sleep(Duration::from_millis(200));
    let prefix = format!("{}/", folder.label);
    let sent = sent_by_label(&agent.scrape()?.text, &prefix)?;
    let checks = || {
        ensure!(sent.len() == names.len(), "{} labels for {} cgroups: {:?}", sent.len(), names.len(), sent.keys());
        for (name, count) in names.iter().zip(1..) {
            let label = label_of(&sent, count).with_context(|| name.display().to_string())?;
            if let Some(text) = name.to_str().filter(|text| prefix.len() + text.len() <= LONGEST) {
                ensure!(label == format!("{prefix}{text}"), "{} has the label {label:?}", name.display());
            }
        }
        Ok(())
    };
    explain(&agent, checks())?;
    // Who is called what another is shown as is shown as something else.
    let mut count = names.len() as u64;
    for (name, shown_as) in names.iter().zip(1..).filter(|(name, _)| name.to_str().is_none() && name.len() < 100) {
        count += 1;
        let shown = &label_of(&sent, shown_as)?[prefix.len()..];
        senders.push(
            sender(&folder, OsStr::new(shown), &sink.greeting, count).with_context(|| name.display().to_string())?,
        );
    }
    std::thread::sleep(Duration::from_millis(200));
    let sent = sent_by_label(&agent.scrape()?.text, &prefix)?;
    let apart = || (1..=count).try_for_each(|count| label_of(&sent, count).map(drop));
    ensure!(sent.len() as u64 == count, "{} labels for {count} cgroups: {:?}", sent.len(), sent.keys());
    explain(&agent, apart())
}

/// The summary shows a terminal who sends most.
fn summary() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child(OsStr::from_bytes(b"heavy\x1b[2J\x1b]0;title\x07\r\xc2\x9b31m\xff"))?;
    let agent = Agent::start(&["--summary-interval", "1s"])?;
    let sink = Worker::start(Seat::default(), ["udp-sink", "--bind", "127.0.0.1:0"])?;
    let mut talk = Worker::start(Seat::in_cgroup(&cgroup), ["udp-talk", "--to", &sink.greeting, "--size", "8000"])?;
    talk.tell("pace 8000 2000")?;
    let named = wait_until(Duration::from_secs(8), || Ok(agent.log_text().contains("/heavy")))?;
    ensure!(named, "the summary does not name the sender:\n{:?}", agent.log_text());
    let log = agent.log_text();
    let control = log.chars().find(|character| character.is_control() && *character != '\n');
    ensure!(control.is_none(), "{control:?} in {log:?}");
    Ok(())
}
