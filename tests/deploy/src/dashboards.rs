//! The dashboards: that they can be read, that Grafana knows all that is in them, that every panel says what it is, and that what they ask
//! for is there to be asked.

use crate::{
    chart::{EVERYTHING, objects, with_helm},
    objects::documents,
    rules::with_promtool,
    test, text, workspace,
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Completion, Failed, Trial};
use observer::metrics::families;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Grafana's names of units that are used here: <https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts>.
const UNITS: [&str; 9] = ["short", "Bps", "bytes", "percentunit", "reqps", "ops", "cps", "s", "none"];
/// What a dashboard's variable becomes where only the form of a query is looked at.
const VARIABLES: [(&str, &str); 5] =
    [("$__rate_interval", "1m"), ("$node", "n"), ("$namespace", "n"), ("$workload", "w"), ("$instance", ".*")];
/// What is scraped of any target.
const OF_PROMETHEUS: [&str; 1] = ["up"];

/// Names the program that knows Grafana's schema, tests/deploy/grafana.
const SCHEMA: &str = "GRAFANA_SCHEMA";
/// What Grafana does not know, or not so: a file, a place in it, a key there and its value; and what of it is named.
const WRONG: [(&str, &str, &str, &str, &str); 14] = [
    ("node.json", "", "colour", r#""red""#, "'colour'"),
    ("node.json", "", "title", "7", "dashboard.title"),
    ("node.json", "/time", "until", r#""now""#, "'until'"),
    ("node.json", "/templating/list/1", "refresh", r#""often""#, "list[1].refresh"),
    ("node.json", "/panels/1", "type", r#""graph""#, "panels[1].type"),
    ("node.json", "/panels/1/gridPos", "w", "0", "gridPos.w"),
    ("node.json", "/panels/1/options/legend", "calcs", r#""max""#, "options.legend.calcs"),
    ("node.json", "/panels/1/targets/0", "expression", r#""up""#, "'expression'"),
    ("node.json", "/panels/1/targets/0/datasource", "type", r#""loki""#, "targets[0].datasource.type"),
    ("node.json", "/panels/1/fieldConfig/defaults", "units", r#""s""#, "'units'"),
    ("node.json", "/panels/1/fieldConfig/defaults/custom", "lineWidth", r#""thick""#, "custom.lineWidth"),
    ("node.json", "/panels/1/fieldConfig/overrides/0/properties/0/value", "modus", r#""none""#, "'modus'"),
    ("node.json", "/panels/1/fieldConfig/overrides/0/properties/1", "value", r#""thick""#, "custom.lineWidth"),
    ("agent.json", "/panels/1/fieldConfig/defaults", "custom", r#"{"lineWidth": 1}"#, "defaults.custom"),
];

/// The tests.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("every_panel_has_a_title_a_description_a_unit_and_a_query", panels),
        test("panels_are_told_apart_and_none_lies_on_another", places),
        test("dashboards_ask_for_metrics_that_there_are_and_use_variables_that_they_have", metrics),
        with_promtool("every_query_of_a_dashboard_is_one_that_prometheus_reads", queries),
        with_helm("the_dashboards_of_the_chart_are_those_of_the_files", config_maps),
        test("dashboards_are_found_by_whoever_comes_from_another", links),
        with_schema("the_dashboards_are_what_grafanas_schema_allows", allowed),
        with_schema("what_grafanas_schema_does_not_allow_in_a_dashboard_is_found_and_named", refused),
    ]
}

/// Each by its name.
fn all() -> Result<Vec<(String, Value)>> {
    let directory = workspace("deploy/dashboards");
    let entries = fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dashboard = serde_json::from_str(&fs::read_to_string(&path)?).with_context(|| name.clone())?;
        all.push((name, dashboard));
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names == ["agent.json", "cluster.json", "node.json", "workload.json"], "{names:?}");
    Ok(all)
}

/// The panels of a dashboard that ask for something.
fn asking(dashboard: &Value) -> Result<Vec<&Value>> {
    let panels = dashboard["panels"].as_array().context("no panels")?;
    Ok(panels.iter().filter(|panel| panel["type"] != "row").collect())
}

fn expressions(dashboard: &Value) -> Result<Vec<String>> {
    let targets = asking(dashboard)?.into_iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| Ok(target["expr"].as_str().context("a query without an expression")?.to_owned())).collect()
}

fn panels() -> Result<()> {
    for (name, dashboard) in all()? {
        ensure!(dashboard["description"].as_str().is_some_and(|text| text.len() > 20), "{name}: no description");
        let panels = asking(&dashboard)?;
        ensure!(panels.len() >= 8, "{name}: {} panels", panels.len());
        for panel in panels {
            let title = panel["title"].as_str().filter(|title| !title.is_empty());
            let title = title.with_context(|| format!("{name}: a panel without a title"))?;
            ensure!(
                panel["description"].as_str().is_some_and(|text| text.len() > 10),
                "{name}, {title}: no description"
            );
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
            ensure!(UNITS.contains(&unit), "{name}, {title}: the unit {unit:?}");
            let targets = panel["targets"].as_array().context("no targets")?;
            ensure!(!targets.is_empty(), "{name}, {title}: no query");
            for target in targets {
                ensure!(target["datasource"]["uid"] == "${datasource}", "{name}, {title}: {target}");
            }
        }
    }
    Ok(())
}

fn places() -> Result<()> {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in all()? {
        ensure!(uids.insert(dashboard["uid"].as_str().unwrap_or_default().to_owned()), "{name}: its uid is another's");
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().context("no panels")? {
            ensure!(ids.insert(panel["id"].as_u64()), "{name}: two panels {}", panel["id"]);
            let place = |key: &str| panel["gridPos"][key].as_u64().with_context(|| format!("{name}: no {key}"));
            let (x, y, width, height) = (place("x")?, place("y")?, place("w")?, place("h")?);
            ensure!(x + width <= 24 && height > 0, "{name}: {} is outside", panel["title"]);
            for column in x..x + width {
                for row in y..y + height {
                    ensure!(taken.insert((column, row)), "{name}: {} lies on another", panel["title"]);
                }
            }
        }
    }
    Ok(())
}

/// Names of metrics in a query: those of ours, and what the rules record.
fn names(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.contains("observer_") || word.starts_with("process_") || *word == "up").collect()
}

fn metrics() -> Result<()> {
    let rules = documents(&text("deploy/rules/observer.yaml")?)?;
    let groups = rules[0]["groups"].as_array().context("no groups")?;
    let recorded: BTreeSet<_> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().into_iter().flatten())
        .filter_map(|rule| rule["record"].as_str())
        .collect();
    let exported: BTreeSet<_> = families().map(|family| family.name).collect();
    let is_there = |name: &str| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        recorded.contains(name) || exported.contains(name) || exported.contains(family) || OF_PROMETHEUS.contains(&name)
    };
    for (file, dashboard) in all()? {
        let variables = dashboard["templating"]["list"].as_array().context("no variables")?;
        let variables: BTreeSet<_> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
        let definitions = dashboard["templating"]["list"].as_array().into_iter().flatten();
        let asked = definitions.filter_map(|variable| variable["definition"].as_str().map(str::to_owned));
        for expression in expressions(&dashboard)?.into_iter().chain(asked) {
            let names = names(&expression);
            ensure!(!names.is_empty(), "{file}: nothing is asked for by {expression}");
            for name in names {
                ensure!(is_there(name), "{file}: there is no {name}, in {expression}");
            }
            for (at, _) in expression.match_indices('$') {
                let rest = &expression[at + 1..];
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
                let used = &rest[..end];
                ensure!(
                    used == "__rate_interval" || variables.contains(used),
                    "{file}: no variable {used}, in {expression}"
                );
            }
        }
    }
    Ok(())
}

/// promtool reads expressions in rules.
fn queries() -> Result<()> {
    let mut rules = String::from("groups:\n  - name: dashboards\n    rules:\n");
    let mut count = 0;
    for (_, dashboard) in all()? {
        for mut expression in expressions(&dashboard)? {
            for (variable, value) in VARIABLES {
                expression = expression.replace(variable, value);
            }
            count += 1;
            let _ = writeln!(
                rules,
                "      - record: dashboard:{count}\n        expr: {}",
                serde_json::to_string(&expression)?
            );
        }
    }
    ensure!(count > 50, "{count} queries");
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), rules)?;
    let output = Command::new("promtool").args(["check", "rules", "--lint=none"]).arg(file.path()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn links() -> Result<()> {
    for (name, dashboard) in all()? {
        let has_tag = |list: &Value| list.as_array().is_some_and(|tags| tags.iter().any(|tag| tag == "observer"));
        ensure!(has_tag(&dashboard["tags"]), "{name} has no tag");
        let links = dashboard["links"].as_array().context("no links")?;
        ensure!(links.iter().any(|link| has_tag(&link["tags"])), "{name} leads to no other");
    }
    Ok(())
}

/// A test that is skipped where there is no program that knows the schema. One on the search path may be older than its source.
fn with_schema(sentence: &str, run: fn(&Path) -> Result<()>) -> Trial {
    Trial::ignorable_test(sentence, move || {
        let Some(program) = std::env::var_os(SCHEMA) else {
            return Ok(Completion::ignored_with(
                "needs GRAFANA_SCHEMA: `cargo xtask test --level deploy` builds it, with Go",
            ));
        };
        run(Path::new(&program)).map(|()| Completion::Completed).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn hold(program: &Path, files: &[PathBuf]) -> Result<Output> {
    Command::new(program).args(files).output().with_context(|| format!("run {}", program.display()))
}

fn allowed(program: &Path) -> Result<()> {
    let files: Vec<_> = all()?.iter().map(|(name, _)| workspace("deploy/dashboards").join(name)).collect();
    let Output { status, stdout, stderr } = hold(program, &files)?;
    ensure!(status.success(), "{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    Ok(())
}

fn refused(program: &Path) -> Result<()> {
    for (name, place, key, value, named) in WRONG {
        let mut dashboard: Value = serde_json::from_str(&text(&format!("deploy/dashboards/{name}"))?)?;
        let object = dashboard.pointer_mut(place).and_then(Value::as_object_mut);
        object.with_context(|| format!("no {place} in {name}"))?.insert(key.into(), serde_json::from_str(value)?);
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), dashboard.to_string())?;
        let output = hold(program, &[file.path().to_owned()])?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.code() == Some(1), "{name} with {key}: {value} in {place}: {}, {said}", output.status);
        ensure!(said.contains(named), "{named} is not in {said}");
    }
    Ok(())
}

fn config_maps() -> Result<()> {
    let objects = objects(EVERYTHING, &["--namespace", "monitoring"])?;
    let mut files = all()?;
    for map in &objects.config_maps {
        let (labels, annotations) = (map.metadata.labels.clone(), map.metadata.annotations.clone());
        ensure!(labels.is_some_and(|labels| labels["grafana_dashboard"] == "yes"), "{:?}", map.metadata);
        ensure!(annotations.is_some_and(|all| all["grafana_folder"] == "nodes"), "{:?}", map.metadata);
        for (key, json) in map.data.iter().flatten() {
            let at = files.iter().position(|(name, _)| format!("observer-{name}") == *key);
            let (_, file) = files.swap_remove(at.with_context(|| format!("no file is {key}"))?);
            ensure!(serde_json::from_str::<Value>(json)? == file, "{key} is another than the file");
        }
    }
    ensure!(files.is_empty(), "not in the chart: {:?}", files.iter().map(|(name, _)| name).collect::<Vec<_>>());
    Ok(())
}
