//! deploy/observer.yaml, as it is applied.

use crate::{objects::Objects, promises, test, text};
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::{
    api::core::v1::{Container, Probe},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use libtest_mimic::Trial;
use observer::config::{self, AgentConfig, Sources};
use observer_ebpf::{NetBook, SchedBook, causes::CauseBook};
use std::{collections::BTreeMap, path::Path};

const MIB: u64 = 1024 * 1024;

/// The tests.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("the_manifest_has_only_fields_that_kubernetes_knows", || objects().map(drop)),
        test("the_namespace_comes_first_and_allows_what_the_pod_needs", namespace),
        test("the_pod_is_not_privileged_and_has_three_capabilities", || promises::not_privileged(&objects()?)),
        test("nothing_is_gained_that_the_runtime_has_not_permitted", escalation),
        test("the_pod_is_nobody_on_a_read_only_root_under_the_runtimes_seccomp_profile", || {
            promises::nobody(&objects()?)
        }),
        test("the_pod_shares_no_namespace_with_the_node", || promises::no_namespace_of_the_host(objects()?.pod()?)),
        test("the_node_is_seen_through_two_read_only_directories", || promises::two_directories(&objects()?)),
        test("the_history_has_a_directory_of_its_own_with_room_for_the_largest_file", state),
        test("the_account_may_do_what_the_features_need_and_nothing_more", account),
        test("each_verb_is_explained_in_the_security_document", explained),
        test("the_examples_of_the_documents_are_valid", examples),
        test("the_agents_settings_are_its_defaults_but_for_the_node", settings),
        test("every_node_gets_a_pod_that_is_evicted_last_and_replaced_in_turn", everywhere),
        test("the_memory_limit_holds_the_tables_of_64_cpus_and_no_limit_stops_the_cpu", resources),
        test("probes_ask_what_the_agent_serves", probes),
        test("selectors_find_the_pods", selectors),
        test("the_versions_are_the_workspaces", versions),
    ]
}

fn objects() -> Result<Objects> {
    Objects::read(&text("deploy/observer.yaml")?)
}

fn namespace() -> Result<()> {
    let manifest = text("deploy/observer.yaml")?;
    let first = manifest.lines().find(|line| line.starts_with("kind:"));
    ensure!(first == Some("kind: Namespace"), "the first object is {first:?}: the others would have no namespace");
    let objects = objects()?;
    let [namespace] = &*objects.namespaces else { bail!("{} namespaces", objects.namespaces.len()) };
    let level = namespace.metadata.labels.as_ref().and_then(|labels| labels.get("pod-security.kubernetes.io/enforce"));
    ensure!(level.is_some_and(|level| level == "privileged"), "enforce={level:?}");
    let name = namespace.metadata.name.as_deref();
    for (kind, namespace) in &objects.namespaced {
        ensure!(Some(namespace.as_str()) == name, "{kind} is in {namespace}");
    }
    ensure!(objects.namespaced.len() == 3, "account, service and DaemonSet: {:?}", objects.namespaced);
    Ok(())
}

fn escalation() -> Result<()> {
    let objects = objects()?;
    let context = objects.container()?.security_context.as_ref().context("no security context")?;
    ensure!(context.allow_privilege_escalation == Some(false), "{context:?}");
    Ok(())
}

/// The kubelet evicts a pod whose emptyDir is beyond its limit, so the limit is above what the file can be.
fn state() -> Result<()> {
    let objects = objects()?;
    let volume = objects.pod()?.volumes.iter().flatten().find(|volume| volume.name == "state").context("no volume")?;
    let limit = volume.empty_dir.as_ref().and_then(|volume| volume.size_limit.as_ref()).context("no limit")?;
    let limit: u64 = limit.0.strip_suffix("Mi").context("a limit in Mi")?.parse()?;
    ensure!(limit > 192, "{limit} MiB, and the file may take 192");
    Ok(())
}

fn account() -> Result<()> {
    let objects = objects()?;
    promises::least_roles(&objects)?;
    let ([account], [role], [binding]) = (&*objects.accounts, &*objects.roles, &*objects.bindings) else {
        bail!("one account, one role and one binding")
    };
    ensure!(account.automount_service_account_token == Some(false), "any pod gets the token");
    let pod = objects.pod()?;
    ensure!(pod.automount_service_account_token == Some(true), "the agent gets no token");
    ensure!(pod.service_account_name == account.metadata.name, "the pod has another account");
    ensure!(Some(&binding.role_ref.name) == role.metadata.name.as_ref(), "another role is bound");
    let [subject] = binding.subjects.as_deref().unwrap_or_default() else { bail!("one subject") };
    ensure!(Some(&subject.name) == account.metadata.name.as_ref(), "the role is bound to {}", subject.name);
    ensure!(subject.namespace == account.metadata.namespace, "the role is bound in {:?}", subject.namespace);
    Ok(())
}

/// Rows of the table: `| pods | list | … |`.
fn explained() -> Result<()> {
    let document = text("docs/security.md")?;
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .map(|row| row.split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    for verb in promises::verbs(&objects()?) {
        let (resource, verb) = verb.split_once(' ').context("a verb")?;
        let plain = resource.rsplit('/').next().unwrap_or_default();
        let row = rows.iter().find(|row| row.len() > 3 && row[0].starts_with(plain) && row[1] == verb);
        let row = row.with_context(|| format!("docs/security.md does not explain `{verb}` of {plain}"))?;
        ensure!(!row[2].is_empty() && !row[3].is_empty(), "`{verb}` of {plain}: what for, and what is lost?");
    }
    Ok(())
}

/// Every YAML text of the documents that is an object.
fn examples() -> Result<()> {
    for (path, kind) in [("docs/security.md", "NetworkPolicy"), ("deploy/chart/README.md", "ResourceQuota")] {
        let document = text(path)?;
        let blocks = document.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let objects: Vec<_> = blocks.filter(|block| block.contains("\nkind: ")).collect();
        ensure!(objects.iter().any(|object| object.contains(&format!("\nkind: {kind}\n"))), "{path} has no {kind}");
        for object in objects {
            Objects::read(object).with_context(|| path.to_owned())?;
        }
    }
    Ok(())
}

/// The variables, as the agent reads them.
fn settings() -> Result<()> {
    let objects = objects()?;
    let container = objects.container()?;
    ensure!(container.args.as_deref() == Some(&["agent".to_owned()]), "{:?}", container.args);
    let mut environment = variables(container);
    let keys: Vec<String> = config::keys().iter().map(|key| variable(key)).collect();
    for (name, _) in &environment {
        ensure!(keys.contains(name), "the agent has no setting {name}");
    }
    let node = container.env.iter().flatten().find(|variable| variable.name == "OBSERVER_NODE_NAME");
    let field = node.and_then(|node| node.value_from.as_ref()?.field_ref.as_ref()).map(|field| &*field.field_path);
    ensure!(field == Some("spec.nodeName"), "the node's name is {field:?}");
    environment.retain(|(name, _)| name != "OBSERVER_NODE_NAME");
    let sources = Sources { environment: &environment, hostname: "n", ..Sources::default() };
    let effective = config::resolve(&sources).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let expected = AgentConfig {
        proc_path: Path::new("/host/proc").into(),
        state_dir: Some(Path::new("/var/lib/observer").into()),
        ..AgentConfig::with_defaults("n")
    };
    ensure!(effective.config == expected, "{:?}", effective.config);
    Ok(())
}

fn variables(container: &Container) -> Vec<(String, String)> {
    let variables = container.env.iter().flatten();
    variables.map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default())).collect()
}

fn variable(key: &str) -> String {
    format!("{}{}", config::VARIABLE_PREFIX, key.replace('-', "_").to_uppercase())
}

fn everywhere() -> Result<()> {
    let objects = objects()?;
    let pod = objects.pod()?;
    let all = pod.tolerations.iter().flatten().any(|toleration| {
        toleration.operator.as_deref() == Some("Exists") && toleration.key.is_none() && toleration.effect.is_none()
    });
    ensure!(all, "taints keep it away: {:?}", pod.tolerations);
    let linux = BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]);
    ensure!(pod.node_selector.as_ref() == Some(&linux), "{:?}", pod.node_selector);
    ensure!(pod.priority_class_name.as_deref() == Some("system-node-critical"), "{:?}", pod.priority_class_name);
    ensure!(pod.termination_grace_period_seconds == Some(5), "{:?}", pod.termination_grace_period_seconds);
    let strategy = objects.daemon_set()?.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref()).context("no rolling update")?;
    let tenth = IntOrString::String("10%".into());
    ensure!(rolling.max_unavailable.as_ref() == Some(&tenth), "{rolling:?}");
    // Two agents on a node: the second is refused, and the update would stand still.
    ensure!(rolling.max_surge.is_none(), "{rolling:?}");
    Ok(())
}

fn resources() -> Result<()> {
    let objects = objects()?;
    let resources = objects.container()?.resources.as_ref().context("no resources")?;
    let of = |which: &Option<BTreeMap<_, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>, name: &str| {
        which.as_ref().and_then(|quantities: &BTreeMap<String, _>| Some(quantities.get(name)?.0.clone()))
    };
    ensure!(of(&resources.requests, "cpu").as_deref() == Some("10m"), "{resources:?}");
    ensure!(of(&resources.requests, "memory").as_deref() == Some("32Mi"), "{resources:?}");
    ensure!(of(&resources.limits, "cpu").is_none(), "{resources:?}");
    let limit = of(&resources.limits, "memory").context("no memory limit")?;
    let limit: u64 = limit.strip_suffix("Mi").context("a limit in Mi")?.parse::<u64>()? * MIB;
    let slots = u64::from(AgentConfig::with_defaults("n").max_cgroups) + 1;
    // As values.yaml explains it. A page more or less is not what matters.
    let slot = (size_of::<NetBook>() + size_of::<SchedBook>() + size_of::<CauseBook>()) as u64;
    ensure!(slot == 384, "values.yaml and its README say 384 bytes, and it is {slot}");
    let needed = 48 * MIB + (slot * slots + 70 * 1024) * 64;
    ensure!(limit + MIB > needed, "{limit} < {needed}");
    Ok(())
}

fn probes() -> Result<()> {
    let objects = objects()?;
    let container = objects.container()?;
    let port = container.ports.iter().flatten().find(|port| port.container_port == 9810);
    ensure!(port.is_some_and(|port| port.name.as_deref() == Some("metrics")), "{:?}", container.ports);
    let asks = |probe: &Option<Probe>| {
        let get = probe.as_ref()?.http_get.as_ref()?;
        let named = get.port == IntOrString::String("metrics".into());
        (named && get.scheme.is_none()).then(|| get.path.clone())?
    };
    ensure!(asks(&container.startup_probe).as_deref() == Some("/healthz"), "{:?}", container.startup_probe);
    ensure!(asks(&container.liveness_probe).as_deref() == Some("/healthz"), "{:?}", container.liveness_probe);
    ensure!(asks(&container.readiness_probe).as_deref() == Some("/readyz"), "{:?}", container.readiness_probe);
    let template = &objects.daemon_set()?.spec.as_ref().context("no spec")?.template;
    let annotations = template.metadata.as_ref().and_then(|metadata| metadata.annotations.clone()).unwrap_or_default();
    let scraped = [("path", "/metrics"), ("port", "9810"), ("scrape", "true")];
    let scraped = scraped.map(|(name, value)| (format!("prometheus.io/{name}"), value.to_owned()));
    ensure!(annotations == BTreeMap::from(scraped), "{annotations:?}");
    Ok(())
}

fn selectors() -> Result<()> {
    let objects = objects()?;
    let spec = objects.daemon_set()?.spec.as_ref().context("no spec")?;
    let labels = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let LabelSelector { match_labels, match_expressions: None } = &spec.selector else { bail!("{:?}", spec.selector) };
    let [service] = &*objects.services else { bail!("{} services", objects.services.len()) };
    let service = service.spec.as_ref().context("the Service has no spec")?;
    for selector in [match_labels, &service.selector] {
        let selector = selector.as_ref().context("no selector")?;
        ensure!(
            !selector.is_empty() && selector.iter().all(|(k, v)| labels.get(k) == Some(v)),
            "{selector:?}: {labels:?}"
        );
        // It cannot be changed later, and an upgrade has to find the pods of the version before.
        ensure!(!selector.contains_key("app.kubernetes.io/version"), "{selector:?}");
    }
    ensure!(service.cluster_ip.as_deref() == Some("None"), "not headless: {:?}", service.cluster_ip);
    let ports: Vec<_> = service.ports.iter().flatten().map(|port| (port.name.as_deref(), port.port)).collect();
    ensure!(ports == [(Some("metrics"), 9810)], "{ports:?}");
    Ok(())
}

fn versions() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let image = objects()?.container()?.image.clone();
    ensure!(image.as_deref() == Some(&*format!("localhost/observer:{version}")), "{image:?}");
    let chart = text("deploy/chart/Chart.yaml")?;
    for line in [format!("version: {version}"), format!("appVersion: \"{version}\"")] {
        ensure!(chart.lines().any(|found| found == line), "Chart.yaml has no line `{line}`");
    }
    Ok(())
}
