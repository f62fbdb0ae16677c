//! The API server goes, the watch is cut, the agent is deleted: counting goes on, and names come back.

use crate::{
    cluster::{PATIENCE, ask, in_node, xtask},
    installed::{Agent, Amount, expect},
    kubectl::kubectl,
    namespace,
    pod::{Pod, Sink, script},
    trial::{once, own, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::{page::Page, wait_until};
use std::{
    process::Command,
    sync::{Mutex, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

const SENT: &str = "observer_network_transmit_bytes_total";
const WORKLOAD_SENT: &str = "observer_workload_network_transmit_bytes_total";
/// The server keeps a watch for 60 s, and a hung one is noticed some seconds after that.
const HUNG: Duration = Duration::from_secs(60 + 30);

pub(super) fn tests() -> Vec<Trial> {
    vec![
        once(test("an_agent_whose_pod_was_deleted_knows_all_pods_again", deleted)),
        once(own("without_the_api_server_the_page_goes_on_says_so_and_recovers", api_server_stops)),
        once(own("a_watch_that_is_cut_is_begun_again", watch_is_cut)),
        once(own("a_server_that_hangs_is_noticed_and_the_page_goes_on", server_hangs)),
    ]
}

/// A pod that sends an amount each time it is told to.
struct Sender {
    pod: Pod,
    sink: Sink,
    amount: Amount,
}

impl Sender {
    fn start(agent: &Agent) -> Result<Self> {
        Self::to(Sink::start(&agent.node)?, agent)
    }

    fn to(sink: Sink, agent: &Agent) -> Result<Self> {
        let mut manifest = script("sender", "exec sleep 1000");
        manifest["spec"]["nodeName"] = agent.node.as_str().into();
        Ok(Self { pod: Pod::start(&manifest)?, sink, amount: Amount { datagrams: 120, size: 180 } })
    }

    fn send(&self) -> Result<()> {
        self.pod.shell(&self.amount.command(&self.sink.address)).map(drop)
    }

    /// An error unless it is known by its name, with so many amounts.
    fn has_sent(&self, page: &Page, times: u64) -> Result<()> {
        let labels = [("namespace", namespace::name()), ("pod", &*self.pod.name), ("container", "main")];
        expect(page, SENT, &labels, times * self.amount.on_the_wire())
    }
}

fn is_up(page: &Page, expected: &str) -> Result<()> {
    let up = page.one("observer_kube_up", &[])?.value;
    ensure!(up == expected, "observer_kube_up is {up}");
    Ok(())
}

fn deleted() -> Result<()> {
    let agent = Agent::install()?;
    let sender = Sender::start(&agent)?;
    sender.send()?;
    Agent::settles(PATIENCE, |page| sender.has_sent(page, 1))?;
    Agent::restart()?;
    sender.send()?;
    // It begins at zero, as every counter does that starts anew, and has the name from the first series on.
    Agent::settles(PATIENCE, |page| {
        is_up(page, "1")?;
        sender.has_sent(page, 1)
    })?;
    let log = Agent::log();
    ensure!(!log.contains("ERROR"), "it has complained:\n{log}");
    Ok(())
}

fn api_server_stops() -> Result<()> {
    let agent = Agent::install()?;
    let sender = Sender::start(&agent)?;
    sender.send()?;
    Agent::settles(PATIENCE, |page| {
        is_up(page, "1")?;
        sender.has_sent(page, 1)
    })?;
    let address = Agent::address()?;
    // What sends while nobody can be asked has a name already, or gets it later.
    let mut late =
        script("late", &format!("sleep 6; {}; exec sleep 1000", sender.amount.command(&sender.sink.address)));
    late["spec"]["nodeName"] = agent.node.as_str().into();
    let late = Pod::start(&late)?;
    ask("stop", "kube-apiserver")?;
    let outcome = while_stopped(&sender, &address);
    ask("start", "kube-apiserver")?;
    outcome?;
    let back = wait_until(PATIENCE, || Ok(kubectl(&["get", "--raw", "/readyz"]).is_ok_and(|answer| answer == "ok")))?;
    ensure!(back, "the API server did not come back in {PATIENCE:?}");
    sender.send()?;
    Agent::settles(PATIENCE, |page| {
        is_up(page, "1")?;
        sender.has_sent(page, 2)?;
        let labels = [("namespace", namespace::name()), ("pod", &*late.name), ("container", "main")];
        expect(page, SENT, &labels, sender.amount.on_the_wire())
    })?;
    once_per_change(&Agent::log())
}

fn while_stopped(sender: &Sender, address: &str) -> Result<()> {
    let mut slowest = Duration::ZERO;
    let said = wait_until(PATIENCE, || {
        let asked = Instant::now();
        let page = Agent::page_from_the_node(address)?;
        slowest = slowest.max(asked.elapsed());
        // Names stay, and counters are those of before.
        sender.has_sent(&page, 1)?;
        Ok(is_up(&page, "0").is_ok())
    })?;
    ensure!(said, "the API server is gone for {PATIENCE:?}, and observer_kube_up is still 1");
    ensure!(slowest < Duration::from_secs(1), "a page took {slowest:?} without the API server");
    // The pod that waited has sent by now.
    let sent = wait_until(PATIENCE, || {
        let labels = [("namespace", namespace::name()), ("pod", "late")];
        Ok(expect(&Agent::page_from_the_node(address)?, SENT, &labels, sender.amount.on_the_wire()).is_ok())
    })?;
    ensure!(sent, "what a pod sent while the API server was gone is not on the page");
    Ok(())
}

/// The log says once that the server is gone, and once that it is back.
fn once_per_change(log: &str) -> Result<()> {
    // Some hosts forbid some programs, and the log says so at the start.
    let is_about = |line: &&str| !line.contains("a kernel program does not run");
    let complaints = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    let about: Vec<_> = complaints.filter(is_about).collect();
    let distinct = about.len();
    ensure!((1..=2).contains(&distinct), "of one outage the log says:\n{}", about.join("\n"));
    Ok(())
}

/// What the agent and the API server say to each other gets lost, until this is dropped.
struct Silence([Vec<String>; 2]);

impl Silence {
    fn make(address: &str) -> Result<Self> {
        // On the node itself, where kube-proxy has put the server's own port for the service's.
        let to = ["INPUT", "--source", address, "--protocol", "tcp", "--dport", "6443", "--jump", "DROP"];
        let from = ["OUTPUT", "--destination", address, "--protocol", "tcp", "--sport", "6443", "--jump", "DROP"];
        let silence = Self([to, from].map(|rule| rule.map(str::to_owned).to_vec()));
        silence.iptables("--insert")?;
        Ok(silence)
    }

    fn iptables(&self, verb: &str) -> Result<()> {
        for rule in &self.0 {
            let words: Vec<_> = ["iptables", verb].into_iter().chain(rule.iter().map(String::as_str)).collect();
            in_node(&words)?;
        }
        Ok(())
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = self.iptables("--delete");
    }
}

/// Has the kernel abort the agent's connections to the API server.
fn cut_connections() -> Result<()> {
    let pid = Agent::process()?.to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid, "--net", "ss", "--kill", "--tcp", "state", "established", "dport", "=", ":443"]);
    let output = command.output().context("run nsenter")?;
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && said.contains(":https") | said.contains(":443"), "ss --kill: {said}{errors}");
    Ok(())
}

fn comes_back(sender: &Sender) -> Result<()> {
    Agent::settles(PATIENCE, |page| {
        is_up(page, "1")?;
        sender.has_sent(page, 1)
    })
}

fn watch_is_cut() -> Result<()> {
    let agent = Agent::install()?;
    let sender = Sender::start(&agent)?;
    sender.send()?;
    comes_back(&sender).context("before anything was cut")?;
    cut_connections()?;
    Agent::settles(PATIENCE, |page| {
        let restarts = page.one("observer_kube_watch_restarts_total", &[])?;
        ensure!(restarts.integer()? >= 1, "the watch was not begun again");
        Ok(())
    })?;
    comes_back(&sender).context("after the connection was cut")?;
    told_of_a_new_pod(&agent, &sender)
}

/// What came of it beside another test.
static MEANWHILE: Mutex<Option<Result<()>>> = Mutex::new(None);

/// Lets the server hang for an agent that its test has no use for meanwhile. What comes of it is told by the test of its own.
pub(super) fn server_hangs_meanwhile(agent: &Agent, sink: Sink) {
    if xtask().is_some() {
        let outcome = Sender::to(sink, agent).and_then(|sender| hangs(agent, &sender));
        *MEANWHILE.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

fn server_hangs() -> Result<()> {
    if let Some(outcome) = MEANWHILE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return outcome.context("while the pods of a cron job were waited for to leave");
    }
    let agent = Agent::install()?;
    let sender = Sender::start(&agent)?;
    hangs(&agent, &sender)
}

fn hangs(agent: &Agent, sender: &Sender) -> Result<()> {
    sender.send()?;
    comes_back(sender).context("before the silence")?;
    let silence = Silence::make(&Agent::address()?)?;
    let noticed = wait_until(HUNG, || {
        sleep(Duration::from_secs(1));
        Ok(is_up(&Agent::page()?, "0").is_ok())
    })?;
    ensure!(noticed, "observer_kube_up is still 1 after {HUNG:?} of silence");
    sender.has_sent(&Agent::page()?, 1)?;
    drop(silence);
    comes_back(sender).context("after the silence")?;
    told_of_a_new_pod(agent, sender)
}

/// A pod that comes later is told of by the new watch.
fn told_of_a_new_pod(agent: &Agent, sender: &Sender) -> Result<()> {
    let mut manifest = script("after", &format!("{}; exec sleep 1000", sender.amount.command(&sender.sink.address)));
    manifest["spec"]["nodeName"] = agent.node.as_str().into();
    let after = Pod::start(&manifest)?;
    Agent::settles(PATIENCE, |page| {
        let labels = [("namespace", namespace::name()), ("workload", &*after.name), ("workload_type", "pod")];
        expect(page, WORKLOAD_SENT, &labels, sender.amount.on_the_wire())
    })
}
