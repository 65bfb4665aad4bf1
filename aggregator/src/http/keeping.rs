//! What others bring, kept: judged by its stamps, and refused where there is no room or no time.

use std::time::Duration;

use common::batch::HostId;
use common::metric::Labels;
use common::time::TimeRange;
use tokio::time::timeout;

use crate::http::App;
use crate::http::not_stored;
use crate::http::problem::Problem;
use crate::receive::received::Reason;
use crate::receive::received::Received;
use crate::receive::received::Refused;
use crate::receive::received::Terms;
use crate::store::Health;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::commit::CommitError;
use crate::store::room::Refusal;

/// How long a request waits for its turn, its body, or the store. Senders wait 30 s or a minute.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);

/// How far a sample may be ahead of our clock, as in Prometheus.
const AHEAD_MAX: Duration = Duration::from_secs(10 * 60);

/// What became of it.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) samples: u64,
    pub(super) refused: Refused,
}

/// Refuses what cannot be stored now, before it is read.
pub(super) fn has_room(app: &App) -> Result<(), Problem> {
    if app.store.health() == Health::Full { Err(not_stored(&CommitError::Full)) } else { Ok(()) }
}

/// Stores what can be stored of an origin.
pub(super) async fn keep(
    app: &App,
    origin: HostId,
    Received { series, mut samples, mut refused }: Received,
) -> Result<Outcome, Problem> {
    if !series.is_empty() {
        let commit = Commit { appends: vec![Append::Written { origin, series }], records: Vec::new() };
        let committed = timeout(WAIT_MAX, app.store.commit(commit)).await;
        let committed = committed.map_err(|_| slow("the store is behind"))?.map_err(|error| not_stored(&error))?;
        for (limit, Refusal { samples: over, example }) in committed.refused {
            samples = samples.saturating_sub(over);
            refused.push(Reason::Limit, over, || format!("{example}, by store.{limit}"));
        }
    }
    Ok(Outcome { samples, refused })
}

/// What is taken at this moment.
pub(super) fn terms(app: &App, labels: Labels) -> Terms {
    Terms { labels, range: range(app) }
}

/// Stamps that are.
pub(super) fn range(app: &App) -> TimeRange {
    let now = app.clock.wall();
    TimeRange { after: app.store.samples_after(now), through: now.after(AHEAD_MAX) }
}

pub(super) fn slow(why: &str) -> Problem {
    Problem::unavailable(format!("{why}: try again later"))
}
