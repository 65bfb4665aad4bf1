//! What the agent is told: `RawConfig` is what was written, [`Config`] what is meant.

mod group;
mod pinned;
mod proxy;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use common::address;
use common::config::ConfigError;
use common::config::ENVIRONMENT_PREFIX;
use common::config::Layers;
use common::config::NOT_SHOWN;
use common::config::without_user;
use common::metric::Labels;
use common::settings;
use common::settings::rule;
use common::settings::rule::RawRule;
use serde::Deserialize;
use serde::Serialize;

pub use common::settings::Given;
pub use common::settings::INTERVALS;
pub use common::settings::rule::Rule;
pub use group::Subject;
pub use group::group_name;
pub use pinned::Pinned;
pub use proxy::NotAProxy;
pub use proxy::Proxy;

/// The file that is read when none is named, if it exists.
pub const DEFAULT_FILE: &str = "/etc/lapwing/agent.toml";

/// Variables that name a proxy to every program, where ours are not told of another.
const PROXY_VARIABLES: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];

/// Labels that an operator may put on a host: enough for every scheme seen, few enough to be in each series.
pub const HOST_LABELS_MAX: usize = 32;

/// What can be collected, in the order in which it is: names as node_exporter has them.
pub const COLLECTORS: &[&str] = &[
    "time",
    "stat",
    "loadavg",
    "meminfo",
    "vmstat",
    "pressure",
    "diskstats",
    "netdev",
    "netstat",
    "sockstat",
    "softnet",
    "conntrack",
    "arp",
    "nfs",
    "filefd",
    "entropy",
    "schedstat",
    "timex",
    "filesystem",
    "uname",
    "os",
    "netclass",
    "cpu",
    "cpufreq",
    "hwmon",
    "thermal_zone",
    "edac",
    "dmi",
    "powersupplyclass",
    "rapl",
    "bonding",
    "mdadm",
    "nvme",
    "btrfs",
    "xfs",
    "zfs",
    "systemd",
    "textfile",
    "processes",
    "own",
];

/// What is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What the host is called, if not by its hostname.
    pub instance: Option<String>,
    /// The operator's labels on this host.
    pub labels: Labels,
    /// Files with more of them, which these win over.
    pub labels_from: Vec<PathBuf>,
    /// Where the host's trees are mounted.
    pub roots: Roots,
    /// Collectors that are switched off, by name.
    pub off: BTreeSet<String>,
    /// Where an operator's own metrics stand: `*.prom` files in Prometheus' text format.
    pub textfile_directories: Vec<PathBuf>,
    /// How much of a process' command line is shown.
    pub command_line: CommandLine,
    /// How groups of processes are called; one that no rule matches belongs to the group of its command.
    pub groups: Vec<Rule>,
    /// Seconds between two looks at processes, or more while the agent costs too much.
    pub process_interval_seconds: u32,
    /// What an aggregator cannot set, because it is set here.
    pub pinned: Pinned,
    /// The part of one core that the agent may use before it looks at processes more seldom; nothing is no limit.
    pub cpu_limit: Option<f64>,
    /// Labels of containers that are shown; all without a list. One that ends with `*` stands for all that begin so.
    pub container_labels: Option<Vec<String>>,
    /// Sockets of container engines that may be asked.
    pub engine_sockets: Vec<PathBuf>,
    /// What waits on disk while nobody takes it.
    pub spool: DiskLimits,
    /// Where batches go.
    pub uplink: Uplink,
}

/// What is kept on disk of the batches that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskLimits {
    /// Bytes of all files; 0 keeps nothing on disk.
    pub bytes_max: u64,
    /// How much older than the newest window one may be.
    pub age_max: Duration,
}

/// Where the host's trees are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// `/proc`.
    pub procfs: PathBuf,
    /// `/sys`.
    pub sysfs: PathBuf,
    /// `/`: what mount points are relative to.
    pub rootfs: PathBuf,
    /// `/sys/fs/cgroup`.
    pub cgroupfs: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { procfs: "/proc".into(), sysfs: "/sys".into(), rootfs: "/".into(), cgroupfs: "/sys/fs/cgroup".into() }
    }
}

impl Roots {
    /// The place of an absolute path of the host, through the root file system's mount point.
    #[must_use]
    pub fn on_rootfs(&self, absolute: &Path) -> PathBuf {
        self.rootfs.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// The places of a file of `/proc/net`: in the first process' network namespace, which is the host's also for an agent
    /// in a container of its own; in the agent's, for where that may not be read.
    #[must_use]
    pub fn of_net(&self, name: &str) -> [PathBuf; 2] {
        ["1/net", "net"].map(|net| self.procfs.join(net).join(name))
    }
}

/// How much of a process' command line leaves the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandLine {
    /// The program and its arguments, values of password-, token- and key-like ones masked.
    #[default]
    Masked,
    /// All of it.
    Full,
    /// None of it.
    Off,
}

/// Where batches go, and what the agent knows of the aggregator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Each `HOST:PORT`: one of them is enough, the first that answers is taken.
    pub aggregators: Vec<String>,
    /// What TCP goes through.
    pub proxy: Option<Proxy>,
    /// The token that enrols this host.
    pub join: Option<String>,
    /// Where the identity is kept.
    pub state_dir: PathBuf,
}

/// What was written, in any layer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConfig {
    host: RawHost,
    collect: RawCollect,
    processes: RawProcesses,
    containers: RawContainers,
    spool: RawSpool,
    uplink: RawUplink,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawHost {
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    labels: BTreeMap<String, String>,
    labels_from: Vec<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawCollect {
    procfs: PathBuf,
    sysfs: PathBuf,
    rootfs: PathBuf,
    cgroupfs: PathBuf,
    off: BTreeSet<String>,
    cpu_limit_percent: f64,
    textfile_directories: Vec<PathBuf>,
}

/// Where Debian's node_exporter looks, and the scripts that are written for it write.
const TEXTFILE_DIRECTORY: &str = "/var/lib/prometheus/node-exporter";

/// Of one core: what nobody misses.
const CPU_LIMIT_PERCENT: f64 = 2.0;

impl Default for RawCollect {
    fn default() -> Self {
        let Roots { procfs, sysfs, rootfs, cgroupfs } = Roots::default();
        Self {
            procfs,
            sysfs,
            rootfs,
            cgroupfs,
            off: BTreeSet::new(),
            cpu_limit_percent: CPU_LIMIT_PERCENT,
            textfile_directories: vec![TEXTFILE_DIRECTORY.into()],
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawProcesses {
    command_line: CommandLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<RawRule>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawContainers {
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<String>>,
    sockets: Vec<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSpool {
    megabytes_max: u32,
    hours_max: u32,
}

/// A day of a busy host is 40 MiB.
impl Default for RawSpool {
    fn default() -> Self {
        Self { megabytes_max: 256, hours_max: 24 }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawUplink {
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join: Option<String>,
    state_dir: PathBuf,
}

impl Default for RawUplink {
    fn default() -> Self {
        Self { aggregator: None, proxy: None, join: None, state_dir: "/var/lib/lapwing-agent".into() }
    }
}

impl RawSpool {
    fn limits(&self) -> DiskLimits {
        let bytes_max = u64::from(self.megabytes_max) << 20;
        DiskLimits { bytes_max, age_max: Duration::from_secs(u64::from(self.hours_max) * 3_600) }
    }
}

impl Config {
    /// Reads the layers and says what they mean.
    ///
    /// # Errors
    /// The first key or value that is wrong, with its place.
    pub fn read(layers: &Layers<'_>) -> Result<Self, ConfigError> {
        let raw: RawConfig = layers.read()?;
        let RawCollect { procfs, sysfs, rootfs, cgroupfs, off, cpu_limit_percent, textfile_directories } = raw.collect;
        if let Some(unknown) = off.iter().find(|name| !COLLECTORS.contains(&name.as_str())) {
            let known = COLLECTORS.join(" ");
            return Err(layers.refuse("collect.off", format!("names `{unknown}`, which is none of {known}")));
        }
        let interval_seconds = raw.processes.interval_seconds;
        let pinned = Pinned {
            groups: !raw.processes.groups.is_empty(),
            interval_seconds: interval_seconds.is_some(),
            container_labels: raw.containers.labels.is_some(),
        };
        Ok(Self {
            pinned,
            process_interval_seconds: settings::interval(
                layers,
                "processes.interval_seconds",
                interval_seconds.unwrap_or(INTERVALS[0]),
            )?,
            instance: raw.host.instance,
            labels: host_labels(layers, raw.host.labels)?,
            labels_from: raw.host.labels_from,
            roots: Roots { procfs, sysfs, rootfs, cgroupfs },
            off,
            textfile_directories,
            command_line: raw.processes.command_line,
            groups: rule::rules(layers, "processes.groups", raw.processes.groups)?,
            cpu_limit: cpu_limit(layers, cpu_limit_percent)?,
            container_labels: raw.containers.labels,
            engine_sockets: engine_sockets(layers, raw.containers.sockets)?,
            spool: raw.spool.limits(),
            uplink: uplink(layers, raw.uplink)?,
        })
    }
}

/// The environment, as far as it concerns us. Bytes that are not UTF-8 are replaced.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let lossy = |text: OsString| text.to_string_lossy().into_owned();
    let all = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
    all.filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX) || PROXY_VARIABLES.contains(&name.as_str())).collect()
}

/// The layers put together, as a file that says the same. The join token is a secret: it is not shown.
///
/// # Errors
/// As [`Config::read`].
pub fn print(layers: &Layers<'_>) -> Result<String, ConfigError> {
    Config::read(layers)?;
    let mut raw: RawConfig = layers.read()?;
    if let Some(join) = &mut raw.uplink.join {
        NOT_SHOWN.clone_into(join);
    }
    raw.uplink.proxy = raw.uplink.proxy.as_deref().map(without_user);
    toml::to_string(&raw).map_err(|error| layers.refuse("uplink", error.to_string()))
}

/// A path from nowhere would be one from where the agent happens to be started.
fn engine_sockets(layers: &Layers<'_>, sockets: Vec<PathBuf>) -> Result<Vec<PathBuf>, ConfigError> {
    match sockets.iter().find(|socket| !socket.is_absolute()) {
        None => Ok(sockets),
        Some(socket) => {
            let why = format!("names `{}`, which is not a path such as /run/docker.sock", socket.display());
            Err(layers.refuse("containers.sockets", why))
        }
    }
}

fn cpu_limit(layers: &Layers<'_>, percent: f64) -> Result<Option<f64>, ConfigError> {
    if percent.is_finite() && 0.0 <= percent {
        return Ok((0.0 < percent).then_some(percent / 100.0));
    }
    Err(layers.refuse("collect.cpu_limit_percent", format!("is {percent}; 2.0 is 2 % of one core, 0 is no limit")))
}

fn host_labels(layers: &Layers<'_>, labels: BTreeMap<String, String>) -> Result<Labels, ConfigError> {
    if HOST_LABELS_MAX < labels.len() {
        return Err(layers.refuse("host.labels", format!("has more than {HOST_LABELS_MAX} labels")));
    }
    for name in labels.keys() {
        if let Some(why) = no_host_label(name) {
            return Err(layers.refuse(&format!("host.labels.{name}"), why));
        }
    }
    Ok(labels.into_iter().collect())
}

/// Why a host may not have a label of this name.
pub(crate) fn no_host_label(name: &str) -> Option<&'static str> {
    if !is_label_name(name) {
        return Some("is not a label: letters, digits and underscores, no digit first, not two underscores");
    }
    let own = ["instance", "job"].contains(&name);
    own.then_some("is a label that Lapwing sets; `host.instance` renames a host")
}

fn is_label_name(name: &str) -> bool {
    let allowed = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    allowed && !name.starts_with("__") && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// The proxy that every program is told of, and by which variable.
fn for_all_programs<'a>(layers: &'a Layers<'_>) -> Option<&'a (String, String)> {
    layers.environment.iter().find(|(name, _)| PROXY_VARIABLES.contains(&name.as_str()))
}

fn read_proxy(text: &str) -> Result<Option<Proxy>, NotAProxy> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

fn uplink(layers: &Layers<'_>, raw: RawUplink) -> Result<Uplink, ConfigError> {
    let RawUplink { aggregator, proxy, join, state_dir } = raw;
    let aggregators = aggregator.iter().flat_map(|all| all.split(',')).map(|one| one.trim().to_owned());
    let aggregators: Vec<String> = aggregators.collect();
    if let Some(why) = aggregators.iter().find_map(|aggregator| address::refusal(aggregator)) {
        return Err(layers.refuse("uplink.aggregator", why));
    }
    let proxy = match (proxy, for_all_programs(layers)) {
        (Some(own), _) => read_proxy(&own).map_err(|error| layers.refuse("uplink.proxy", error.to_string()))?,
        (None, Some((variable, proxy))) => read_proxy(proxy)
            .map_err(|error| layers.refuse("uplink.proxy", format!("is taken from {variable}, which {error}")))?,
        (None, None) => None,
    };
    Ok(Uplink { aggregators, proxy, join, state_dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let layers = Layers { file: Some(("agent.toml", text)), ..Layers::default() };
        Config::read(&layers).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_becomes_what_is_meant() {
        let text = "[host]\nlabels = { env = 'test' }\n[processes]\ncommand_line = 'off'\n[collect]\nprocfs = '/host/proc'\noff = ['filesystem']";
        let config = read(text).unwrap();
        assert_eq!(config.labels, Labels::new().with("env", "test"));
        assert_eq!(config.command_line, CommandLine::Off);
        assert_eq!(config.off, BTreeSet::from(["filesystem".to_owned()]));
        assert_eq!(config.roots, Roots { procfs: "/host/proc".into(), ..Roots::default() });
        assert_eq!(read("").unwrap().command_line, CommandLine::Masked);
        let day = Duration::from_secs(86_400);
        assert_eq!(read("").unwrap().spool, DiskLimits { bytes_max: 268_435_456, age_max: day });
        assert_eq!(read("[spool]\nmegabytes_max = 0").unwrap().spool, DiskLimits { bytes_max: 0, age_max: day });
    }

    #[test]
    fn a_slip_is_named_with_file_line_and_key() {
        let check = |text: &str, expect: &str| assert_eq!(read(text).unwrap_err(), expect);
        check("[host]\nlables = {}", "agent.toml, line 2: unknown key `lables`, did you mean `labels`?");
        check(
            "[host.labels]\nenv = 'a'\njob = 'b'",
            "agent.toml, line 3: `host.labels.job` is a label that Lapwing sets; `host.instance` renames a host",
        );
        check(
            "[host.labels]\n\"a-b\" = ''",
            "agent.toml, line 2: `host.labels.a-b` is not a label: letters, digits and underscores, no digit first, \
             not two underscores",
        );
        check(
            "[uplink]\naggregator = 'localhost'",
            "agent.toml, line 2: `uplink.aggregator` is `localhost`, which is not HOST:PORT: write `localhost:4641`, with \
             the port of the aggregator's `ingest.listen`, 4641 if it says none",
        );
        check(
            "[uplink]\naggregator = 'a:1, b'",
            "agent.toml, line 2: `uplink.aggregator` is `b`, which is not HOST:PORT: write `b:4641`, with the port of the \
             aggregator's `ingest.listen`, 4641 if it says none",
        );
        check(
            "[uplink]\nproxy = 'socks5://u:sesame@a:1'",
            "agent.toml, line 2: `uplink.proxy` is no proxy that can be used: give `http://HOST:PORT`, or \
             `http://USER:PASSWORD@HOST:PORT`",
        );
        assert!(read("[collect]\noff = ['load']").unwrap_err().contains("names `load`, which is none of time stat"));
        check(
            "[collect]\ncpu_limit_percent = -1",
            "agent.toml, line 2: `collect.cpu_limit_percent` is -1; 2.0 is 2 % of one core, 0 is no limit",
        );
        for socket in ["docker.sock", "unix:///run/docker.sock", "~/docker.sock", ""] {
            check(
                &format!("[containers]\nsockets = ['/run/podman/podman.sock', '{socket}']"),
                &format!(
                    "agent.toml, line 2: `containers.sockets` names `{socket}`, which is not a path such as /run/docker.sock"
                ),
            );
        }
        check("[processes]\ncommand_line = 'mask'", "agent.toml, line 2: unknown value `mask`, did you mean `masked`?");
    }

    #[test]
    fn a_proxy_for_all_programs_is_taken_where_the_file_names_none() {
        let check = |text: &str, variables: &[(&str, &str)], expect: Option<&str>| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let layers = Layers { file: Some(("f", text)), environment: variables.collect(), ..Layers::default() };
            let proxy = Config::read(&layers).unwrap().uplink.proxy;
            assert_eq!(proxy.map(|proxy| proxy.to_string()).as_deref(), expect, "{text}");
        };
        let all = ("HTTPS_PROXY", "http://all:1");
        check("", &[], None);
        check("", &[all], Some("all:1"));
        check("[uplink]\nproxy = 'http://own:1'", &[all], Some("own:1"));
        check("[uplink]\nproxy = ''", &[all], None);
        check("[uplink]\nproxy = 'http://own:1'", &[all, ("LAPWING__UPLINK__PROXY", "http://mine:1")], Some("mine:1"));
    }

    #[test]
    fn a_printed_configuration_says_the_same_and_no_secret() {
        let text = "[host]\ninstance = 'web'\n[[processes.groups]]\ncmdline = ['a']\n[uplink]\njoin = 'sesame'\naggregator = 'a:1, b:1'\nproxy = 'http://u:mellon@c:1'";
        let printed = print(&Layers { file: Some(("agent.toml", text)), ..Layers::default() }).unwrap();
        assert!(!printed.contains("sesame") && !printed.contains("mellon"), "{printed}");
        let expect = read(&text.replace("u:mellon@", "")).unwrap();
        let uplink = Uplink { join: Some("(not shown)".to_owned()), ..expect.uplink.clone() };
        assert_eq!(read(&printed).unwrap(), Config { uplink, ..expect });
    }
}
