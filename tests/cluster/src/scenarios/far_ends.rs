//! Whose the far ends of flows are: by address and time, as the API server says.

use super::{
    elsewhere::{ELSEWHERE, Elsewhere, NODE_ADDRESS, now, patch_status, time, vanish},
    services::Served,
};
use crate::{
    cluster::{PATIENCE, in_node},
    installed::{Agent, Amount},
    kubectl::kubectl,
    namespace,
    pod::{Pod, Sink, script},
    trial::{once, own, test},
};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use observer_test_kit::wait_until;
use serde_json::{Value, json};
use std::{thread::sleep, time::Duration};

/// Where the address plugin of the node keeps its books.
const STORE: &str = "/var/lib/cni/networks/observer";
const ADDRESS: &str = "203.0.113.130";
/// A pod's second address, private and in no range of its node.
const SECOND_ADDRESS: &str = "fd44:203::130";
/// A private one, and in no range of the cluster.
const OUTSIDE: &str = "192.168.201.7";

pub(super) fn tests() -> Vec<Trial> {
    vec![
        once(test("a_flow_to_an_address_that_changes_hands_elsewhere_is_named_right_in_both_halves", elsewhere)),
        once(test("a_socket_that_stays_open_while_its_far_end_changes_hands_is_named_right_in_both_halves", held_open)),
        once(own("a_flow_to_an_address_that_changes_hands_on_this_node_is_named_right_in_both_halves", here)),
        once(test("a_service_has_its_name_and_who_may_not_ask_for_services_says_so", service)),
    ]
}

/// Datagrams to an address and port; what they are on the wire.
fn send(client: &Pod, target: &str, amount: Amount) -> Result<u64> {
    client.shell(&amount.command(target)).map(|_| amount.on_the_wire())
}

/// What flows of the client to an address have carried, by the far end's name.
fn told(client: &Pod, address: &str) -> Result<Vec<(Value, u64)>> {
    let answer = Agent::ask(&format!("/api/v1/flows?entity={}/{}", namespace::name(), client.name))?;
    let rows = answer["flows"].as_array().context("no flows")?;
    let of_address = rows.iter().filter(|row| row["remote_address"] == address);
    let sent = |row: &Value| Some((row["remote"].clone(), row["transmit_bytes"].as_u64()?));
    of_address.map(|row| sent(row).context("no bytes")).collect()
}

/// Waits until they are as `expected`: names, and whether they are gone; nobody has none.
fn settles(client: &Pod, address: &str, expected: &[(&str, bool, u64)]) -> Result<()> {
    let mut last = Vec::new();
    let right = wait_until(PATIENCE, || {
        last = told(client, address)?;
        let is = |(remote, bytes): &(Value, u64), (name, is_gone, sent): &(&str, bool, u64)| {
            let named = remote["name"].as_str().unwrap_or_default() == *name;
            named && remote["until_unix_seconds"].is_u64() == *is_gone && bytes == sent
        };
        let has = |wanted| last.iter().any(|row| is(row, wanted));
        Ok(last.len() == expected.len() && expected.iter().all(has))
    })?;
    ensure!(right, "{expected:?} it should be, and is {last:#?}");
    Ok(())
}

/// What the command line says of an address, in the agent's own container.
fn whois(arguments: &[&str]) -> Result<String> {
    let agent = Agent::name()?;
    let text = kubectl(&[&["exec", &agent, "--", "/observer", "whois"], arguments].concat())?;
    ensure!(text.lines().count() == 1, "it is not one line: {text}");
    Ok(text)
}

fn client(node: &str) -> Result<Pod> {
    let mut manifest = script("asker", "sleep 1000");
    manifest["spec"]["nodeName"] = node.into();
    Pod::start(&manifest)
}

fn elsewhere() -> Result<()> {
    let _node = Elsewhere::make()?;
    let agent = Agent::install()?;
    Agent::features_down(&[])?;
    let client = client(&agent.node)?;
    let first = Elsewhere::pod("first", &json!({}), ADDRESS)?;
    let target = format!("{ADDRESS}:9000");
    let of_first = send(&client, &target, Amount { datagrams: 100, size: 1000 })?;
    settles(&client, ADDRESS, &[("first", false, of_first)])?;
    let (remote, _) = told(&client, ADDRESS)?.swap_remove(0);
    ensure!(remote["kind"] == "pod" && remote["node"] == ELSEWHERE && remote["workload_type"] == "pod", "{remote}");
    let while_first = now()?;
    // Nobody looks at what it is sent then. Within seconds the next one has the address, and is sent to.
    let of_first = of_first + send(&client, &target, Amount { datagrams: 30, size: 800 })?;
    sleep(Duration::from_secs(3));
    vanish(first)?;
    let second = Elsewhere::pod("second", &json!({}), ADDRESS)?;
    // As long as a container takes to start; closed sockets are told of to the second or two.
    sleep(Duration::from_secs(3));
    let of_second = send(&client, &target, Amount { datagrams: 70, size: 500 })?;
    settles(&client, ADDRESS, &[("first", true, of_first), ("second", false, of_second)])?;
    let text = whois(&[ADDRESS])?;
    ensure!(text.contains(&format!("pod {}/second on {ELSEWHERE}", namespace::name())), "{text}");
    ensure!(
        text.contains(&format!("pod {}/first on {ELSEWHERE}", namespace::name())) && text.contains(", gone"),
        "{text}"
    );
    let text = whois(&[ADDRESS, "--at", &time(while_first)?])?;
    ensure!(text.starts_with(&format!("{ADDRESS} (cluster): pod {}/first on", namespace::name())), "{text}");
    // A pod that has ended is there, and its address is nobody's.
    let ended = json!({ "status": {
        "phase": "Succeeded",
        "containerStatuses": [{
            "name": "main", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 0, "finishedAt": time(now()?)? } },
        }],
    }});
    patch_status("pod", &second.name, &ended)?;
    let nobody = wait_until(PATIENCE, || Ok(whois(&[ADDRESS])?.starts_with(&format!("{ADDRESS} (cluster): nobody"))))?;
    ensure!(nobody, "{}", whois(&[ADDRESS])?);
    settles(&client, ADDRESS, &[("first", true, of_first), ("second", true, of_second)])?;
    by_port(&client)?;
    second_address()?;
    outside(&client)
}

/// Only a pod's first address can be asked for: it is not gone from its second one for that.
fn second_address() -> Result<()> {
    let pod = Elsewhere::pod_with("both", &json!({}), &[ADDRESS, SECOND_ADDRESS])?;
    let is_its = |address: &str| -> Result<()> {
        let text = whois(&[address])?;
        ensure!(text.contains(&format!("pod {}/both on {ELSEWHERE}", namespace::name())), "{text}");
        let (now, _) = text.split_once(';').unwrap_or((&text, ""));
        ensure!(!now.contains("gone"), "{text}");
        // An answer serves whoever asks within a second.
        sleep(Duration::from_millis(1100));
        Ok(())
    };
    is_its(ADDRESS)?;
    for _ in 0..2 {
        is_its(SECOND_ADDRESS)?;
    }
    vanish(pod)?;
    let gone = wait_until(PATIENCE, || Ok(whois(&[SECOND_ADDRESS])?.contains(", gone")))?;
    ensure!(gone, "{}", whois(&[SECOND_ADDRESS])?);
    Ok(())
}

/// Nobody asks for flows before both halves were sent: that the open socket carried the first one, more than a megabyte, is found all the same.
fn held_open() -> Result<()> {
    let _node = Elsewhere::make()?;
    let agent = Agent::install()?;
    Agent::features_down(&[])?;
    let mut manifest = script("keeper", &format!("mkfifo /tmp/words && exec talk on {ADDRESS}:9000 <>/tmp/words"));
    manifest["spec"]["nodeName"] = agent.node.clone().into();
    let keeper = Pod::start(&manifest)?;
    let send = |Amount { datagrams, size }| {
        keeper.shell(&format!("until [ -p /tmp/words ]; do sleep 0.1; done; echo {datagrams} {size} >/tmp/words"))
    };
    let (of_first, of_second) = (Amount { datagrams: 1500, size: 1000 }, Amount { datagrams: 70, size: 500 });
    let first = Elsewhere::pod("first", &json!({}), ADDRESS)?;
    send(of_first)?;
    // A look or two.
    sleep(Duration::from_secs(5));
    vanish(first)?;
    let _second = Elsewhere::pod("second", &json!({}), ADDRESS)?;
    sleep(Duration::from_secs(3));
    send(of_second)?;
    sleep(Duration::from_secs(4));
    let halves = [("first", true, of_first.on_the_wire()), ("second", false, of_second.on_the_wire())];
    settles(&keeper, ADDRESS, &halves)
}

/// Some pods have addresses of ranges that nobody tells of.
fn outside(client: &Pod) -> Result<()> {
    let _pod = Elsewhere::pod("outside", &json!({}), OUTSIDE)?;
    let sent = send(client, &format!("{OUTSIDE}:9000"), Amount { datagrams: 10, size: 100 })?;
    settles(client, OUTSIDE, &[("outside", false, sent)])?;
    let text = whois(&[OUTSIDE])?;
    ensure!(text.starts_with(&format!("{OUTSIDE} (intranet): pod {}/outside on", namespace::name())), "{text}");
    Ok(())
}

/// A node's address is the node's, and that of a pod in its network where the port tells.
fn by_port(client: &Pod) -> Result<()> {
    let ports = json!([{ "containerPort": 9100, "protocol": "UDP", "hostPort": 9100 }]);
    let mut containers = script("x", "sleep 1")["spec"]["containers"].clone();
    containers[0]["ports"] = ports;
    let spec = json!({ "hostNetwork": true, "containers": containers });
    let pod = Elsewhere::pod("exporter", &spec, NODE_ADDRESS)?;
    let to_pod = send(client, &format!("{NODE_ADDRESS}:9100"), Amount { datagrams: 10, size: 100 })?;
    let to_node = send(client, &format!("{NODE_ADDRESS}:9200"), Amount { datagrams: 20, size: 100 })?;
    settles(client, NODE_ADDRESS, &[("exporter", false, to_pod), (ELSEWHERE, false, to_node)])?;
    let port = format!("{NODE_ADDRESS}:9100");
    let text = whois(&[&port])?;
    ensure!(text.contains(&format!("exporter on {ELSEWHERE}, by its port of the node")), "{text}");
    // The next one does not make it forgotten.
    vanish(pod)?;
    let _next = Elsewhere::pod("next", &spec, NODE_ADDRESS)?;
    let both = wait_until(PATIENCE, || {
        let text = whois(&[&port])?;
        let (holder, others) = text.split_once(';').unwrap_or((&text, ""));
        Ok(holder.contains("/next on") && others.contains("/exporter on") && others.contains("gone"))
    })?;
    ensure!(both, "{}", whois(&[&port])?);
    Ok(())
}

/// The address plugin gives the next pod the address after the one it gave last.
fn here() -> Result<()> {
    let agent = Agent::install()?;
    Agent::features_down(&[])?;
    let client = client(&agent.node)?;
    let first = Sink::start(&agent.node)?;
    let address = first.address.rsplit_once(':').context("an address")?.0.to_owned();
    let of_first = send(&client, &first.address, Amount { datagrams: 100, size: 1000 })?;
    let name = first.pod.name.clone();
    settles(&client, &address, &[(&name, false, of_first)])?;
    // Nobody has been told of that when it goes.
    let of_first = of_first + send(&client, &first.address, Amount { datagrams: 30, size: 800 })?;
    kubectl(&["delete", "pod", &name, "--wait=true"])?;
    drop(first);
    let (before, last) = address.rsplit_once('.').context("an IPv4 address")?;
    let previous = last.parse::<u8>()?.checked_sub(1).context("the first address")?;
    // The plugin's files: one for each address that is taken, and the last one that was given.
    let free = wait_until(PATIENCE, || Ok(in_node(&["ls", STORE])?.lines().all(|line| line != address)))?;
    ensure!(free, "{address} is not given back");
    in_node(&["sh", "-c", &format!("printf {before}.{previous} > {STORE}/last_reserved_ip.0")])?;
    let mut manifest = script("heir", "exec talk sink 9000");
    manifest["spec"]["nodeName"] = agent.node.clone().into();
    let heir = Pod::start(&manifest)?;
    let its = heir.object()?["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    if its != address {
        bail!("the next pod has {its}, and not {address}");
    }
    let of_heir = send(&client, &format!("{address}:9000"), Amount { datagrams: 70, size: 500 })?;
    settles(&client, &address, &[(&name, true, of_first), ("heir", false, of_heir)])?;
    let text = whois(&[&address])?;
    ensure!(text.starts_with(&format!("{address} (node): pod {}/heir on {}", namespace::name(), agent.node)), "{text}");
    ensure!(text.contains(&format!("pod {}/{name} on", namespace::name())) && text.contains(", gone"), "{text}");
    Ok(())
}

fn service() -> Result<()> {
    let agent = Agent::install()?;
    Agent::features_down(&[])?;
    let served = Served::start(Some(&agent.node))?;
    served.ask(&served.address, 80)?;
    let mut last = Vec::new();
    let named = wait_until(PATIENCE, || {
        last = told(&served.client, &served.address)?;
        Ok(last.iter().any(|(remote, _)| remote["kind"] == "service" && remote["name"] == served.server.name))
    })?;
    ensure!(named, "the service has no name: {last:?}");
    let text = whois(&[&served.address])?;
    ensure!(text.contains(&format!("service {}/{}", namespace::name(), served.server.name)), "{text}");
    // The far end of what the server got is the client, which asked.
    let address = served.client.object()?["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    let text = whois(&[&address])?;
    ensure!(text.contains(&format!("pod {}/{}", namespace::name(), served.client.name)), "{text}");
    super::account::less(&["services", "ipaddresses"])?;
    let said = wait_until(PATIENCE, || Ok(whois(&["10.96.3.3"])?.contains("may not list services")))?;
    ensure!(said, "{}", whois(&["10.96.3.3"])?);
    Agent::features_down(&["far_ends"])?;
    super::account::all()?;
    Agent::settles(PATIENCE, |page| {
        whois(&["10.96.3.3"])?;
        let up = page.one("observer_kube_feature_up", &[("feature", "far_ends")])?;
        ensure!(up.value == "1", "{:?}", up.labels);
        Ok(())
    })
}
