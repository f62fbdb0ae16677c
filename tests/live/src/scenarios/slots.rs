//! Fewer slots than cgroups: nothing leaves the sum, every drop is counted, and a slot that comes free serves another
//! without a byte of its last owner's.

use super::{node_device::Hole, run_queue::agree};
use crate::{
    agent::{Agent, explain},
    cgroup::{Cgroup, v2_root},
    machine::{is_guest, patience, wait_until},
    page::{Counted, Page, Waits},
    trial::{Need, Place, test},
    truth,
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::{fs, ops::Range, path::Path, time::Duration};

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];
    vec![
        test(
            "with_ten_times_more_cgroups_than_slots_the_sum_is_conserved",
            Place::Both,
            NEEDS,
            more_cgroups_than_slots,
        ),
        test("what_lasts_in_a_cgroup_without_a_slot_is_nobodys_load", Place::Both, &[Need::Root], refused_spinner),
        test("slots_that_come_free_are_used_again", Place::Both, NEEDS, slots_come_free),
        test("a_slot_that_changes_hands_is_not_charged_by_a_socket_of_its_last_owner", Place::Both, NEEDS, || {
            let (slots, folder, hole) = (slots(16)?, Cgroup::for_test()?, Hole::dig()?);
            let agent = Agent::start(&["--max-cgroups", &slots.to_string()])?;
            changes_hands(&agent, &folder, &hole, slots, patience(REST))
        }),
    ]
}

/// After which the slot of a cgroup that is gone is free, with time to spare: docs/kernel.md says two seconds, and a
/// sample before and after.
const REST: Duration = Duration::from_secs(5);

/// So many, and one for each cgroup of the machine.
pub(super) fn slots(of_the_tests: u64) -> Result<u64> {
    fn count(path: &Path) -> u64 {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        1 + below.map(|entry| count(&entry.path())).sum::<u64>()
    }
    Ok(of_the_tests + count(&v2_root()?))
}

/// Wire bytes of a sender's datagrams.
fn datagrams(count: u64) -> Counted {
    Counted { bytes: count * 228, packets: count }
}

/// A cgroup and the worker in it.
pub(super) struct Sender {
    cgroup: Cgroup,
    worker: Worker,
    sent: u64,
}

/// All on one CPU: those who are told to send at the same time have to wait for it.
pub(super) fn senders(folder: &Cgroup, hole: &Hole, numbers: Range<u64>) -> Result<Vec<Sender>> {
    let cpu = Some(std::thread::available_parallelism()?.get() - 1);
    let start = |number| {
        let cgroup = folder.child(format!("c{number}"))?;
        let worker = hole.sender(Seat { cpu, ..Seat::in_cgroup(&cgroup) })?;
        Ok(Sender { cgroup, worker, sent: 0 })
    };
    numbers.map(start).collect()
}

/// Every sender sends, all at the same time.
pub(super) fn send(senders: &mut [Sender], count: impl Fn(u64) -> u64) -> Result<()> {
    for (sender, number) in senders.iter_mut().zip(0..) {
        sender.worker.tell(&format!("send {}", count(number)))?;
        sender.sent += count(number);
    }
    senders.iter_mut().try_for_each(|sender| sender.worker.line(Duration::from_mins(1)).map(drop))
}

/// A page, and what the kernel says of the tasks at that moment.
struct Account {
    page: Page,
    /// Of each sender.
    waits: Vec<Waits>,
    /// Of all tasks that are not the tests' and whose cgroups have no slot: before the page was read, and after.
    strays: (Waits, Waits),
}

impl Account {
    fn read(agent: &Agent, folder: &Cgroup, senders: &[Sender]) -> Result<Self> {
        let asleep = || Ok(senders.iter().all(|sender| truth::state(sender.worker.pid()).is_ok_and(|is| is == 'S')));
        ensure!(wait_until(patience(Duration::from_secs(5)), asleep)?, "the senders do not come to rest");
        let waits = senders.iter().map(|sender| truth::schedstat(&[sender.worker.pid()])).collect::<Result<_>>()?;
        let page = agent.scrape()?;
        let before = strays(&page, folder)?;
        let page = agent.scrape()?;
        let after = strays(&page, folder)?;
        Ok(Self { page, waits, strays: (before, after) })
    }

    fn nobodys_packets(&self) -> Result<u64> {
        let traffic = self.page.traffic("unattributed")?;
        Ok(traffic.transmit.packets + traffic.receive.packets)
    }

    fn dropped(&self, what: &str) -> Result<u64> {
        Ok(self.page.dropped(&format!("{what}_no_slot"))? + self.page.dropped(&format!("{what}_slot_table"))?)
    }
}

/// The waits of tasks in cgroups outside of `folder` that are not on the page.
fn strays(page: &Page, folder: &Cgroup) -> Result<Waits> {
    fn add(waits: &mut Waits, page: &Page, root: &Path, path: &Path, except: &Path) -> Result<()> {
        let label = format!("/{}", path.strip_prefix(root)?.display());
        if page.waits(&label)?.count == 0 {
            for pid in fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default().lines() {
                // Tasks end while we look.
                *waits += truth::schedstat(&[pid.parse()?]).unwrap_or_default();
            }
        }
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.path() != except {
                add(waits, page, root, &entry.path(), except)?;
            }
        }
        Ok(())
    }
    let (mut waits, root) = (Waits::default(), v2_root()?);
    add(&mut waits, page, &root, &root, folder.path())?;
    Ok(waits)
}

/// A turn that began after the last slot was given away: it is where it will be booked when it ends.
fn refused_spinner() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&["--max-cgroups", "16"])?;
    let cgroups = (0..24).map(|number| folder.child(format!("c{number}"))).collect::<Result<Vec<_>>>()?;
    let mut workers: Vec<_> =
        cgroups.iter().map(|cgroup| Worker::start(Seat::in_cgroup(cgroup), ["nap"])).collect::<Result<_>>()?;
    workers.iter_mut().try_for_each(|worker| worker.ask("nap 100").map(drop))?;
    let late = folder.child("late")?;
    let mut spinner = Worker::start(Seat::in_cgroup(&late), ["spin"])?;
    spinner.tell("spin 600000")?;
    std::thread::sleep(patience(Duration::from_millis(3500)));
    let page = agent.scrape()?;
    let peak = |cgroup: &str| {
        let samples = page.samples("observer_load_peak", &[("cgroup", cgroup)])?;
        samples.first().map_or(Ok(0.0), |sample| Ok::<f64, anyhow::Error>(sample.value.parse()?))
    };
    let outcome = || {
        let (own, nobodys) = (peak(&late.label)?, peak("unattributed")?);
        ensure!(own < 0.01 && nobodys > 0.9, "a load of {own} of its own, {nobodys} of nobody");
        Ok(())
    };
    explain(&agent, outcome())
}

fn more_cgroups_than_slots() -> Result<()> {
    let (folder, hole) = (Cgroup::for_test()?, Hole::dig()?);
    let agent = Agent::start(&["--max-cgroups", "16"])?;
    let mut senders = senders(&folder, &hole, 0..160)?;
    let before = Account::read(&agent, &folder, &senders)?;
    for _ in 0..if is_guest() { 3 } else { 20 } {
        send(&mut senders, |number| number % 7 + 1)?;
    }
    let after = Account::read(&agent, &folder, &senders)?;
    // Who has a slot has had it from its first wait on.
    let has_slot = |sender: &Sender| Ok(after.page.waits(&sender.cgroup.label)?.count > 0);
    let slots = senders.iter().map(has_slot).collect::<Result<Vec<bool>>>()?;
    let with_slot = slots.iter().filter(|has| **has).count();
    ensure!(with_slot <= 16, "{with_slot} of 160 cgroups have a slot of 16");
    explain(&agent, packets_are_whole(&senders, &slots, &before, &after))?;
    explain(&agent, waits_are_whole(&senders, &slots, &before, &after))
}

fn packets_are_whole(senders: &[Sender], slots: &[bool], before: &Account, after: &Account) -> Result<()> {
    let mut lost = 0;
    for (sender, has_slot) in senders.iter().zip(slots) {
        let booked = after.page.traffic(&sender.cgroup.label)?.transmit;
        let expected = datagrams(if *has_slot { sender.sent } else { 0 });
        ensure!(booked == expected, "{}: {booked}, not {expected}", sender.cgroup.label);
        lost += sender.sent - expected.packets;
    }
    let nobodys = |account: &Account| account.page.scoped_traffic("unattributed", "node");
    let nobody = nobodys(after)?.transmit - nobodys(before)?.transmit;
    ensure!(nobody == datagrams(lost), "{nobody} on nobody, not {}", datagrams(lost));
    // What others sent and received without a slot has other scopes than ours.
    let others = after.nobodys_packets()? - before.nobodys_packets()? - lost;
    let dropped = after.dropped("packet")? - before.dropped("packet")?;
    ensure!(dropped == lost + others, "{dropped} packets dropped: {lost} were ours, {others} of others");
    Ok(())
}

fn waits_are_whole(senders: &[Sender], slots: &[bool], before: &Account, after: &Account) -> Result<()> {
    let (mut named, mut own, mut lost) = (Waits::default(), Waits::default(), Waits::default());
    for (index, (sender, has_slot)) in senders.iter().zip(slots).enumerate() {
        let truth = after.waits[index] - before.waits[index];
        *(if *has_slot { &mut own } else { &mut lost }) += truth;
        named += after.page.waits(&sender.cgroup.label)? - before.page.waits(&sender.cgroup.label)?;
    }
    let nobody = after.page.waits("unattributed")? - before.page.waits("unattributed")?;
    let dropped = Waits { count: after.dropped("wait")? - before.dropped("wait")?, ..nobody };
    // At most as much as the strays waited is theirs.
    let strays = after.strays.1 - before.strays.0;
    let less_strays = |all: Waits| Waits {
        nanoseconds: all.nanoseconds.saturating_sub(lost.nanoseconds).min(strays.nanoseconds),
        count: all.count.saturating_sub(lost.count).min(strays.count),
    };
    agree("on nobody", nobody - less_strays(nobody), lost)?;
    agree("dropped", dropped - less_strays(dropped), lost)?;
    let mut whole = nobody - less_strays(nobody);
    whole += named;
    own += lost;
    agree("on all", whole, own)
}

fn slots_come_free() -> Result<()> {
    let (slots, folder, hole) = (slots(16)?, Cgroup::for_test()?, Hole::dig()?);
    let agent = Agent::start(&["--max-cgroups", &slots.to_string()])?;
    let mut first = senders(&folder, &hole, 0..slots + 8)?;
    send(&mut first, |number| number + 1)?;
    let page = agent.scrape()?;
    let (with_slot, without): (Vec<_>, Vec<_>) = first.into_iter().partition(|sender| page.knows(&sender.cgroup.label));
    let (some, none) = (with_slot.len(), without.len());
    ensure!(some >= 15 && none >= 8, "{some} have a slot of {slots}, {none} have none");
    let gone: Vec<_> = with_slot.iter().map(|sender| (sender.cgroup.label.clone(), sender.sent)).collect();
    drop(with_slot);
    std::thread::sleep(patience(REST));
    // Some of those that had none, and some that are new. The rest must not even end: that would take slots.
    let mut second = without;
    let _rest = second.split_off(8);
    second.extend(senders(&folder, &hole, slots + 8..slots + 12)?);
    send(&mut second, |number| number + 3)?;
    std::thread::sleep(Duration::from_millis(200));
    let page = agent.scrape()?;
    let checks = || {
        for (sender, number) in second.iter().zip(0..) {
            let sent = page.traffic(&sender.cgroup.label)?.transmit;
            ensure!(sent == datagrams(number + 3), "{}: {sent}, not {}", sender.cgroup.label, datagrams(number + 3));
        }
        for (label, count) in &gone {
            let sent = page.traffic(label)?.transmit;
            ensure!(sent == datagrams(*count), "{label}, which is gone: {sent}, not {}", datagrams(*count));
        }
        Ok(())
    };
    explain(&agent, checks())
}

/// A socket of a cgroup that is gone for `pause` sends on, while more cgroups than there are slots take each that is
/// free. The agent must have been started after the hole was dug.
pub(super) fn changes_hands(agent: &Agent, folder: &Cgroup, hole: &Hole, slots: u64, pause: Duration) -> Result<()> {
    let (gone, next) = (folder.child("gone")?, folder.child("next")?);
    let label = gone.label.clone();
    let mut old = hole.sender(Seat::in_cgroup(&gone))?;
    old.ask("send 20")?;
    let page = agent.scrape()?;
    ensure!(page.traffic(&label)?.transmit == datagrams(20), "{label} has no slot to lose");
    old.ask(&format!("join {}", next.path().display()))?;
    gone.remove()?;
    std::thread::sleep(pause);
    let nobodys = |page: &Page| Ok::<_, anyhow::Error>(page.scoped_traffic("unattributed", "node")?.transmit);
    let page = agent.scrape()?;
    let before = (page.traffic(&label)?.transmit, nobodys(&page)?);
    let mut others = Vec::new();
    for number in 0..slots + 4 {
        let mut other = senders(folder, hole, number..number + 1)?.pop().context("one was asked for")?;
        send(std::slice::from_mut(&mut other), |_| number + 1)?;
        old.ask("send 10")?;
        others.push(other);
    }
    std::thread::sleep(Duration::from_millis(200));
    let page = agent.scrape()?;
    let checks = || {
        let mut whole = nobodys(&page)? - before.1;
        // While its name is known, the old cgroup's bytes may be on it.
        whole += page.traffic(&label)?.transmit - before.0;
        let mut taken = 0;
        for Sender { cgroup, sent, .. } in &others {
            let booked = page.traffic(&cgroup.label)?.transmit;
            let expected = datagrams(*sent);
            ensure!(booked == expected || booked == datagrams(0), "{}: {booked}, not {expected}", cgroup.label);
            taken += u64::from(booked == expected);
            whole += booked;
        }
        let expected = datagrams(others.iter().map(|other| other.sent + 10).sum());
        ensure!(whole == expected, "{whole} on all, not {expected}");
        ensure!((1..=slots).contains(&taken), "{taken} of {} got a slot of {slots}", others.len());
        let strangers = page.scoped_traffic(&next.label, "node")?.transmit;
        ensure!(strangers == datagrams(0), "the cgroup the task went to has {strangers}");
        Ok(())
    };
    explain(agent, checks())
}
