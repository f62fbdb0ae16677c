//! What is wrong with the directory of the history costs the history alone: a full disk, a read-only one, somebody else's file.

use super::history::{burst, figure, is_up, peak, rows, state};
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    machine::{patience, wait_until},
    trial::{Need, Place, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::{
    mount::{MsFlags, mount, umount},
    sys::signal::Signal,
};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("on_a_full_disk_older_rows_stay_readable_and_the_agent_goes_on", Place::Both, &[Need::Root], full_disk),
        test("a_read_only_state_directory_costs_the_history_alone", Place::Both, &[Need::Root], read_only),
        test("a_foreign_file_in_the_state_directory_is_moved_aside", Place::Both, &[Need::Root], foreign_file),
    ]
}

/// A mount of the test's own, removed when dropped.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(path: &Path, options: &str) -> Result<Self> {
        fs::create_dir_all(path)?;
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options)).context("mount a tmpfs")?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // An agent that was just killed may hold it for a moment.
        let _ = wait_until(Duration::from_secs(5), || Ok(umount(&self.0).is_ok()));
    }
}

fn full_disk() -> Result<()> {
    let (_outer, path, text) = state()?;
    let disk = Mount::tmpfs(&path, "size=8m,mode=0777")?;
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&["--state-dir", &text])?;
    burst(&folder)?;
    std::thread::sleep(patience(Duration::from_secs(8)));
    let before = rows(&agent, "egress_peak", "1s")?;
    // What the file holds in advance, given back by cutting it to its own length; and the rest of the disk.
    let file = fs::OpenOptions::new().write(true).open(path.join("history.redb"))?;
    file.set_len(file.metadata()?.len())?;
    let mut filler = fs::File::create(path.join("filler"))?;
    let chunk = vec![0; 64 * 1024];
    while filler.write_all(&chunk).is_ok() {}
    agent.end(Signal::SIGKILL)?;
    // It starts on a full disk, with what it had.
    let again = Agent::start(&["--state-dir", &text])?;
    let shown = wait_until(patience(Duration::from_secs(15)), || Ok(rows(&again, "egress_peak", "1s")?.len() > 5))?;
    explain(
        &again,
        (|| {
            let after = rows(&again, "egress_peak", "1s")?;
            ensure!(
                shown && (peak(&after) / peak(&before) - 1.0).abs() < 1e-4,
                "older rows are gone: {before:?} {after:?}"
            );
            ensure!(again.get("/healthz")?.status == 200, "not healthy");
            Ok(())
        })(),
    )?;
    drop(again);
    fs::remove_file(path.join("history.redb"))?;
    while filler.write_all(&chunk).is_ok() {}
    // With no room for a file at all: it counts, says why, and heals when there is room.
    let none = Agent::start(&["--state-dir", &text])?;
    explain(
        &none,
        (|| {
            let told = wait_until(patience(Duration::from_secs(10)), || Ok(!is_up(&none)?))?;
            ensure!(told, "up on a full disk");
            let page = none.scrape()?;
            ensure!(
                page.text.contains("observer_history_up{store=\"disk\",reason=\"")
                    && page.text.contains("No space left")
                    && page.text.contains("it takes 2 MiB of room more"),
                "no reason"
            );
            let remembers =
                wait_until(patience(Duration::from_secs(10)), || Ok(!rows(&none, "egress_mean", "1s")?.is_empty()))?;
            ensure!(remembers, "nothing in memory");
            drop(filler);
            fs::remove_file(path.join("filler"))?;
            let healed = wait_until(patience(Duration::from_secs(40)), || is_up(&none))?;
            ensure!(healed, "not up again after room was made");
            Ok(())
        })(),
    )?;
    drop(none);
    drop(disk);
    Ok(())
}

fn read_only() -> Result<()> {
    let (_outer, path, text) = state()?;
    let disk = Mount::tmpfs(&path, "size=8m,ro")?;
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&["--state-dir", &text])?;
    burst(&folder)?;
    std::thread::sleep(Duration::from_millis(2500));
    explain(
        &agent,
        (|| {
            ensure!(!is_up(&agent)?, "up on a read-only disk");
            ensure!(
                agent.log_text().contains("Read-only file system") && agent.log_text().contains("mount it writable"),
                "not told"
            );
            ensure!(peak(&rows(&agent, "egress_peak", "1s")?) > 900_000.0, "the burst is not in memory");
            Ok(())
        })(),
    )?;
    drop(agent);
    drop(disk);
    Ok(())
}

fn foreign_file() -> Result<()> {
    let (_outer, path, text) = state()?;
    fs::create_dir(&path)?;
    fs::write(path.join("history.redb"), "somebody else's")?;
    let agent = Agent::start(&["--state-dir", &text])?;
    explain(
        &agent,
        (|| {
            let up = wait_until(patience(Duration::from_secs(10)), || is_up(&agent))?;
            ensure!(
                up && (figure(&agent, "observer_history_files_moved_aside_total")? - 1.0).abs() < 0.1,
                "not begun anew"
            );
            ensure!(fs::read_to_string(path.join("history.redb.aside-1"))? == "somebody else's", "not as it was");
            ensure!(agent.log_text().contains("moved aside"), "not told");
            Ok(())
        })(),
    )
}
