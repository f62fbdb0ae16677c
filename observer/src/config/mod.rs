//! What the agent is told: defaults, overruled by a TOML file, by the environment, by flags.
//!
//! Every setting is one row of the table in `settings`: how it is spelt, read and shown. [`resolve`] is a pure function
//! of the sources, and reports every mistake of all of them together, before anything is opened or bound.

mod error;
mod file;
mod settings;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, ConfigErrors, Origin};

use crate::ledger::DEFAULT_MAX_FLOWS;
use ipnet::IpNet;
use observer_ebpf::causes::DEFAULT_WAIT_THRESHOLD_NS;
use settings::SETTINGS;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a setting's environment variable starts with: `--node-name` is `OBSERVER_NODE_NAME`.
pub const VARIABLE_PREFIX: &str = "OBSERVER_";

/// The agent's configuration, checked and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Where /metrics is served. Port 0 lets the kernel choose.
    pub metrics_listen: SocketAddr,
    /// Where the API is served, on loopback; `None`: nowhere.
    pub debug_listen: Option<SocketAddr>,
    /// The value of the `node` label; never empty.
    pub node_name: String,
    /// Who tells of pods; `None`: the service account, where there is one.
    pub kubeconfig: Option<PathBuf>,
    /// Slots for cgroups that run something.
    pub max_cgroups: u32,
    /// Flows that are kept.
    pub max_flows: u32,
    /// The budget of series.
    pub series_limit: u64,
    /// How often the books are read: 100 ms to 60 s.
    pub sample_interval: Duration,
    /// Waits for a CPU that are longer are booked by who had it: 10 us to 10 s.
    pub wait_threshold: Duration,
    /// Whether pressure stall information is read at each scrape.
    pub pressure: bool,
    /// Who the agent becomes after attach, as `--user` says; [`User::chosen`](crate::kernel::privileges::User::chosen)
    /// knows who that is. `None`, the default: nobody when started as root. `keep` keeps the user.
    pub user: Option<String>,
    /// The host's /proc.
    pub proc_path: PathBuf,
    /// The files of the node's network; those of process 1 when absent.
    pub net_path: Option<PathBuf>,
    /// The root of the v2 hierarchy; found in mountinfo when absent.
    pub cgroup_path: Option<PathBuf>,
    /// Where the history is kept; `None`: in memory only.
    pub state_dir: Option<PathBuf>,
    /// Ranges of pods and nodes; those that the API server tells, if empty.
    pub cluster_cidr: Vec<IpNet>,
    /// Ranges of services; those that the API server tells, if empty.
    pub service_cidr: Vec<IpNet>,
    /// Ranges that count as intranet besides the private ones, without host bits.
    pub intranet_cidr: Vec<IpNet>,
    /// How often a summary is printed, at least 1 s; zero: never.
    pub summary_interval: Duration,
    /// How log lines look on stderr.
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl AgentConfig {
    /// What holds where nothing is said. `hostname` is the default of `--node-name`.
    pub fn with_defaults(hostname: &str) -> Self {
        Self {
            metrics_listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9810)),
            debug_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9811))),
            node_name: hostname.to_owned(),
            kubeconfig: None,
            max_cgroups: observer_ebpf::DEFAULT_SLOTS,
            max_flows: DEFAULT_MAX_FLOWS as u32,
            series_limit: 20_000,
            sample_interval: Duration::from_secs(1),
            wait_threshold: Duration::from_nanos(DEFAULT_WAIT_THRESHOLD_NS),
            pressure: false,
            user: None,
            proc_path: PathBuf::from("/proc"),
            net_path: None,
            cgroup_path: None,
            state_dir: None,
            cluster_cidr: Vec::new(),
            service_cidr: Vec::new(),
            intranet_cidr: Vec::new(),
            summary_interval: Duration::ZERO,
            log_format: LogFormat::Text,
        }
    }
}

/// Everything the configuration is made from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// The flags given: a name such as `node-name`, and its values as written.
    pub flags: &'a [(&'static str, Vec<String>)],
    /// The environment's variables; those that are no setting's are passed over, since an orchestrator makes up names
    /// like `OBSERVER_SERVICE_HOST` by itself. An empty one counts as not set.
    pub environment: &'a [(String, String)],
    /// The configuration file's path and text.
    pub file: Option<(&'a Path, &'a str)>,
    /// The default of `--node-name`.
    pub hostname: &'a str,
}

/// The keys of all settings: their flags without dashes.
pub fn keys() -> Vec<&'static str> {
    SETTINGS.iter().map(|setting| setting.key).collect()
}

/// Takes the settings' variables out of an environment, and complains of those that are not UTF-8.
pub fn environment(all: impl Iterator<Item = (OsString, OsString)>) -> (Vec<(String, String)>, Vec<ConfigError>) {
    let (mut variables, mut errors) = (Vec::new(), Vec::new());
    let names: Vec<String> = SETTINGS.iter().map(settings::Setting::variable).collect();
    for (name, value) in all {
        let Some(name) = name.to_str().filter(|name| names.iter().any(|known| known == name)) else { continue };
        match value.into_string() {
            Ok(value) => variables.push((name.to_owned(), value)),
            Err(_) => errors.push(ConfigError {
                origin: Origin::Variable(name.to_owned()),
                message: "not UTF-8; write it anew".into(),
            }),
        }
    }
    (variables, errors)
}

/// A configuration, and where each of its values comes from.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The configuration.
    pub config: AgentConfig,
    /// By the rows of the table of settings.
    origins: Vec<Origin>,
}

/// Makes the configuration.
///
/// # Errors
/// All mistakes of all sources together.
pub fn resolve(sources: &Sources<'_>) -> Result<Effective, ConfigErrors> {
    let mut errors = Vec::new();
    let mut given = Vec::new();
    if let Some((path, text)) = sources.file {
        given.extend(file::read(path, text, &mut errors));
    }
    for setting in &SETTINGS {
        let variable = setting.variable();
        let values = sources.environment.iter().filter(|(name, value)| *name == variable && !value.is_empty());
        given.extend(values.map(|(_, value)| (setting.key, vec![value.clone()], Origin::Variable(variable.clone()))));
    }
    given.extend(sources.flags.iter().map(|(key, values)| (*key, values.clone(), Origin::Flag(key))));

    let mut effective = Effective {
        config: AgentConfig::with_defaults(sources.hostname),
        origins: SETTINGS.iter().map(|_| Origin::Default).collect(),
    };
    // From the weakest source to the strongest: the last one that speaks decides, and each is checked.
    for (key, values, origin) in given {
        let row = SETTINGS.iter().position(|setting| setting.key == key);
        let row = row.expect("flags and keys of the file are taken from the table");
        match (SETTINGS[row].read)(&mut effective.config, &values) {
            Ok(()) => effective.origins[row] = origin,
            Err(message) => errors.push(ConfigError::about(key, origin, &message)),
        }
    }
    if effective.config.node_name.is_empty() && errors.is_empty() {
        let message = "this machine has no host name to take instead; give a name".to_owned();
        errors.push(ConfigError { origin: Origin::Flag("node-name"), message });
    }
    if errors.is_empty() { Ok(effective) } else { Err(ConfigErrors(errors)) }
}

impl Effective {
    /// The configuration as a TOML file that gives the same configuration; above each value a comment tells where it comes
    /// from.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (setting, origin) in SETTINGS.iter().zip(&self.origins) {
            let _ = match (setting.show)(&self.config) {
                Some(value) => writeln!(text, "# {origin}\n{} = {value}", setting.key),
                None => writeln!(text, "# {origin}: {}\n# {} is not set", setting.when_absent, setting.key),
            };
        }
        text
    }
}
