//! The sources are injected: no test reads this machine's environment or files.

use super::*;

const FILE: &str = "/etc/observer.toml";

fn flags(given: &[(&'static str, &str)]) -> Vec<(&'static str, Vec<String>)> {
    given.iter().map(|(key, value)| (*key, vec![(*value).to_owned()])).collect()
}

fn resolved(
    given: &[(&'static str, &str)],
    environment: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Effective, ConfigErrors> {
    let environment: Vec<_> = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let file = file.map(|text| (Path::new(FILE), text));
    resolve(&Sources { flags: &flags(given), environment: &environment, file, hostname: "node-7" })
}

fn errors(given: &[(&'static str, &str)], environment: &[(&str, &str)], file: Option<&str>) -> Vec<String> {
    resolved(given, environment, file).unwrap_err().to_string().lines().map(str::to_owned).collect()
}

#[test]
fn nothing_said_gives_the_defaults() {
    let config = resolved(&[], &[], None).unwrap().config;
    assert_eq!(config, AgentConfig::with_defaults("node-7"));
    assert_eq!(config.metrics_listen.to_string(), "0.0.0.0:9810");
    assert_eq!((config.max_cgroups, config.sample_interval), (3072, Duration::from_secs(1)));
}

#[test]
fn flags_overrule_the_environment_which_overrules_the_file() {
    let file = "node-name = 'file'\nmax-cgroups = 10\nsample-interval = '2s'\n";
    let environment = [("OBSERVER_NODE_NAME", "variable"), ("OBSERVER_MAX_CGROUPS", "20")];
    let config = resolved(&[("node-name", "flag")], &environment, Some(file)).unwrap().config;
    assert_eq!((config.node_name.as_str(), config.max_cgroups), ("flag", 20));
    assert_eq!(config.sample_interval, Duration::from_secs(2));
}

#[test]
fn every_setting_is_read_from_every_source() {
    let given = [
        ("metrics-listen", "[::1]:0"),
        ("debug-listen", "[::1]:0"),
        ("node-name", "a \"name\"\n"),
        ("kubeconfig", "/etc/observer/kubeconfig"),
        ("max-cgroups", "12"),
        ("max-flows", "200"),
        ("series-limit", "5000"),
        ("sample-interval", "500ms"),
        ("wait-threshold", "250us"),
        ("pressure", "true"),
        ("user", "keep"),
        ("proc-path", "/host/proc"),
        ("net-path", "/host/proc/7/net"),
        ("cgroup-path", "/host/sys/fs/cgroup"),
        ("state-dir", "/var/lib/observer"),
        ("cluster-cidr", "10.244.0.0/16,fd44::/56"),
        ("service-cidr", "10.96.0.1/12"),
        ("intranet-cidr", "203.0.113.7/24, 2001:db8::/32,192.0.2.1"),
        ("summary-interval", "5m"),
        ("log-format", "json"),
    ];
    let by_flags = resolved(&given, &[], None).unwrap();
    let variables = given.map(|(key, value)| (Origin::variable_of(key), value));
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let by_variables = resolved(&[], &variables, None).unwrap();
    let by_file = resolved(&[], &[], Some(&by_flags.to_toml())).unwrap();

    assert_eq!(by_flags.config, by_variables.config);
    assert_eq!(by_flags.config, by_file.config, "--print-config makes a file that says the same");
    let ranges: Vec<_> = by_flags.config.intranet_cidr.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["203.0.113.0/24", "2001:db8::/32", "192.0.2.1/32"]);
    assert_eq!(by_flags.config.cluster_cidr.len(), 2);
    assert_eq!(by_flags.config.service_cidr, ["10.96.0.0/12".parse().unwrap()]);
    assert_eq!(by_flags.config.summary_interval, Duration::from_mins(5));
    assert_eq!(by_flags.config.cgroup_path, Some("/host/sys/fs/cgroup".into()));
    let unlike_default = AgentConfig::with_defaults("node-7");
    assert_ne!(by_flags.config.log_format, unlike_default.log_format);
    assert_eq!(given.len(), SETTINGS.len(), "a new setting belongs into this test");
}

#[test]
fn the_effective_configuration_says_where_each_value_comes_from() {
    let file = "# ours\n\nsummary-interval = \"5s\"\nintranet-cidr = [\n  \"192.0.2.0/24\",\n]\n";
    let environment = [("OBSERVER_USER", "990")];
    let text = resolved(&[("max-cgroups", "7")], &environment, Some(file)).unwrap().to_toml();
    for expected in [
        "# --max-cgroups\nmax-cgroups = 7\n",
        "# OBSERVER_USER\nuser = \"990\"\n",
        "# /etc/observer.toml line 3\nsummary-interval = \"5s\"\n",
        "# /etc/observer.toml line 4\nintranet-cidr = [\"192.0.2.0/24\"]\n",
        "# default\nnode-name = \"node-7\"\n",
        "# default: found in mountinfo\n# cgroup-path is not set\n",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
}

#[test]
fn all_mistakes_are_reported_together_each_with_its_place() {
    let file = "node-nane = 'x'\nmax-cgroups = true\n\nsample_interval = '1s'\nlog-format = 'xml'\n";
    let environment = [("OBSERVER_SAMPLE_INTERVAL", "1 second"), ("OBSERVER_PORT", "tcp://10.0.0.1:9810")];
    let told = errors(&[("metrics-listen", "9810"), ("max-cgroups", "0")], &environment, Some(file));
    assert_eq!(told.len(), 7, "{told:#?}");
    assert!(told[0].starts_with("/etc/observer.toml line 1: unknown key \"node-nane\"; the keys are metrics-listen, "));
    assert_eq!(told[1], "/etc/observer.toml line 2: max-cgroups: must be a string in quotes or a whole number");
    assert_eq!(told[2], "/etc/observer.toml line 4: unknown key \"sample_interval\"; write sample-interval");
    assert_eq!(told[3], "/etc/observer.toml line 5: log-format: \"xml\" is not right; wanted: \"text\" or \"json\"");
    assert!(told[4].starts_with("OBSERVER_SAMPLE_INTERVAL: \"1 second\" is not right"), "{}", told[4]);
    assert!(told[5].starts_with("--metrics-listen: \"9810\" is not right; wanted: an address and a port"));
    assert_eq!(told[6], "--max-cgroups: \"0\" is not right; wanted: a number from 1 to 262144");
}

#[test]
fn text_that_is_no_toml_is_an_error_with_its_line() {
    for (text, line) in [("node-name = 'a'\nmax-cgroups = = 3\n", 2), ("[", 1), ("a b", 1), ("x = 1\nx = 2\n", 2)] {
        let told = errors(&[], &[], Some(text));
        let expected = format!("/etc/observer.toml line {line}: not valid TOML: ");
        assert!(told.iter().any(|error| error.starts_with(&expected)), "{text:?}: {told:?}");
    }
    let table = errors(&[], &[], Some("[agent]\nnode-name = 'x'\n"));
    assert!(table[0].starts_with("/etc/observer.toml line 1: unknown key \"agent\""), "{table:?}");
}

#[test]
fn durations_have_a_unit_and_bounds() {
    let interval =
        |text| resolved(&[("sample-interval", text)], &[], None).map(|effective| effective.config.sample_interval);
    assert_eq!(interval("100ms"), Ok(Duration::from_millis(100)));
    assert_eq!(interval("60s"), interval("1m"));
    for wrong in
        ["", "1", "s", "1.5s", "-1s", "1 s", "99ms", "61s", "1h", "18446744073709551615h", "1d", "1ss", "\u{661}s"]
    {
        assert!(interval(wrong).is_err(), "{wrong:?}");
    }
    let threshold =
        |text| resolved(&[("wait-threshold", text)], &[], None).map(|effective| effective.config.wait_threshold);
    assert_eq!(threshold("10us"), Ok(Duration::from_micros(10)));
    assert!(threshold("9us").is_err() && threshold("11s").is_err());
    let summary = |text| resolved(&[("summary-interval", text)], &[], None).is_ok();
    assert!(summary("0s") && summary("1s") && !summary("500ms") && !summary("25h"));
}

#[test]
fn the_debug_listener_is_on_loopback_or_off() {
    let listen = |text| resolved(&[("debug-listen", text)], &[], None).map(|effective| effective.config.debug_listen);
    assert_eq!(listen("off"), Ok(None));
    assert_eq!(listen("127.0.0.2:1"), Ok(Some("127.0.0.2:1".parse().unwrap())));
    let told = errors(&[("debug-listen", "0.0.0.0:9811")], &[], None);
    assert!(
        told[0].starts_with("--debug-listen: \"0.0.0.0:9811\" is not right; wanted: a loopback address"),
        "{told:?}"
    );
    assert!(listen("9811").is_err());
    let off = resolved(&[("debug-listen", "off")], &[], None).unwrap().to_toml();
    assert!(off.contains("debug-listen = \"off\""), "{off}");
}

#[test]
fn an_empty_variable_counts_as_not_set_and_an_empty_flag_does_not() {
    assert_eq!(resolved(&[], &[("OBSERVER_NODE_NAME", "")], None).unwrap().config.node_name, "node-7");
    for key in ["node-name", "user", "proc-path", "metrics-listen"] {
        assert!(errors(&[(key, "")], &[], None)[0].starts_with(&format!("--{key}: ")));
    }
}

#[test]
fn a_machine_without_a_name_needs_one_given() {
    let error = resolve(&Sources::default()).unwrap_err().to_string();
    assert!(error.starts_with("--node-name: ") && error.contains("give a name"), "{error}");
}

#[test]
fn a_file_with_one_value_where_a_list_may_be() {
    let config = resolved(&[], &[], Some("intranet-cidr = '192.0.2.0/24'")).unwrap().config;
    assert_eq!(config.intranet_cidr.len(), 1);
    let told = errors(&[], &[], Some("intranet-cidr = [1]"));
    assert_eq!(told[0], "/etc/observer.toml line 1: intranet-cidr: every item must be a string in quotes");
    let told = errors(&[], &[], Some("node-name = ['a']"));
    assert!(told[0].contains("line 1: node-name: must be a string"), "{told:?}");
}

#[test]
fn a_switch_is_on_or_off_and_nothing_else() {
    for (text, expected) in [("pressure = true", true), ("pressure = false", false), ("pressure = 'true'", true)] {
        assert_eq!(resolved(&[], &[], Some(text)).unwrap().config.pressure, expected, "{text}");
    }
    assert_eq!(errors(&[], &[], Some("pressure = 1"))[0], "/etc/observer.toml line 1: pressure: must be true or false");
    let told = errors(&[("pressure", "yes")], &[], None);
    assert_eq!(told[0], "--pressure: \"yes\" is not right; wanted: true or false");
}

#[test]
fn foreign_variables_are_passed_over_and_broken_ones_reported() {
    use std::os::unix::ffi::OsStringExt;
    let broken = || OsString::from_vec(vec![b'a', 0xff]);
    let all = [
        ("OBSERVER_NODE_NAME".into(), "a".into()),
        ("OBSERVER_PORT".into(), broken()),
        ("OBSERVER_USER".into(), broken()),
        (broken(), "x".into()),
    ];
    let (variables, errors) = environment(all.into_iter());
    assert_eq!(variables, [("OBSERVER_NODE_NAME".to_owned(), "a".to_owned())]);
    assert_eq!(ConfigErrors(errors).to_string(), "OBSERVER_USER: not UTF-8; write it anew");
}
