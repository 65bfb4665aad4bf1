//! The HTTP API and the page: one noun a file. Handlers hold handles on the other rooms and nothing of their own.

pub mod alerts;
pub mod auth;
pub mod containers;
pub mod control;
pub mod events;
pub mod figures;
pub mod health;
pub mod hosts;
mod keeping;
mod labels;
pub mod live;
pub mod login;
pub mod metrics;
pub mod notifications;
pub mod openapi;
mod pace;
pub mod page;
pub mod problem;
pub mod processes;
pub mod prometheus;
pub mod queries;
mod reading;
pub mod recording;
pub mod rules;
pub mod secret;
mod serve;
pub mod snapshots;
pub mod tls;
pub mod tokens;

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use common::time::Clock;
use common::time::Timestamp;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tower_http::compression::DefaultPredicate;
use tower_http::compression::Predicate as _;
use tower_http::compression::predicate::NotForContentType;

use crate::alert::snapshot::Alerts;
use crate::forward::Forwards;
use crate::http::live::Live;
use crate::http::problem::Problem;
use crate::http::prometheus::COMPRESSED;
use crate::http::prometheus::Exports;
use crate::http::prometheus::Writes;
use crate::http::secret::Hash;
pub use crate::http::serve::serve;
use crate::ingest::counters::Counters;
use crate::ingest::presence::Presence;
use crate::ingest::trust::Authority;
use crate::notify::stage::Decisions;
use crate::query::Engine;
use crate::query::QueryError;
use crate::query::Turn;
use crate::query::Turns;
use crate::store::Store;
use crate::store::commit::Commit;
use crate::store::commit::CommitError;
use crate::store::record::Record;

/// Longest request that is read. Nobody sends more than a query or a silence.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// What the handlers hold.
pub struct App {
    /// The other rooms.
    pub rooms: Rooms,
    /// Who may come in, and where.
    pub access: Access,
    /// What happens.
    pub live: Live,
    /// Ends streams that would never end by themselves.
    pub stop: CancellationToken,
    /// When it was started.
    pub began: Timestamp,
    /// What others write.
    pub writes: Writes,
    /// What is read for others.
    pub exports: Exports,
    queries: Turns,
}

/// Handles on the rooms that the API shows.
#[derive(Clone)]
pub struct Rooms {
    /// What is kept.
    pub store: Store,
    /// Answers PromQL.
    pub engine: Engine,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// Who is there.
    pub presence: Presence,
    /// What ingest counts.
    pub ingested: Arc<Counters>,
    /// What fires.
    pub alerts: Alerts,
    /// Who is told.
    pub decisions: Decisions,
    /// The wall clock of sessions and links.
    pub clock: Clock,
    /// Who is written to.
    pub forwards: Forwards,
}

impl Deref for App {
    type Target = Rooms;

    fn deref(&self) -> &Rooms {
        &self.rooms
    }
}

/// Who may come in, and where.
#[derive(Clone, Debug)]
pub struct Access {
    /// Of the admin's token.
    pub admin: Hash,
    /// Where the page is served.
    pub listen: SocketAddr,
    /// How people reach the page; empty where it is served.
    pub external_url: String,
    /// How agents reach the aggregator, `host:port`.
    pub advertise: String,
    /// Whether `/metrics` answers everybody.
    pub metrics_open: bool,
    /// Whether it is served over TLS.
    pub secure: bool,
}

impl Access {
    /// Cookies do not know ports: without it, two aggregators on one machine would sign each other out.
    fn cookie_name(&self) -> String {
        format!("lapwing_session_{}", self.listen.port())
    }

    /// The address of the page as people open it; by default, as a person on this machine does.
    #[must_use]
    pub fn address(&self) -> String {
        if !self.external_url.is_empty() {
            return self.external_url.clone();
        }
        let scheme = if self.secure { "https" } else { "http" };
        let ip = self.listen.ip();
        if ip.is_unspecified() {
            format!("{scheme}://127.0.0.1:{}", self.listen.port())
        } else {
            format!("{scheme}://{}", self.listen)
        }
    }
}

impl App {
    /// Handlers over these rooms.
    #[must_use]
    pub fn new(rooms: Rooms, access: Access, stop: CancellationToken) -> Self {
        let began = rooms.clock.wall();
        let (live, writes, exports) = (Live::default(), Writes::default(), Exports::default());
        Self { rooms, access, live, stop, began, writes, exports, queries: Turns::default() }
    }

    /// Keeps a change to one noun.
    async fn record(&self, record: Record) -> Result<(), Problem> {
        self.commit(Commit { appends: Vec::new(), records: vec![record] }).await
    }

    /// Keeps changes, all or none.
    async fn commit(&self, commit: Commit) -> Result<(), Problem> {
        self.store.commit(commit).await.map_err(|error| not_stored(&error))?;
        Ok(())
    }

    /// Asks the engine, on a thread where a long answer holds nobody up. When the asker goes away, the query ends.
    async fn ask<T, F>(&self, question: F) -> Result<T, QueryError>
    where
        T: Send + 'static,
        F: FnOnce(&Engine, &Turn) -> Result<T, QueryError> + Send + 'static,
    {
        let engine = self.engine.clone();
        self.queries.run(move |turn| question(&engine, turn)).await
    }
}

/// Everything that is served.
pub fn router(app: Arc<App>) -> Router {
    let (routes, api) = openapi::routes(&app);
    let guarded = routes.guarded.layer(middleware::from_fn_with_state(Arc::clone(&app), auth::require));
    let written = routes.written.layer(middleware::from_fn_with_state(Arc::clone(&app), auth::require_writer));
    let closed = middleware::from_fn_with_state(Arc::clone(&app), reading::require_read);
    let inside = guarded.merge(written).layer(closed);
    let served = inside.merge(routes.open).with_state(app).merge(openapi::document(api));
    let unknown =
        || async { Problem::not_found("there is nothing at this address; /api/openapi.json lists what there is") };
    let served = served
        .route("/api/{*rest}", axum::routing::any(unknown))
        .route("/prometheus/{*rest}", axum::routing::any(unknown));
    let worthwhile = DefaultPredicate::new().and(NotForContentType::const_new(COMPRESSED));
    page::guard(served.fallback_service(page::router()))
        .layer(middleware::map_response(problem::uniform))
        .layer(CompressionLayer::new().compress_when(worthwhile))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
}

/// What a caller hears when the store did not take something.
fn not_stored(error: &CommitError) -> Problem {
    match error {
        CommitError::Full => Problem::unavailable("the disk is full: free some space, then try again"),
        CommitError::Closed => Problem::unavailable("the aggregator is stopping"),
        CommitError::Malformed { .. } | CommitError::Unfounded { .. } | CommitError::Io(_) => Problem::internal(error),
    }
}

/// What a caller of our own API hears when figures could not be asked.
impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Timeout { .. } | QueryError::Busy | QueryError::Unread(_) | QueryError::Canceled => {
                Self::unavailable(error.to_string())
            }
            QueryError::BadData(_) | QueryError::Execution(_) => Self::internal(&error),
        }
    }
}
