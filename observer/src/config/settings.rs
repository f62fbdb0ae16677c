//! The table of settings: how each is spelt, read from text, and shown as TOML.

use super::{AgentConfig, LogFormat, Origin};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use toml::Value;

/// One setting.
pub(super) struct Setting {
    /// The flag without dashes, and the key of the file.
    pub(super) key: &'static str,
    /// Whether several values are one configuration.
    pub(super) is_list: bool,
    /// Whether it is `true` or `false`.
    pub(super) is_switch: bool,
    /// Puts the values (one, unless it is a list) into the configuration; the error says what would be right.
    pub(super) read: fn(&mut AgentConfig, &[String]) -> Result<(), String>,
    /// The value, unless it is not set.
    pub(super) show: fn(&AgentConfig) -> Option<Value>,
    /// What holds when it is not set.
    pub(super) when_absent: &'static str,
}

impl Setting {
    /// The environment variable.
    pub(super) fn variable(&self) -> String {
        Origin::variable_of(self.key)
    }
}

/// A row for a setting that always has one value.
const fn one(
    key: &'static str,
    read: fn(&mut AgentConfig, &[String]) -> Result<(), String>,
    show: fn(&AgentConfig) -> Option<Value>,
) -> Setting {
    Setting { key, is_list: false, is_switch: false, read, show, when_absent: "" }
}

/// Every setting, in the order in which they are shown.
pub(super) const SETTINGS: [Setting; 20] = [
    one("metrics-listen", read_metrics_listen, |config| Some(config.metrics_listen.to_string().into())),
    one("debug-listen", read_debug_listen, |config| {
        Some(config.debug_listen.map_or_else(|| OFF.to_owned(), |address| address.to_string()).into())
    }),
    one("node-name", read_node_name, |config| Some(config.node_name.clone().into())),
    Setting {
        when_absent: "the pod's service account, if there is one",
        ..one(
            "kubeconfig",
            |config, values| read_path(values).map(|path| config.kubeconfig = Some(path)),
            |config| config.kubeconfig.as_ref().map(|path| path.to_string_lossy().into_owned().into()),
        )
    },
    one("max-cgroups", read_max_cgroups, |config| Some(config.max_cgroups.into())),
    one("max-flows", read_max_flows, |config| Some(config.max_flows.into())),
    one("series-limit", read_series_limit, |config| i64::try_from(config.series_limit).ok().map(Value::from)),
    one("sample-interval", read_sample_interval, |config| Some(shown_duration(config.sample_interval).into())),
    one("wait-threshold", read_wait_threshold, |config| Some(shown_duration(config.wait_threshold).into())),
    Setting { is_switch: true, ..one("pressure", read_pressure, |config| Some(config.pressure.into())) },
    Setting {
        when_absent: "nobody when started as root",
        ..one("user", read_user, |config| config.user.clone().map(Value::from))
    },
    one(
        "proc-path",
        |config, values| read_path(values).map(|path| config.proc_path = path),
        |config| Some(config.proc_path.to_string_lossy().into_owned().into()),
    ),
    Setting {
        when_absent: "that of process 1",
        ..one(
            "net-path",
            |config, values| read_path(values).map(|path| config.net_path = Some(path)),
            |config| config.net_path.as_ref().map(|path| path.to_string_lossy().into_owned().into()),
        )
    },
    Setting {
        when_absent: "found in mountinfo",
        ..one(
            "cgroup-path",
            |config, values| read_path(values).map(|path| config.cgroup_path = Some(path)),
            |config| config.cgroup_path.as_ref().map(|path| path.to_string_lossy().into_owned().into()),
        )
    },
    Setting {
        when_absent: "the history is kept in memory only",
        ..one(
            "state-dir",
            |config, values| read_path(values).map(|path| config.state_dir = Some(path)),
            |config| config.state_dir.as_ref().map(|path| path.to_string_lossy().into_owned().into()),
        )
    },
    Setting {
        is_list: true,
        ..one(
            "cluster-cidr",
            |config, values| ranges(values).map(|ranges| config.cluster_cidr = ranges),
            |config| Some(shown_ranges(&config.cluster_cidr)),
        )
    },
    Setting {
        is_list: true,
        ..one(
            "service-cidr",
            |config, values| ranges(values).map(|ranges| config.service_cidr = ranges),
            |config| Some(shown_ranges(&config.service_cidr)),
        )
    },
    Setting {
        is_list: true,
        ..one(
            "intranet-cidr",
            |config, values| ranges(values).map(|ranges| config.intranet_cidr = ranges),
            |config| Some(shown_ranges(&config.intranet_cidr)),
        )
    },
    one("summary-interval", read_summary_interval, |config| Some(shown_duration(config.summary_interval).into())),
    one("log-format", read_log_format, |config| {
        Some(if config.log_format == LogFormat::Json { "json" } else { "text" }.into())
    }),
];

fn read_metrics_listen(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    config.metrics_listen = parsed(values, "an address and a port, such as 0.0.0.0:9810 or [::]:9810")?;
    Ok(())
}

/// Instead of an address of the debug listener.
const OFF: &str = "off";

fn read_debug_listen(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    const WANTED: &str = "a loopback address and a port, such as 127.0.0.1:9811 or [::1]:9811, or \"off\"";
    if single(values)? == OFF {
        config.debug_listen = None;
        return Ok(());
    }
    let address: SocketAddr = parsed(values, WANTED)?;
    // It has no authentication: whoever may run something on the node, or forward a port of the pod, may read it.
    if !address.ip().is_loopback() {
        return Err(wrong(&address.to_string(), WANTED));
    }
    config.debug_listen = Some(address);
    Ok(())
}

fn read_node_name(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    let name = single(values)?;
    if name.is_empty() {
        return Err("must not be empty; leave it out to take the host name".into());
    }
    name.clone_into(&mut config.node_name);
    Ok(())
}

fn read_max_cgroups(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    const WANTED: &str = "a number from 1 to 262144";
    let number: u32 = parsed(values, WANTED)?;
    if !(1..=262_144).contains(&number) {
        return Err(wrong(&number.to_string(), WANTED));
    }
    config.max_cgroups = number;
    Ok(())
}

fn read_max_flows(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    const WANTED: &str = "a number from 100 to 1000000";
    let number: u32 = parsed(values, WANTED)?;
    if !(100..=1_000_000).contains(&number) {
        return Err(wrong(&number.to_string(), WANTED));
    }
    config.max_flows = number;
    Ok(())
}

fn read_series_limit(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    const WANTED: &str = "a number from 1000 to 10000000";
    let number: u64 = parsed(values, WANTED)?;
    if !(1_000..=10_000_000).contains(&number) {
        return Err(wrong(&number.to_string(), WANTED));
    }
    config.series_limit = number;
    Ok(())
}

fn read_sample_interval(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    let interval = duration(values)?;
    if !(Duration::from_millis(100)..=Duration::from_mins(1)).contains(&interval) {
        return Err(wrong(single(values)?, "between 100ms and 60s"));
    }
    config.sample_interval = interval;
    Ok(())
}

fn read_wait_threshold(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    let threshold = duration(values)?;
    if !(Duration::from_micros(10)..=Duration::from_secs(10)).contains(&threshold) {
        return Err(wrong(single(values)?, "between 10us and 10s"));
    }
    config.wait_threshold = threshold;
    Ok(())
}

fn read_summary_interval(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    let interval = duration(values)?;
    if !interval.is_zero() && !(Duration::from_secs(1)..=Duration::from_hours(24)).contains(&interval) {
        return Err(wrong(single(values)?, "between 1s and 24h, or 0s for no summary"));
    }
    config.summary_interval = interval;
    Ok(())
}

fn read_pressure(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    config.pressure = parsed(values, "true or false")?;
    Ok(())
}

fn read_user(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    let user = single(values)?;
    if user.is_empty() || user.contains([':', '\n', '\0']) {
        return Err(wrong(user, "the name or number of a user, or \"keep\""));
    }
    config.user = Some(user.to_owned());
    Ok(())
}

fn read_path(values: &[String]) -> Result<PathBuf, String> {
    let path = single(values)?;
    if !path.starts_with('/') {
        return Err(wrong(path, "an absolute path"));
    }
    Ok(PathBuf::from(path))
}

/// Ranges may stand each for itself or in one text with commas, which is how a variable has several.
fn ranges(values: &[String]) -> Result<Vec<IpNet>, String> {
    let items = values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty());
    let range = |item: &str| {
        let host = || item.parse::<IpAddr>().map(IpNet::from);
        let range = item.parse::<IpNet>().or_else(|_| host());
        range.map(|range| range.trunc()).map_err(|_| wrong(item, "an address range, such as 10.0.0.0/8 or fd00::/8"))
    };
    items.map(range).collect()
}

fn shown_ranges(ranges: &[IpNet]) -> Value {
    ranges.iter().map(|range| Value::from(range.to_string())).collect::<Vec<_>>().into()
}

fn read_log_format(config: &mut AgentConfig, values: &[String]) -> Result<(), String> {
    config.log_format = match single(values)? {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        other => return Err(wrong(other, "\"text\" or \"json\"")),
    };
    Ok(())
}

fn single(values: &[String]) -> Result<&str, String> {
    match values {
        [value] => Ok(value),
        _ => Err(format!("has {} values, but takes one", values.len())),
    }
}

fn parsed<T: FromStr>(values: &[String], wanted: &str) -> Result<T, String> {
    let value = single(values)?;
    value.parse().map_err(|_| wrong(value, wanted))
}

fn wrong(value: &str, wanted: &str) -> String {
    format!("{value:?} is not right; wanted: {wanted}")
}

/// A whole number and a unit: `100us`, `500ms`, `1s`, `5m`, `2h`.
fn duration(values: &[String]) -> Result<Duration, String> {
    let text = single(values)?;
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let microseconds = match unit {
        "us" => Some(1),
        "ms" => Some(1_000),
        "s" => Some(1_000_000),
        "m" => Some(60_000_000),
        "h" => Some(3_600_000_000),
        _ => None,
    };
    let total = microseconds.zip(number.parse::<u64>().ok()).and_then(|(unit, number)| number.checked_mul(unit));
    total.map(Duration::from_micros).ok_or_else(|| {
        wrong(text, "a duration: a whole number with one of the units us, ms, s, m, h, such as 1s or 500ms")
    })
}

fn shown_duration(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else if duration.subsec_nanos().is_multiple_of(1_000_000) {
        format!("{}ms", duration.as_millis())
    } else {
        format!("{}us", duration.as_micros())
    }
}
