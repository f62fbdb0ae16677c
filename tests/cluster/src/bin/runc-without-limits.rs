//! Stands before runc on a node whose cgroup v2 hierarchy has no controllers, since version 1 has them: takes the limits out of
//! a container's configuration, which runc could not set, and becomes runc.

use serde_json::{Value, json};
use std::{
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    // Changes the limits of a container that runs, and nothing else.
    if arguments.iter().any(|argument| argument == "update") {
        return ExitCode::SUCCESS;
    }
    if let Some(bundle) = bundle(&arguments)
        && let Err(error) = lift_limits(&Path::new(bundle).join("config.json"))
    {
        eprintln!("runc-without-limits: {error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new("runc").args(&arguments).exec();
    eprintln!("runc-without-limits: start runc: {error}");
    ExitCode::FAILURE
}

/// The directory of the container that is made, if one is.
fn bundle(arguments: &[OsString]) -> Option<&OsString> {
    arguments.iter().zip(arguments.iter().skip(1)).find(|(name, _)| *name == "--bundle").map(|(_, directory)| directory)
}

fn lift_limits(config: &Path) -> Result<(), String> {
    let explain = |error: &dyn std::fmt::Display| format!("{}: {error}", config.display());
    let text = fs::read(config).map_err(|error| explain(&error))?;
    let mut container: Value = serde_json::from_slice(&text).map_err(|error| explain(&error))?;
    without_limits(&mut container);
    fs::write(config, container.to_string()).map_err(|error| explain(&error))
}

/// Which devices it may use is no controller's matter in version 2.
fn without_limits(container: &mut Value) {
    if let Some(resources) = container.pointer_mut("/linux/resources") {
        *resources = json!({ "devices": resources["devices"].take() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_what_the_runtime_passes_with_its_flag() {
        let arguments = ["--root", "/r", "create", "--bundle", "/b", "id"].map(OsString::from);
        assert_eq!(bundle(&arguments), Some(&OsString::from("/b")));
        assert_eq!(bundle(&["delete", "id"].map(OsString::from)), None);
    }

    #[test]
    fn devices_stay_and_every_limit_goes() {
        let mut container = json!({
            "ociVersion": "1.0.2",
            "linux": { "cgroupsPath": "/x", "resources": { "devices": [1], "memory": { "limit": 1 }, "pids": {} } },
        });
        without_limits(&mut container);
        let expected =
            json!({ "ociVersion": "1.0.2", "linux": { "cgroupsPath": "/x", "resources": { "devices": [1] } } });
        assert_eq!(container, expected);
    }
}
