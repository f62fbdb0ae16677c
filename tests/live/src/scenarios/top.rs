//! `observer top` in a real terminal: tmux's, over a node with known load and known traffic.

use super::ends::Ends;
use crate::{
    agent::{Agent, binary, command, explain, run_to_end},
    machine::{patience, wait_until},
    netns::{Offloads, SERVER_V4, Wire},
    trial::{Need, Place, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("tmux"), Need::Command("ip")];
    vec![
        test(
            "top_shows_the_known_load_first_sorts_filters_opens_and_gives_the_terminal_back",
            Place::Host,
            NEEDS,
            keys,
        ),
        test("top_starts_an_agent_where_none_is_and_ends_it_however_it_ends_itself", Place::Host, NEEDS, own),
        test("top_prints_without_a_terminal_and_ends_when_nobody_reads", Place::Host, &[Need::Root], batch),
        test("top_without_an_agent_that_it_may_start_says_what_to_do", Place::Host, &[Need::Root], refused),
    ]
}

/// A terminal of tmux's, on a server of its own that ends with it.
struct Terminal {
    server: String,
}

impl Terminal {
    /// One of so many columns and rows that runs a shell.
    fn open(width: u16, height: u16) -> Result<Self> {
        // A server that was ended just now still has its name.
        static TERMINALS: AtomicU32 = AtomicU32::new(1);
        let number = TERMINALS.fetch_add(1, Ordering::Relaxed);
        let terminal = Self { server: format!("observer-live-{}-{number}", std::process::id()) };
        let (width, height) = (width.to_string(), height.to_string());
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, "env PS1='$ ' sh"])?;
        Ok(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("tmux").args(["-L", &self.server]).args(arguments).output().context("run tmux")?;
        ensure!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Types letters as they are, or keys by tmux's names.
    fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat()).map(drop)
    }

    fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as it has to be, and returns it.
    fn until(&self, what: &str, is_right: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        let right = wait_until(patience(LIMIT), || {
            last = self.screen()?;
            Ok(is_right(&last))
        })?;
        ensure!(right, "{what}; the screen:\n{last}");
        Ok(last)
    }

    /// Runs the program in the shell.
    fn run(&self, arguments: &str) -> Result<()> {
        self.press(&[&format!("clear; {} top {arguments}; echo ended with $?", binary()?.display()), "Enter"])
    }

    /// Waits until the shell goes on as it was: its screen, its echo, its line mode.
    fn is_given_back(&self) -> Result<()> {
        self.until("the shell goes on", |screen| screen.contains("ended with 0"))?;
        self.press(&["stty -a | tr ' ' '\\n' | grep -x -e echo -e icanon | wc -l", "Enter"])?;
        self.until("the terminal echoes and has lines", |screen| screen.lines().any(|line| line.trim() == "2"))?;
        ensure!(
            self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"])?.trim() == "0 1",
            "its own screen and cursor"
        );
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

/// The rows' names, from the top.
fn names(screen: &str) -> Vec<String> {
    let below = screen.lines().skip_while(|line| !line.starts_with("WHO")).skip(1);
    below
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.contains('/'))
        .map(str::to_owned)
        .collect()
}

fn is_first(screen: &str, label: &str) -> bool {
    names(screen).first().is_some_and(|name| label.ends_with(name.trim_start_matches('~')))
}

fn keys() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let tcp = ends.serve_tcp(SERVER_V4)?;
    let (busy, _spinners) = ends.spinners()?;
    let udp = ends.serve_udp(SERVER_V4)?;
    let mut sender = ends.client_worker(&["udp-talk", "--to", &udp, "--size", "1200"])?;
    sender.tell("pace 1000000 1000")?;
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &tcp])?;
    talk.ask("upload 200000 write")?;
    talk.ask("close")?;
    let terminal = Terminal::open(130, 30)?;
    let outcome = || {
        terminal.run(&format!("--agent http://{}", ends.agent.debug_address()?))?;
        // What else runs on the machine may be heavier.
        terminal.press(&["/", ends.folder.label.trim_start_matches('/'), "Enter"])?;
        let screen = terminal.until("the spinners are first", |screen| is_first(screen, &busy.label))?;
        ensure!(screen.contains("LOAD1v") && screen.contains("live"), "{screen}");
        terminal.press(&["b"])?;
        let screen = terminal.until("the sender is first", |screen| is_first(screen, &ends.client.label))?;
        ensure!(screen.contains("SENDSv"), "{screen}");
        terminal.press(&["w"])?;
        terminal.until("who waits is first", |screen| screen.contains("WAIT/Sv") && is_first(screen, &busy.label))?;
        terminal.press(&["/", "/client"])?;
        let screen = terminal.until("the filter is typed", |screen| screen.contains("/client_"))?;
        ensure!(names(&screen).len() == 1 && is_first(&screen, &ends.client.label), "{screen}");
        terminal.press(&["Enter", "Enter"])?;
        let to = format!("to {tcp} tcp, intranet");
        let screen = terminal.until("its flows", |screen| screen.contains(&to))?;
        ensure!(screen.contains(&ends.client.label) && screen.contains("SCOPE"), "{screen}");
        terminal.press(&["Escape"])?;
        terminal.until("back", |screen| screen.contains("WHO"))?;
        terminal.press(&["Escape"])?;
        terminal.until("everybody", |screen| names(screen).len() > 1)?;
        terminal.press(&["p"])?;
        terminal.until("a pause", |screen| screen.contains("paused"))?;
        terminal.press(&["?"])?;
        terminal.until("help", |screen| screen.contains("sort by load"))?;
        // In a window in which nothing can be read, and in one in which it can again.
        terminal.tmux(&["resize-window", "-x", "20", "-y", "5"])?;
        terminal.until("too small is said", |screen| screen.replace('\n', " ").contains("is too small"))?;
        terminal.tmux(&["resize-window", "-x", "100", "-y", "20"])?;
        terminal.press(&["p"])?;
        terminal.press(&["p"])?;
        terminal.until("all of it again", |screen| screen.contains("WHO"))?;
        terminal.press(&["q"])?;
        terminal.is_given_back()?;
        // Without colours there are none, and it still says by what it is sorted.
        terminal.press(&["export NO_COLOR=1", "Enter"])?;
        terminal.run(&format!("--sort bytes --agent http://{}", ends.agent.debug_address()?))?;
        terminal
            .until("sorted by bytes", |screen| screen.contains("SENDSv") && is_first(screen, &ends.client.label))?;
        let raw = terminal.tmux(&["capture-pane", "-p", "-e"])?;
        // All but 39, the terminal's own.
        let has_colour = (0..9).any(|number| raw.contains(&format!("\u{1b}[3{number}")));
        ensure!(!has_colour, "colours: {raw:?}");
        // An end from outside gives the terminal back as well.
        let pid = top_of(&ends.agent)?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
        terminal.is_given_back()
    };
    explain(&ends.agent, outcome())
}

/// The process that looks at an agent.
fn top_of(agent: &Agent) -> Result<i32> {
    let wanted = format!("http://{}", agent.debug_address()?);
    processes()?
        .into_iter()
        .find(|(_, words)| words.iter().any(|word| word == "top") && words.contains(&wanted))
        .map(|(pid, _)| pid)
        .context("no observer top runs")
}

/// All processes of the program, with their words.
fn processes() -> Result<Vec<(i32, Vec<String>)>> {
    let program = std::fs::canonicalize(binary()?)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let is_ours = std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program);
        let Ok(words) = std::fs::read_to_string(entry.path().join("cmdline")) else { continue };
        if is_ours {
            found.push((pid, words.split('\0').map(str::to_owned).collect()));
        }
    }
    Ok(found)
}

/// The agent that a process started, if it runs.
fn started_by(parent: i32) -> Result<Option<i32>> {
    let is_child = |pid: i32| {
        let status =
            std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap_or_default();
        status.lines().any(|line| line.split_whitespace().eq(["PPid:", &parent.to_string()]))
    };
    Ok(processes()?.into_iter().map(|(pid, _)| pid).find(|pid| is_child(*pid)))
}

fn own() -> Result<()> {
    for end in ["q", "kill", "hang up"] {
        let terminal = Terminal::open(100, 24)?;
        terminal.run("")?;
        terminal.until("a table", |screen| screen.contains("WHO") && !names(screen).is_empty())?;
        // Not one that another test has just left.
        let is_it = |words: &[String]| words.get(1).is_some_and(|word| word == "top") && words.len() <= 3;
        let top = processes()?.into_iter().find(|(_, words)| is_it(words));
        let (top, _) = top.context("no observer top runs")?;
        let agent = started_by(top)?.context("it started no agent")?;
        if end == "q" {
            terminal.press(&["q"])?;
            terminal.is_given_back()?;
        } else if end == "kill" {
            // Nobody is left who could end the agent.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(top), nix::sys::signal::Signal::SIGKILL)?;
        } else {
            terminal.tmux(&["kill-server"])?;
        }
        let has_ended = wait_until(patience(LIMIT), || Ok(!Path::new("/proc").join(top.to_string()).exists()))?;
        ensure!(has_ended, "top goes on after {end}");
        let is_gone = wait_until(patience(LIMIT), || Ok(!Path::new("/proc").join(agent.to_string()).exists()))?;
        ensure!(is_gone, "the agent that top started goes on after {end}");
    }
    Ok(())
}

fn batch() -> Result<()> {
    let agent = Agent::start(&[])?;
    let address = format!("http://{}", agent.debug_address()?);
    let run = |arguments: &[&str]| {
        run_to_end(command(&[&["top", "--agent", &address], arguments].concat())?, patience(LIMIT))
    };
    let outcome = || {
        let ended = run(&["-b", "-n", "3", "-d", "0.5", "--output", "json"])?;
        ensure!(ended.code == Some(0), "{ended:?}");
        let answers = ended.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        ensure!(answers.len() == 3 && answers.iter().all(|answer| answer["node"] == "live"), "{}", ended.stdout);
        let ended = run(&["-b", "-n", "1", "--sort", "bytes"])?;
        ensure!(ended.code == Some(0) && ended.stdout.starts_with("live  load "), "{ended:?}");
        ensure!(ended.stdout.lines().nth(1).is_some_and(|line| line.starts_with("WHO")), "{ended:?}");
        let refused = run(&[])?;
        ensure!(refused.code == Some(1) && refused.stderr.contains("--batch"), "{refused:?}");
        // As `observer top -b | head -1`: without an end of its own, and without a complaint.
        let mut endless = command(&["top", "--agent", &address, "-b", "-d", "0.1"])?;
        let mut child = endless.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let ended = wait_until(patience(LIMIT), || Ok(child.try_wait()?.is_some()))?;
        let output =
            if ended { child.wait_with_output()? } else { child.kill().map(|()| child.wait_with_output())?? };
        ensure!(ended && output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
        Ok(())
    };
    explain(&agent, outcome())
}

fn refused() -> Result<()> {
    let top = binary()?;
    let words = ["--reuid=65534", "--clear-groups"].map(str::to_owned);
    let mut command = Command::new("setpriv");
    command.args(words).arg(&top).args(["top", "--batch", "-n", "1"]);
    let ended = run_to_end(command, patience(LIMIT))?;
    let error = &ended.stderr;
    ensure!(ended.code == Some(1) && error.lines().count() == 1, "{ended:?}");
    ensure!(error.contains("no agent listens on 127.0.0.1:9811") && error.contains("port-forward"), "{error}");
    let wrong = run_to_end(crate::agent::command(&["top", "--batch", "-d", "0"])?, patience(LIMIT))?;
    ensure!(wrong.code == Some(2) && wrong.stderr.contains("0.1 to 3600"), "{wrong:?}");
    Ok(())
}
