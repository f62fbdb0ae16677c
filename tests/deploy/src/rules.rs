//! The recording rules and alerts, as promtool reads and runs them: each alert on the shape that it is for and on shapes that it is not
//! for, over days of made-up series.

use crate::{objects::documents, test, text, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::{Completion, Failed, Trial};
use observer::metrics::families;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

/// The tests.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("every_alert_has_a_paragraph_that_says_what_to_do", paragraphs),
        test("every_alert_fires_in_a_test_and_is_silent_in_one", tested),
        test("what_is_recorded_is_found_by_whoever_looks_for_it", intervals),
        test("the_rules_use_metrics_that_there_are", metrics),
        with_promtool("promtool_has_nothing_to_say_on_the_rules", || {
            promtool(&["check", "rules"], &workspace("deploy/rules/observer.yaml"))
        }),
    ];
    for file in files().unwrap_or_default() {
        let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        trials.push(with_promtool(&format!("alerts_fire_when_they_should_and_at_no_other_time_{name}"), move || {
            promtool(&["test", "rules"], &file)
        }));
    }
    trials
}

fn files() -> Result<Vec<PathBuf>> {
    let directory = workspace("deploy/rules/tests");
    let entries = fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
    let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

/// A test that is skipped where there is no promtool.
pub(crate) fn with_promtool(sentence: &str, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::ignorable_test(sentence, move || {
        if Command::new("promtool").arg("--version").output().is_err() {
            return Ok(Completion::ignored_with("needs promtool: `cargo xtask setup` unpacks it"));
        }
        run().map(|()| Completion::Completed).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn promtool(words: &[&str], file: &std::path::Path) -> Result<()> {
    let output = Command::new("promtool").args(words).arg(file).output().context("run promtool")?;
    if !output.status.success() {
        bail!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Every rule.
fn rules() -> Result<Vec<Value>> {
    let documents = documents(&text("deploy/rules/observer.yaml")?)?;
    let groups = documents[0]["groups"].as_array().context("no groups")?;
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
    Ok(rules.cloned().collect())
}

fn alerts() -> Result<BTreeSet<String>> {
    let alerts: BTreeSet<_> = rules()?.iter().filter_map(|rule| rule["alert"].as_str().map(str::to_owned)).collect();
    ensure!(alerts.len() > 5, "{alerts:?}");
    Ok(alerts)
}

fn paragraphs() -> Result<()> {
    let page = text("docs/alerts.md")?;
    let headings: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## Observer"))
        .map(|rest| format!("Observer{rest}"))
        .collect();
    let alerts = alerts()?;
    ensure!(headings == alerts, "docs/alerts.md has {headings:?}, the rules {alerts:?}");
    for rule in rules()?.iter().filter(|rule| rule["alert"].is_string()) {
        let written = |key: &str| rule["annotations"][key].as_str().is_some_and(|text| text.len() > 20);
        ensure!(written("summary") && written("description"), "{rule}");
        ensure!(rule["labels"]["severity"].is_string(), "{rule}");
        let name = rule["alert"].as_str().unwrap_or_default();
        ensure!(rule["annotations"]["runbook"] == format!("docs/alerts.md#{}", name.to_lowercase()), "{rule}");
    }
    Ok(())
}

fn tested() -> Result<()> {
    let (mut fires, mut is_silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files()? {
        let documents = documents(&fs::read_to_string(&file)?)?;
        for test in documents[0]["tests"].as_array().context("no tests")? {
            let mut fires_here = BTreeSet::new();
            for check in test["promql_expr_test"].as_array().into_iter().flatten() {
                let samples = check["exp_samples"].as_array().context("no exp_samples")?;
                let labels = samples.iter().filter_map(|sample| sample["labels"].as_str());
                let alerts = labels.filter_map(|labels| labels.split("alertname=\"").nth(1)?.split('"').next());
                fires_here.extend(alerts.map(str::to_owned));
            }
            // In the series of each test everything else is silent, where all that fires is asked for.
            let asks_for_all = test["promql_expr_test"].as_array().into_iter().flatten();
            let mut asked: Vec<_> = asks_for_all.filter_map(|check| check["expr"].as_str()).collect();
            asked.retain(|expr| *expr == "ALERTS{alertstate=\"firing\"}");
            for alert in alerts()? {
                let named = test["promql_expr_test"].as_array().into_iter().flatten().any(|check| {
                    check["expr"].as_str().is_some_and(|expr| expr.contains(&alert))
                        && check["exp_samples"].as_array().is_some_and(Vec::is_empty)
                });
                if named || (!asked.is_empty() && !fires_here.contains(&alert)) {
                    is_silent.insert(alert);
                }
            }
            fires.extend(fires_here);
        }
    }
    let alerts = alerts()?;
    ensure!(fires == alerts, "{fires:?} fire in a test, of {alerts:?}");
    ensure!(is_silent == alerts, "{is_silent:?} are silent in a test, of {alerts:?}");
    Ok(())
}

/// Prometheus looks for a series in the five minutes before, and evaluates each group at moments of its own.
fn intervals() -> Result<()> {
    let documents = documents(&text("deploy/rules/observer.yaml")?)?;
    for group in documents[0]["groups"].as_array().context("no groups")? {
        let interval = group["interval"].as_str().context("no interval")?;
        let minutes: u32 = interval.strip_suffix('m').context("no minutes")?.parse()?;
        ensure!(minutes < 5, "{}: {interval}", group["name"]);
    }
    for file in files()? {
        // Where a test evaluates more seldom than that, the groups have to come in their order.
        ensure!(fs::read_to_string(&file)?.contains("\ngroup_eval_order: ["), "{}", file.display());
    }
    Ok(())
}

/// What is recorded, and what the agent exports, is all that the rules speak of.
fn metrics() -> Result<()> {
    let rules = rules()?;
    let recorded: BTreeSet<_> = rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    let exported: BTreeSet<_> = families().map(|family| family.name).collect();
    for rule in &rules {
        let expr = rule["expr"].as_str().context("no expr")?;
        let words = expr.split(|character: char| !(character.is_ascii_alphanumeric() || "_:".contains(character)));
        for word in words.filter(|word| word.contains("observer_")) {
            let is_known = if word.contains(':') { recorded.contains(word) } else { exported.contains(word) };
            ensure!(is_known, "{word} is neither recorded nor exported: {expr}");
        }
    }
    Ok(())
}
