//! The chart as Helm renders it, with values other than its own.

use crate::{
    objects::{Objects, Relabeling, documents},
    promises, text, workspace,
};
use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Completion, Failed, Trial};
use std::{collections::BTreeMap, ffi::OsString, io::Write as _, process::Command};

/// Everything that the chart can be told, at once.
pub(crate) const EVERYTHING: &str = include_str!("../everything.yaml");

/// Values that are wrong, and what Helm has to name.
const WRONG: [(&str, &str); 21] = [
    ("agent: {sampleInterval: 2h}", "/agent/sampleInterval"),
    ("agent: {pressure: 1}", "/agent/pressure"),
    ("agents: {port: 9810}", "agents"),
    ("agent: {ports: 9810}", "ports"),
    ("agent: {maxCgroups: many}", "/agent/maxCgroups"),
    ("agent: {debugListen: '0.0.0.0:9811'}", "/agent/debugListen"),
    ("agent: {debugListen: '127.999.0.1:9811'}", "/agent/debugListen"),
    ("agent: {debugListen: '127.0.1:9811'}", "/agent/debugListen"),
    ("agent: {debugListen: '127.0.0.1:0'}", "/agent/debugListen"),
    ("agent: {debugListen: '[::1]:65536'}", "/agent/debugListen"),
    ("state: {type: tmpfs}", "/state/type"),
    ("agent: {seriesLimit: 10}", "/agent/seriesLimit"),
    ("agent: {clusterCidrs: [everything]}", "/agent/clusterCidrs"),
    ("agent: {serviceCidrs: 10.0.0.0/8}", "/agent/serviceCidrs"),
    ("agent: {intranetCidrs: 10.0.0.0/8}", "/agent/intranetCidrs"),
    ("updateStrategy: {rollingUpdate: {maxSurge: 1}}", "maxSurge"),
    ("image: {tag: 1.10}", "/image/tag"),
    ("podMonitor: {enabled: 'yes'}", "/podMonitor/enabled"),
    ("prometheusRule: {groups: []}", "groups"),
    ("prometheusRule: {runbookBase: 'docs'}", "/prometheusRule/runbookBase"),
    ("dashboards: {labels: {grafana_dashboard: 1}}", "grafana_dashboard"),
];

/// Values that are right one by one, and what is told of them.
const CONTRADICTIONS: [(&str, &str); 6] = [
    ("agent: {port: 9000, debugListen: '127.0.0.1:9000'}", "are one port"),
    ("podLabels: {app.kubernetes.io/name: mine}", "podLabels: the label app.kubernetes.io/name is the chart's own"),
    ("podMonitor: {enabled: true, interval: 5s}", "podMonitor.scrapeTimeout (10s) is longer"),
    ("podMonitor: {enabled: true, labels: {helm.sh/chart: mine}}", "podMonitor.labels: the label helm.sh/chart"),
    ("prometheusRule: {enabled: true, labels: {app.kubernetes.io/version: '1'}}", "prometheusRule.labels: the label"),
    ("dashboards: {enabled: true, labels: {app.kubernetes.io/instance: a}}", "dashboards.labels: the label"),
];

/// The tests. All of them need Helm.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        with_helm("helm_has_nothing_to_say_on_the_chart", lint),
        with_helm("with_all_other_values_the_objects_are_valid_and_the_promises_hold", everything),
        with_helm(
            "a_pod_monitor_takes_the_place_of_the_annotations_and_keeps_the_agents_labels_off_the_series",
            pod_monitor,
        ),
        with_helm("the_rules_of_the_chart_are_those_of_the_file", rules),
        with_helm("what_is_switched_off_is_not_there_and_the_promises_hold", nothing),
        with_helm("another_release_in_another_namespace_has_names_of_its_own", elsewhere),
        with_helm("an_older_api_server_is_not_told_what_it_does_not_know", older),
        with_helm("unknown_keys_and_wrong_types_are_refused_by_name", wrong),
        with_helm("annotations_of_pods_are_there_once_and_the_users_are_heard", own_annotations),
    ]
}

pub(crate) fn helm() -> Command {
    Command::new(std::env::var_os("HELM").unwrap_or_else(|| OsString::from("helm")))
}

/// A test that is skipped where there is no Helm.
pub(crate) fn with_helm(sentence: &str, run: fn() -> Result<()>) -> Trial {
    Trial::ignorable_test(sentence, move || {
        if helm().arg("version").output().is_err() {
            return Ok(Completion::ignored_with("needs helm: `cargo xtask setup` builds it, with Go"));
        }
        run().map(|()| Completion::Completed).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// What `helm template` prints for a release with these values, or its complaint.
fn template(release: &str, values: &str, arguments: &[&str]) -> Result<String> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(values.as_bytes())?;
    let mut helm = helm();
    helm.arg("template").arg(release).arg(workspace("deploy/chart")).arg("--values").arg(file.path());
    helm.args(["--namespace", "observer", "--kube-version", "1.34.0"]).args(arguments);
    let output = helm.output().context("run helm")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

pub(crate) fn objects(values: &str, arguments: &[&str]) -> Result<Objects> {
    Objects::read(&template("observer", values, arguments)?)
}

fn lint() -> Result<()> {
    let output = helm().args(["lint", "--strict"]).arg(workspace("deploy/chart")).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && !said.contains("[WARNING]"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn everything() -> Result<()> {
    let objects = objects(EVERYTHING, &["--namespace", "monitoring"])?;
    promises::hold(&objects)?;
    let (pod, container) = (objects.pod()?, objects.container()?);
    ensure!(supplementary_groups(&objects)?.is_none(), "another group, and no table of connections to be opened");
    let image = container.image.as_deref().unwrap_or_default();
    ensure!(image.starts_with("registry.example/observer@sha256:0011"), "{image}");
    ensure!(pod.priority_class_name.is_none() && pod.affinity.is_some(), "{pod:?}");
    let arguments: Vec<_> = container.args.iter().flatten().map(String::as_str).collect();
    ensure!(arguments == ["agent", "--user", "keep"], "{arguments:?}");
    let variables = container.env.iter().flatten();
    let variables: BTreeMap<_, _> =
        variables.map(|v| (v.name.as_str(), v.value.as_deref().unwrap_or_default())).collect();
    for (name, value) in [
        ("OBSERVER_METRICS_LISTEN", "[::]:9999"),
        ("OBSERVER_DEBUG_LISTEN", "[::1]:9812"),
        ("OBSERVER_STATE_DIR", "/var/lib/observer"),
        ("OBSERVER_MAX_CGROUPS", "16384"),
        ("OBSERVER_SERIES_LIMIT", "1000000"),
        ("OBSERVER_SAMPLE_INTERVAL", "500ms"),
        ("OBSERVER_WAIT_THRESHOLD", "1ms"),
        ("OBSERVER_PRESSURE", "true"),
        ("OBSERVER_INTRANET_CIDR", "203.0.113.0/24,2001:db8::/32"),
        ("OBSERVER_SUMMARY_INTERVAL", "1m"),
        ("OBSERVER_LOG_FORMAT", "json"),
        ("OBSERVER_CGROUP_PATH", "/host/sys/fs/cgroup"),
        ("RUST_LOG", "debug"),
        ("NO_COLOR", "1"),
    ] {
        ensure!(variables.get(name) == Some(&value), "{name}: {:?}", variables.get(name));
    }
    let context = container.security_context.as_ref().context("no security context")?;
    ensure!(context.allow_privilege_escalation == Some(true), "{context:?}");
    ensure!(context.se_linux_options.is_some() && context.app_armor_profile.is_some(), "{context:?}");
    let of_the_node = container.volume_mounts.iter().flatten().filter(|mount| mount.read_only == Some(true));
    let mut modes = of_the_node.map(|mount| mount.recursive_read_only.as_deref());
    ensure!(modes.all(|mode| mode == Some("Enabled")), "recursiveReadOnly");
    let state = pod.volumes.iter().flatten().find(|volume| volume.name == "state").and_then(|v| v.host_path.as_ref());
    ensure!(state.is_some_and(|state| state.path == "/srv/observer"), "{state:?}");
    Ok(())
}

fn pod_monitor() -> Result<()> {
    let objects = objects(EVERYTHING, &["--namespace", "monitoring"])?;
    let [monitor] = &*objects.pod_monitors else { bail!("{} PodMonitors", objects.pod_monitors.len()) };
    let labels = monitor.metadata.labels.clone().unwrap_or_default();
    ensure!(labels.get("release").is_some_and(|release| release == "prometheus"), "{labels:?}");
    let template = &objects.daemon_set()?.spec.as_ref().context("no spec")?.template;
    let metadata = template.metadata.clone().unwrap_or_default();
    let (labels, annotations) = (metadata.labels.unwrap_or_default(), metadata.annotations.unwrap_or_default());
    ensure!(!annotations.keys().any(|name| name.starts_with("prometheus.io/")), "scraped twice: {annotations:?}");
    let wanted = monitor.spec.selector.match_labels.as_ref().context("the PodMonitor selects nothing")?;
    ensure!(wanted.iter().all(|(name, value)| labels.get(name) == Some(value)), "{wanted:?}: {labels:?}");
    let [endpoint] = &*monitor.spec.pod_metrics_endpoints else { bail!("one endpoint") };
    ensure!((&*endpoint.port, &*endpoint.path) == ("metrics", "/metrics"), "{endpoint:?}");
    ensure!((&*endpoint.interval, &*endpoint.scrape_timeout) == ("15s", "10s"), "{endpoint:?}");
    ensure!(endpoint.honor_labels, "namespace and pod would be the agent's");
    let drop =
        Relabeling { action: "labeldrop".into(), regex: "namespace|pod|container".into(), ..Relabeling::default() };
    ensure!(endpoint.relabelings.first() == Some(&drop), "{:?}", endpoint.relabelings);
    let job = Relabeling {
        action: "replace".into(),
        replacement: "observer".into(),
        target_label: "job".into(),
        ..Relabeling::default()
    };
    ensure!(endpoint.relabelings.contains(&job), "the rules ask for job=observer: {:?}", endpoint.relabelings);
    ensure!(endpoint.relabelings.last().is_some_and(|last| last.target_label == "zone"), "{:?}", endpoint.relabelings);
    ensure!(endpoint.metric_relabelings.len() == 1, "{:?}", endpoint.metric_relabelings);
    Ok(())
}

fn rules() -> Result<()> {
    let objects = objects(EVERYTHING, &["--namespace", "monitoring"])?;
    let [rule] = &*objects.prometheus_rules else { bail!("{} PrometheusRules", objects.prometheus_rules.len()) };
    let labels = rule.metadata.labels.clone().unwrap_or_default();
    ensure!(labels.get("role").is_some_and(|role| role == "alert-rules"), "{labels:?}");
    let file = documents(&text("deploy/rules/observer.yaml")?)?;
    ensure!(file == [rule.spec.clone()], "the chart has other rules than deploy/rules");
    let linked = self::objects("prometheusRule: {enabled: true, runbookBase: 'https://git.example/main/'}", &[])?;
    let rules = linked.prometheus_rules.iter().flat_map(|rule| rule.spec["groups"].as_array().into_iter().flatten());
    let rules: Vec<_> = rules.flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
    for alert in rules.iter().filter(|rule| rule["alert"].is_string()) {
        let [of_file, url] = ["runbook", "runbook_url"].map(|name| alert["annotations"][name].as_str());
        let whole = of_file.map(|path| format!("https://git.example/main/{path}"));
        ensure!(url.is_some() && url == whole.as_deref(), "{alert}");
    }
    ensure!(rules.iter().any(|rule| rule["alert"].is_string()), "no alert");
    Ok(())
}

fn nothing() -> Result<()> {
    let values = "serviceAccount: {create: false, name: mine}\nrbac: {create: false}\nservice: {enabled: false}\n\
                  state: {type: none}\nscrapeAnnotations: false\ntolerations: []\nnodeSelector: {}\nupdateStrategy: {type: OnDelete}\n\
                  resources: {limits: null, requests: null}\n";
    let objects = objects(values, &[])?;
    promises::hold(&objects)?;
    let Objects { accounts, roles, bindings, services, pod_monitors, prometheus_rules, .. } = &objects;
    ensure!(accounts.is_empty() && roles.is_empty() && bindings.is_empty(), "an account or a role");
    ensure!(services.is_empty() && pod_monitors.is_empty(), "a Service or a PodMonitor");
    ensure!(prometheus_rules.is_empty(), "a PrometheusRule");
    ensure!(objects.config_maps.is_empty(), "a dashboard");
    ensure!(supplementary_groups(&objects)? == Some(vec![0]), "may not open the table of connections");
    ensure!(objects.pod()?.service_account_name.as_deref() == Some("mine"), "another account");
    let variables = objects.container()?.env.iter().flatten();
    ensure!(!variables.into_iter().any(|variable| variable.name == "OBSERVER_STATE_DIR"), "a state directory");
    let spec = objects.daemon_set()?.spec.as_ref().context("no spec")?;
    ensure!(spec.template.metadata.as_ref().is_some_and(|metadata| metadata.annotations.is_none()), "annotations");
    ensure!(spec.update_strategy.as_ref().is_some_and(|strategy| strategy.rolling_update.is_none()), "rolls");
    Ok(())
}

fn supplementary_groups(objects: &Objects) -> Result<Option<Vec<i64>>> {
    Ok(objects.pod()?.security_context.as_ref().context("no security context of the pod")?.supplemental_groups.clone())
}

fn elsewhere() -> Result<()> {
    let objects = Objects::read(&template("second", "", &["--namespace", "monitoring"])?)?;
    promises::hold(&objects)?;
    for (kind, namespace) in &objects.namespaced {
        ensure!(namespace == "monitoring", "{kind} is in {namespace}");
    }
    let subjects = objects.bindings.iter().flat_map(|binding| binding.subjects.iter().flatten());
    let account = objects.accounts.first().context("no account")?;
    for subject in subjects {
        ensure!(subject.namespace.as_deref() == Some("monitoring"), "{subject:?}");
        ensure!(Some(&subject.name) == account.metadata.name.as_ref(), "{subject:?}");
    }
    let role = objects.roles.first().and_then(|role| role.metadata.name.as_deref());
    ensure!(role == Some("second-observer"), "two releases would share the role {role:?}");
    Ok(())
}

fn older() -> Result<()> {
    let modes = |version: &str| -> Result<Vec<Option<String>>> {
        let objects = objects("", &["--kube-version", version])?;
        promises::hold(&objects)?;
        let of_the_node =
            objects.container()?.volume_mounts.iter().flatten().filter(|mount| mount.read_only == Some(true));
        Ok(of_the_node.map(|mount| mount.recursive_read_only.clone()).collect())
    };
    ensure!(modes("1.29.4")? == [None, None], "1.29");
    ensure!(modes("1.30.0")? == [Some("IfPossible".into()), Some("IfPossible".into())], "1.30");
    ensure!(modes("v1.33.5-gke.100")?.iter().all(Option::is_some), "a provider's version");
    let refusal = template("observer", "", &["--kube-version", "1.24.0"]).err().context("1.24 is not refused")?;
    ensure!(refusal.to_string().contains("kubeVersion"), "{refusal}");
    Ok(())
}

fn wrong() -> Result<()> {
    for (values, named) in WRONG {
        let Err(refusal) = template("observer", values, &[]) else { bail!("`{values}` is taken") };
        let refusal = refusal.to_string();
        ensure!(refusal.contains("schema") && refusal.contains(named), "`{values}`: {refusal}");
    }
    for (values, named) in CONTRADICTIONS {
        let Err(refusal) = template("observer", values, &[]) else { bail!("`{values}` is taken") };
        ensure!(refusal.to_string().contains(named), "`{values}`: {refusal}");
    }
    Ok(())
}

/// Who sets what the chart sets is heard, and nothing is there twice, which a reader of YAML may refuse.
fn own_annotations() -> Result<()> {
    let values = "podAnnotations: {prometheus.io/port: '7', mine: here}";
    let text = template("observer", values, &[])?;
    ensure!(text.matches("prometheus.io/port:").count() == 1, "{text}");
    let annotations = objects(values, &[])?.daemon_set()?.spec.as_ref().and_then(|spec| spec.template.metadata.clone());
    let annotations = annotations.and_then(|metadata| metadata.annotations).context("no annotations")?;
    let of = |name: &str| annotations.get(name).map(String::as_str);
    ensure!(
        of("prometheus.io/port") == Some("7")
            && of("prometheus.io/scrape") == Some("true")
            && of("mine") == Some("here")
    );
    Ok(())
}
