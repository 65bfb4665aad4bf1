//! `export`: samples of any range as they are stored, written while they are read.

mod openmetrics;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use common::metric::NAME;
use common::time::TimeRange;
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use crate::http::App;
use crate::http::prometheus::answer::Failure;
use crate::http::prometheus::export::openmetrics::Text;
use crate::http::prometheus::lookup::Lookup;
use crate::http::prometheus::parameters::Parameters;
use crate::query::QueryError;
use crate::store::Store;
use crate::store::select::Field;
use crate::store::select::Grains;
use crate::store::select::Is;
use crate::store::select::Matcher;
use crate::store::select::Question;
use crate::store::select::SelectError;
use crate::store::select::Selected;
use crate::store::select::Spend;

/// Exports at once: each reads as fast as it is taken, and keeps a thread.
const EXPORTS_MAX: usize = 2;

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 64 << 10;

/// Pieces that wait for a reader who is slow.
const PIECES_WAITING: usize = 4;

/// Room for what is being exported.
pub struct Exports(Arc<Semaphore>);

impl Default for Exports {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(EXPORTS_MAX)))
    }
}

/// Samples of all series that match any `match[]`, between `start` and `end`. An answer that breaks off is not whole, and
/// has no `# EOF`.
pub(super) async fn export(State(app): State<Arc<App>>, parameters: Parameters) -> Result<Response, Failure> {
    let lookup = Lookup::read(&parameters)?.or_refused()?;
    let place = Arc::clone(&app.exports.0).try_acquire_owned();
    let place = place.map_err(|_| Failure::from(QueryError::Busy))?;
    let (pieces, mut told) = mpsc::channel(PIECES_WAITING);
    let store = app.store.clone();
    tokio::task::spawn_blocking(move || tell(&store, &lookup, &Pieces { pieces, _place: place }));
    let first = told.recv().await.transpose().map_err(|error| Failure::from(QueryError::from(error)))?;
    let rest = stream::unfold(told, async |mut told| Some((told.recv().await?.map_err(io::Error::other), told)));
    let first = stream::iter([Ok(first.unwrap_or_default())]);
    let mut response = Response::new(Body::from_stream(futures::StreamExt::chain(first, rest)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Text::CONTENT_TYPE));
    Ok(response)
}

/// Who takes what is read.
struct Pieces {
    pieces: mpsc::Sender<Result<Bytes, SelectError>>,
    /// Given back when nothing more is read.
    _place: OwnedSemaphorePermit,
}

/// Why reading ended early.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error("nobody reads it any more")]
    Gone,
}

impl Pieces {
    fn send(&self, piece: Vec<u8>) -> Result<(), ExportError> {
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| ExportError::Gone)
    }
}

fn tell(store: &Store, lookup: &Lookup, pieces: &Pieces) {
    match read(store, lookup, pieces) {
        Ok(()) | Err(ExportError::Gone) => {}
        Err(ExportError::Select(error)) => {
            tracing::warn!(%error, "export ended early");
            // Who has gone does not miss it.
            pieces.pieces.blocking_send(Err(error)).unwrap_or_default();
        }
    }
}

/// Reads name after name, and series after series: all of a metric stand together.
fn read(store: &Store, lookup: &Lookup, pieces: &Pieces) -> Result<(), ExportError> {
    let selectors: Vec<&[Matcher]> = lookup.matchers().collect();
    let unlimited: Spend<'_, ExportError> = &|_| Ok(());
    let mut names = BTreeSet::new();
    for matchers in &selectors {
        names.extend(store.label_values(NAME, matchers, lookup.range, (usize::MAX, unlimited))?);
    }
    let mut text = Text::default();
    for name in &names {
        text.begin(name, |other| names.contains(other));
        for (at, matchers) in selectors.iter().enumerate() {
            let named = Matcher { name: NAME.to_owned(), is: Is::Equal(name.as_ref().to_owned()) };
            let matchers: Vec<Matcher> = [named].into_iter().chain(matchers.iter().cloned()).collect();
            select(store, (&matchers, lookup.range), &mut |selected| {
                if selectors[..at].iter().any(|earlier| is_meant(earlier, &selected)) {
                    return Ok(());
                }
                text.series(name, &selected.labels.whole());
                for (stamp, value) in selected.samples.stamps.iter().zip(&selected.samples.columns[0]) {
                    text.sample(*stamp, *value);
                    if PIECE_BYTES <= text.len() {
                        pieces.send(text.take())?;
                    }
                }
                Ok(())
            })?;
        }
    }
    pieces.send(text.end())
}

/// All series that match, with the samples that they have, ends of series not among them: neither text nor tables have
/// a word for that.
fn select(
    store: &Store,
    (matchers, range): (&[Matcher], TimeRange),
    give: &mut dyn FnMut(Selected<'_>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let question = Question { matchers, range, fields: &[Field::Last], latest: false, grains: Grains::default() };
    store.select(question, &mut |selected: Selected<'_>| {
        selected.samples.drop_stale();
        if selected.samples.is_empty() { Ok(()) } else { give(selected) }
    })
}

fn is_meant(matchers: &[Matcher], selected: &Selected<'_>) -> bool {
    matchers.iter().all(|matcher| matcher.matches(selected.labels.get(&matcher.name)))
}
