//! Who may ask: the admin's token, a session's cookie, or the control socket.

use std::sync::Arc;

use axum::extract::Query;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header::AUTHORIZATION;
use axum::http::header::COOKIE;
use axum::http::header::HOST;
use axum::http::header::ORIGIN;
use axum::http::header::WWW_AUTHENTICATE;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::http::Access;
use crate::http::App;
use crate::http::problem::Problem;
use crate::http::secret::Hash;
use crate::store::record::origins;
use crate::store::record::origins::Origin;
use crate::store::record::sessions;

/// Who a request comes from. Requests that reach a handler behind [`require`] have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Holds the admin's token, or may open the control socket.
    Admin,
    /// Came in through a login link.
    Person,
}

/// Who a request to write comes from. Requests that reach a handler behind [`require_writer`] have one.
#[derive(Clone, Debug)]
pub struct Writer(pub Origin);

/// Lets a request through whose sender is known, else answers 401; 403 to those who may only write.
pub async fn require(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    if request.extensions().get::<Caller>().is_none() {
        let is_foreign = is_foreign(&request, &app.access);
        match caller(&app, request.headers()).await {
            Ok(Some(Caller::Person)) if is_foreign => return asked_elsewhere().into_response(),
            Ok(Some(caller)) => drop(request.extensions_mut().insert(caller)),
            Ok(None) => match writer(&app, request.headers()).await {
                Ok(Some(_)) => return may_only_write().into_response(),
                Ok(None) => return refusal(HOW_TO_SIGN_IN),
                Err(problem) => return problem.into_response(),
            },
            Err(problem) => return problem.into_response(),
        }
    }
    next.run(request).await
}

/// Lets a request through that has a token to write with, else answers 401; 403 to those who may do all but that.
pub async fn require_writer(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    match writer(&app, request.headers()).await {
        Ok(Some(writer)) => drop(request.extensions_mut().insert(writer)),
        // Who came through the control socket says for whom.
        Ok(None) if request.extensions().get::<Caller>().is_some() => match named(&app, request.uri()).await {
            Ok(Some(writer)) => drop(request.extensions_mut().insert(writer)),
            Ok(None) => return may_not_write().into_response(),
            Err(problem) => return problem.into_response(),
        },
        Ok(None) => match caller(&app, request.headers()).await {
            Ok(Some(_)) => return may_not_write().into_response(),
            Ok(None) => return refusal(HOW_TO_WRITE),
            Err(problem) => return problem.into_response(),
        },
        Err(problem) => return problem.into_response(),
    }
    next.run(request).await
}

async fn caller(app: &App, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
    if token(headers).is_some_and(|token| Hash::of(&token) == app.access.admin) {
        return Ok(Some(Caller::Admin));
    }
    // What else stands there may be for a proxy before us.
    let Some(session) = cookie(headers, &app.access.cookie_name()) else { return Ok(None) };
    let (hash, now) = (Hash::of(session).bytes(), app.clock.wall());
    let live = app.store.read(move |connection| sessions::is_live(connection, hash, now)).await;
    let live = live.map_err(|error| Problem::internal(&error))?;
    Ok(live.then_some(Caller::Person))
}

async fn writer(app: &App, headers: &HeaderMap) -> Result<Option<Writer>, Problem> {
    let Some(token) = token(headers) else { return Ok(None) };
    Ok(origin(app, Hash::of(&token).bytes()).await?.map(Writer))
}

/// Whether it may still write: its token may have been taken back since.
pub(super) async fn still_writes(app: &App, origin: &Origin) -> Result<bool, Problem> {
    Ok(self::origin(app, origin.token.hash).await?.is_some())
}

/// Whose token it is, if it was not taken back.
async fn origin(app: &App, hash: [u8; 32]) -> Result<Option<Origin>, Problem> {
    let origin = app.store.read(move |connection| origins::find(connection, hash)).await;
    origin.map_err(|error| Problem::internal(&error))
}

/// Whether a browser asks for a change on behalf of a page that is not ours: it sends our cookie with that, too, if the page
/// is of the same host or a neighbouring name. Whoever makes it only read cannot see the answer.
fn is_foreign(request: &Request, Access { external_url, .. }: &Access) -> bool {
    let told = |name: &str| request.headers().get(name).map(|told| told.to_str().unwrap_or_default());
    if request.method().is_safe() {
        return false;
    }
    // Browsers say this where the way to us is secret, whatever a proxy makes of `Host`.
    if let Some(site) = told("sec-fetch-site") {
        return !["same-origin", "none"].contains(&site);
    }
    let Some(origin) = told(ORIGIN.as_str()) else { return false };
    let ours = told(HOST.as_str());
    origin != external_url && origin.split_once("://").map(|(_, host)| host) != ours
}

/// Whom the parameter `as` names.
async fn named(app: &App, address: &Uri) -> Result<Option<Writer>, Problem> {
    let Ok(Query(Named { name })) = Query::<Named>::try_from_uri(address) else { return Ok(None) };
    let origin = app.store.read(move |connection| origins::named(connection, &name)).await;
    Ok(origin.map_err(|error| Problem::internal(&error))?.map(Writer))
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "as")]
    name: String,
}

/// The token: said as such, or the password beside any name, for programs that know only that. A browser that keeps a
/// password sends it with what other sites ask for, too, and says which if that may change something: there it counts for
/// nothing.
fn token(headers: &HeaderMap) -> Option<String> {
    let (scheme, said) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(said.trim().to_owned());
    }
    let is_basic = scheme.eq_ignore_ascii_case("basic") && !headers.contains_key(ORIGIN);
    let pair = is_basic.then(|| STANDARD.decode(said.trim()).ok()).flatten()?;
    std::str::from_utf8(&pair).ok()?.split_once(':').map(|(_, password)| password.to_owned())
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    cookies.flat_map(|header| header.split(';')).find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    })
}

const HOW_TO_SIGN_IN: &str = "sign in: open the link that `lapwing-aggregator user link` prints, or send \
                              `Authorization: Bearer` with the token in <data-dir>/admin.token";

const HOW_TO_WRITE: &str = "send `Authorization: Bearer` with a token that `lapwing-aggregator token create --write \
                            NAME` prints";

/// Says that a token was taken back.
pub(super) fn taken_back() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "the token was revoked")
}

fn may_only_write() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "this token is for writing, and for nothing else")
}

fn may_not_write() -> Problem {
    let detail = "who writes needs a token of its own: `lapwing-aggregator token create --write NAME` makes one";
    Problem::new(StatusCode::FORBIDDEN, detail)
}

fn asked_elsewhere() -> Problem {
    let detail = "a page of another address asked for this in the name of whoever is signed in; where a proxy changes `Host`, \
                  set `[http] external_url` to the address that people open";
    Problem::new(StatusCode::FORBIDDEN, detail)
}

fn refusal(detail: &str) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let check = |header: &str, expect: Option<&str>| {
            let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(header).unwrap())]);
            assert_eq!(cookie(&headers, "s_1"), expect, "{header}");
        };
        check("s_1=a", Some("a"));
        check("other=x; s_1=a=b", Some("a=b"));
        check("s_10=a", None);
        check("xs_1=a", None);
        check("", None);
    }

    #[test]
    fn a_token_needs_a_scheme() {
        let check = |header: &str, expect: Option<&str>| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(header).unwrap())]);
            assert_eq!(token(&headers).as_deref(), expect, "{header}");
        };
        check("Bearer abc", Some("abc"));
        check("bearer abc", Some("abc"));
        // any:a:bc, :abc, abc, and bytes that are no text.
        check("Basic YW55OmE6YmM=", Some("a:bc"));
        check("basic OmFiYw==", Some("abc"));
        check("Basic YWJj", None);
        check("Basic Ov8=", None);
        check("Basic abc", None);
        check("abc", None);
    }

    #[test]
    fn a_password_counts_for_nothing_where_a_browser_says_for_whom_it_asks() {
        let headers = [(AUTHORIZATION, "Basic OmFiYw=="), (ORIGIN, "https://elsewhere.example")];
        let headers = HeaderMap::from_iter(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
        assert_eq!(token(&headers), None);
    }
}
