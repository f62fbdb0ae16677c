//! The web page of the debug listener in a real browser, over a node with known load and known traffic.

use super::ends::Ends;
use crate::{
    agent::explain,
    http, machine,
    netns::{Offloads, SERVER_V4, Wire},
    trial::{Need, Place, test},
};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use observer_test_kit::browser;
use serde_json::json;
use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] =
        &[Need::Root, Need::Command("ip"), Need::Command("node"), Need::Command("chromium"), Need::PageTests];
    vec![
        test(
            "the_web_page_shows_who_makes_the_load_and_who_sends_where_and_everybody_can_read_it",
            Place::Host,
            NEEDS,
            in_a_browser,
        ),
        test(
            "the_web_page_loads_nothing_from_elsewhere_and_is_small",
            Place::Host,
            &[Need::Root, Need::PageTests],
            files,
        ),
    ]
}

fn in_a_browser() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let tcp = ends.serve_tcp(SERVER_V4)?;
    let (busy, _spinners) = ends.spinners()?;
    let wanted = json!({
        "agent": ends.agent.pid(),
        "url": format!("http://{}/", ends.agent.debug_address()?),
        "among": ends.folder.label, "busy": busy.label, "sender": ends.client.label, "far_end": tcp,
        "browser": machine::command("chromium").context("no chromium")?,
        "screenshots": std::env::var_os("OBSERVER_SCREENSHOTS").map(PathBuf::from),
    });
    let over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let sends = scope.spawn(|| {
            while !over.load(Relaxed) {
                // A connection each: of open ones not every kernel tells.
                let mut talk = ends.client_worker(&["tcp-talk", "--to", &tcp])?;
                talk.ask("upload 3000000 write")?;
                talk.ask("close")?;
                std::thread::sleep(Duration::from_millis(200));
            }
            anyhow::Ok(())
        });
        let seen = browser::drive(&wanted);
        over.store(true, Relaxed);
        match sends.join() {
            Ok(Ok(())) => seen,
            Ok(Err(error)) => Err(error.context("the sender ended")),
            Err(_) => bail!("the sender panicked"),
        }
    });
    let outcome = || {
        let seen = seen?;
        // The chart tells the newest values by name; three spinners on one CPU are a load of three when a minute has passed.
        let label = seen["label"].as_str().context("no values of the chart")?;
        let told = value_of(label, &busy.label)?;
        ensure!(told > 0.1 && told < 3.2, "{label}");
        let (kernels, sum) = (value_of(label, "load1 of the node")?, sum_of(label)?);
        ensure!((kernels - sum).abs() < 0.2, "the layers are {sum} together, and the line is at {kernels}: {label}");
        let past = seen["past"].as_str().context("no values of the past")?;
        ensure!(value_of(past, "tasks of the node")? > 2.5, "{past}");
        Ok(())
    };
    explain(&ends.agent, outcome())
}

/// The number after a name in what a chart tells.
fn value_of(label: &str, name: &str) -> Result<f64> {
    let (_, rest) = label.split_once(&format!("{name} ")).with_context(|| format!("no {name} in {label}"))?;
    let number = rest.split([',', ' ']).next().unwrap_or_default();
    number.parse().with_context(|| format!("{name} is {number:?} in {label}"))
}

/// All layers of the chart of the load together.
fn sum_of(label: &str) -> Result<f64> {
    let (_, told) = label.split_once("Newest values: ").with_context(|| label.to_owned())?;
    let layers = told.split(", ").filter(|one| !one.starts_with("load1 of the node"));
    layers.map(|one| one.rsplit(' ').next().unwrap_or_default().parse::<f64>().with_context(|| one.to_owned())).sum()
}

fn files() -> Result<()> {
    let agent = crate::agent::Agent::start(&[])?;
    let address = agent.debug_address()?;
    let outcome = || {
        let mut bytes = 0;
        for path in ["/", "/page.js", "/page.css", "/licences.txt"] {
            let answer = http::get(address, path)?;
            ensure!(answer.status == 200, "{path}: {}", answer.status);
            let policy = answer.header("content-security-policy").unwrap_or_default();
            ensure!(policy.starts_with("default-src 'none'"), "{path}: {policy:?}");
            bytes += answer.body.len();
            if path == "/licences.txt" {
                for name in ["uplot", "preact"] {
                    ensure!(answer.text()?.contains(name), "no licence of {name}");
                }
            }
        }
        ensure!((20_000..300_000).contains(&bytes), "the page has {bytes} bytes");
        Ok(())
    };
    explain(&agent, outcome())
}
