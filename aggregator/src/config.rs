//! What the operator wrote, and what it means. The one reader of the environment.

mod agents;
mod forward;
mod retention;
mod unit;

pub use crate::config::agents::Policy;
pub use crate::config::forward::Action;
pub use crate::config::forward::Credential;
pub use crate::config::forward::Forward;
pub use crate::config::forward::Relabel;
pub use crate::config::retention::Retention;
pub use crate::config::unit::duration;

use std::env;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use common::config::ConfigError;
use common::config::ENVIRONMENT_PREFIX;
use common::config::Layers;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error as _;

use crate::config::agents::Agents;
use crate::config::forward::RawForward;

/// Where a configuration is looked for when none is named.
const FILE: &str = "/etc/lapwing/aggregator.toml";

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct CommandLine {
    /// The configuration file to read.
    pub config: Option<PathBuf>,
    /// Dotted keys and their values.
    pub values: Vec<(&'static str, toml::Value)>,
}

/// What the aggregator does.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything that is kept.
    pub data_dir: PathBuf,
    /// Where `rules/` and `alertmanager.yml` lie: beside the configuration file, else in the data directory.
    pub rules_dir: PathBuf,
    /// The API and the page.
    pub http: Http,
    /// What agents connect to.
    pub ingest: Ingest,
    /// How data is written.
    pub store: Store,
    /// How long data is kept.
    pub retention: Retention,
    /// What a query may cost.
    pub query: Query,
    /// When rules are evaluated.
    pub alert: Alert,
    /// What is set of the configuration of agents.
    pub agents: Vec<Policy>,
    /// Who is written to.
    pub forward: Vec<Forward>,
}

/// The API and the page.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where they are served.
    #[serde(deserialize_with = "listen::<4640, _>")]
    pub listen: SocketAddr,
    /// How people reach the page, for the links in messages, without a slash at its end; empty is where it is served.
    pub external_url: String,
    /// Whether they may be served beyond this machine without TLS.
    pub plain: bool,
    /// The certificate to serve them with; none is plain HTTP.
    #[serde(
        serialize_with = "write_certificate",
        deserialize_with = "certificate",
        skip_serializing_if = "Option::is_none"
    )]
    pub tls: Option<Tls>,
    /// Whether `/metrics` answers everybody.
    pub metrics_open: bool,
}

/// The certificate that the page and the API are served with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// The operator's: read again when the files change.
    Files {
        /// The certificate and those between it and its authority, PEM.
        certificate: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
    /// One that the aggregator makes for itself and keeps.
    SelfMade,
}

/// What agents connect to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// Where sessions are taken.
    #[serde(deserialize_with = "listen::<4641, _>")]
    pub listen: SocketAddr,
    /// How agents reach it, `host` or `host:port`; empty is this machine's name.
    pub advertise: String,
}

/// Longest that samples wait to be durable: a window that is not there 15 s after its end says that its host is down
/// (`UP_WITHIN`), and it waits while the commit before it is written, too.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(10);

/// How data is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// How long a commit of samples waits for others to share its write.
    #[serde(serialize_with = "unit::write_duration", deserialize_with = "interval")]
    pub commit_interval: Duration,
    /// How many series there may be at once.
    pub series_max: u64,
    /// Of one host, or of one token to write with.
    pub series_per_host_max: u64,
    /// Of one metric.
    pub series_per_metric_max: u64,
}

/// What a query may cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Samples that one may hold.
    pub samples_max: usize,
    /// Bytes that all together may hold.
    pub memory_max: usize,
    /// Bytes of what range queries answered that are kept.
    pub cache_max: usize,
    /// How long one may take.
    #[serde(serialize_with = "unit::write_duration", deserialize_with = "unit::stretch")]
    pub deadline: Duration,
    /// One that takes so long is logged.
    #[serde(serialize_with = "unit::write_duration", deserialize_with = "unit::stretch")]
    pub slow: Duration,
}

/// When rules are evaluated.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alert {
    /// Between two evaluations of a group that says nothing else.
    #[serde(serialize_with = "unit::write_duration", deserialize_with = "unit::stretch")]
    pub interval: Duration,
    /// How long the alerts of a host that fell silent are held.
    #[serde(serialize_with = "unit::write_duration", deserialize_with = "unit::stretch")]
    pub hold_silent: Duration,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file that was named cannot be read.
    #[error("read {path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// A key is unknown, or its value does not fit or means nothing.
    #[error(transparent)]
    Layer(#[from] ConfigError),
    /// What a key names cannot be used.
    #[error("{key}: {why}")]
    Named {
        /// Dotted.
        key: &'static str,
        /// Why.
        why: String,
    },
    /// They cannot be printed.
    #[error("print the configuration: {0}")]
    Print(toml::ser::Error),
}

impl Config {
    /// Puts command line, environment, file and defaults over each other.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown or a value makes no sense.
    pub fn read(command_line: CommandLine) -> Result<Self, ReadError> {
        let written = Written::read(command_line)?;
        let layers = written.layers();
        let raw: RawConfig = layers.read()?;
        Ok(raw.meaning(&layers, written.directory())?)
    }

    /// Rules and routes lie beside the configuration file, if there is one: what lies where they would be without it, and
    /// what is read instead.
    #[must_use]
    pub fn unread(&self) -> Vec<(PathBuf, PathBuf)> {
        let places = ["rules", "alertmanager.yml"].map(|name| (self.data_dir.join(name), self.rules_dir.join(name)));
        places.into_iter().filter(|(unread, read)| unread != read && unread.exists()).collect()
    }

    /// The socket on which commands reach a running aggregator.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.data_dir.join("control.sock")
    }
}

/// The layers put together, as a file that says the same. Secrets are not shown.
///
/// # Errors
/// As [`Config::read`].
pub fn print(command_line: CommandLine) -> Result<String, ReadError> {
    Config::read(command_line.clone())?;
    let mut raw: RawConfig = Written::read(command_line)?.layers().read()?;
    raw.forward.iter_mut().for_each(RawForward::hide);
    toml::to_string(&raw).map_err(ReadError::Print)
}

/// What was written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConfig {
    data_dir: PathBuf,
    http: Http,
    ingest: Ingest,
    store: Store,
    retention: Retention,
    query: Query,
    alert: Alert,
    agents: Vec<Agents>,
    forward: Vec<RawForward>,
}

/// All that is written, wherever.
struct Written {
    file: Option<(PathBuf, String)>,
    /// What the file is called in errors.
    name: String,
    environment: Vec<(String, String)>,
    command_line: Vec<(&'static str, toml::Value)>,
}

impl Written {
    fn read(command_line: CommandLine) -> Result<Self, ReadError> {
        let file = read_file(command_line.config)?;
        let name = file.as_ref().map(|(path, _)| path.display().to_string()).unwrap_or_default();
        Ok(Self { file, name, environment: environment(), command_line: command_line.values })
    }

    fn layers(&self) -> Layers<'_> {
        Layers {
            file: self.file.as_ref().map(|(_, text)| (self.name.as_str(), text.as_str())),
            environment: self.environment.clone(),
            command_line: self.command_line.clone(),
        }
    }

    /// Where the file lies.
    fn directory(&self) -> Option<&Path> {
        self.file.as_ref().and_then(|(path, _)| path.parent())
    }
}

impl RawConfig {
    fn meaning(mut self, layers: &Layers<'_>, beside: Option<&Path>) -> Result<Config, ConfigError> {
        let refuse = |key, why| Err(layers.refuse(key, why));
        if !self.http.external_url.is_empty() && !is_page_address(&self.http.external_url) {
            let why = "is not how links begin: write it as https://lapwing.example.com, without a slash at its end";
            return refuse("http.external_url", why);
        }
        if !self.http.plain && self.http.tls.is_none() && !self.http.listen.ip().is_loopback() {
            let why = "is an address that others can reach, which needs TLS: set tls, use a loopback address behind a \
                       proxy that does TLS, or set plain = true if the network is trusted";
            return refuse("http.listen", why);
        }
        if self.alert.interval.is_zero() {
            return refuse("alert.interval", "is 0: rules cannot be evaluated without a pause, use 10s");
        }
        self.retention.check(layers)?;
        let Query { samples_max, memory_max, deadline, .. } = self.query;
        let nothing = [
            ("query.samples_max", samples_max == 0),
            ("query.memory_max", memory_max == 0),
            ("query.deadline", deadline.is_zero()),
        ];
        if let Some((key, _)) = nothing.into_iter().find(|(_, is_nothing)| *is_nothing) {
            return refuse(key, "is 0: no query could be answered, leave it out for the default");
        }
        let agents = agents::policies(layers, self.agents)?;
        let forward = forward::targets(layers, self.forward)?;
        if self.ingest.advertise.is_empty() {
            self.ingest.advertise = hostname();
        }
        self.ingest.advertise = common::address::advertised(&self.ingest.advertise, self.ingest.listen.port())
            .map_err(|why| layers.refuse("ingest.advertise", why))?;
        Ok(Config {
            rules_dir: beside.unwrap_or(&self.data_dir).to_owned(),
            data_dir: self.data_dir,
            http: self.http,
            ingest: self.ingest,
            store: self.store,
            retention: self.retention,
            query: self.query,
            alert: self.alert,
            agents,
            forward,
        })
    }
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/lapwing/aggregator"),
            http: Http::default(),
            ingest: Ingest::default(),
            store: Store::default(),
            retention: Retention::default(),
            query: Query::default(),
            alert: Alert::default(),
            agents: Vec::new(),
            forward: Vec::new(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4640);
        Self { listen, external_url: String::new(), plain: false, tls: None, metrics_open: false }
    }
}

impl Default for Ingest {
    fn default() -> Self {
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 4641);
        Self { listen, advertise: String::new() }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(200),
            series_max: 10_000_000,
            series_per_host_max: 1_000_000,
            series_per_metric_max: 2_000_000,
        }
    }
}

impl Default for Query {
    fn default() -> Self {
        Self {
            samples_max: 50_000_000,
            memory_max: 1 << 30,
            cache_max: 64 << 20,
            deadline: Duration::from_secs(120),
            slow: Duration::from_secs(1),
        }
    }
}

impl Default for Alert {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), hold_silent: Duration::from_secs(24 * 3_600) }
    }
}

fn read_file(named: Option<PathBuf>) -> Result<Option<(PathBuf, String)>, ReadError> {
    let (path, required) = named.map_or_else(|| (PathBuf::from(FILE), false), |path| (path, true));
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if !required && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(ReadError::File { path, why }),
    }
}

/// The variables that begin as ours do; others may hold anything, even what is not text.
fn environment() -> Vec<(String, String)> {
    let text = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    text.filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect()
}

/// An address to listen at. What was meant by another text can be told if that is an address without a port, or a name of
/// this machine.
fn listen<'de, const PORT: u16, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let (host, port) =
            text.rsplit_once(':').map_or((&*text, None), |(host, port)| (host, port.parse::<u16>().ok()));
        let meant = match (text.parse::<IpAddr>(), port) {
            (Ok(host), _) => SocketAddr::new(host, PORT).to_string(),
            (Err(_), Some(port)) if host.is_empty() || host == "*" => format!("0.0.0.0:{port}"),
            (Err(_), port) if host == "localhost" => format!("127.0.0.1:{}", port.unwrap_or(PORT)),
            (Err(_), _) => format!("127.0.0.1:{PORT}, or 0.0.0.0:{PORT} for all of this machine's"),
        };
        D::Error::custom(format!("{text:?} is not an IP address and a port: write {meant}"))
    })
}

fn certificate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Tls>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
        #[serde(default)]
        self_made: bool,
    }
    let raw = Raw::deserialize(deserializer)?;
    match (raw.certificate, raw.key, raw.self_made) {
        (Some(certificate), Some(key), false) => Ok(Some(Tls::Files { certificate, key })),
        (None, None, true) => Ok(Some(Tls::SelfMade)),
        _ => Err(D::Error::custom("give `certificate` and `key`, or `self_made = true`")),
    }
}

fn write_certificate<S: Serializer>(tls: &Option<Tls>, serializer: S) -> Result<S::Ok, S::Error> {
    match tls {
        Some(Tls::Files { certificate, key }) => serializer.collect_map([("certificate", certificate), ("key", key)]),
        Some(Tls::SelfMade) => serializer.collect_map([("self_made", true)]),
        None => serializer.serialize_none(),
    }
}

fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}

fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let interval = unit::stretch(deserializer)?;
    let why = || D::Error::custom(format!("it is {COMMIT_INTERVAL_MAX:?} at most: agents and senders wait for it"));
    (interval <= COMMIT_INTERVAL_MAX).then_some(interval).ok_or_else(why)
}

/// `https://lapwing.example.com`, as links begin.
fn is_page_address(url: &str) -> bool {
    is_url(url) && !url.ends_with('/') && !url.contains(char::is_whitespace)
}

/// Whether it names a host that speaks HTTP.
fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use common::config::NOT_SHOWN;

    use super::*;

    /// Reads this text as `aggregator.toml` and gives the error.
    fn refusal(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aggregator.toml");
        fs::write(&path, text).unwrap();
        let read = Config::read(CommandLine { config: Some(path), values: Vec::new() });
        read.unwrap_err().to_string().replace(&format!("{}/", dir.path().display()), "")
    }

    #[test]
    fn an_error_says_where_and_what_was_meant() {
        let check = |text: &str, expect: &str| {
            let refusal = refusal(text);
            assert!(refusal.starts_with(expect), "{refusal}");
        };
        check("\n[http]\nlissten = 1", "aggregator.toml, line 3: unknown key `lissten`, did you mean `listen`?");
        check("[alerts]\n", "aggregator.toml, line 1: unknown key `alerts`, did you mean `alert`?");
        check("[store]\ncommit_interval = \"11s\"", "aggregator.toml, line 2: it is 10s at most");
        check("[store]\ncommit_interval = \"1 s\"", "aggregator.toml, line 2: \"1 s\" is not a duration");
        check(
            "[http]\nexternal_url = \"lapwing.example.com/\"",
            "aggregator.toml, line 2: `http.external_url` is not how links begin: write it as https://",
        );
        for (listen, expect) in [
            ("127.0.0.1", "127.0.0.1:4640"),
            ("localhost", "127.0.0.1:4640"),
            ("localhost:80", "127.0.0.1:80"),
            ("::1", "[::1]:4640"),
            (":4640", "0.0.0.0:4640"),
            ("*:80", "0.0.0.0:80"),
            ("lapwing.example.com:80", "127.0.0.1:4640, or 0.0.0.0:4640 for all"),
            ("127.0.0.1:99999", "127.0.0.1:4640, or"),
            ("", "127.0.0.1:4640, or"),
        ] {
            let why = format!("aggregator.toml, line 2: {listen:?} is not an IP address and a port: write {expect}");
            check(&format!("[http]\nlisten = {listen:?}"), &why);
        }
        check(
            "[ingest]\nlisten = \"0.0.0.0\"",
            "aggregator.toml, line 2: \"0.0.0.0\" is not an IP address and a port: write 0.0.0.0:4641",
        );
        check(
            "[ingest]\nadvertise = \"https://a.example\"",
            "aggregator.toml, line 2: `ingest.advertise` is `https://a.example`",
        );
        check(
            "[http]\nlisten = \"0.0.0.0:80\"",
            "aggregator.toml, line 2: `http.listen` is an address that others can reach, which needs TLS",
        );
        check(
            "[http.tls]\ncertificate = \"x\"",
            "aggregator.toml, line 1: give `certificate` and `key`, or `self_made = true`",
        );
        check(
            "[http]\ntls = { self_made = true, key = \"x\" }",
            "aggregator.toml, line 2: give `certificate` and `key`",
        );
        check("[alert]\ninterval = \"0s\"", "aggregator.toml, line 2: `alert.interval` is 0: ");
        check("[query]\nsamples_max = 0", "aggregator.toml, line 2: `query.samples_max` is 0: ");
        check("[query]\nmemory_max = 0", "aggregator.toml, line 2: `query.memory_max` is 0: ");
        check("[query]\ndeadline = \"0s\"", "aggregator.toml, line 2: `query.deadline` is 0: ");
        check("[[forward]]\nname = \"a b\"\nurl = \"http://x\"", "aggregator.toml, line 2: `forward.0.name` ");
        let forward = |more: &str| format!("[[forward]]\nname = \"a\"\nurl = \"http://u:sesame@x\"\n{more}");
        check(&forward("basic_user = \"u\""), "aggregator.toml, line 4: `forward.0.basic_user` goes together with");
        check(&forward("bearer_file = \"u\"\nbasic_user = \"u\""), "aggregator.toml, line 4: `forward.0.bearer_file` ");
        check(&forward("[[forward]]\nname = \"a\"\nurl = \"http://x\""), "aggregator.toml, line 5: `forward.1.name` ");
        for url in ["x", "http://", "ftp://x", "http:///x", "http://a b"] {
            let text = format!("[[forward]]\nname = \"a\"\nurl = \"{url}\"");
            check(&text, "aggregator.toml, line 3: `forward.0.url` is not where one writes to");
        }
        check("[[forward]]\nname = \"a\"", "aggregator.toml, line 1: missing field `url`");
    }

    #[test]
    fn the_command_line_wins_and_rules_lie_beside_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aggregator.toml");
        fs::write(&path, "data_dir = \"/from/file\"\n[ingest]\nadvertise = \"lapwing.example\"").unwrap();
        let values = vec![("data_dir", toml::Value::from("/from/line"))];
        let config = Config::read(CommandLine { config: Some(path), values }).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/from/line"));
        assert_eq!(config.rules_dir, dir.path());
        assert_eq!(config.ingest.advertise, "lapwing.example:4641");
    }

    #[test]
    fn a_printed_configuration_says_the_same_and_no_secret() {
        let text = "data_dir = '/d'\n[http]\ntls = { certificate = 'c', key = 'k' }\n[retention]\nraw = '36h'\nbytes = \
                    '1536MB'\n[store]\ncommit_interval = '1s500ms'\n[[agents]]\nhosts = { env = 'a' }\n\
                    processes.interval_seconds = 5\n[[forward]]\nname = 'f'\nurl = 'https://u:sesame@a/x?key=friend'\n\
                    headers = { Authorization = 'Bearer mellon' }\nbearer_file = 't'\nrelabel = [{ source_labels = ['a'], target_label = 'b' }]";
        let dir = tempfile::tempdir().unwrap();
        let named = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            CommandLine { config: Some(path), values: Vec::new() }
        };
        let printed = print(named("written.toml", text)).unwrap();
        assert!(!printed.contains("sesame") && !printed.contains("mellon") && !printed.contains("friend"), "{printed}");
        for line in
            ["raw = \"36h\"", "bytes = \"1536MB\"", "commit_interval = \"1500ms\"", "url = \"https://a/x?(not shown)\""]
        {
            assert!(printed.contains(line), "{printed}");
        }
        let text = text.replace("u:sesame@", "").replace("Bearer mellon", NOT_SHOWN).replace("key=friend", NOT_SHOWN);
        let [again, expect] = [printed.as_str(), &text].map(|text| Config::read(named("again.toml", text)).unwrap());
        assert_eq!(format!("{again:?}"), format!("{expect:?}"));
        let own = tempfile::tempdir().unwrap();
        let empty = own.path().join("empty.toml");
        fs::write(&empty, "").unwrap();
        let printed = print(CommandLine { config: Some(empty), values: Vec::new() }).unwrap();
        let layers = Layers { file: Some(("printed", &*printed)), ..Layers::default() };
        assert_eq!(format!("{:?}", layers.read::<RawConfig>().unwrap()), format!("{:?}", RawConfig::default()));
    }

    #[test]
    fn the_packaged_file_says_the_defaults() {
        let text = include_str!("../../packaging/aggregator.toml");
        let layers = |text| Layers { file: Some(("aggregator.toml", text)), ..Layers::default() };
        let packaged: RawConfig = layers(text).read().unwrap();
        let uncommented: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|line| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')))
                    .unwrap_or(line)
            })
            .fold(String::new(), |all, line| all + line + "\n");
        let spelled_out: RawConfig = layers(&uncommented).read().unwrap();
        let default = format!("{:?}", RawConfig::default());
        assert_eq!(format!("{packaged:?}"), default);
        assert_eq!(format!("{spelled_out:?}"), default);
        assert_ne!(uncommented, text, "every key stands there, commented out");
    }
}
