//! What takes minutes, all of it at the same time and beside one agent: a storm, what stays of a cgroup for two minutes after its end and
//! then goes, and what only takes its time. Each part is a test of its own; the first that is asked for runs them all.

use super::{lifetimes, load, node_device::Hole, prometheus, slots, uninterruptible};
use crate::{
    agent::Agent,
    cgroup::Cgroup,
    trial::{Need, Place, missing, test},
};
use anyhow::{Context as _, Result, anyhow};
use libtest_mimic::Trial;
use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

/// What the parts share.
pub(super) struct Stage {
    pub(super) agent: Agent,
    /// How many cgroups it has room for.
    slots: u64,
    pub(super) hole: Hole,
    // Last: what is in it has to go first.
    pub(super) folder: Cgroup,
}

struct Part {
    sentence: &'static str,
    place: Place,
    needs: &'static [Need],
    run: fn(&Stage) -> Result<()>,
}

const fn part(sentence: &'static str, place: Place, needs: &'static [Need], run: fn(&Stage) -> Result<()>) -> Part {
    Part { sentence, place, needs, run }
}

/// Beside each other; in each, one part after the other. What follows the storm needs no agent of its own, and is over before the last part
/// takes all slots.
const LANES: [&[Part]; 3] = [
    &[
        part(
            "after_a_storm_of_stress_ng_no_phantom_is_left",
            Place::Host,
            &[Need::Root, Need::Command("ip"), Need::Command("stress-ng")],
            uninterruptible::stress_ng_storm,
        ),
        part(
            "a_real_prometheus_gives_the_rate_of_known_traffic_back",
            Place::Host,
            &[Need::Root, Need::Command("ip"), Need::Command("prometheus")],
            prometheus::knows_the_rate,
        ),
        part(
            "a_burst_of_a_fifth_of_a_second_shows_in_the_peak",
            Place::Host,
            &[Need::Root, Need::Command("ip")],
            load::burst,
        ),
        part(
            "the_peak_of_an_even_flow_is_its_rate",
            Place::Both,
            &[Need::Root, Need::Command("ip")],
            prometheus::even_flow,
        ),
    ],
    &[part(
        "the_series_of_a_cgroup_that_is_gone_stay_two_minutes",
        Place::Both,
        &[Need::Root, Need::Command("ip")],
        lifetimes::series_go,
    )],
    &[part(
        "a_socket_of_a_cgroup_that_is_forgotten_charges_no_stranger_for_its_slot",
        Place::Both,
        &[Need::Root, Need::Command("ip")],
        forgotten,
    )],
];

pub(super) fn tests() -> Vec<Trial> {
    let parts = LANES.into_iter().flatten();
    parts.map(|part| test(part.sentence, part.place, part.needs, || outcome(part.sentence))).collect()
}

type Outcomes = BTreeMap<&'static str, Result<()>>;

fn outcome(sentence: &str) -> Result<()> {
    static ALL: OnceLock<Result<Mutex<Outcomes>, String>> = OnceLock::new();
    let all = ALL.get_or_init(|| run_all().map(Mutex::new).map_err(|error| format!("{error:#}")));
    let all = all.as_ref().map_err(|error| anyhow!("{error}"))?;
    all.lock().unwrap_or_else(PoisonError::into_inner).remove(sentence).context("left out of the run")?
}

fn run_all() -> Result<Outcomes> {
    let (slots, folder, hole) = (slots::slots(32)?, Cgroup::for_test()?, Hole::dig()?);
    let agent = Agent::start(&["--max-cgroups", &slots.to_string()])?;
    let stage = Stage { agent, slots, hole, folder };
    Ok(std::thread::scope(|scope| {
        let running = LANES.map(|lane| scope.spawn(|| one_after_the_other(lane, &stage)));
        running.into_iter().flat_map(|lane| lane.join().expect("each part has a thread of its own")).collect()
    }))
}

fn one_after_the_other(lane: &'static [Part], stage: &Stage) -> Outcomes {
    let possible = lane.iter().filter(|part| missing(part.place, part.needs).is_none());
    let run = |part: &'static Part| {
        let end = std::thread::scope(|scope| scope.spawn(|| (part.run)(stage)).join());
        (part.sentence, end.unwrap_or_else(|_| Err(anyhow!("it panicked"))))
    };
    possible.map(run).collect()
}

/// Past the two minutes in which its name is known.
fn forgotten(stage: &Stage) -> Result<()> {
    let folder = stage.folder.child("forgotten")?;
    slots::changes_hands(&stage.agent, &folder, &stage.hole, stage.slots, Duration::from_secs(130))
}
