//! `import`: samples of others, as OpenMetrics text of any length, read and stored while it comes.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::State;
use axum::http::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_ENCODING;
use axum::response::IntoResponse as _;
use axum::response::Response;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde::Serialize;

use crate::http::App;
use crate::http::auth;
use crate::http::auth::Writer;
use crate::http::keeping;
use crate::http::keeping::Outcome;
use crate::http::pace::Pace;
use crate::http::problem::Problem;
use crate::http::prometheus::answer::Success;
use crate::http::prometheus::write;
use crate::receive::openmetrics::Format;
use crate::receive::openmetrics::Reader;

#[derive(Deserialize)]
pub(super) struct Parameters {
    #[serde(default)]
    format: Format,
}

/// What was stored, if all was.
#[derive(Serialize)]
struct Imported {
    samples: u64,
}

/// Takes a text in. 200 when all of it is durable. 400 when some of it never can be: the rest is stored; or when a line cannot
/// be read: what stands before it is stored, and nothing behind it. A text may be sent again, whole or in part.
pub(super) async fn import(
    State(app): State<Arc<App>>,
    Extension(writer): Extension<Writer>,
    Query(Parameters { format }): Query<Parameters>,
    request: Request<Body>,
) -> Response {
    let mut sum = Outcome::default();
    let read = read(&app, writer, format, (request, &mut sum)).await;
    let Outcome { samples, refused } = sum;
    let before = format!("{samples} samples that stand before it are stored");
    let why = match (read, write::some_refused(samples, &refused)) {
        (Ok(()), None) => return Success::new(Imported { samples }).into_response(),
        (Ok(()), Some(problem)) => problem,
        (Err(why), None) => why.because(&format!("; {before}")),
        (Err(why), Some(_)) => why.because(&format!("; {before}, {} are not: {refused}", refused.total())),
    };
    write::answer(why)
}

async fn read(
    app: &App,
    Writer(origin): Writer,
    format: Format,
    (request, sum): (Request<Body>, &mut Outcome),
) -> Result<(), Problem> {
    if request.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        let why = "a text is taken as it is, not compressed";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    keeping::has_room(app)?;
    let place = app.writes.imports.try_acquire();
    let _place = place.map_err(|_| keeping::slow("as much is imported as is taken at once"))?;
    let mut reader = Reader::new(keeping::terms(app, origin.token.labels.clone()), format);
    let (mut body, mut pace) = (request.into_body(), Pace::default());
    loop {
        let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "the text did not come in time");
        let frame = pace.wait(&app.clock, body.frame()).await.ok_or_else(late);
        let is_last = matches!(frame, Ok(None));
        reader.judge_by(keeping::range(app));
        let pushed = frame.and_then(|frame| {
            let read = match frame {
                Some(Ok(frame)) => frame.into_data().map_or(Ok(()), |piece| {
                    pace.moved(piece.len());
                    reader.push(&piece)
                }),
                Some(Err(error)) => return Err(Problem::bad_request(format!("the text broke off: {error}"))),
                None => reader.end(),
            };
            read.map_err(|bad| Problem::bad_request(bad.to_string()))
        });
        if is_last || pushed.is_err() || reader.has_enough() {
            if !auth::still_writes(app, &origin).await? {
                return Err(auth::taken_back());
            }
            let Outcome { samples, refused } = keeping::keep(app, origin.id, reader.take()).await?;
            // At once: who sends may leave.
            app.writes.counted().stored(samples, &refused);
            sum.samples += samples;
            sum.refused.add(refused);
        }
        pushed?;
        if is_last {
            return Ok(());
        }
    }
}
