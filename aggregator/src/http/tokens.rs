//! Tokens with which hosts join, and tokens with which others write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use common::metric::Labels;
use common::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::labels;
use crate::http::not_stored;
use crate::http::problem::Problem;
use crate::http::secret;
use crate::http::secret::Hash;
use crate::ingest::enroll;
use crate::store::record::Record;
use crate::store::record::origins;
use crate::store::record::origins::Origin;
use crate::store::record::origins::OriginToken;
use crate::store::record::tokens;
use crate::store::record::tokens::Token;

/// What a token shall be good for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// What is called who may write with it, for ever; missing in one with which hosts join.
    write: Option<String>,
    /// How many hosts may join with it; 1 if missing.
    uses: Option<u32>,
    /// How long it may be used; a day if missing.
    expires_seconds: Option<u64>,
    /// Labels that its hosts, or the series written with it, get.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// After how long without a word its hosts are forgotten; never if missing.
    ephemeral_seconds: Option<u64>,
}

/// A token, told once: only its hash is kept.
#[derive(Serialize, ToSchema)]
pub struct Made {
    token: String,
    /// What to run on the host that joins, or what Prometheus' configuration has to say to write with it.
    line: String,
}

/// A token as it is known afterwards.
#[derive(Default, Serialize, ToSchema)]
pub struct Known {
    /// The beginning of its hash.
    id: String,
    /// Who writes with it; nothing when hosts join with it.
    write: Option<String>,
    uses: Option<u32>,
    uses_left: Option<u32>,
    #[schema(value_type = i64)]
    created_ms: Timestamp,
    #[schema(value_type = Option<i64>)]
    expires_ms: Option<Timestamp>,
    #[schema(value_type = BTreeMap<String, String>)]
    labels: Labels,
    ephemeral_seconds: Option<u64>,
}

/// Tokens that may still be used.
#[derive(Serialize, ToSchema)]
pub struct Tokens {
    tokens: Vec<Known>,
}

/// Longest that a token may be used: one that is lost should not work for ever.
const TOKEN_LASTS_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Letters of the name of somebody who writes: it stands in tables.
const WRITER_CHARS_MAX: usize = 64;

/// Makes a token with which hosts join, or with which somebody writes.
#[utoipa::path(post, path = "/api/v1/tokens", operation_id = "token_create", tag = "access", request_body = Wanted, responses((status = 200, body = Made), (status = 400, body = Problem), (status = 401, body = Problem), (status = 409, body = Problem)))]
pub async fn create(
    State(app): State<Arc<App>>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Made>, Problem> {
    let Json(wanted) = wanted?;
    if let Some(name) = &wanted.write {
        check_writer(name, &wanted)?;
        return create_writer(&app, name.clone(), wanted.labels).await.map(Json);
    }
    let wanted = meant(wanted)?;
    let minted = enroll::mint(&app.store, &app.authority, wanted, random()?, app.clock.wall()).await;
    let token = minted.map_err(|error| not_stored(&error))?.to_string();
    let line = format!("lapwing-agent run --join {token} --aggregator {}", app.access.advertise);
    Ok(Json(Made { token, line }))
}

/// Tokens that may still be used, the newest first: those with which hosts join, then those with which others write.
#[utoipa::path(get, path = "/api/v1/tokens", operation_id = "tokens", tag = "access", responses((status = 200, body = Tokens), (status = 401, body = Problem)))]
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<Tokens>, Problem> {
    let now = app.clock.wall();
    let (joining, writing) = all(&app).await?;
    let joining = joining.into_iter().map(known);
    let usable = joining.filter(|token| Some(0) < token.uses_left && Some(now) < token.expires_ms);
    let writing = writing.into_iter().filter(|origin| !origin.revoked).map(|Origin { token, .. }| Known {
        id: id(&token.hash),
        write: Some(token.name),
        created_ms: token.created,
        labels: token.labels,
        ..Known::default()
    });
    Ok(Json(Tokens { tokens: usable.chain(writing).collect() }))
}

/// Revokes a token: no further host joins with it, nobody writes with it. What came with it stays.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", operation_id = "token_revoke", tag = "access", params(("id" = String, Path)), responses((status = 204), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub async fn revoke(State(app): State<Arc<App>>, Path(named): Path<String>) -> Result<StatusCode, Problem> {
    let (joining, writing) = all(&app).await?;
    let joining = joining.into_iter().find(|(token, _)| !token.revoked && id(&token.hash) == named);
    let writing = writing.iter().find(|origin| !origin.revoked && id(&origin.token.hash) == named);
    let record = match (joining, writing) {
        (Some((token, _)), _) => Record::Token(Token { revoked: true, ..token }),
        (None, Some(origin)) => Record::OriginRevoked(origin.id),
        (None, None) => {
            let detail = format!("there is no token {named}; /api/v1/tokens lists those that there are");
            return Err(Problem::not_found(detail));
        }
    };
    app.record(record).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn all(app: &App) -> Result<(Vec<tokens::Used>, Vec<Origin>), Problem> {
    let both = app.store.read(|connection| Ok((tokens::all(connection)?, origins::all(connection)?))).await;
    both.map_err(|error| Problem::internal(&error))
}

fn check_writer(name: &str, wanted: &Wanted) -> Result<(), Problem> {
    let plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
    if name.is_empty() || WRITER_CHARS_MAX < name.chars().count() || !name.chars().all(plain) {
        let detail = format!("write: a name of at most {WRITER_CHARS_MAX} letters, digits and any of . _ -");
        return Err(Problem::bad_request(detail));
    }
    if (wanted.uses, wanted.expires_seconds, wanted.ephemeral_seconds) != (None, None, None) {
        let detail = "uses, expires_seconds and ephemeral_seconds are about hosts that join: a token to write with is \
                      good until it is revoked";
        return Err(Problem::bad_request(detail));
    }
    labels::check(&wanted.labels)
}

async fn create_writer(app: &App, name: String, labels: BTreeMap<String, String>) -> Result<Made, Problem> {
    let (_, writing) = all(app).await?;
    if writing.iter().any(|origin| origin.token.name == name && !origin.revoked) {
        let detail = format!("{name} has a token: revoke it first, its series then go on with the new one");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let token = secret::random().map_err(|error| Problem::internal(&error))?;
    let hash = Hash::of(&token).bytes();
    let labels = labels.into_iter().collect();
    app.record(Record::OriginToken(OriginToken { name, hash, labels, created: app.clock.wall() })).await?;
    let address = app.access.address();
    let line = format!(
        "remote_write:\n  - url: {address}/prometheus/api/v1/write\n    authorization:\n      credentials: {token}"
    );
    Ok(Made { token, line })
}

fn meant(wanted: Wanted) -> Result<enroll::Wanted, Problem> {
    let default = enroll::Wanted::default();
    let uses = wanted.uses.unwrap_or(default.uses);
    let expires = wanted.expires_seconds.map_or(default.expires, Duration::from_secs);
    if uses == 0 {
        return Err(Problem::bad_request("uses: a token that no host may use is no token"));
    }
    if expires.is_zero() || TOKEN_LASTS_MAX < expires {
        return Err(Problem::bad_request("expires_seconds: from a second to 366 days"));
    }
    labels::check(&wanted.labels)?;
    let labels = wanted.labels.into_iter().collect();
    Ok(enroll::Wanted { uses, expires, labels, ephemeral: wanted.ephemeral_seconds.map(Duration::from_secs) })
}

/// What people call a token by. It tells nothing about the secret.
fn id(hash: &[u8; 32]) -> String {
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn known((token, keys): tokens::Used) -> Known {
    let used = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    Known {
        id: id(&token.hash),
        write: None,
        uses: Some(token.uses),
        uses_left: Some(if token.revoked { 0 } else { token.uses.saturating_sub(used) }),
        created_ms: token.created,
        expires_ms: Some(token.expires),
        labels: token.labels,
        ephemeral_seconds: token.ephemeral.map(|time| time.as_secs()),
    }
}

fn random() -> Result<[u8; 16], Problem> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Problem::internal(&error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_makes_no_sense_is_refused() {
        let check = |json: &str, expect: Result<(), &str>| {
            let wanted = serde_json::from_str(json).unwrap();
            let meant_it = meant(wanted).map(drop);
            let refusal = meant_it.map_err(|problem| serde_json::to_string(&problem).unwrap());
            match (refusal, expect) {
                (Ok(()), Ok(())) => {}
                (Err(problem), Err(part)) => assert!(problem.contains(part), "{problem}"),
                (got, expect) => panic!("{json}: {got:?}, expected {expect:?}"),
            }
        };
        check("{}", Ok(()));
        check(r#"{"labels": {"env": "prod", "_x": "1"}}"#, Ok(()));
        check(r#"{"uses": 0}"#, Err("uses"));
        check(r#"{"expires_seconds": 0}"#, Err("expires_seconds"));
        check(r#"{"expires_seconds": 99999999999}"#, Err("expires_seconds"));
        for name in ["instance", "job", "__name__", "1a", "a-b", ""] {
            check(&format!(r#"{{"labels": {{{name:?}: "x"}}}}"#), Err("labels"));
        }
    }
}
