//! All agents of a cluster as one: each is asked in a thread of its own, and one that is silent keeps nobody waiting.

use super::{SNAPSHOT, asked, client};
use crate::{
    cli::reach::Reached,
    server::{FlowsAnswer, PairsAnswer, SnapshotAnswer},
    top::{self, Source},
};
use std::thread;

/// The agents.
pub(super) struct Nodes(Vec<Reached>);

impl Nodes {
    pub(super) fn of(reached: Vec<Reached>) -> Self {
        Self(reached)
    }
}

impl Source for Nodes {
    fn snapshot(&mut self) -> Result<(SnapshotAnswer, Option<String>), String> {
        let answers: Vec<_> = thread::scope(|scope| {
            let asking: Vec<_> = self
                .0
                .iter()
                .map(|Reached { address, .. }| {
                    scope.spawn(move || asked(client::ask::<SnapshotAnswer>(address, SNAPSHOT)))
                })
                .collect();
            asking
                .into_iter()
                .map(|one| one.join().unwrap_or_else(|_| Err("the asking thread panicked".into())))
                .collect()
        });
        let (mut heard, mut silent) = (Vec::new(), Vec::new());
        for (Reached { node, address }, answer) in self.0.iter().zip(answers) {
            match answer {
                Ok(answer) => heard.push(answer),
                Err(why) => silent.push(format!("{}: {why}", node.as_deref().unwrap_or(address))),
            }
        }
        let missing = match &*silent {
            [] => None,
            [one] => Some(format!("a node does not answer: {one}")),
            more => Some(format!("{} nodes do not answer: {}", more.len(), more.join("; "))),
        };
        if heard.is_empty() {
            return Err(missing.unwrap_or_else(|| "there is no node".into()));
        }
        Ok((top::merged(&heard), missing))
    }

    fn flows(&mut self, _workload: &str) -> Result<FlowsAnswer, String> {
        Err("flows are each node's own: look at one with --node".into())
    }

    fn pairs(&mut self) -> Result<PairsAnswer, String> {
        Err("who waits for whom is each node's own: look at one with --node".into())
    }
}
