//! docs/metrics.md, generated from the catalogue.

use super::fixed_labels::BOUND_LABELS;
use super::label::MAX_VALUE_BYTES;
use super::label_sets::{OTHER, UNATTRIBUTED};
use super::{ENTITY, Family, Series, families};
use observer_ebpf::{Drop, Scope};
use std::fmt::{self, Write};

/// The text of docs/metrics.md.
pub fn docs() -> String {
    let mut text = String::from(INTRODUCTION);
    write_sections(&mut text).and_then(|()| write_label_values(&mut text)).expect("a String grows as needed");
    text
}

const INTRODUCTION: &str = "\
# Metrics

<!-- Generated from observer/src/metrics/catalogue/ by `observer metrics-docs > docs/metrics.md`. -->

`GET /metrics` on port 9810 answers in the Prometheus text format 0.0.4, compressed when the client accepts gzip. Counters
end in `_total`, never fall while the agent runs and begin at 0 when it starts; units are base units; times are exact to
the nanosecond where the kernel counts nanoseconds. Only CPU times, throttling and pressure begin with what the cgroup had
before; and those of a network device are the kernel's, which begin with what it had, and fall to 0 when a new one has its name. A series appears with the first thing it counts and lives as long as
its cgroup, and two minutes more; what a cgroup uses of memory ends with it. A peak is the largest window of the last minute; a scrape does not reset it. A window is
a second, or the sample interval where that is longer.

An *entity* is a container of a pod, where the agent is told of an API server, or any other cgroup that runs something
itself, named by its path below the cgroup v2 root (kernel threads are `/`). Every byte and every wait is booked to exactly
one entity; what could not be is on `cgroup=\"unattributed\"`, so sums over all entities are whole. A *workload* is what
a pod belongs to by its owner references; its series add up all pods that it ever had on the node, and stay when they go:
two minutes where they come once (bare pods, jobs without a cron job), a day where they come again. *Room* is the module of
the agent that brings the numbers.
";

const ENTITIES: &str = "\
One series for each entity, and for each scope where there is such a label. The labels of an *entity* are `namespace`, `pod`,
`container`, `workload` and `workload_type` for a container, `cgroup` for any other cgroup. A container's id stands in the
place of its name, and a pod's uid in the place of its, until the API has told them; then the series goes on under the names.
The sandbox of a pod is the container `POD`.";

/// The part of the page in which a family stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Entities,
    Workloads,
    Node,
    Agent,
}

impl Section {
    const ALL: [Self; 4] = [Self::Entities, Self::Workloads, Self::Node, Self::Agent];

    const fn of(series: &Series) -> Self {
        match series {
            Series::PerScope(_)
            | Series::PerEntity(_)
            | Series::Connections
            | Series::Waits
            | Series::DnsResponses
            | Series::DnsWaits
            | Series::Caused
            | Series::Stalls => Self::Entities,
            Series::PerWorkloadScope(_) | Series::PerWorkload(_) | Series::PerPod | Series::PerResource(_) => {
                Self::Workloads
            }
            Series::Node(_) | Series::PerDevice(_) | Series::Unattributed(_) => Self::Node,
            Series::Build
            | Series::ProgramUp
            | Series::PerProgram(_)
            | Series::PerMap(_)
            | Series::PerDrop
            | Series::Agent(_)
            | Series::HistoryUp
            | Series::History(_)
            | Series::Kube(_)
            | Series::PerKubeFeature
            | Series::Page => Self::Agent,
        }
    }

    const fn title_and_lead(self) -> (&'static str, &'static str) {
        match self {
            Self::Entities => ("Entities", ENTITIES),
            Self::Workloads => ("Workloads and pods", "Where the agent is told of an API server."),
            Self::Node => ("The node", "What the node says of itself, to compare the cgroups' sums with."),
            Self::Agent => ("The agent", "Whether to trust the rest, and what it costs."),
        }
    }
}

fn write_sections(text: &mut String) -> fmt::Result {
    for section in Section::ALL {
        let (title, lead) = section.title_and_lead();
        writeln!(text, "\n## {title}\n\n{lead}\n")?;
        writeln!(text, "| family | type | unit | labels | room | meaning |\n|---|---|---|---|---|---|")?;
        for Family { name, kind, unit, room, series, help } in
            families().filter(|family| Section::of(&family.series) == section)
        {
            let labels = series.labels().iter();
            let labels: Vec<_> = labels
                .map(|label| if *label == ENTITY { format!("*{label}*") } else { format!("`{label}`") })
                .collect();
            let (kind, unit, room, labels) = (kind.word(), unit.word(), room.word(), labels.join(", "));
            writeln!(text, "| `{name}` | {kind} | {unit} | {labels} | {room} | {help} |")?;
        }
    }
    Ok(())
}

fn write_label_values(text: &mut String) -> fmt::Result {
    writeln!(text, "\n## Label values\n")?;
    writeln!(
        text,
        "Backslash, double quote and newline are escaped. A value of more than {MAX_VALUE_BYTES} bytes is cut and ends in\n\
         `~` and sixteen hexadecimal digits, a hash of the whole, so that distinct names stay distinct. No cgroup is named\n\
         `{UNATTRIBUTED}` or `{OTHER}`: paths begin with a slash."
    )?;
    writeln!(text, "\n`scope`, where the other end is:\n\n| scope | meaning |\n|---|---|")?;
    for scope in Scope::ALL {
        writeln!(text, "| `{}` | {} |", scope.label(), scope_meaning(scope))?;
    }
    writeln!(
        text,
        "\n`kind` of `observer_pressure_seconds_total`: in `some` at least one task could not go on, in `full` none that had\n\
         something to do. `resource` is `cpu`, `memory` or `io`."
    )?;
    writeln!(text, "\n`reason` of `observer_dropped_total`:\n")?;
    writeln!(text, "| reason | meaning |\n|---|---|")?;
    for reason in Drop::ALL {
        writeln!(text, "| `{}` | {} |", reason.label(), drop_meaning(reason))?;
    }
    writeln!(
        text,
        "| `cgroup_gone` | packets, waits, sleeps and DNS messages on `unattributed` because nobody knew their cgroup's name any more |\n\
         | `flow_forgotten` | flows whose far ends were forgotten, since there were more than `--max-flows`: their traffic is in their entity's sums |\n\
         | `address_forgotten` | addresses whose holders were forgotten, since there were more than 8192, or 2048 pods in nodes' networks: flows to them lose their names |\n\
         | `dns_answer_unread` | answers of DNS servers that were counted, and whose names nobody read, since there were too many in a second |\n\
         | `dns_name_forgotten` | names that entities looked up and that were forgotten, since there were more than 8192 addresses: flows to them lose their names |\n\
         | `wait_pair_ledger` | waits booked by cause, but on no pair of victim and culprit: the agent keeps 8192 pairs |\n\
         | `sleep_unconfirmed` | uninterruptible sleeps not counted: for an hour nobody could tell whether the task still slept |"
    )?;
    let bounds = BOUND_LABELS.map(|label| format!("`{}`", label.trim_start_matches(",le=\"").trim_end_matches('"')));
    writeln!(text, "\n`le` of `observer_run_queue_wait_seconds`, in seconds: {} and `+Inf`.", bounds.join(", "))
}

const fn scope_meaning(scope: Scope) -> &'static str {
    match scope {
        Scope::Loopback => "127.0.0.0/8 or `::1`",
        Scope::Node => "this node: its addresses and its pods",
        Scope::Cluster => "pods and nodes elsewhere in the cluster: --cluster-cidr, or what the API server tells",
        Scope::Service => {
            "the address of a service, where it is not translated before the packet is counted: --service-cidr, or what the API server tells"
        }
        Scope::Intranet => {
            "private, shared (RFC 6598), unique local, link-local and multicast addresses, and the ranges of --intranet-cidr"
        }
        Scope::Internet => "everything else",
    }
}

const fn drop_meaning(reason: Drop) -> &'static str {
    match reason {
        Drop::PacketNoSlot => "packets on `unattributed` because no slot was free; raise --max-cgroups",
        Drop::WaitNoSlot => "waits on `unattributed` because no slot was free; raise --max-cgroups",
        Drop::PacketSlotTable => {
            "packets on `unattributed` because the kernel refused the cgroup's slot (memory, contention)"
        }
        Drop::WaitSlotTable => {
            "waits on `unattributed` because the kernel refused the cgroup's slot (memory, contention)"
        }
        Drop::SleepTableFull => "uninterruptible sleeps not recorded: more tasks slept at once than the table holds",
        Drop::SleepNoSlot => "uninterruptible sleeps on `unattributed` because no slot was free; raise --max-cgroups",
        Drop::EventRingFull => "cgroup events lost when too many came at once; the next walk of the tree heals it",
        Drop::PacketUnreadable => {
            "packets whose headers could not be read: booked as `internet`, not corrected for GSO"
        }
        Drop::SleepSlotTable => {
            "uninterruptible sleeps on `unattributed` because the kernel refused the cgroup's slot (memory, contention)"
        }
        Drop::PacketNewCpu => "packets on a CPU that was added after the start: counted all the same",
        Drop::SwitchNewCpu => {
            "turns, waits and sleeps not counted because their CPU was added after the start; restart the agent"
        }
        Drop::RunNoSlot => "turns on a CPU on `unattributed` because no slot was free; raise --max-cgroups",
        Drop::RunSlotTable => {
            "turns on a CPU on `unattributed` because the kernel refused the cgroup's slot (memory, contention)"
        }
        Drop::WaitPairTable => {
            "parts of waits that are on no pair of victim and culprit, nor booked by cause if a cgroup of the two was new: \
             more pairs at once than the table holds"
        }
        Drop::TcpNoSlot => "what went wrong with TCP, on `unattributed` because no slot was free; raise --max-cgroups",
        Drop::TcpSlotTable => {
            "what went wrong with TCP, on `unattributed` because the kernel refused the cgroup's slot (memory, contention)"
        }
        Drop::FlowLost => {
            "traffic in no flow at all: more far ends closed in a second than the table holds, with nobody's room left, or a socket got \
             no storage; it is in its entity's sums"
        }
        Drop::DnsTable => "DNS messages in no count: more than 512 cgroups asked in a second, or there was no memory",
        Drop::DnsQuestionTable => {
            "DNS questions of which nobody knows how long they waited, or whether they were answered: more than 4096 were open"
        }
        Drop::DnsStream => {
            "segments of TCP connections to port 53 in which DNS messages could not be told apart: one before came late, there were \
             more than 512 in one packet, the connection is older than the agent, or what is spoken is no DNS"
        }
        Drop::FlowTable => {
            "far ends that are not told of: more closed in a second than the table holds; their traffic is in their entity's sums, and in its flow without a far end"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_documentation_is_the_catalogue() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == docs(),
            "docs/metrics.md is not what the catalogue says; run `cargo run -q -p observer -- metrics-docs > docs/metrics.md`"
        );
    }

    #[test]
    fn every_family_is_documented_once() {
        let text = docs();
        for Family { name, .. } in families() {
            assert_eq!(text.matches(&format!("\n| `{name}` |")).count(), 1, "{name}");
        }
    }

    #[test]
    fn no_cell_breaks_its_table() {
        assert!(families().all(|family| !family.help.contains('|')));
    }
}
