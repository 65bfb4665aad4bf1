//! `export`: samples of any range as they are stored, as text or as a table, written while they are read.

mod openmetrics;
mod parquet;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use ::parquet::errors::ParquetError;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use common::metric::Labels;
use common::metric::NAME;
use common::time::TimeRange;
use common::time::Timestamp;
use futures::TryStreamExt as _;
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use crate::http::App;
use crate::http::prometheus::answer::Failure;
use crate::http::prometheus::export::openmetrics::Text;
use crate::http::prometheus::export::parquet::Table;
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

/// What is answered that is compressed already.
pub const COMPRESSED: &str = Table::CONTENT_TYPE;

/// A format: bytes that grow, and are taken away by pieces.
trait Format: Sized {
    const CONTENT_TYPE: &'static str;

    /// One with nothing in it.
    fn new() -> Result<Self, ExportError>;

    /// The series that come are of this metric. What it is said to be may depend on which others there are.
    fn begin(&mut self, name: &str, is_there: impl Fn(&str) -> bool);

    /// The samples that come are of this series.
    fn series(&mut self, name: &str, labels: &Labels);

    /// One sample.
    fn sample(&mut self, at: Timestamp, value: f64) -> Result<(), ExportError>;

    /// Bytes that may be taken away.
    fn len(&self) -> usize;

    /// What is written so far.
    fn take(&mut self) -> Vec<u8>;

    /// The rest.
    fn end(self) -> Result<Vec<u8>, ExportError>;
}

/// Samples of all series that match any `match[]`, between `start` and `end`, in a `format`. An answer that breaks off is not
/// whole, and has no end: `# EOF`, or a table's footer.
pub(super) async fn export(State(app): State<Arc<App>>, parameters: Parameters) -> Result<Response, Failure> {
    match parameters.get("format").unwrap_or("openmetrics") {
        "openmetrics" => answer::<Text>(&app, &parameters).await,
        "parquet" => answer::<Table>(&app, &parameters).await,
        other => Err(Failure::parameter("format", format_args!("{other:?} is none of openmetrics and parquet"))),
    }
}

async fn answer<F: Format>(app: &App, parameters: &Parameters) -> Result<Response, Failure> {
    let lookup = Lookup::of_some(parameters)?;
    let place = Arc::clone(&app.exports.0).try_acquire_owned();
    let place = place.map_err(|_| Failure::from(QueryError::Busy))?;
    let (pieces, mut told) = mpsc::channel(PIECES_WAITING);
    let store = app.store.clone();
    tokio::task::spawn_blocking(move || tell::<F>(&store, &lookup, &Pieces { pieces, _place: place }));
    // Reading that fails at once is a failure like any other.
    let first = next(&mut told).await?;
    let first = stream::iter(first.map(Ok));
    let rest = stream::try_unfold(told, async |mut told| Ok(next(&mut told).await?.map(|piece| (piece, told))));
    let pieces = futures::StreamExt::chain(first, rest.map_err(|why: ExportError| io::Error::other(why)));
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(F::CONTENT_TYPE));
    Ok(response)
}

/// What is read: pieces, and that there are no more.
type Told = Result<Option<Bytes>, ExportError>;

/// The next piece, none behind the last. Who reads and ends without a word has not read all.
async fn next(told: &mut mpsc::Receiver<Told>) -> Told {
    told.recv().await.unwrap_or(Err(ExportError::Gone))
}

/// Who takes what is read.
struct Pieces {
    pieces: mpsc::Sender<Told>,
    /// Given back when nothing more is read.
    _place: OwnedSemaphorePermit,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error("it cannot be written: {0}")]
    Write(#[from] ParquetError),
    #[error("the other side of it has gone")]
    Gone,
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Select(error) => QueryError::from(error).into(),
            ExportError::Write(_) | ExportError::Gone => Self::internal(&error),
        }
    }
}

impl Pieces {
    fn send(&self, bytes: Vec<u8>) -> Result<(), ExportError> {
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            self.tell(Ok(Some(bytes.split_to(PIECE_BYTES.min(bytes.len())))))?;
        }
        Ok(())
    }

    fn tell(&self, told: Told) -> Result<(), ExportError> {
        self.pieces.blocking_send(told).map_err(|_| ExportError::Gone)
    }
}

fn tell<F: Format>(store: &Store, lookup: &Lookup, pieces: &Pieces) {
    let last = match read::<F>(store, lookup, pieces) {
        Ok(()) => Ok(None),
        Err(ExportError::Gone) => return,
        Err(error) => {
            tracing::warn!(%error, "export ended early");
            Err(error)
        }
    };
    // Who has gone does not miss it.
    pieces.tell(last).unwrap_or_default();
}

/// Reads name after name, and series after series: all of a metric stand together.
fn read<F: Format>(store: &Store, lookup: &Lookup, pieces: &Pieces) -> Result<(), ExportError> {
    let selectors: Vec<&[Matcher]> = lookup.matchers().collect();
    let unlimited: Spend<'_, ExportError> = &|_| Ok(());
    let mut names = BTreeSet::new();
    for matchers in &selectors {
        names.extend(store.label_values(NAME, matchers, lookup.range, (usize::MAX, unlimited))?);
    }
    let mut out = F::new()?;
    for name in &names {
        out.begin(name, |other| names.contains(other));
        for (at, matchers) in selectors.iter().enumerate() {
            let named = Matcher { name: NAME.to_owned(), is: Is::Equal(name.as_ref().to_owned()) };
            let matchers: Vec<Matcher> = [named].into_iter().chain(matchers.iter().cloned()).collect();
            select(store, (&matchers, lookup.range), &mut |selected| {
                if selectors[..at].iter().any(|earlier| is_meant(earlier, &selected)) {
                    return Ok(());
                }
                out.series(name, &selected.labels.whole());
                for (stamp, value) in selected.samples.stamps.iter().zip(&selected.samples.columns[0]) {
                    out.sample(*stamp, *value)?;
                    if PIECE_BYTES <= out.len() {
                        pieces.send(out.take())?;
                    }
                }
                Ok(())
            })?;
        }
    }
    pieces.send(out.end()?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_was_told_to_its_end_is_whole() {
        /// What is heard of what is told before the teller goes: `.` a piece, `|` the end, `!` a failure.
        async fn check(told: Vec<Told>, expect: &str) {
            let (pieces, mut hearing) = mpsc::channel(told.len().max(1));
            told.into_iter().for_each(|told| pieces.try_send(told).unwrap());
            drop(pieces);
            let mut heard = String::new();
            while !heard.ends_with(['|', '!']) {
                heard.push(next(&mut hearing).await.map_or('!', |piece| if piece.is_some() { '.' } else { '|' }));
            }
            assert_eq!(heard, expect);
        }
        let piece = || Ok(Some(Bytes::from("piece")));
        let failed = || Err(SelectError::Unreadable("torn".to_owned()).into());
        check(vec![piece(), piece(), Ok(None)], "..|").await;
        check(vec![piece(), failed()], ".!").await;
        // As when its thread panics.
        check(vec![piece()], ".!").await;
        check(vec![], "!").await;
    }
}
