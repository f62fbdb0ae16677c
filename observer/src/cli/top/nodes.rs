//! All agents of a cluster as one: each is asked in a thread of its own, and one that is silent keeps nobody waiting.

use super::{SNAPSHOT, asked, client};
use crate::{
    cli::reach::Reached,
    server::{FlowsAnswer, PairsAnswer, SnapshotAnswer},
    top::{self, Source},
};
use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

/// How long all are waited for, once one of them has answered.
const WITHOUT_ALL: Duration = Duration::from_secs(2);

type Answer = Result<SnapshotAnswer, String>;
/// The number of one, and what it says.
type Said = (usize, Answer);

/// The agents.
pub(super) struct Nodes {
    all: Vec<Node>,
    answers: (Sender<Said>, Receiver<Said>),
    /// What is said of the waiting while none has answered; the screen has no place for that.
    waits: fn(&str),
}

struct Node {
    reached: Reached,
    /// Since when it is asked, if it has not answered.
    asked: Option<Instant>,
}

impl Nodes {
    pub(super) fn of(reached: Vec<Reached>, waits: fn(&str)) -> Self {
        let all = reached.into_iter().map(|reached| Node { reached, asked: None }).collect();
        Self { all, answers: channel(), waits }
    }

    /// Asks all that are not being asked.
    fn ask(&mut self, begun: Instant) {
        for (number, node) in self.all.iter_mut().enumerate().filter(|(_, node)| node.asked.is_none()) {
            node.asked = Some(begun);
            let (address, sender) = (node.reached.address.clone(), self.answers.0.clone());
            // Whoever has ended meanwhile wants no answer.
            thread::spawn(move || drop(sender.send((number, asked(client::ask_silently(&address, SNAPSHOT))))));
        }
    }

    /// What they say, of those who do soon.
    fn gather(&mut self, begun: Instant) -> Vec<Option<Answer>> {
        let mut answers: Vec<Option<Answer>> = self.all.iter().map(|_| None).collect();
        while self.all.iter().any(|node| node.asked.is_some()) {
            let heard = answers.iter().flatten().any(Result::is_ok);
            let left = if heard { WITHOUT_ALL.saturating_sub(begun.elapsed()) } else { WITHOUT_ALL };
            match self.answers.1.recv_timeout(left) {
                Ok((number, answer)) => {
                    self.all[number].asked = None;
                    answers[number] = Some(answer);
                }
                Err(_) if heard => break,
                Err(_) => {
                    (self.waits)(&format!("no agent has answered for {} seconds", begun.elapsed().as_secs()));
                }
            }
        }
        answers
    }
}

impl Source for Nodes {
    fn snapshot(&mut self) -> Result<(SnapshotAnswer, Option<String>), String> {
        let begun = Instant::now();
        self.ask(begun);
        let answers = self.gather(begun);
        let (mut heard, mut silent) = (Vec::new(), Vec::new());
        for (Node { reached: Reached { node, address }, asked }, answer) in self.all.iter().zip(answers) {
            let why = match answer {
                Some(Ok(answer)) => {
                    heard.push(answer);
                    continue;
                }
                Some(Err(why)) => why,
                None => format!("no answer for {} s", asked.unwrap_or(begun).elapsed().as_secs()),
            };
            silent.push(format!("{}: {why}", node.as_deref().unwrap_or(address)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    /// An agent that answers each question with an empty snapshot of a node.
    fn answers(node: &str) -> Reached {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = SnapshotAnswer { node: node.into(), window_seconds: 1.0, ..SnapshotAnswer::default() };
        let body = serde_json::to_string(&answer).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]).unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all((head + &body).as_bytes()).unwrap();
            }
        });
        Reached { address, node: Some(node.into()) }
    }

    #[test]
    fn a_node_that_takes_a_question_and_says_nothing_is_named_and_keeps_nobody_waiting() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let mut nodes =
            Nodes::of(vec![answers("n1"), Reached { address, node: Some("n2".into()) }, answers("n3")], |_| ());
        for _ in 0..2 {
            let missing = nodes.snapshot().unwrap().1.unwrap();
            assert!(missing.starts_with("a node does not answer: n2: no answer for "), "{missing}");
        }
        // It is asked once until it answers.
        silent.set_nonblocking(true).unwrap();
        assert_eq!(silent.incoming().take_while(Result::is_ok).count(), 1);
        // One that has gone says so at once, and who is left is merged.
        drop(silent);
        let (_, missing) = nodes.snapshot().unwrap();
        assert!(missing.unwrap().contains("n2: "));
    }
}
