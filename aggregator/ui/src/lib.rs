//! The page, embedded. Built from `web/` by `npm run build`; without that build a placeholder says how to make one.
//!
//! The page shows nothing that the public API does not give: this crate knows no data, only files.

use axum::Router;
use axum::http::HeaderMap;
use axum::http::HeaderName;
#[cfg(not(unbuilt))]
use axum::http::StatusCode;
use axum::http::header::ACCEPT_LANGUAGE;
use axum::http::header::CACHE_CONTROL;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
#[cfg(not(unbuilt))]
use memory_serve::CacheControl;

/// What pages without a script are drawn with: the page's own tokens and elements, and the system's light or dark.
const PLAIN_STYLE: &str = concat!(
    include_str!("../web/src/tokens.css"),
    "@media (prefers-color-scheme: dark) {",
    include_str!("../web/src/dark.css"),
    "}",
    include_str!("../web/src/base.css"),
    include_str!("../plain/plain.css"),
);

const MARK: &str = include_str!("../web/src/mark.svg");

/// A page that works without a script, in each language.
#[derive(Debug)]
pub struct Plain {
    english: &'static str,
    chinese: &'static str,
}

/// The button behind a login link.
pub const SIGN_IN: Plain =
    Plain { english: include_str!("../plain/sign-in.en.html"), chinese: include_str!("../plain/sign-in.zh.html") };

/// A login link that signs nobody in.
pub const SPENT: Plain =
    Plain { english: include_str!("../plain/spent.en.html"), chinese: include_str!("../plain/spent.zh.html") };

/// What stands for the page where it was not built: how to build it.
#[cfg(unbuilt)]
const UNBUILT: Plain =
    Plain { english: include_str!("../plain/unbuilt.en.html"), chinese: include_str!("../plain/unbuilt.zh.html") };

impl Plain {
    /// The page in the language of who asks.
    pub fn answer(&self, headers: &HeaderMap) -> Html<&'static str> {
        let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Html(self.in_language(accepted))
    }

    /// That which comes first in an `Accept-Language` header.
    fn in_language(&self, accepted: &str) -> &'static str {
        let chinese = accepted.trim_start().get(..2).is_some_and(|first| first.eq_ignore_ascii_case("zh"));
        if chinese { self.chinese } else { self.english }
    }
}

/// Serves the page's files. Every other path answers with the page itself, which reads its screen from the address.
///
/// The names of scripts and styles carry a hash of their content, so browsers keep them for good and ask only for the
/// page again.
pub fn router() -> Router {
    page()
        .route("/plain.css", get(plain("text/css; charset=utf-8", PLAIN_STYLE)))
        .route("/mark.svg", get(plain("image/svg+xml", MARK)))
}

#[cfg(unbuilt)]
fn page() -> Router {
    Router::new().fallback(async |headers: HeaderMap| ([(CACHE_CONTROL, "no-cache")], UNBUILT.answer(&headers)))
}

#[cfg(not(unbuilt))]
#[expect(unused_qualifications, reason = "in what memory-serve generates")]
fn page() -> Router {
    memory_serve::load!()
        .index_file(Some("/index.html"))
        .fallback(Some("/index.html"))
        .fallback_status(StatusCode::OK)
        .html_cache_control(CacheControl::NoCache)
        .cache_control(CacheControl::Long)
        .enable_gzip(true)
        // Compressed by a release build; a debug build would do it at each start, which takes it seconds.
        .enable_brotli(!cfg!(debug_assertions))
        .into_router()
}

/// A file whose name stays the same from version to version.
const fn plain(kind: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 2], &'static str) {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use axum::http::StatusCode;
    use axum::http::header::CONTENT_TYPE;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(path: &str) -> (StatusCode, String, String) {
        ask_in("en", path).await
    }

    async fn ask_in(language: &str, path: &str) -> (StatusCode, String, String) {
        let request = Request::get(path).header(ACCEPT_LANGUAGE, language).body(Body::empty()).expect("request");
        let response = router().oneshot(request).await.expect("infallible");
        let (status, kind) = (response.status(), response.headers()[CONTENT_TYPE].to_str().expect("text").to_owned());
        let body = response.into_body().collect().await.expect("body").to_bytes();
        (status, kind, String::from_utf8_lossy(&body).into_owned())
    }

    /// Every screen's address answers with the page, so that a link can be opened, shared and reloaded.
    async fn check(path: &str) {
        let (status, kind, body) = ask(path).await;
        assert!(status == StatusCode::OK && kind.starts_with("text/html"), "{path}: {status} {kind}");
        assert!(body.contains("<title>Lapwing</title>"), "{path}");
    }

    #[tokio::test]
    async fn the_root_is_the_page() {
        check("/").await;
    }

    #[tokio::test]
    async fn a_host_is_the_page() {
        check("/hosts/1?from=now-1h&to=now").await;
    }

    /// What plain pages refer to is there with or without a build.
    #[tokio::test]
    async fn plain_pages_have_their_style_and_mark() {
        for page in [&SIGN_IN, &SPENT] {
            for (accepted, lang) in [("", "en"), ("de, zh", "en"), ("zh", "zh-CN"), ("ZH-tw;q=0.9, en", "zh-CN")] {
                let text = page.in_language(accepted);
                assert!(text.contains(&format!("<html lang=\"{lang}\" data-theme=\"system\">")), "{accepted}: {text}");
                assert!(text.contains("\"/plain.css\"") && text.contains("\"/mark.svg\""), "{text}");
            }
        }
        let (_, kind, style) = ask("/plain.css").await;
        assert!(kind.starts_with("text/css") && style.contains("prefers-color-scheme: dark"), "{kind}");
        assert_eq!(ask("/mark.svg").await.1, "image/svg+xml");
    }

    #[cfg(unbuilt)]
    #[tokio::test]
    async fn how_to_build_the_page_is_told_in_each_language() {
        for (language, lang, says) in [("de", "en", "is not built"), ("zh-CN,en;q=0.5", "zh-CN", "尚未构建")] {
            let (_, _, body) = ask_in(language, "/hosts/1").await;
            assert!(body.contains(&format!("<html lang=\"{lang}\"")) && body.contains(says), "{language}: {body}");
            assert!(body.contains("npm ci &amp;&amp; npm run build"), "{body}");
        }
    }

    #[tokio::test]
    async fn alerts_are_the_page() {
        check("/alerts").await;
    }
}
