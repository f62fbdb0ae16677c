//! The agent's account with one verb less: the feature that needs it says so, and no other.

use crate::{
    cluster::PATIENCE,
    installed::Agent,
    kubectl::kubectl,
    namespace,
    trial::{once, own, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::json;

/// Each verb of docs/security.md that is needed where no range is configured, by the rule of the role and the verb's place in it, and the feature that needs it.
const VERBS: [(&str, &str, &str); 6] = [
    ("pods", "list", "pods"),
    ("pods", "watch", "pods"),
    ("replicasets", "get", "workloads"),
    ("jobs", "get", "workloads"),
    ("nodes", "list", "address_ranges"),
    ("servicecidrs", "list", "address_ranges"),
];

pub(super) fn tests() -> Vec<Trial> {
    vec![
        once(test("with_one_verb_less_the_feature_that_needs_it_is_degraded_and_no_other", one_less)),
        once(own("an_agent_that_is_given_another_nodes_name_says_so", another_node)),
    ]
}

fn one_less() -> Result<()> {
    let agent = Agent::install()?;
    Agent::features_down(&[])?;
    // There has to be somebody to ask about.
    let owners = Owners::make(&agent)?;
    for (resource, verb, feature) in VERBS {
        let role = without(resource, verb)?;
        patch(&role)?;
        Agent::restart()?;
        Agent::features_down(&[feature]).with_context(|| format!("without {verb} of {resource}"))?;
        let page = Agent::page()?;
        let down = page.one("observer_kube_feature_up", &[("feature", feature)])?;
        ensure!(down.label("reason").contains(resource), "the reason does not name {resource}: {:?}", down.labels);
        ensure!(Agent::log().contains(resource), "the log does not name {resource}");
    }
    all()?;
    Agent::restart()?;
    Agent::features_down(&[])?;
    drop(owners);
    Ok(())
}

/// The rules of the role without one verb.
fn without(resource: &str, verb: &str) -> Result<serde_json::Value> {
    let mut rules = role_of_the_manifest()?;
    let of_resource = |rule: &&mut serde_json::Value| rule["resources"][0] == resource;
    let rule = rules.as_array_mut().context("no rules")?.iter_mut().find(of_resource).context("no such rule")?;
    let verbs = rule["verbs"].as_array_mut().context("no verbs")?;
    let before = verbs.len();
    verbs.retain(|one| one != verb);
    ensure!(verbs.len() + 1 == before, "the manifest does not grant {verb} of {resource}");
    // A rule without verbs is none.
    let rules = rules.as_array().context("no rules")?.iter();
    Ok(rules.filter(|rule| rule["verbs"] != json!([])).cloned().collect())
}

fn role_of_the_manifest() -> Result<serde_json::Value> {
    let objects = crate::installed::objects()?;
    let role = objects.into_iter().find(|object| object["kind"] == "ClusterRole").context("no role")?;
    Ok(role["rules"].clone())
}

fn patch(rules: &serde_json::Value) -> Result<()> {
    let patch = json!({ "rules": rules }).to_string();
    kubectl(&["patch", "clusterrole", namespace::name(), "--type=merge", "--patch", &patch]).map(drop)
}

/// Takes the rules of these resources away; whoever runs has them no more at once.
pub(super) fn less(resources: &[&str]) -> Result<()> {
    let mut rules = role_of_the_manifest()?;
    let rules = rules.as_array_mut().context("no rules")?;
    rules.retain(|rule| !resources.iter().any(|resource| rule["resources"][0] == *resource));
    patch(&json!(rules))
}

/// Gives all rules of the manifest back.
pub(super) fn all() -> Result<()> {
    patch(&role_of_the_manifest()?)
}

/// A pod of a Deployment and one of a CronJob, both of which have an owner that has to be asked for.
struct Owners;

impl Owners {
    fn make(agent: &Agent) -> Result<Self> {
        let mut pod = crate::pod::script("asked-for", "exec sleep 1000");
        pod["spec"]["nodeName"] = agent.node.as_str().into();
        let mut template = json!({ "metadata": { "labels": { "app": "asked-for" } }, "spec": pod["spec"] });
        let job = json!({ "spec": { "template": template } });
        crate::kubectl::apply(&json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "asked-for" },
            "spec": { "schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": job },
        }))?;
        kubectl(&["create", "job", "--from=cronjob/asked-for", "asked-for-1"])?;
        template["spec"]["restartPolicy"] = "Always".into();
        crate::kubectl::apply(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "asked-for" },
            "spec": { "selector": { "matchLabels": { "app": "asked-for" } }, "template": template },
        }))?;
        let limit = format!("--timeout={}s", PATIENCE.as_secs());
        kubectl(&["rollout", "status", "deployment/asked-for", &limit])?;
        Ok(Self)
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        for kind in ["deployment", "cronjob"] {
            let _ = kubectl(&["delete", kind, "asked-for", "--ignore-not-found", "--wait=false"]);
        }
    }
}

/// The API server answers, and lists nobody. After half a minute of that the agent draws its conclusion.
fn another_node() -> Result<()> {
    let _agent = Agent::install()?;
    Agent::features_down(&[])?;
    kubectl(&["set", "env", "daemonset/observer", "OBSERVER_NODE_NAME=nobody"])?;
    Agent::rolled_out()?;
    // Nor is there a node of that name, whose pods would have a range.
    Agent::features_down(&["pods", "address_ranges"])?;
    ensure!(Agent::log().contains("--node-name"), "its log does not say why:\n{}", Agent::log());
    Ok(())
}
