//! The page's files, and the headers that keep a browser from doing anything else with them.

use axum::Router;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::header::REFERRER_POLICY;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use tower_http::set_header::SetResponseHeaderLayer;

/// Nothing is fetched from elsewhere, nothing frames the page, nothing runs that is not a file of ours.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // A login link stays in this browser.
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// The page's files.
pub fn router() -> Router {
    ui::router()
}

/// Puts the headers on every answer.
pub fn guard<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    HEADERS
        .into_iter()
        .fold(router, |router, (name, value)| router.layer(SetResponseHeaderLayer::if_not_present(name, value)))
}
