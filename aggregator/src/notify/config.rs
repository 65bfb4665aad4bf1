//! `alertmanager.yml`: routes and receivers, as Alertmanager reads them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::alert::duration;
use crate::notify::matcher::Matcher;
use crate::notify::matcher::canonical;
use crate::notify::receiver::client::Authorization;
use crate::notify::receiver::client::Secret;
use crate::notify::receiver::webhook;
use crate::notify::receiver::webhook::Webhook;
use crate::notify::route::GroupBy;
use crate::notify::route::Route;

/// What its file is called.
pub const FILE: &str = "alertmanager.yml";

/// Who is told of which alerts.
#[derive(Clone, Debug)]
pub struct NotifyConfig {
    /// The root of the tree of routes.
    pub route: Route,
    /// The webhooks of each receiver, by its name.
    pub receivers: BTreeMap<String, Vec<Webhook>>,
    /// What the file asks for that is not done; people are told more for it, never less.
    pub warnings: Vec<String>,
}

impl NotifyConfig {
    /// Reads `alertmanager.yml` in this directory, if it is there.
    ///
    /// # Errors
    /// When it cannot be read, or as [`Self::parse`].
    pub fn read(directory: &Path) -> Result<Option<Self>, String> {
        match fs::read_to_string(directory.join(FILE)) {
            Ok(text) => Self::parse(&text, directory).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read it: {error}")),
        }
    }

    /// Reads the file's text. Files that it names are relative to `directory`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line where there is one.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, String> {
        let raw: RawConfig = serde_saphyr::from_str(text).map_err(|error| {
            let what = error.without_snippet().to_string();
            what.lines().next().unwrap_or_default().to_owned()
        })?;
        let mut receivers = BTreeMap::new();
        for receiver in raw.receivers {
            let name = receiver.name.clone();
            if receivers.insert(name.clone(), webhooks(receiver, directory)?).is_some() {
                return Err(format!("receiver {name:?} is there twice"));
            }
        }
        let root = Route {
            key: String::new(),
            path: String::new(),
            matchers: Vec::new(),
            continues: false,
            receiver: String::new(),
            group_by: GroupBy::Labels(BTreeSet::new()),
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(5 * 60),
            repeat_interval: Duration::from_secs(4 * 3_600),
            routes: Vec::new(),
        };
        let muted = raw.route.mutes();
        let route = route(raw.route, &root, &receivers)?;
        if !route.matchers.is_empty() {
            return Err("the root route matches everything: it must not have matchers".to_owned());
        }
        let mut warnings = Vec::new();
        if raw.inhibit_rules.is_some_and(|rules| !rules.is_empty()) {
            warnings.push("inhibit_rules are not applied".to_owned());
        }
        if muted {
            warnings.push("mute_time_intervals and active_time_intervals are not applied".to_owned());
        }
        Ok(Self { route, receivers, warnings })
    }

    /// The webhook that a name such as `team/webhook/0` means, and its receiver's name.
    #[must_use]
    pub fn webhook(&self, name: &str) -> Option<(&str, &Webhook)> {
        let (receiver, place) = name.rsplit_once("/webhook/")?;
        let (receiver, webhooks) = self.receivers.get_key_value(receiver)?;
        Some((receiver, webhooks.get(place.parse::<usize>().ok()?)?))
    }

    /// Files of secrets that it names.
    pub fn secret_files(&self) -> impl Iterator<Item = &Path> {
        self.receivers.values().flatten().flat_map(Webhook::secrets).filter_map(Secret::file)
    }

    /// The names of a receiver's webhooks.
    pub fn webhook_names(&self, receiver: &str) -> impl Iterator<Item = String> {
        let count = self.receivers.get(receiver).map_or(0, Vec::len);
        let receiver = receiver.to_owned();
        (0..count).map(move |place| format!("{receiver}/webhook/{place}"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[expect(dead_code, reason = "nothing in it concerns webhooks: alerts resolve when their rules say so")]
    global: Option<IgnoredAny>,
    #[expect(dead_code, reason = "webhooks have no templates")]
    templates: Option<IgnoredAny>,
    route: RawRoute,
    receivers: Vec<RawReceiver>,
    inhibit_rules: Option<Vec<IgnoredAny>>,
    #[expect(dead_code, reason = "the routes that refer to it are warned of")]
    time_intervals: Option<IgnoredAny>,
    #[expect(dead_code, reason = "the routes that refer to it are warned of")]
    mute_time_intervals: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRoute {
    receiver: Option<String>,
    group_by: Option<Vec<String>>,
    group_wait: Option<String>,
    group_interval: Option<String>,
    repeat_interval: Option<String>,
    #[serde(rename = "match")]
    equal: BTreeMap<String, String>,
    match_re: BTreeMap<String, String>,
    matchers: Vec<String>,
    #[serde(rename = "continue")]
    continues: bool,
    routes: Vec<RawRoute>,
    mute_time_intervals: Vec<String>,
    active_time_intervals: Vec<String>,
}

impl RawRoute {
    fn mutes(&self) -> bool {
        let here = !self.mute_time_intervals.is_empty() || !self.active_time_intervals.is_empty();
        here || self.routes.iter().any(Self::mutes)
    }
}

#[derive(Deserialize)]
struct RawReceiver {
    name: String,
    #[serde(default)]
    webhook_configs: Vec<RawWebhook>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    url: Option<String>,
    url_file: Option<PathBuf>,
    send_resolved: Option<bool>,
    #[serde(default)]
    max_alerts: usize,
    timeout: Option<String>,
    http_config: Option<RawHttp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    authorization: Option<RawAuthorization>,
    basic_auth: Option<RawBasic>,
    /// Redirects are never followed: saying so is allowed.
    follow_redirects: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuthorization {
    #[serde(rename = "type")]
    scheme: Option<String>,
    credentials: Option<String>,
    credentials_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBasic {
    username: String,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

fn route(raw: RawRoute, parent: &Route, receivers: &BTreeMap<String, Vec<Webhook>>) -> Result<Route, String> {
    let mut matchers = Vec::new();
    for (name, value) in &raw.equal {
        matchers.push(Matcher::equal(name, value));
    }
    for (name, value) in &raw.match_re {
        matchers.push(Matcher::pattern(name, value)?);
    }
    for text in &raw.matchers {
        matchers.extend(Matcher::parse_all(text)?);
    }
    let separator = if parent.path.is_empty() { "" } else { "/" };
    let path = format!("{}{separator}{}", parent.path, canonical(&matchers));
    let twins = parent.routes.iter().filter(|sibling| sibling.path == path).count();
    let number = if twins == 0 { String::new() } else { format!("#{}", twins + 1) };
    let receiver = raw.receiver.unwrap_or_else(|| parent.receiver.clone());
    if !receivers.contains_key(&receiver) {
        return Err(format!("a route names the receiver {receiver:?}, which is not among the receivers"));
    }
    let interval = |text: Option<String>, inherited: Duration, name: &str| {
        text.map_or(Ok(inherited), |text| duration::parse(&text).map_err(|error| format!("{name}: {error}")))
    };
    let mut route = Route {
        key: format!("{}{separator}{}{number}", parent.key, canonical(&matchers)),
        path,
        matchers,
        continues: raw.continues,
        receiver,
        group_by: raw.group_by.map_or_else(|| parent.group_by.clone(), group_by),
        group_wait: interval(raw.group_wait, parent.group_wait, "group_wait")?,
        group_interval: interval(raw.group_interval, parent.group_interval, "group_interval")?,
        repeat_interval: interval(raw.repeat_interval, parent.repeat_interval, "repeat_interval")?,
        routes: Vec::new(),
    };
    if route.group_interval.is_zero() || route.repeat_interval.is_zero() {
        return Err("group_interval and repeat_interval must be longer than 0s".to_owned());
    }
    for child in raw.routes {
        let child = self::route(child, &route, receivers)?;
        route.routes.push(child);
    }
    Ok(route)
}

fn group_by(names: Vec<String>) -> GroupBy {
    if names.iter().any(|name| name == "...") { GroupBy::All } else { GroupBy::Labels(names.into_iter().collect()) }
}

fn webhooks(raw: RawReceiver, directory: &Path) -> Result<Vec<Webhook>, String> {
    let RawReceiver { name, webhook_configs, others } = raw;
    if let Some(other) = others.keys().next() {
        return Err(format!("receiver {name:?}: {other} is not supported; supported are webhook_configs"));
    }
    let webhooks = webhook_configs.into_iter().map(|raw| {
        let webhook = webhook(raw, directory);
        webhook.map_err(|error| format!("receiver {name:?}: {error}"))
    });
    webhooks.collect()
}

fn webhook(raw: RawWebhook, directory: &Path) -> Result<Webhook, String> {
    let url = secret(raw.url, raw.url_file, directory).ok_or("a webhook needs either url or url_file")?;
    if let Secret::Inline(url) = &url
        && !url.starts_with("http://")
        && !url.starts_with("https://")
    {
        return Err("the url of a webhook begins with http:// or https://".to_owned());
    }
    let timeout = raw.timeout.map_or(Ok(Duration::ZERO), |timeout| duration::parse(&timeout))?;
    Ok(Webhook {
        url,
        authorization: raw.http_config.map_or(Ok(None), |http| authorization(http, directory))?,
        send_resolved: raw.send_resolved.unwrap_or(true),
        max_alerts: raw.max_alerts,
        timeout: if timeout.is_zero() { webhook::TIMEOUT } else { timeout },
    })
}

fn authorization(raw: RawHttp, directory: &Path) -> Result<Option<Authorization>, String> {
    if raw.follow_redirects == Some(true) {
        return Err("follow_redirects is not supported: redirects would carry secrets elsewhere".to_owned());
    }
    match (raw.authorization, raw.basic_auth) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err("http_config has either authorization or basic_auth".to_owned()),
        (Some(raw), None) => {
            let credentials = secret(raw.credentials, raw.credentials_file, directory);
            let credentials = credentials.ok_or("authorization needs either credentials or credentials_file")?;
            Ok(Some(Authorization::Scheme(raw.scheme.unwrap_or_else(|| "Bearer".to_owned()), credentials)))
        }
        (None, Some(raw)) => {
            let password = secret(raw.password, raw.password_file, directory);
            let password = password.ok_or("basic_auth needs either password or password_file")?;
            Ok(Some(Authorization::Basic(raw.username, password)))
        }
    }
}

fn secret(inline: Option<String>, file: Option<PathBuf>, directory: &Path) -> Option<Secret> {
    match (inline, file) {
        (Some(text), None) => Some(Secret::Inline(text)),
        (None, Some(path)) => Some(Secret::File(directory.join(path))),
        (None, None) | (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use common::metric::Labels;

    use super::*;

    const TEXT: &str = r#"
global: {resolve_timeout: 5m, smtp_smarthost: 'x:25'}
route:
  receiver: all
  group_by: [alertname]
  group_wait: 0s
  routes:
  - match: {severity: page}
    receiver: pager
    group_by: ['...']
    continue: true
  - match_re: {team: x|y}
    group_interval: 1m
    routes:
    - matchers: ['env="dev", dc!="a"']
      receiver: nobody
receivers:
- name: all
  webhook_configs: [{url: 'http://127.0.0.1:1/', send_resolved: false, max_alerts: 3}]
- name: pager
  webhook_configs:
  - url_file: secrets/url
    http_config: {authorization: {credentials: abc}}
  - url: https://b/
    http_config: {basic_auth: {username: me, password_file: pw}}
- name: nobody
inhibit_rules: [{source_match: {a: b}}]
"#;

    fn check_routed(labels: &[(&str, &str)], expect: &[(&str, &str)]) {
        let config = NotifyConfig::parse(TEXT, Path::new("/etc/lapwing")).unwrap();
        let labels: Labels = labels.iter().copied().collect();
        let routes = config.route.matching(&labels);
        let got: Vec<_> = routes.iter().map(|route| (route.receiver.as_str(), route.key.as_str())).collect();
        assert_eq!(got, expect, "{labels}");
    }

    #[test]
    fn alerts_take_the_routes_that_alertmanager_gives_them() {
        check_routed(&[("alertname", "A")], &[("all", "{}")]);
        check_routed(&[("severity", "page")], &[("pager", r#"{}/{severity="page"}"#)]);
        let both = [("pager", r#"{}/{severity="page"}"#), ("all", r#"{}/{team=~"x|y"}"#)];
        check_routed(&[("severity", "page"), ("team", "x")], &both);
        let deep = r#"{}/{team=~"x|y"}/{dc!="a",env="dev"}"#;
        check_routed(&[("team", "y"), ("env", "dev")], &[("nobody", deep)]);
        check_routed(&[("team", "y"), ("env", "dev"), ("dc", "a")], &[("all", r#"{}/{team=~"x|y"}"#)]);
    }

    #[test]
    fn what_is_inherited_and_what_is_not() {
        let config = NotifyConfig::parse(TEXT, Path::new("/etc/lapwing")).unwrap();
        let deep = &config.route.routes[1].routes[0];
        assert_eq!((deep.group_wait, deep.group_interval), (Duration::ZERO, Duration::from_secs(60)));
        assert_eq!(deep.repeat_interval, Duration::from_secs(4 * 3_600));
        assert_eq!(config.route.routes[0].group_by, GroupBy::All);
        assert_eq!(config.warnings, ["inhibit_rules are not applied"]);
        assert_eq!(config.webhook_names("pager").collect::<Vec<_>>(), ["pager/webhook/0", "pager/webhook/1"]);
        assert!(config.webhook("pager/webhook/1").is_some());
        assert!(config.webhook("pager/webhook/2").is_none());
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let check = |text: &str, expect: &str| {
            let error = NotifyConfig::parse(text, Path::new("")).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        let email = "route: {receiver: a}\nreceivers:\n- name: a\n  email_configs: [{to: x}]\n";
        check(email, "email_configs is not supported; supported are webhook_configs");
        check("route: {receiver: b}\nreceivers: [{name: a}]\n", "\"b\"");
        check("route: {receiver: a, group_wait: soon}\nreceivers: [{name: a}]\n", "group_wait");
        check("route: {receiver: a, grp: 1}\nreceivers: [{name: a}]\n", "grp");
        check("route: {receiver: a, match: {b: c}}\nreceivers: [{name: a}]\n", "root");
        check("route: {receiver: a}\nreceivers: [{name: a}, {name: a}]\n", "twice");
        check("route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{}]}]\n", "url");
        check("", "");
    }
}
