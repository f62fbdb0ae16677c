//! `observer agent`: from flags, environment and file to a running agent.

use super::{FAILED, WRONG_USE, complain, exit_code};
use crate::agent::Until;
use crate::config::{self, AgentConfig, ConfigError, ConfigErrors, Effective, LogFormat, Origin, Sources};
use clap::Args;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

const CONFIG_VARIABLE: &str = "OBSERVER_CONFIG";

const AFTER_HELP: &str = "\
Start it as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: it attaches its programs to the kernel, drops every \
privilege, and counts until SIGTERM or SIGINT. `observer check` tells what is missing.

Every setting is also an environment variable (--node-name is OBSERVER_NODE_NAME; several ranges are joined by commas) \
and a key of the configuration file (node-name = \"...\"). Flags overrule the environment, which overrules the file. \
RUST_LOG chooses what is logged, for instance RUST_LOG=debug.";

/// The flags, as written: the room `config` checks them, together with the other sources.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Where to serve /metrics, /healthz and /readyz [default: 0.0.0.0:9810]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,
    /// Where to serve the API that `observer history` reads, on loopback, or `off` [default: 127.0.0.1:9811]
    #[arg(long, value_name = "ADDRESS")]
    debug_listen: Option<String>,
    /// The value of the `node` label [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The API server that names pods and their workloads [default: the pod's service account, if there is one]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// How many cgroups can be told apart at a time; what comes beyond is booked to `unattributed` [default: 3072]
    #[arg(long, value_name = "N")]
    max_cgroups: Option<String>,
    /// How many flows are kept, 100 to 1000000; beyond it the smallest lose their far ends, and their entities keep their bytes
    /// [default: 65536]
    #[arg(long, value_name = "N")]
    max_flows: Option<String>,
    /// How many series a page may have; beyond it the smallest entities of a namespace share one [default: 20000]
    #[arg(long, value_name = "N")]
    series_limit: Option<String>,
    /// How often the kernel's counters are booked, 100ms to 60s; above 1s peaks are means over that long [default: 1s]
    #[arg(long, value_name = "DURATION")]
    sample_interval: Option<String>,
    /// Waits for a CPU that are longer are booked by who had it meanwhile, 10us to 10s [default: 100us]
    #[arg(long, value_name = "DURATION")]
    wait_threshold: Option<String>,
    /// Read pressure stall information (PSI) of every cgroup at each scrape: three more files and six more series each
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    pressure: Option<String>,
    /// Who to become once the programs are attached; `keep` stays who it is [default: nobody when started as root]
    #[arg(long, value_name = "NAME|UID")]
    user: Option<String>,
    /// Where the host's /proc is mounted [default: /proc]
    #[arg(long, value_name = "DIRECTORY")]
    proc_path: Option<String>,
    /// Where the files of the node's network are, such as `dev` and `nf_conntrack` [default: 1/net in that of --proc-path]
    #[arg(long, value_name = "DIRECTORY")]
    net_path: Option<String>,
    /// Where the host's cgroup v2 hierarchy is mounted [default: found in mountinfo]
    #[arg(long, value_name = "DIRECTORY")]
    cgroup_path: Option<String>,
    /// Where to keep the history, over restarts too [default: in memory only, as much as half a megabyte holds]
    #[arg(long, value_name = "DIRECTORY")]
    state_dir: Option<String>,
    /// Addresses of pods and nodes, which count as `cluster` where they are not this node's own; may be repeated. Of a range
    /// only the bits of its length count: 10.1.2.3/8 is 10.0.0.0/8 [default: what the API server tells]
    #[arg(long, value_name = "CIDR")]
    cluster_cidr: Vec<String>,
    /// Addresses of services, which count as `service`; may be repeated [default: what the API server tells]
    #[arg(long, value_name = "CIDR")]
    service_cidr: Vec<String>,
    /// Addresses that count as `intranet` besides the private ones; may be repeated
    #[arg(long, value_name = "CIDR")]
    intranet_cidr: Vec<String>,
    /// How often to print the heaviest senders and the longest waiters to standard output, 0s for never [default: 0s]
    #[arg(long, value_name = "DURATION")]
    summary_interval: Option<String>,
    /// How log lines on standard error look: `text` or `json` [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    #[arg(long, value_name = "FILE", help = "A TOML file with settings [env: OBSERVER_CONFIG]")]
    config: Option<PathBuf>,
    /// Print the configuration with the origin of each value, as TOML, and exit
    #[arg(long)]
    print_config: bool,
    /// For who starts it for as long as they are there themselves: their end of the pipe is closed with them
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

impl Arguments {
    /// The flags that were given, by their names in the table of settings.
    fn given(&self) -> Vec<(&'static str, Vec<String>)> {
        let Self {
            metrics_listen,
            debug_listen,
            node_name,
            kubeconfig,
            max_cgroups,
            max_flows,
            series_limit,
            sample_interval,
            wait_threshold,
            pressure,
            user,
            proc_path,
            net_path,
            cgroup_path,
            state_dir,
            cluster_cidr,
            service_cidr,
            intranet_cidr,
            summary_interval,
            log_format,
            config: _,
            print_config: _,
            until_stdin_closes: _,
        } = self;
        let single = [
            ("metrics-listen", metrics_listen),
            ("debug-listen", debug_listen),
            ("node-name", node_name),
            ("kubeconfig", kubeconfig),
            ("max-cgroups", max_cgroups),
            ("max-flows", max_flows),
            ("series-limit", series_limit),
            ("sample-interval", sample_interval),
            ("wait-threshold", wait_threshold),
            ("pressure", pressure),
            ("user", user),
            ("proc-path", proc_path),
            ("net-path", net_path),
            ("cgroup-path", cgroup_path),
            ("state-dir", state_dir),
            ("summary-interval", summary_interval),
            ("log-format", log_format),
        ];
        let values = single.into_iter().filter_map(|(key, value)| Some((key, vec![value.clone()?])));
        let lists = [("cluster-cidr", cluster_cidr), ("service-cidr", service_cidr), ("intranet-cidr", intranet_cidr)];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key, list.clone()));
        values.chain(lists).collect()
    }
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    let effective = match configuration(arguments) {
        Ok(effective) => effective,
        Err(errors) => {
            complain(&errors.to_string());
            return exit_code(WRONG_USE);
        }
    };
    if arguments.print_config {
        return super::print(&effective.to_toml());
    }
    if let Err(message) = start_log(effective.config.log_format) {
        complain(&message);
        return exit_code(WRONG_USE);
    }
    run(effective.config, arguments.until_stdin_closes)
}

fn run(config: AgentConfig, until_stdin_closes: bool) -> ExitCode {
    let log_format = config.log_format;
    let until = if until_stdin_closes { Until::StdinCloses } else { Until::Signal };
    let Err(error) = crate::agent::run(config, until) else { return ExitCode::SUCCESS };
    // A chain of causes is one line: what, where, why.
    let line = format!("{error:#}").replace('\n', " ");
    match log_format {
        LogFormat::Text => complain(&line),
        LogFormat::Json => tracing::error!("{line}"),
    }
    exit_code(FAILED)
}

/// Gathers the sources. A file that cannot be read is reported together with whatever else is wrong.
fn configuration(arguments: &Arguments) -> Result<Effective, ConfigErrors> {
    let (environment, mut errors) = config::environment(std::env::vars_os());
    let variable = std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let (path, origin) = match (&arguments.config, variable) {
        (Some(path), _) => (Some(path.clone()), Origin::Flag("config")),
        (None, path) => (path, Origin::Variable(CONFIG_VARIABLE.into())),
    };
    let file = path.and_then(|path| match std::fs::read_to_string(&path) {
        Ok(text) => Some((path, text)),
        Err(error) => {
            let message = format!("cannot read {}: {error}; give the path of a TOML file", path.display());
            errors.push(ConfigError { origin, message });
            None
        }
    });
    let hostname = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let sources = Sources {
        flags: &arguments.given(),
        environment: &environment,
        file: file.as_ref().map(|(path, text)| (Path::new(path), text.as_str())),
        hostname: &hostname,
    };
    match config::resolve(&sources) {
        Ok(effective) if errors.is_empty() => Ok(effective),
        Ok(_) => Err(ConfigErrors(errors)),
        Err(ConfigErrors(more)) => Err(ConfigErrors(errors.into_iter().chain(more).collect())),
    }
}

/// What is logged unless `RUST_LOG` says otherwise. kube complains at every try of a connection or a watch that fails, which the
/// agent says itself, once.
const DEFAULT_FILTER: &str = "info,kube_client=off,kube_runtime=off";

/// Log lines go to standard error, coloured for a terminal that did not refuse (`NO_COLOR`).
fn start_log(format: LogFormat) -> Result<(), String> {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let filter = builder.parse(asked.as_deref().unwrap_or(DEFAULT_FILTER));
    let filter = filter.map_err(|error| format!("RUST_LOG: {error}; write for instance RUST_LOG=debug"))?;
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !plain);
    match format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|error| format!("cannot start logging: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// The flags as clap parses them, without the subcommand.
    #[derive(Debug, clap::Parser)]
    struct Flags {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn every_setting_has_its_flag_and_every_flag_its_setting() {
        let mut flags: Vec<String> =
            Flags::command().get_arguments().filter_map(|flag| flag.get_long().map(str::to_owned)).collect();
        flags.retain(|flag| !["help", "config", "print-config", "until-stdin-closes"].contains(&flag.as_str()));
        assert_eq!(flags, config::keys());
    }

    #[test]
    fn flags_arrive_at_their_settings() {
        use clap::Parser;
        let line: Vec<String> =
            config::keys().iter().flat_map(|key| [format!("--{key}"), format!("value of {key}")]).collect();
        let given = Flags::parse_from(std::iter::once("agent".to_owned()).chain(line)).arguments.given();
        assert_eq!(given.len(), config::keys().len());
        for (key, values) in given {
            assert_eq!(values, [format!("value of {key}")]);
        }
        assert!(Arguments::default().given().is_empty());
    }

    #[test]
    fn an_unreadable_file_is_reported_with_the_other_mistakes() {
        let arguments = Arguments {
            config: Some("/nonexistent/observer.toml".into()),
            max_cgroups: Some("many".into()),
            ..Arguments::default()
        };
        let errors = configuration(&arguments).unwrap_err().to_string();
        assert!(errors.starts_with("--config: cannot read /nonexistent/observer.toml: "), "{errors}");
        assert!(errors.contains("--max-cgroups: "), "{errors}");
    }
}
