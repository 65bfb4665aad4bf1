//! The way in for a person: a link that is spent once and leaves a session behind.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::http::header::SET_COOKIE;
use axum::response::IntoResponse;
use axum::response::Response;
use common::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::problem::Problem;
use crate::http::secret;
use crate::http::secret::Hash;
use crate::store::record::Record;
use crate::store::record::links;
use crate::store::record::links::LoginLink;
use crate::store::record::sessions;
use crate::store::record::sessions::Session;

/// How long a login link waits to be opened.
const LINK_LASTS: Duration = Duration::from_secs(600);

/// How long a session lasts: a month, then a new link is due.
const SESSION_LASTS: Duration = Duration::from_secs(30 * 86_400);

/// A login link.
#[derive(Serialize, ToSchema)]
pub struct Link {
    /// The address to open.
    url: String,
    /// Until when, in milliseconds since the epoch.
    #[schema(value_type = i64)]
    expires_ms: Timestamp,
}

/// What a login link carries.
#[derive(Deserialize)]
pub struct LinkQuery {
    /// The secret in it.
    link: String,
}

/// Makes a login link: ten minutes, one use.
#[utoipa::path(post, path = "/api/v1/links", operation_id = "link_create", tag = "access", responses((status = 200, body = Link), (status = 401, body = Problem)))]
pub async fn create(State(app): State<Arc<App>>) -> Result<Json<Link>, Problem> {
    let secret = secret::random().map_err(|error| Problem::internal(&error))?;
    let created = app.clock.wall();
    let expires = created.after(LINK_LASTS);
    app.record(Record::LoginLink(LoginLink { hash: Hash::of(&secret).bytes(), created, expires })).await?;
    Ok(Json(Link { url: format!("{}/login?link={secret}", app.access.address()), expires_ms: expires }))
}

/// Shows a button: programs that look at links before people do must not spend them.
#[utoipa::path(get, path = "/login", operation_id = "login_show", tag = "access", params(("link" = String, Query, description = "The secret in the link")), security(()), responses((status = 200, content_type = "text/html", body = String)))]
pub async fn show(
    State(app): State<Arc<App>>,
    Query(LinkQuery { link }): Query<LinkQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (hash, now) = (Hash::of(&link).bytes(), app.clock.wall());
    let open = app.store.read(move |connection| links::is_open(connection, hash, now)).await;
    if !open.map_err(|error| Problem::internal(&error))? {
        return Ok(page(StatusCode::FORBIDDEN, &ui::SPENT, &headers));
    }
    Ok(page(StatusCode::OK, &ui::SIGN_IN, &headers))
}

/// Spends a login link and signs in.
#[utoipa::path(post, path = "/login", operation_id = "login", tag = "access", params(("link" = String, Query, description = "The secret in the link")), security(()), responses((status = 303), (status = 403, content_type = "text/html", body = String)))]
pub async fn spend(
    State(app): State<Arc<App>>,
    Query(LinkQuery { link }): Query<LinkQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let secret = secret::random().map_err(|error| Problem::internal(&error))?;
    let now = app.clock.wall();
    let hash = Hash::of(&secret).bytes();
    let session = Session { hash, link: Hash::of(&link).bytes(), created: now, expires: now.after(SESSION_LASTS) };
    app.record(Record::Session(session)).await?;
    let live = app.store.read(move |connection| sessions::is_live(connection, hash, now)).await;
    if !live.map_err(|error| Problem::internal(&error))? {
        return Ok(page(StatusCode::FORBIDDEN, &ui::SPENT, &headers));
    }
    let cookie = format!(
        "{}={secret}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{}",
        app.access.cookie_name(),
        SESSION_LASTS.as_secs(),
        if app.access.secure { "; Secure" } else { "" },
    );
    let cookie = HeaderValue::from_str(&cookie).map_err(|error| Problem::internal(&error))?;
    let headers = [(LOCATION, HeaderValue::from_static("/")), (SET_COOKIE, cookie)];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

fn page(status: StatusCode, page: &ui::Plain, headers: &HeaderMap) -> Response {
    (status, page.answer(headers)).into_response()
}
