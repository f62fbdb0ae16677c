//! What takes minutes, all of it at the same time and beside one agent: a storm, and what stays of a cgroup for two
//! minutes after its end and then goes. Each part is a test of its own; the first that is asked for runs them all.

use super::{lifetimes, node_device::Hole, slots, uninterruptible};
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

const PARTS: [Part; 3] = [
    Part {
        sentence: "after_a_storm_of_stress_ng_no_phantom_is_left",
        place: Place::Host,
        needs: &[Need::Root, Need::Command("ip"), Need::Command("stress-ng")],
        run: uninterruptible::stress_ng_storm,
    },
    Part {
        sentence: "the_series_of_a_cgroup_that_is_gone_stay_two_minutes",
        place: Place::Both,
        needs: &[Need::Root, Need::Command("ip")],
        run: lifetimes::series_go,
    },
    Part {
        sentence: "a_socket_of_a_cgroup_that_is_forgotten_charges_no_stranger_for_its_slot",
        place: Place::Both,
        needs: &[Need::Root, Need::Command("ip")],
        run: forgotten,
    },
];

pub(super) fn tests() -> Vec<Trial> {
    PARTS.iter().map(|part| test(part.sentence, part.place, part.needs, || outcome(part.sentence))).collect()
}

type Outcomes = Mutex<BTreeMap<&'static str, Result<()>>>;

fn outcome(sentence: &str) -> Result<()> {
    static ALL: OnceLock<Result<Outcomes, String>> = OnceLock::new();
    let all = ALL.get_or_init(|| run_all().map(Mutex::new).map_err(|error| format!("{error:#}")));
    let all = all.as_ref().map_err(|error| anyhow!("{error}"))?;
    all.lock().unwrap_or_else(PoisonError::into_inner).remove(sentence).context("left out of the run")?
}

fn run_all() -> Result<BTreeMap<&'static str, Result<()>>> {
    let (slots, folder, hole) = (slots::slots(32)?, Cgroup::for_test()?, Hole::dig()?);
    let agent = Agent::start(&["--max-cgroups", &slots.to_string()])?;
    let stage = Stage { agent, slots, hole, folder };
    Ok(std::thread::scope(|scope| {
        let possible = PARTS.iter().filter(|part| missing(part.place, part.needs).is_none());
        let running: Vec<_> = possible.map(|part| (part.sentence, scope.spawn(|| (part.run)(&stage)))).collect();
        let ended = running.into_iter().map(|(sentence, part)| (sentence, part.join()));
        ended.map(|(sentence, end)| (sentence, end.unwrap_or_else(|_| Err(anyhow!("it panicked"))))).collect()
    }))
}

/// Past the two minutes in which its name is known.
fn forgotten(stage: &Stage) -> Result<()> {
    let folder = stage.folder.child("forgotten")?;
    slots::changes_hands(&stage.agent, &folder, &stage.hole, stage.slots, Duration::from_secs(130))
}
