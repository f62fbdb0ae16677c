//! A Prometheus in the node, which scrapes by the job that the chart's README gives to copy, with the rules as they are delivered.
//!
//! Debian builds its Prometheus without the discovery of Kubernetes: what that would find is handed to it in a file, with the same labels.

use crate::{
    cluster::{PATIENCE, in_node_command},
    installed::Agent,
    kubectl::get,
    namespace,
};
use anyhow::{Context as _, Result, ensure};
use observer_test_kit::{http, wait_until};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

const README: &str = include_str!("../../../deploy/chart/README.md");
const RULES: &str = include_str!("../../../deploy/rules/observer.yaml");
/// On the node; nothing else listens there.
const PORT: u16 = 19_090;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// By how many days rules and dashboards look back to a moment.
const ASKED_FOR: [u64; 2] = [1, 7];

/// What a selector begins with, beside our own names.
const OF_PROMETHEUS: [&str; 1] = ["up"];

/// One series of an answer.
pub(crate) struct Series {
    labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Series {
    /// A label's value; empty without that label.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Whether it is of a workload of the tests.
    pub(crate) fn is_of(&self, workload: &str) -> bool {
        self.label("namespace") == namespace::name() && self.label("workload") == workload
    }
}

/// It runs until it is dropped, with a database of its own.
pub(crate) struct Prometheus {
    child: Option<Child>,
    address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    /// Whether there are its programs.
    pub(crate) fn is_installed() -> bool {
        ["prometheus", "promtool"].iter().all(|program| {
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        })
    }

    /// Starts it on the agent's node.
    pub(crate) fn start(agent: &Agent) -> Result<Self> {
        let node = get(&["node", &agent.node])?;
        let mut addresses = node["status"]["addresses"].as_array().into_iter().flatten();
        let internal = addresses.find(|one| one["type"] == "InternalIP").and_then(|one| one["address"].as_str());
        let address = SocketAddr::new(internal.context("a node without an address")?.parse()?, PORT);
        let folder = tempfile::tempdir()?;
        // Recorded as often as is scraped: what takes minutes on a real one takes seconds here.
        let rules: Vec<_> = RULES.lines().map(sooner).collect();
        fs::write(folder.path().join("rules.yml"), rules.join("\n"))?;
        fs::write(folder.path().join("prometheus.yml"), configuration()?)?;
        fs::write(folder.path().join("targets.json"), discovered()?.to_string())?;
        let mut prometheus = Self { child: None, address, folder };
        prometheus.run()?;
        let scrapes = wait_until(PATIENCE, || Ok(!prometheus.query("up{job=\"observer\"} == 1")?.is_empty()))?;
        ensure!(scrapes, "it finds no agent by the README's job: {}", prometheus.story());
        Ok(prometheus)
    }

    fn run(&mut self) -> Result<()> {
        let folder = self.folder.path().display();
        let log = File::options().create(true).append(true).open(self.folder.path().join("log"))?;
        let mut command = in_node_command(&[
            "prometheus",
            &format!("--config.file={folder}/prometheus.yml"),
            &format!("--storage.tsdb.path={folder}/data"),
            &format!("--web.listen-address={}", self.address),
        ])?;
        self.child = Some(command.stdout(log.try_clone()?).stderr(log).spawn().context("start prometheus")?);
        let ready =
            wait_until(PATIENCE, || Ok(http::get(self.address, "/-/ready").is_ok_and(|answer| answer.status == 200)))?;
        ensure!(ready, "it does not become ready: {}", self.story());
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // Asked to end, it writes down what it has.
        let pid = nix::unistd::Pid::from_raw(child.id().try_into()?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let ended = wait_until(Duration::from_secs(30), || Ok(child.try_wait()?.is_some()))?;
        if !ended {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn ask(&self, path: &str) -> Result<Value> {
        let answer = http::get(self.address, path)?;
        let value: Value = serde_json::from_slice(&answer.body).with_context(|| format!("what {path} says"))?;
        ensure!(value["status"] == "success", "{path}: {value}");
        Ok(value["data"].clone())
    }

    /// What an expression is now.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Series>> {
        let mut path = String::from("/api/v1/query?query=");
        for byte in expression.bytes() {
            write!(path, "%{byte:02x}")?;
        }
        let data = self.ask(&path).with_context(|| expression.to_owned())?;
        let mut all = Vec::new();
        for series in data["result"].as_array().with_context(|| format!("{expression} is no vector"))? {
            let labels = serde_json::from_value(series["metric"].clone())?;
            let value = series["value"][1].as_str().context("a value without text")?;
            all.push(Series { labels, value: value.parse()? });
        }
        Ok(all)
    }

    /// Gives it a past of so many days: what it has recorded now, it had also recorded in every hour of them, times what `factor` says of a name
    /// and how many days ago that was.
    pub(crate) fn grow_older(&mut self, days: u64, factor: impl Fn(&str, f64) -> f64) -> Result<()> {
        let mut by_name = BTreeMap::<String, Vec<Series>>::new();
        for series in self.query("{__name__=~\".+:.+\"}")? {
            by_name.entry(series.label("__name__").to_owned()).or_default().push(series);
        }
        ensure!(by_name.len() > 10, "{} names are recorded: {:?}", by_name.len(), by_name.keys());
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        // The whole hours, which is where a subquery looks; and some days ago, for as long as the test may take to look.
        let mut moments: Vec<_> = (1..=days * 24).map(|ago| (now / HOUR - ago) * HOUR).collect();
        for ago in ASKED_FOR {
            moments.extend((0..=20).step_by(2).map(|minute| now - ago * DAY - 120 + minute * 60));
        }
        moments.sort_unstable();
        moments.dedup();
        let mut text = String::new();
        for (name, all) in &by_name {
            writeln!(text, "# TYPE {name} gauge")?;
            for series in all {
                let labels = series.labels.iter().filter(|(label, _)| *label != "__name__");
                let labels: Vec<_> = labels.map(|(label, value)| format!("{label}={value:?}")).collect();
                let labels = labels.join(",");
                for at in &moments {
                    let value = series.value * factor(name, (now - at) as f64 / DAY as f64);
                    writeln!(text, "{name}{{{labels}}} {value} {at}")?;
                }
            }
        }
        text.push_str("# EOF\n");
        let file = self.folder.path().join("past");
        fs::write(&file, text)?;
        self.stop()?;
        let mut promtool = Command::new("promtool");
        promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).args([file, self.folder.path().join("data")]);
        let output = promtool.output().context("run promtool")?;
        ensure!(output.status.success(), "promtool: {}", String::from_utf8_lossy(&output.stderr));
        self.run()
    }

    fn rules(&self) -> Result<Vec<Value>> {
        let data = self.ask("/api/v1/rules")?;
        let groups = data["groups"].as_array().context("no groups")?;
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()).cloned().collect())
    }

    /// Each thing that a rule looks at, with the rule's name.
    pub(crate) fn selectors(&self) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for rule in self.rules()? {
            let query = rule["query"].as_str().context("a rule without a query")?;
            let selectors = selectors(query);
            ensure!(!selectors.is_empty(), "{} looks at nothing: {query}", rule["name"]);
            let name = rule["name"].as_str().unwrap_or_default();
            all.extend(selectors.into_iter().map(|selector| (name.to_owned(), selector)));
        }
        Ok(all)
    }

    /// Rules whose last evaluation failed, or that have none.
    pub(crate) fn unhealthy(&self) -> Result<Vec<String>> {
        let rules = self.rules()?;
        let unhealthy = rules.iter().filter(|rule| rule["health"] != "ok");
        Ok(unhealthy.map(|rule| format!("{}: {} {}", rule["name"], rule["health"], rule["lastError"])).collect())
    }

    /// The end of its log, for an error.
    pub(crate) fn story(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        format!("(Prometheus says:\n{})", lines[lines.len().saturating_sub(10)..].join("\n"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `interval: 4m` becomes seconds.
fn sooner(line: &str) -> &str {
    if line.trim_start().starts_with("interval: ") { "    interval: 3s" } else { line }
}

/// The job of the README, with a file instead of its discovery.
fn configuration() -> Result<String> {
    let (_, rest) = README.split_once("```yaml\nscrape_configs:\n").context("the README has no job")?;
    let (job, _) = rest.split_once("```").context("the README's job has no end")?;
    let discovery = "    kubernetes_sd_configs:\n      - role: pod\n        namespaces:\n          names: [observer]\n";
    ensure!(job.contains(discovery), "another job than these tests know:\n{job}");
    let job = job.replace(discovery, "    file_sd_configs:\n      - files: [targets.json]\n");
    Ok(format!(
        "global: {{scrape_interval: 3s, evaluation_interval: 3s}}\nrule_files: [rules.yml]\nscrape_configs:\n{job}"
    ))
}

/// A target for each port of each container of each pod in the tests' namespace, and one for a container without any, as the role `pod` of
/// the discovery makes them: <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#pod>.
fn discovered() -> Result<Value> {
    let mut targets = Vec::new();
    for pod in get(&["pods"])?["items"].as_array().into_iter().flatten() {
        let Some(address) = pod["status"]["podIP"].as_str() else { continue };
        let mut of_pod = serde_json::Map::new();
        for (name, value) in [
            ("namespace", &pod["metadata"]["namespace"]),
            ("pod_name", &pod["metadata"]["name"]),
            ("pod_node_name", &pod["spec"]["nodeName"]),
            ("pod_ip", &pod["status"]["podIP"]),
        ] {
            of_pod.insert(format!("__meta_kubernetes_{name}"), value.clone());
        }
        for (label, value) in pod["metadata"]["labels"].as_object().into_iter().flatten() {
            let label = label.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            of_pod.insert(format!("__meta_kubernetes_pod_label_{label}"), value.clone());
        }
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            let ports = container["ports"].as_array().filter(|ports| !ports.is_empty()).cloned();
            for port in ports.unwrap_or_else(|| vec![Value::Null]) {
                let mut labels = of_pod.clone();
                labels.insert("__meta_kubernetes_pod_container_name".into(), container["name"].clone());
                let number = port["containerPort"].as_u64();
                if let Some(name) = port["name"].as_str() {
                    labels.insert("__meta_kubernetes_pod_container_port_name".into(), name.into());
                }
                let target = number.map_or_else(|| address.to_owned(), |number| format!("{address}:{number}"));
                targets.push(json!({ "targets": [target], "labels": labels }));
            }
        }
    }
    ensure!(targets.len() > 1, "too few pods to choose from: {targets:?}");
    Ok(targets.into())
}

/// The names of metrics in an expression with what is in braces behind them, and how long ago.
fn selectors(expression: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut all, mut rest) = (Vec::new(), expression);
    while let Some(start) = rest.find(is_word) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        rest = behind;
        if !(word.contains("observer_") || OF_PROMETHEUS.contains(&word)) {
            continue;
        }
        let mut selector = word.to_owned();
        if behind.starts_with('{')
            && let Some(end) = behind.find('}')
        {
            selector.push_str(&behind[..=end]);
            rest = &behind[end + 1..];
        }
        if let Some(ago) = rest.trim_start().strip_prefix("offset ") {
            let ago = ago.split(|c| !is_word(c)).next().unwrap_or_default();
            selector = format!("{selector} offset {ago}");
        }
        all.push(selector);
    }
    all
}
