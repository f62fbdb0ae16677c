//! Who has an address, as the command line says it where there is no API server. The rest is told in a real Kubernetes.

use crate::{
    agent::{Agent, Ended, command, explain, run_to_end},
    machine::patience,
    trial::{Need, Place, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("whois_knows_the_nodes_own_addresses_and_says_what_it_cannot_know", Place::Host, &[Need::Root], known),
        test("whois_is_not_taken_in_by_what_is_no_address_or_no_agent", Place::Both, &[], wrong),
    ]
}

fn whois(agent: &str, arguments: &[&str]) -> Result<Ended> {
    let mut command = command(&["whois", "--agent", agent])?;
    command.args(arguments);
    run_to_end(command, patience(Duration::from_secs(20)))
}

/// An address of this machine's that others can reach, if it has one.
fn own_address() -> Result<Option<String>> {
    let output = std::process::Command::new("ip").args(["-o", "addr", "show", "scope", "global"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut words = text.split_whitespace().skip_while(|word| !word.starts_with("inet"));
    Ok(words.nth(1).and_then(|address| address.split('/').next()).map(str::to_owned))
}

fn known() -> Result<()> {
    let agent = Agent::start(&[])?;
    let url = format!("http://{}", agent.debug_address()?);
    let said = |arguments: &[&str]| -> Result<String> {
        let ended = whois(&url, arguments)?;
        ensure!(ended.code == Some(0) && ended.stdout.lines().count() == 1, "{ended:?}");
        Ok(ended.stdout)
    };
    let outcome = || {
        let text = said(&["203.0.113.9"])?;
        ensure!(text.starts_with("203.0.113.9 (internet): nobody that the agent of live knows of"), "{text}");
        let text = said(&["[fd00::9]:443"])?;
        ensure!(text.starts_with("fd00::9 port 443 (intranet): nobody"), "{text}");
        ensure!(text.contains("no API server is known here: --kubeconfig names one"), "{text}");
        let Some(own) = own_address()? else { return Ok(()) };
        let text = said(&[&own])?;
        ensure!(text == format!("{own} (node): node live\n"), "{text}");
        let ended = whois(&url, &[&own, "--at", "2001-01-01T00:00:00Z", "--output", "json"])?;
        let json: Value = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
        ensure!(json["at_unix_seconds"] == 978_307_200 && json["holder"]["name"] == "live", "{json}");
        Ok(())
    };
    explain(&agent, outcome())
}

fn wrong() -> Result<()> {
    for (arguments, told) in [
        (&["web-1"][..], "wanted: one such as 10.244.0.7"),
        (&["10.0.0.1", "--at", "noon"], "wanted: one such as 2026-11-26T10:00:00Z"),
        (&[], "<ADDRESS>"),
    ] {
        let ended = whois("http://127.0.0.1:9811", arguments)?;
        ensure!(ended.code == Some(2) && ended.stderr.contains(told), "{ended:?}");
    }
    // Nobody listens on the port of nothing.
    let ended = whois("http://127.0.0.1:1", &["10.0.0.1"])?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("no agent listens on 127.0.0.1:1"), "{ended:?}");
    ensure!(ended.stderr.lines().count() == 1, "{ended:?}");
    Ok(())
}
