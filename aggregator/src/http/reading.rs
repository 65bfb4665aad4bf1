//! While the store reads its log again: questions about what it knows are answered, all others are refused.

use std::sync::Arc;

use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::http::App;
use crate::http::auth::Caller;
use crate::http::problem::Problem;
use crate::store::Health;

/// Seconds after which one may ask again.
pub(super) const ASK_AGAIN: HeaderValue = HeaderValue::from_static("5");

/// Questions that say themselves what they cannot answer yet, and those that are not about what is stored.
const ANSWERED: [&str; 9] = [
    "/prometheus/api/v1/query",
    "/prometheus/api/v1/series",
    "/prometheus/api/v1/export",
    "/prometheus/api/v1/label",
    "/prometheus/api/v1/format_query",
    "/prometheus/api/v1/parse_query",
    "/prometheus/api/v1/status/buildinfo",
    "/api/v1/login",
    "/metrics",
];

/// Lets a request through once all is known, and before that what can be answered; nothing tells who came through the
/// control socket but that its caller is known already.
pub(super) async fn require_read(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if request.extensions().get::<Caller>().is_some() {
        // Who came through the socket waits: an error is an answer that comes with the rest.
        app.store.has_read().await.unwrap_or_default();
    } else if app.store.health() == Health::Reading && !ANSWERED.iter().any(|answered| path.starts_with(answered)) {
        let mut response = unread(&app).into_response();
        response.headers_mut().insert(RETRY_AFTER, ASK_AGAIN);
        return response;
    }
    next.run(request).await
}

/// What is said then.
pub(super) fn unread(app: &App) -> Problem {
    let (_, read, of) = app.store.reading();
    Problem::unavailable(format!("the aggregator has started and reads its log: {read} of {of} rows"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use axum::http::header::AUTHORIZATION;
    use axum::http::header::HOST;
    use common::time::Clock;
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::CommandLine;
    use crate::config::Config;
    use crate::http::control;
    use crate::http::control::Question;
    use crate::http::router;
    use crate::store::Store;
    use crate::store::lock::Lock;

    #[tokio::test]
    async fn while_the_log_is_read_what_is_not_known_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let values = vec![("data_dir", toml::Value::from(dir.path().to_str().unwrap()))];
        let config = Config::read(CommandLine { config: None, values }).unwrap();
        let clock = Clock::real();
        let (store, writer) =
            Store::begin(Lock::take(dir.path()).unwrap(), crate::keeping(&config), clock.clone()).unwrap();
        let (rooms, _nobody_evaluates) = crate::rooms(&config, &clock, &store).await.unwrap();
        let app = App::new(rooms, crate::access(&config, config.http.listen).unwrap(), CancellationToken::new());
        let router = router(Arc::new(app));
        let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap();
        let ask = async |path: &str| {
            let request = Request::get(path).header(HOST, "localhost");
            let request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
            let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            (response.status().as_u16(), response.headers().contains_key(RETRY_AFTER))
        };
        let refused = [
            "/api/v1/hosts",
            "/prometheus/api/v1/query?query=up",
            "/prometheus/api/v1/series?match[]=up",
            "/prometheus/api/v1/alerts",
        ];
        for path in refused {
            assert_eq!(ask(path).await, (503, true), "{path}");
        }
        assert_eq!((ask("/healthz").await.0, ask("/readyz").await.0), (200, 503));
        // A command waits instead.
        let mut commands = JoinSet::new();
        commands.spawn(control::ask_here(router.clone(), Question::get("/api/v1/hosts", &[]), control::read));
        tokio::task::yield_now().await;
        assert!(commands.try_join_next().is_none());

        let writing = std::thread::spawn(move || writer.run());
        store.has_read().await.unwrap();
        for path in refused.into_iter().chain(["/healthz", "/readyz"]) {
            assert_eq!(ask(path).await, (200, false), "{path}");
        }
        commands.join_next().await.unwrap().unwrap().unwrap();
        store.close();
        writing.join().unwrap();
    }
}
