//! What the programs need of the kernel: its types, kinds of maps and programs, helpers, and the verifier's consent.

use super::finding::{Finding, State};
use crate::kernel::btf::{self, Btf};
use crate::kernel::privileges::{Feature, Held};
use crate::kernel::probe::{self, Attempt, Support};
use crate::kernel::{LoadError, LoadOptions, NOT_PERMITTED, OBJECT, program};
use std::path::Path;

const OTHER_KERNEL: &str = "use a distribution's kernel, 5.10 or later";
const TYPED_KERNEL: &str = "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as the distributions build theirs";
const FORBIDDEN: &str = "look for a security module, a seccomp filter or kernel lockdown that forbids bpf(2)";
const NEW_KERNEL: &str = "use another kernel, and report this one's version: the agent should know it";

pub(super) fn findings(path: &Path, held: &Held) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Attempt { what, support } in probe::maps() {
        findings.push(needed(&format!("map: {what}"), &support, held, Feature::Bytes));
    }
    findings.push(wanted("program: cgroup_skb", &probe::packet_programs(), held, Feature::Bytes));
    for Attempt { what, support } in probe::packet_helpers() {
        findings.push(wanted(&format!("helper: {what}"), &support, held, Feature::Bytes));
    }
    let bytes = btf::read(path);
    let kernel_types = bytes
        .as_deref()
        .map_err(ToString::to_string)
        .and_then(|bytes| Btf::parse(bytes).map_err(|error| error.to_string()));
    let has_types = kernel_types.is_ok();
    match kernel_types {
        Ok(kernel_types) => {
            findings.push(Finding::ok("BTF", path.display().to_string()));
            findings.extend(typed(&kernel_types, held));
        }
        Err(reason) => {
            let lost = Some(Feature::Scheduler);
            let [flows, scheduler, events] = [Feature::Flows, Feature::Scheduler, Feature::CgroupEvents];
            let detail = format!("{reason}: no {flows}, no {scheduler}, no {events}");
            findings.push(Finding { lost, ..Finding::not_ok(State::Degraded, "BTF", detail, TYPED_KERNEL) });
        }
    }
    findings.extend(own_programs(path, held, has_types));
    findings
}

/// What depends on the kernel's types: fields, and programs on tracepoints.
fn typed(kernel_types: &Btf<'_>, held: &Held) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (need, feature) in [
        ("fields: sockets", Feature::Flows),
        ("fields: run queue", Feature::Scheduler),
        ("fields: cgroups", Feature::CgroupEvents),
    ] {
        findings.push(match probe::fields(kernel_types, feature) {
            Ok(count) => Finding::ok(need, format!("{count} found")),
            Err(error) => Finding::without(feature, need, &error.to_string(), NEW_KERNEL),
        });
    }
    for (tracepoint, feature) in [
        ("sched_switch", Feature::Scheduler),
        ("cgroup_mkdir", Feature::CgroupEvents),
        ("cgroup_rmdir", Feature::CgroupEvents),
    ] {
        let support = probe::tracepoint_program(kernel_types, tracepoint);
        findings.push(wanted(&format!("program: tp_btf/{tracepoint}"), &support, held, feature));
    }
    for (iterator, feature, program) in [
        ("bpf_map_elem", Feature::Scheduler, program::LASTING),
        ("bpf_sk_storage_map", Feature::Flows, program::SOCKETS),
    ] {
        let support = probe::iterator_program(kernel_types, iterator);
        let need = format!("program: iter/{iterator}");
        let lacking = |detail: &str, fix: &str| Finding::without_program(program, feature, &need, detail, fix);
        findings.push(judged(&need, &support, held, feature, lacking));
    }
    findings
}

/// What cannot be done without.
fn needed(need: &str, support: &Support, held: &Held, feature: Feature) -> Finding {
    judged(need, support, held, feature, |detail, fix| Finding::not_ok(State::Missing, need, detail, fix))
}

/// What the feature alone needs.
fn wanted(need: &str, support: &Support, held: &Held, feature: Feature) -> Finding {
    judged(need, support, held, feature, |detail, fix| Finding::without(feature, need, detail, fix))
}

/// `feature` is what the attempt needs the privileges of; `lacking` says what is lost, from a reason and what to do.
fn judged(
    need: &str,
    support: &Support,
    held: &Held,
    feature: Feature,
    lacking: impl Fn(&str, &str) -> Finding,
) -> Finding {
    match support {
        Support::Yes => Finding::ok(need, "tried: works"),
        Support::No => lacking("the kernel does not have it", OTHER_KERNEL),
        Support::Forbidden if !held.missing_for(feature).is_empty() => not_permitted(need),
        Support::Forbidden => lacking("refused, although the capabilities are held", FORBIDDEN),
        Support::Failed(error) => lacking(&format!("trying failed: {error}"), OTHER_KERNEL),
    }
}

fn not_permitted(need: &str) -> Finding {
    Finding::not_ok(State::Unknown, need, "trying it is not permitted to this user", "run `observer check` as root")
}

/// The real programs, if this binary has them: no probe knows all that the verifier may object to.
fn own_programs(btf: &Path, held: &Held, has_types: bool) -> Vec<Finding> {
    const NEED: &str = "the agent's programs";
    // Tables as large as the default ones, so that a limit on locked memory shows (kernels before 5.11).
    let (slots, wait_threshold_ns) =
        (observer_ebpf::DEFAULT_SLOTS + 1, observer_ebpf::causes::DEFAULT_WAIT_THRESHOLD_NS);
    let options = LoadOptions { object: OBJECT, slots, btf, wait_threshold_ns };
    let missing = Feature::ALL.iter().any(|feature| !held.missing_for(*feature).is_empty());
    match probe::own_programs(&options) {
        Ok(programs) => programs
            .iter()
            .map(|facts| {
                let (need, feature) = (format!("load: {}", facts.name), feature_of(facts.name));
                let fix = if has_types { NEW_KERNEL } else { TYPED_KERNEL };
                match &facts.down_because {
                    None => Finding::ok(need, agreed(facts.verified_instructions)),
                    Some(_) if !held.missing_for(feature).is_empty() => not_permitted(&need),
                    Some(reason) => {
                        let fix = if reason.starts_with(NOT_PERMITTED) { FORBIDDEN } else { fix };
                        Finding::without_program(facts.name, feature, need, reason, fix)
                    }
                }
            })
            .collect(),
        Err(error @ LoadError::NoObject) => {
            vec![Finding::not_ok(State::Missing, NEED, error.to_string(), "cargo xtask build")]
        }
        Err(_) if missing => vec![not_permitted(NEED)],
        Err(error) => vec![Finding::not_ok(
            State::Missing,
            NEED,
            error.to_string(),
            "raise the limit on locked memory (ulimit -l unlimited), or give the machine more memory",
        )],
    }
}

/// What the verifier said. It gives up after a million instructions, loops counted as often as they run.
fn agreed(instructions: Option<u32>) -> String {
    let after = instructions.map(|count| format!(" after {count} instructions of 1000000"));
    format!("loaded: the verifier agrees{}", after.unwrap_or_default())
}

fn feature_of(name: &str) -> Feature {
    match name {
        program::EGRESS | program::INGRESS => Feature::Bytes,
        program::ACCEPT
        | program::CONNECT
        | program::RESEND
        | program::SYNACK
        | program::RESET
        | program::WAS_RESET
        | program::RELEASE
        | program::SOCKETS => Feature::Flows,
        program::SWITCH | program::MIGRATE | program::LASTING => Feature::Scheduler,
        _ => Feature::CgroupEvents,
    }
}
