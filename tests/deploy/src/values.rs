//! deploy/chart/values.yaml and its schema: the same keys, each with a comment, and the agent's settings among them.

use crate::{
    objects::{documents, leaves},
    test, text,
};
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

/// The tests.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("each_value_has_a_comment_above_it", comments),
        test("each_value_is_in_the_schema_and_the_schema_has_no_other", schema),
        test("objects_of_the_schema_refuse_keys_that_they_do_not_name", closed),
        test("each_setting_of_the_agent_has_its_value", settings),
    ]
}

/// A comment stands right above each key whose value is not a map of other keys that are explained.
fn comments() -> Result<()> {
    let values = text("deploy/chart/values.yaml")?;
    let lines: Vec<&str> = values.lines().collect();
    // Below these are Kubernetes' own words.
    let foreign = ["resources:", "nodeSelector:", "tolerations:"];
    let mut within_foreign = false;
    for (number, line) in lines.iter().enumerate() {
        let key = line.trim_start();
        let indent = line.len() - key.len();
        if key.is_empty() || key.starts_with('#') {
            continue;
        }
        if indent == 0 {
            within_foreign = foreign.contains(&key);
        }
        let explained = number > 0 && lines[number - 1].trim_start().starts_with('#');
        let opens = key.ends_with(':') && lines.get(number + 1).is_some_and(|next| next.trim_start().starts_with('#'));
        ensure!(explained || opens || (within_foreign && indent > 0), "line {}: no comment above `{key}`", number + 1);
    }
    Ok(())
}

fn values() -> Result<Value> {
    documents(&text("deploy/chart/values.yaml")?)?.pop().context("values.yaml is empty")
}

fn read_schema() -> Result<Value> {
    Ok(serde_json::from_str(&text("deploy/chart/values.schema.json")?)?)
}

/// What a part of the schema refers to.
fn resolved<'a>(schema: &'a Value, part: &'a Value) -> &'a Value {
    let name = part["$ref"].as_str().and_then(|name| name.strip_prefix("#"));
    name.and_then(|name| schema.pointer(name)).unwrap_or(part)
}

fn schema() -> Result<()> {
    let (schema, values) = (read_schema()?, values()?);
    for leaf in leaves(values.as_object().context("values.yaml is no map")?) {
        let mut part = &schema;
        for key in leaf.split('.') {
            part = resolved(&schema, part);
            // A map of whatever keys: nodeSelector, annotations.
            if part["properties"].is_null() && part["additionalProperties"].is_object() {
                break;
            }
            part = part["properties"].get(key).with_context(|| format!("the schema has no {leaf}"))?;
        }
    }
    both_have(&schema, &schema, &values, "")
}

/// Every property of the schema that is an object with names is in the values, or is Kubernetes' own.
fn both_have(schema: &Value, part: &Value, values: &Value, path: &str) -> Result<()> {
    let Some(properties) = resolved(schema, part)["properties"].as_object() else { return Ok(()) };
    // Empty maps of the values, to be filled with what Kubernetes knows.
    if values.as_object().is_some_and(serde_json::Map::is_empty) || path.starts_with("/resources") {
        return Ok(());
    }
    for (key, below) in properties.iter().filter(|(key, _)| *key != "global") {
        let value = values.get(key).with_context(|| format!("values.yaml has no {path}/{key}"))?;
        both_have(schema, below, value, &format!("{path}/{key}"))?;
    }
    Ok(())
}

fn closed() -> Result<()> {
    fn walk(part: &Value, path: &str) -> Result<()> {
        match part {
            Value::Object(map) => {
                let open =
                    map.contains_key("properties") && map.get("additionalProperties") != Some(&Value::Bool(false));
                ensure!(!open, "{path} takes any key");
                map.iter().try_for_each(|(key, below)| walk(below, &format!("{path}/{key}")))
            }
            Value::Array(items) => items.iter().try_for_each(|below| walk(below, path)),
            _ => Ok(()),
        }
    }
    walk(&read_schema()?, "")
}

/// But for those that only make sense outside of Kubernetes.
fn settings() -> Result<()> {
    let values = text("deploy/chart/values.yaml")?;
    for key in observer::config::keys() {
        // The downward API, the service account, the pod's user, and the directory that is always mounted.
        if ["node-name", "kubeconfig", "user", "proc-path"].contains(&key) {
            continue;
        }
        ensure!(values.contains(&format!("# --{key}")), "values.yaml has no value for --{key}");
    }
    Ok(())
}
