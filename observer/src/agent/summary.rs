//! The few lines a newcomer sees: who sent the most and who waited the longest since the lines before.

use crate::{
    cgroup::ContainerRef,
    ledger::{EntityId, Identity, Snapshot},
};
use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, Write as _},
    sync::mpsc::{SyncSender, sync_channel},
};

/// Entities named in each list.
const TOP: usize = 5;
/// Columns of a name.
const NAME_COLUMNS: usize = 56;

/// Remembers the sums at the last summary.
#[derive(Debug, Default)]
pub(super) struct Summary {
    before: HashMap<EntityId, (u64, u64)>,
    at_ns: Option<u64>,
}

/// Writes to standard output from a thread of its own: a terminal that was stopped, or a pipe that nobody reads, must not
/// stop the counting. What comes while the last text is still on its way is dropped.
#[derive(Debug)]
pub(super) struct Printer(SyncSender<String>);

impl Printer {
    /// Starts the thread, which ends with the process or when standard output is gone.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, texts) = sync_channel::<String>(1);
        std::thread::Builder::new()
            .name("summary".into())
            .stack_size(64 * 1024)
            .spawn(move || while texts.recv().is_ok_and(|text| io::stdout().write_all(text.as_bytes()).is_ok()) {})?;
        Ok(Self(sender))
    }

    /// Prints, if the last text has been.
    pub(super) fn print(&self, text: String) {
        // Full or gone: see above.
        let _ = self.0.try_send(text);
    }
}

struct Line<'a> {
    identity: &'a Identity,
    sent: u64,
    waited_ns: u64,
}

impl Summary {
    /// The text for what came since the last call; `None` the first time.
    pub(super) fn render(&mut self, snapshot: &Snapshot<'_>, now_ns: u64) -> Option<String> {
        let mut sums = HashMap::with_capacity(snapshot.entities.len());
        let mut lines = Vec::new();
        for entity in snapshot.entities {
            let sent: u64 = entity.books.traffic.iter().map(|traffic| traffic.transmit_bytes).sum();
            let waited_ns = entity.books.wait_ns;
            let (sent_before, waited_before) = self.before.get(&entity.id).copied().unwrap_or_default();
            sums.insert(entity.id, (sent, waited_ns));
            if !entity.shown {
                continue;
            }
            lines.push(Line {
                identity: &entity.identity,
                // What moved to the series of another is no news of either.
                sent: sent.saturating_sub(sent_before),
                waited_ns: waited_ns.saturating_sub(waited_before),
            });
        }
        self.before = sums;
        let before_ns = self.at_ns.replace(now_ns)?;
        let seconds = (now_ns - before_ns) as f64 / 1e9;
        let mut text = format!("\n{:<NAME_COLUMNS$} {:>12}   over {seconds:.0} s\n", "heaviest senders", "sent/s");
        lines.sort_by_key(|line| std::cmp::Reverse(line.sent));
        if lines.iter().all(|line| line.sent == 0) {
            text.push_str("  (nothing was sent)\n");
        }
        for line in lines.iter().take(TOP).filter(|line| line.sent > 0) {
            let _ = writeln!(text, "  {:<54} {:>12}", name(line.identity), rate(line.sent as f64 / seconds));
        }
        let _ = writeln!(text, "{:<NAME_COLUMNS$} {:>12}", "longest waiters for a CPU", "tasks waiting");
        lines.sort_by_key(|line| std::cmp::Reverse(line.waited_ns));
        if lines.iter().all(|line| line.waited_ns == 0) {
            text.push_str("  (nobody waited)\n");
        }
        for line in lines.iter().take(TOP).filter(|line| line.waited_ns > 0) {
            let _ = writeln!(text, "  {:<54} {:>12.3}", name(line.identity), line.waited_ns as f64 / 1e9 / seconds);
        }
        Some(text)
    }
}

fn name(identity: &Identity) -> String {
    let path = match identity {
        Identity::Unattributed => return "(unattributed)".into(),
        Identity::Other { namespace: None } => return "(others)".into(),
        Identity::Other { namespace: Some(namespace) } => return format!("{namespace}/(others)"),
        Identity::UnnamedPod { uid, container: None } => return format!("pod {uid}"),
        Identity::UnnamedPod { uid, container: Some(container) } => return format!("pod {uid:.13} {container:.12}"),
        Identity::Container { pod, container: None } => return format!("{}/{}", pod.namespace, pod.pod),
        Identity::Container { pod, container: Some(container) } => {
            return format!("{}/{}/{container:.20}", pod.namespace, pod.pod);
        }
        Identity::Cgroup { path } if &**path == "/" => return "/ (the root cgroup)".into(),
        Identity::Cgroup { path } => path,
    };
    if let Some(container) = ContainerRef::of_path(path) {
        return format!("{} {:.12}", container.runtime.name(), container.id);
    }
    // A name may hold what a terminal takes for a command.
    let path = path.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect::<String>();
    let columns = path.chars().count();
    if columns <= NAME_COLUMNS - 2 {
        path
    } else {
        format!("…{}", path.chars().skip(columns + 3 - NAME_COLUMNS).collect::<String>())
    }
}

fn rate(bytes: f64) -> String {
    let (value, unit) = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")]
        .into_iter()
        .find(|(size, _)| bytes >= *size)
        .map_or((bytes, "B"), |(size, unit)| (bytes / size, unit));
    format!("{value:.1} {unit}/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_unit_that_fits() {
        assert_eq!(rate(12.0), "12.0 B/s");
        assert_eq!(rate(1_500_000.0), "1.5 MB/s");
    }

    #[test]
    fn a_container_goes_by_its_runtime_and_short_id() {
        let path = format!("/system.slice/docker-{}.scope", "ab".repeat(32));
        assert_eq!(name(&Identity::Cgroup { path: path.into() }), "docker abababababab");
        let long = format!("/{}", "x".repeat(80));
        assert_eq!(name(&Identity::Cgroup { path: long.into() }).chars().count(), NAME_COLUMNS - 2);
        assert_eq!(name(&Identity::Cgroup { path: "/a\x1b[2J".into() }), "/a\u{fffd}[2J");
    }
}
