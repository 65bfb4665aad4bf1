//! All routes, and the document that describes them.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa::openapi::security::ApiKey;
use utoipa::openapi::security::ApiKeyValue;
use utoipa::openapi::security::HttpAuthScheme;
use utoipa::openapi::security::HttpBuilder;
use utoipa::openapi::security::SecurityScheme;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::App;
use crate::http::alerts;
use crate::http::containers;
use crate::http::events;
use crate::http::health;
use crate::http::hosts;
use crate::http::live;
use crate::http::login;
use crate::http::metrics;
use crate::http::notifications;
use crate::http::processes;
use crate::http::prometheus;
use crate::http::queries;
use crate::http::recording;
use crate::http::rules;
use crate::http::tokens;

#[derive(OpenApi)]
#[openapi(
    info(title = "Lapwing", description = "What the page shows, anyone with a token can ask."),
    security(("token" = []), ("session" = []))
)]
struct Document;

/// Routes by who may use them.
pub struct Routes {
    /// Those with a token or a session.
    pub guarded: Router<Arc<App>>,
    /// Those with a token to write with.
    pub written: Router<Arc<App>>,
    /// Everybody.
    pub open: Router<Arc<App>>,
}

/// All routes, and their description.
pub fn routes(app: &App) -> (Routes, utoipa::openapi::OpenApi) {
    let guarded = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(hosts::list))
        .routes(routes!(hosts::one, hosts::change, hosts::forget))
        .routes(routes!(containers::list))
        .routes(routes!(processes::list))
        .routes(routes!(events::list))
        .routes(routes!(recording::show, recording::keep))
        .routes(routes!(recording::follow))
        .routes(routes!(alerts::list))
        .routes(routes!(queries::list))
        .routes(routes!(rules::list))
        .routes(routes!(notifications::list))
        .routes(routes!(live::stream))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(login::create));
    let open = OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(login::show, login::spend));
    let measured = OpenApiRouter::new().routes(routes!(metrics::show));
    let (guarded, open) =
        if app.access.metrics_open { (guarded, open.merge(measured)) } else { (guarded.merge(measured), open) };
    let (guarded, mut document) = guarded.split_for_parts();
    let (open, described) = open.split_for_parts();
    document.merge(described);
    let schemes = &mut document.components.get_or_insert_default().security_schemes;
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    schemes.insert("token".to_owned(), bearer.into());
    let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(app.access.cookie_name())));
    schemes.insert("session".to_owned(), cookie.into());
    let (guarded, open) = (guarded.merge(prometheus::router()), open.merge(prometheus::open()));
    (Routes { guarded, written: prometheus::written(), open }, document)
}

/// Serves the description.
pub fn document(document: utoipa::openapi::OpenApi) -> Router {
    Router::new().route("/api/openapi.json", get(move || async move { Json(document) }))
}
