//! The level that reads what is deployed: the manifest beside the chart, and what both promise.

use super::{Context, Level, Tally, level, skipped::Skipped};
use crate::{
    deploy::{self, helm, schema},
    driven, progress,
};
use anyhow::Result;
use std::process::Command;

/// Compares the manifest with the chart, and runs `observer-deploy`. Without Helm only the manifest is read, and without the program that
/// knows Grafana's schema the dashboards are not held against it.
///
/// # Errors
/// When the harness does not build.
pub(super) fn run(context: &Context<'_>) -> Result<Tally> {
    let helm = helm::find(context.workspace);
    let mut tally = match &helm {
        None => without_helm(context.circumstances.ci),
        Some(helm) => match deploy::difference(context.workspace, helm) {
            Ok(None) => Tally::one_passed(),
            Ok(Some(difference)) => Tally::one_failed(difference),
            Err(error) => Tally::one_failed(format!("{error:#}")),
        },
    };
    driven::build(context.workspace)?;
    let mut harness = Command::new(driven::program(context.workspace, driven::DEPLOY));
    harness.current_dir(context.workspace.root()).args(context.arguments).env("PATH", context.path());
    if let Some(helm) = &helm {
        harness.env("HELM", helm);
    }
    match schema::find(context.workspace) {
        Some(schema) => drop(harness.env("GRAFANA_SCHEMA", schema)),
        None => tally.add(without_schema(context.circumstances.ci)),
    }
    let finished = progress::run("deploy", harness, &context.log(Level::Deploy)?)?;
    tally.add(level::read(&finished));
    Ok(tally)
}

/// The comparison that was not made. The harness says which of its tests it left out.
fn without_helm(ci: bool) -> Tally {
    const WHAT: &str = "the manifest is what the chart renders";
    const WHY: &str = "there is no helm: see target/setup-logs";
    if ci {
        Tally::one_failed(format!("{WHAT}: {WHY}"))
    } else {
        Tally { skipped: vec![Skipped::test(WHAT, WHY)], ..Tally::default() }
    }
}

/// The harness says that it left those tests out.
fn without_schema(ci: bool) -> Tally {
    let why = format!("there is no {}: see target/setup-logs", schema::NAME);
    if ci {
        Tally::one_failed(format!("the dashboards are what Grafana's schema allows: {why}"))
    } else {
        Tally::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_helm_the_comparison_is_skipped_and_in_ci_it_has_failed() {
        assert_eq!((without_helm(false).skipped.len(), without_helm(false).failed.len()), (1, 0));
        assert_eq!((without_helm(true).skipped.len(), without_helm(true).failed.len()), (0, 1));
    }

    #[test]
    fn dashboards_that_are_not_held_against_the_schema_are_a_failure_in_ci() {
        assert!(without_schema(false).is_empty());
        assert_eq!(without_schema(true).failed.len(), 1);
    }
}
