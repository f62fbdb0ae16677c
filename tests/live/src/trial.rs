//! A test: a sentence, where it runs, what it needs, and what it does. What cannot run here is skipped, with the reason.

use crate::machine;
use anyhow::Result;
use libtest_mimic::{Completion, Failed, Trial};
use observer_test_kit::slowest;

/// Where a test runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Host,
    Both,
}

/// What a test needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be root.
    Root,
    /// A command in `PATH`.
    Command(&'static str),
    /// A kernel of at least this version.
    Kernel(u32, u32),
    /// A mounted hierarchy of cgroups of version 1.
    CgroupV1,
    /// The cpu controller, with quotas, in either.
    Quota,
    /// A controller, in the v2 hierarchy or in one of its own.
    Controller(&'static str),
    /// A kernel that keeps pressure stall information.
    Pressure,
    /// What npm brings to drive a browser.
    PageTests,
    /// A kernel that permits iterators, without which what lasts is seen when it ends.
    Iterators,
}

impl Need {
    /// Why the need is not met.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!nix::unistd::geteuid().is_root()).then(|| "needs root".into()),
            Self::Command(name) => machine::command(name).is_none().then(|| format!("needs the command {name}")),
            Self::Kernel(major, minor) => {
                (machine::kernel() < (major, minor)).then(|| format!("needs a kernel of {major}.{minor} or later"))
            }
            Self::Controller(name) => {
                let there = crate::cgroup::has_controller(name) || crate::controllers::v1_root(name).is_some();
                (!there).then(|| format!("needs the {name} controller"))
            }
            Self::PageTests => {
                let there = observer_test_kit::browser::directory().is_some();
                (!there).then(|| "needs what npm brings for the tests of the page".into())
            }
            Self::Pressure => {
                std::fs::read("/proc/pressure/cpu").is_err().then(|| "needs a kernel that keeps /proc/pressure".into())
            }
            Self::Iterators => {
                (!machine::has_iterators()).then(|| "needs a kernel that permits programs that iterate".into())
            }
            Self::Quota => {
                let v1 = crate::quota::v1_root("cpu")
                    .is_ok_and(|root| root.join("cpu.cfs_quota_us").exists() || root.join("cpu.stat").exists());
                (!v1 && !crate::cgroup::has_controller("cpu")).then(|| "needs the cpu controller".into())
            }
            Self::CgroupV1 => {
                let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                (!mounts.contains(" - cgroup cgroup ")).then(|| "needs a hierarchy of cgroups of version 1".into())
            }
        }
    }
}

/// What every kernel has to show: known traffic and known waits, exactly. The rest takes minutes where instructions are
/// emulated, and runs there with `OBSERVER_LONG=1`.
const ON_EVERY_KERNEL: [&str; 17] = [
    "the_verifier_takes_every_program_and_would_take_one_of_twice_the_size",
    "devices_without_offloads_count_what_a_wire_carries",
    "tcp_v4_by_write_equals_the_devices_at_both_ends",
    "tcp_v6_by_write_equals_the_devices_at_both_ends",
    "udp_v4_equals_the_devices_at_both_ends",
    "udp_v6_equals_the_devices_at_both_ends",
    "tcp_v4_with_offloads_is_sent_as_it_is_received",
    "flows_of_both_protocols_and_families_add_up_to_the_devices",
    "dns_questions_and_answers_are_as_many_as_the_server_says",
    "spinners_and_sleepers_on_one_cpu_wait_as_schedstat_says",
    "waits_that_go_on_on_another_cpu_are_whole",
    "a_vfork_parent_sleeps_as_long_as_its_child_lives_to_the_millisecond",
    "three_spinners_on_one_cpu_are_a_load_of_three",
    "waits_over_many_periods_of_a_quota_are_no_load",
    "containers_of_one_pod_and_threads_of_one_container_are_told_apart",
    "with_ten_times_more_cgroups_than_slots_the_sum_is_conserved",
    "after_the_attach_it_is_nobody_without_a_capability_and_goes_on_reading",
];

/// The first entry of that list which is no test's name: whoever renames a test would take it off every kernel unawares.
pub(crate) fn unknown_name(trials: &[Trial]) -> Option<&'static str> {
    ON_EVERY_KERNEL.into_iter().find(|name| trials.iter().all(|trial| trial.name() != *name))
}

/// Why a test of this place and with these needs cannot run here.
pub(crate) fn missing(place: Place, needs: &[Need]) -> Option<String> {
    if place == Place::Host && machine::is_guest() {
        return Some("runs on hosts only".into());
    }
    needs.iter().find_map(|need| need.missing())
}

/// A test as the harness takes it.
pub(crate) fn test(
    sentence: impl Into<String>,
    place: Place,
    needs: &'static [Need],
    run: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    let sentence = sentence.into();
    let on_every_kernel = ON_EVERY_KERNEL.contains(&sentence.as_str());
    let name = sentence.clone();
    Trial::ignorable_test(sentence, move || {
        if machine::is_guest() && !on_every_kernel && !machine::has_time() {
            return Ok(Completion::ignored_with("takes minutes in a guest: runs there with OBSERVER_LONG=1"));
        }
        if let Some(reason) = missing(place, needs) {
            return Ok(Completion::ignored_with(reason));
        }
        match slowest::timed(&name, run) {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => Err(Failed::from(format!("{error:#}"))),
        }
    })
}
