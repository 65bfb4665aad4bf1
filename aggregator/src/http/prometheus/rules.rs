//! Rules and alerts in Prometheus' shape.

use std::sync::Arc;

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::alert::snapshot::Alert;
use crate::alert::snapshot::Group;
use crate::alert::snapshot::Health;
use crate::alert::snapshot::Rule;
use crate::alert::snapshot::Snapshot;
use crate::alert::state;
use crate::http::App;
use crate::http::prometheus::answer::Failure;
use crate::http::prometheus::answer::Success;
use crate::http::prometheus::answer::exponential;
use crate::http::prometheus::answer::moment;
use crate::http::prometheus::parameters::Parameters;

/// `alerts`: pending and firing ones.
pub(super) async fn alerts(State(app): State<Arc<App>>) -> Success<Value> {
    let snapshot = app.alerts.snapshot();
    Success::new(json!({"alerts": snapshot.alerts.iter().filter_map(of_alert).collect::<Vec<_>>()}))
}

/// `rules`: groups with their rules, and the rules with their alerts.
pub(super) async fn rules(State(app): State<Arc<App>>, parameters: Parameters) -> Result<Success<Value>, Failure> {
    let wanted = Wanted::read(&parameters)?;
    let snapshot = app.alerts.snapshot();
    let mut shown = Vec::new();
    for file in snapshot.files.iter().filter(|file| wanted.names("file[]", &file.path)) {
        for group in file.groups.iter().filter(|group| wanted.names("rule_group[]", &group.name)) {
            let rules = group.rules.iter().filter(|rule| wanted.wants(rule));
            let rules: Vec<_> = rules.map(|rule| described(&snapshot, (&file.path, group), rule, &wanted)).collect();
            if !rules.is_empty() {
                shown.push((token(&file.path, &group.name), grouped(&file.path, group, &rules)));
            }
        }
    }
    wanted.page(shown)
}

/// What is asked for.
struct Wanted<'a> {
    parameters: &'a Parameters,
    alerting: bool,
    recording: bool,
    with_alerts: bool,
    /// Groups of a page, and the token of its first.
    page: Option<(usize, Option<&'a str>)>,
}

impl<'a> Wanted<'a> {
    fn read(parameters: &'a Parameters) -> Result<Self, Failure> {
        let (alerting, recording) = match parameters.get("type") {
            None => (true, true),
            Some("alert") => (true, false),
            Some("record") => (false, true),
            Some(other) => return Err(Failure::parameter("type", format_args!("not supported value {other:?}"))),
        };
        let with_alerts = match parameters.get("exclude_alerts") {
            None | Some("false" | "0" | "f") => true,
            Some("true" | "1" | "t") => false,
            Some(other) => {
                let why = format_args!("error converting exclude_alerts: invalid syntax {other:?}");
                return Err(Failure::parameter("exclude_alerts", why));
            }
        };
        let page = match (parameters.get("group_limit"), parameters.get("group_next_token")) {
            (None, None) => None,
            (None, Some(_)) => {
                let why = "group_limit needs to be present in order to paginate over the groups";
                return Err(Failure::parameter("group_next_token", why));
            }
            (Some(limit), token) => {
                let limit = limit.parse().ok().filter(|limit| 0 < *limit);
                let why = "group_limit needs to be greater than 0";
                Some((limit.ok_or_else(|| Failure::parameter("group_limit", why))?, token))
            }
        };
        Ok(Self { parameters, alerting, recording, with_alerts, page })
    }

    /// Whether a list of names is empty or has this one.
    fn names(&self, parameter: &str, name: &str) -> bool {
        let mut names = self.parameters.all(parameter).peekable();
        names.peek().is_none() || names.any(|wanted| wanted == name)
    }

    fn wants(&self, rule: &Rule) -> bool {
        (if rule.alerting { self.alerting } else { self.recording }) && self.names("rule_name[]", &rule.name)
    }

    /// One page of groups, with the token of the next.
    fn page(&self, groups: Vec<(String, Value)>) -> Result<Success<Value>, Failure> {
        let Some((limit, token)) = self.page else {
            return Ok(Success::new(json!({"groups": groups.into_iter().map(|(_, group)| group).collect::<Vec<_>>()})));
        };
        let first = match token {
            None => Some(0),
            Some(token) => groups.iter().position(|(name, _)| name == token),
        };
        let first = first.ok_or_else(|| {
            let why =
                format_args!("invalid group_next_token '{}'. were rule groups changed?", token.unwrap_or_default());
            Failure::parameter("group_next_token", why)
        })?;
        let next = groups.get(first.saturating_add(limit)).map(|(token, _)| token.clone());
        let page: Vec<_> = groups.into_iter().skip(first).take(limit).map(|(_, group)| group).collect();
        Ok(Success::new(match next {
            Some(next) => json!({"groups": page, "groupNextToken": next}),
            None => json!({"groups": page}),
        }))
    }
}

fn token(file: &str, group: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{file};{group}"))
}

fn grouped(file: &str, group: &Group, rules: &[Value]) -> Value {
    let evaluated = group.rules.iter().filter_map(|rule| rule.evaluated).max();
    json!({
        "name": &*group.name, "file": file, "rules": rules, "interval": group.interval.as_secs_f64(), "limit": 0,
        "evaluationTime": 0, "lastEvaluation": moment(evaluated.unwrap_or_default()),
    })
}

fn described(snapshot: &Snapshot, (file, group): (&Arc<str>, &Group), rule: &Rule, wanted: &Wanted<'_>) -> Value {
    let mut shown = json!({
        "name": &*rule.name, "query": &*rule.expr, "labels": rule.labels, "evaluationTime": 0,
        "lastEvaluation": moment(rule.evaluated.unwrap_or_default()),
        "health": match rule.health { Health::Unknown => "unknown", Health::Ok => "ok", Health::Error(_) => "err" },
        "type": if rule.alerting { "alerting" } else { "recording" },
    });
    if let Health::Error(error) = &rule.health {
        shown["lastError"] = json!(error);
    }
    if rule.alerting {
        let of_rule = |alert: &&Alert| {
            wanted.with_alerts && alert.file == *file && alert.group == group.name && alert.rule == rule.name
        };
        shown["alerts"] = snapshot.alerts.iter().filter(of_rule).filter_map(of_alert).collect();
        shown["state"] = json!(match (rule.firing, rule.active) {
            (0, 0) => "inactive",
            (0, _) => "pending",
            _ => "firing",
        });
        shown["duration"] = json!(rule.hold_for.as_secs_f64());
        shown["keepFiringFor"] = json!(rule.keep_firing_for.as_secs_f64());
        shown["annotations"] = json!(rule.annotations);
    }
    shown
}

fn of_alert(alert: &Alert) -> Option<Value> {
    if matches!(alert.state, state::State::Resolved { .. }) {
        return None;
    }
    Some(json!({
        "labels": alert.labels, "annotations": alert.annotations, "state": alert.state.name(),
        "activeAt": moment(alert.state.since()), "value": exponential(alert.value),
    }))
}
