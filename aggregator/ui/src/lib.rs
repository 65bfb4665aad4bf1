//! The page, embedded. Built from `web/` by `npm run build`; without that build a placeholder says how to make one.
//!
//! The page shows nothing that the public API does not give: this crate knows no data, only files.

use axum::Router;
use axum::http::StatusCode;
use memory_serve::CacheControl;

/// Serves the page's files. Every other path answers with the page itself, which reads its screen from the address.
///
/// The names of scripts and styles carry a hash of their content, so browsers keep them for good and ask only for the
/// page again.
#[expect(unused_qualifications, reason = "in what memory-serve generates")]
pub fn router() -> Router {
    memory_serve::load!()
        .index_file(Some("/index.html"))
        .fallback(Some("/index.html"))
        .fallback_status(StatusCode::OK)
        .html_cache_control(CacheControl::NoCache)
        .cache_control(CacheControl::Long)
        .enable_gzip(true)
        .enable_brotli(true)
        .into_router()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use axum::http::header::CONTENT_TYPE;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    /// Every screen's address answers with the page, so that a link can be opened, shared and reloaded.
    async fn check(path: &str) {
        let request = Request::get(path).body(Body::empty()).expect("request");
        let response = router().oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html", "{path}");
        let body = response.into_body().collect().await.expect("body").to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("<title>Lapwing</title>"), "{path}");
    }

    #[tokio::test]
    async fn the_root_is_the_page() {
        check("/").await;
    }

    #[tokio::test]
    async fn a_host_is_the_page() {
        check("/hosts/1?from=now-1h&to=now").await;
    }

    #[tokio::test]
    async fn alerts_are_the_page() {
        check("/alerts").await;
    }
}
