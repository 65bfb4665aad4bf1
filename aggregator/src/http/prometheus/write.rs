//! Prometheus' remote write, received: `/prometheus/api/v1/write`.
//!
//! 204 when all of it is durable. 400 when some of it never can be: the rest is stored, and the text says what is not.
//! 503 when it would be stored at another time: senders try again, and a sample that comes twice is one sample. 429 is
//! never said, because Prometheus then drops what it has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use axum::Extension;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_ENCODING;
use axum::http::header::CONTENT_LENGTH;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::RETRY_AFTER;
use axum::response::IntoResponse;
use axum::response::Response;
use http_body_util::BodyExt as _;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::http::App;
use crate::http::auth::Writer;
use crate::http::keeping;
use crate::http::keeping::Outcome;
use crate::http::keeping::WAIT_MAX;
use crate::http::problem::Problem;
use crate::receive::received::Reason;
use crate::receive::received::Received;
use crate::receive::received::Refused;
use crate::receive::received::Terms;
use crate::receive::remote_write;
use crate::receive::remote_write::DecodeError;
use crate::receive::remote_write::Version;

/// Bytes of one body as it comes: senders' own limits are a quarter of it.
const BODY_BYTES_MAX: usize = 32 << 20;

/// Bodies that are in memory at once, in MiB: two of the largest, or dozens as they really are.
const BODIES_MIB_MAX: u32 = 64;

/// Bodies decoded at once: each takes a thread, and several times its bytes.
const DECODES_MAX: usize = 4;

/// Texts read at once: each keeps a batch of samples, and waits for the store.
const IMPORTS_MAX: usize = 2;

/// When to try again, in seconds.
const RETRY_SECONDS: u32 = 5;

/// Room for what is being written.
pub struct Writes {
    bodies: Arc<Semaphore>,
    decodes: Arc<Semaphore>,
    /// Texts that are read at once.
    pub(super) imports: Arc<Semaphore>,
    counted: Counted,
}

impl Default for Writes {
    fn default() -> Self {
        Self {
            bodies: Arc::new(Semaphore::new(BODIES_MIB_MAX as usize)),
            decodes: Arc::new(Semaphore::new(DECODES_MAX)),
            imports: Arc::new(Semaphore::new(IMPORTS_MAX)),
            counted: Counted::default(),
        }
    }
}

/// What was received since the start.
#[derive(Debug, Default)]
pub struct Counted {
    requests: Mutex<BTreeMap<u16, u64>>,
    samples: AtomicU64,
    refused: Mutex<BTreeMap<Reason, u64>>,
}

impl Counted {
    /// Requests, by the status they were answered with.
    pub fn requests(&self) -> BTreeMap<u16, u64> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Samples stored.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Samples refused, by the reason.
    pub fn refused(&self) -> BTreeMap<Reason, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answered(&self, status: StatusCode) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(status.as_u16()).or_default() += 1;
    }

    pub(super) fn stored(&self, samples: u64, refused: &Refused) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
        let mut counts = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        for (reason, count) in refused.counts() {
            *counts.entry(reason).or_default() += count;
        }
    }
}

impl Writes {
    /// What was received.
    pub const fn counted(&self) -> &Counted {
        &self.counted
    }
}

/// Takes one message in.
pub(super) async fn receive(
    State(app): State<Arc<App>>,
    Extension(writer): Extension<Writer>,
    request: Request<Body>,
) -> Response {
    let counted = app.writes.counted();
    let response = match kind(request.headers()) {
        Ok(version) => {
            let outcome = write(&app, writer, version, request).await;
            let (samples, refusal) = match outcome {
                Ok(Outcome { samples, refused }) => {
                    counted.stored(samples, &refused);
                    (samples, some_refused(samples, &refused))
                }
                Err(problem) => (0, Some(problem)),
            };
            let response = refusal.map_or_else(|| StatusCode::NO_CONTENT.into_response(), answer);
            if version == Version::Two { with_written(response, samples) } else { response }
        }
        Err(problem) => problem.into_response(),
    };
    counted.answered(response.status());
    response
}

async fn write(
    app: &App,
    Writer(origin): Writer,
    version: Version,
    request: Request<Body>,
) -> Result<Outcome, Problem> {
    let terms = keeping::terms(app, origin.token.labels);
    let (body, place) = body(app, request).await?;
    let received = decode(app, (body, place), version, terms).await?;
    keeping::keep(app, origin.id, received).await
}

/// Which message it is, by its headers.
fn kind(headers: &HeaderMap) -> Result<Version, Problem> {
    let unsupported = |what: String| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what);
    let text = |name: HeaderName| headers.get(name).map_or(Ok(""), HeaderValue::to_str).map(str::trim);
    let encoding = text(CONTENT_ENCODING).unwrap_or("?");
    // Senders of the first days said neither.
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") {
        return Err(unsupported(format!("content-encoding {encoding:?} is not taken: compress with snappy")));
    }
    let stated = text(CONTENT_TYPE).unwrap_or("?");
    version(stated).ok_or_else(|| {
        unsupported(format!(
            "content-type {stated:?} is not taken: send application/x-protobuf, with proto=prometheus.WriteRequest or \
             proto=io.prometheus.write.v2.Request"
        ))
    })
}

fn version(content_type: &str) -> Option<Version> {
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
        return None;
    }
    let parameters = parts.map(|part| part.split_once('='));
    let mut version = Version::One;
    for parameter in parameters {
        let (name, value) = parameter?;
        if name.trim().eq_ignore_ascii_case("proto") {
            version = match value.trim().trim_matches('"') {
                "prometheus.WriteRequest" => Version::One,
                "io.prometheus.write.v2.Request" => Version::Two,
                _ => return None,
            };
        }
    }
    Some(version)
}

type Place = OwnedSemaphorePermit;

/// The body, and its place in memory.
async fn body(app: &App, request: Request<Body>) -> Result<(Bytes, Place), Problem> {
    keeping::has_room(app)?;
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let declared: usize = declared.unwrap_or(BODY_BYTES_MAX);
    if BODY_BYTES_MAX < declared {
        return Err(too_large());
    }
    let mib = u32::try_from(1 + (declared >> 20)).unwrap_or(BODIES_MIB_MAX);
    let place = timeout(WAIT_MAX, Arc::clone(&app.writes.bodies).acquire_many_owned(mib)).await;
    let place = place.map_err(|_| keeping::slow("others write as much as is taken at once"))?;
    let place = place.map_err(|_| Problem::unavailable("the aggregator is stopping"))?;
    let read = timeout(WAIT_MAX, Limited::new(request.into_body(), BODY_BYTES_MAX).collect()).await;
    let read = read.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?;
    let read = read.map_err(|error| {
        let long = error.downcast_ref::<LengthLimitError>().is_some();
        if long { too_large() } else { Problem::bad_request(format!("the body did not come: {error}")) }
    })?;
    Ok((read.to_bytes(), place))
}

async fn decode(app: &App, (body, place): (Bytes, Place), version: Version, terms: Terms) -> Result<Received, Problem> {
    let turn = timeout(WAIT_MAX, Arc::clone(&app.writes.decodes).acquire_owned()).await;
    let turn = turn.map_err(|_| keeping::slow("others write as much as is taken at once"))?;
    let turn = turn.map_err(|_| Problem::unavailable("the aggregator is stopping"))?;
    let decode = move || {
        // The thread has both: it works on when the sender has gone.
        let _held = (place, turn);
        remote_write::decode(&body, version, &terms)
    };
    let decoded = tokio::task::spawn_blocking(decode).await.map_err(|panicked| Problem::internal(&panicked))?;
    decoded.map_err(|error| match error {
        DecodeError::TooLarge(_) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        DecodeError::Compression(_) | DecodeError::Message(_) | DecodeError::Symbol(..) | DecodeError::Odd => {
            Problem::bad_request(error.to_string())
        }
    })
}

pub(super) fn some_refused(stored: u64, refused: &Refused) -> Option<Problem> {
    let total = refused.total();
    let of = stored + total;
    (0 < total).then(|| Problem::bad_request(format!("{total} of {of} samples are not stored: {refused}")))
}

fn too_large() -> Problem {
    let detail = format!("the body has more than {BODY_BYTES_MAX} bytes: send less at once");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

/// A refusal; of one that is not for good, with when to come again.
pub(super) fn answer(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS.into());
    }
    response
}

/// With the headers that version 2.0 wants whatever happened. No histogram or exemplar is ever stored.
fn with_written(mut response: Response, samples: u64) -> Response {
    const NAMES: [&str; 3] = ["samples", "histograms", "exemplars"];
    for (name, count) in NAMES.into_iter().zip([samples, 0, 0]) {
        let name = HeaderName::try_from(format!("x-prometheus-remote-write-{name}-written"));
        drop(name.map(|name| response.headers_mut().insert(name, count.into())));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_known_by_its_headers() {
        use Version::One;
        use Version::Two;
        let check =
            |content_type: &str, expect: Option<Version>| assert_eq!(version(content_type), expect, "{content_type}");
        check("application/x-protobuf", Some(One));
        check("application/x-protobuf;proto=prometheus.WriteRequest", Some(One));
        check("application/x-protobuf;proto=io.prometheus.write.v2.Request", Some(Two));
        check("Application/X-Protobuf ; Proto=\"io.prometheus.write.v2.Request\"", Some(Two));
        check("application/x-protobuf; charset=utf-8", Some(One));
        check("", Some(One));
        check("application/x-protobuf;proto=io.prometheus.write.v3.Request", None);
        check("application/x-protobuf;proto", None);
        check("application/json", None);
        check("image/png", None);
    }
}
