//! Writes to one target: a stretch of time after the other, each message until it is taken or can never be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use common::backoff::Backoff;
use common::time::{Clock, TimeRange, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::forward::Target;
use crate::forward::reading::MESSAGES_MAX;
use crate::forward::reading::Piece;
use crate::forward::reading::ReadingError;
use crate::forward::reading::Sent;
use crate::forward::reading::read;
use crate::notify::receiver::client::Client;
use crate::notify::receiver::client::Post;
use crate::store::ReadError;
use crate::store::Store;
use crate::store::commit::Commit;
use crate::store::commit::CommitError;
use crate::store::record::Record;
use crate::store::record::forwards;
use crate::store::record::forwards::Forwarded;
use crate::store::record::forwards::Late;

/// How long after a stretch it is sent: what comes in time is there, `up` among it.
const DELAY: Duration = Duration::from_secs(20);

/// What is sent at once, at least: a window of all agents.
const STRETCH: Duration = Duration::from_secs(10);

/// And at most, while a target catches up.
const STRETCH_MAX: Duration = Duration::from_secs(600);

/// Stretches that came late and are sent at once.
const LATE_MAX: u32 = 1_000;

/// Between two looks at whether something is to be sent.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a target may take to answer, as in Prometheus.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What became of what was to be written to one target.
#[derive(Debug)]
pub struct Counted {
    /// What people call it.
    pub name: String,
    through: AtomicI64,
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Counted {
    pub(super) fn new(name: &str) -> Self {
        let [sent, dropped, failed] = [0; 3].map(AtomicU64::new);
        Self { name: name.to_owned(), through: AtomicI64::new(i64::MAX), sent, dropped, failed }
    }

    /// How far it is behind.
    #[must_use]
    pub fn lag(&self, now: Timestamp) -> Duration {
        now.since(Timestamp::from_millis(self.through.load(Ordering::Relaxed)))
    }

    /// Samples that it took.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Samples that it refused for good.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Attempts that failed and were made again.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Who writes to one target.
pub(super) struct Sender {
    pub(super) target: Target,
    pub(super) client: Client,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) counted: Arc<Counted>,
    pub(super) stop: CancellationToken,
}

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Reading(#[from] ReadingError),
    /// It was told to stop.
    #[error("it was stopped")]
    Stopped,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    Never,
    Later,
}

impl Sender {
    /// Takes steps until it is told to stop.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        while !self.stop.is_cancelled() {
            let pause = match self.step().await {
                Ok(true) => {
                    backoff = Backoff::new(PAUSES.0, PAUSES.1);
                    continue;
                }
                Ok(false) => LOOK_EVERY,
                Err(StepError::Stopped) => return,
                Err(error) => {
                    tracing::warn!(%error, target = self.target.name, "cannot read what is to be written to another");
                    backoff.next(random())
                }
            };
            tokio::select! {
                () = self.clock.sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Sends what came late, or else the next stretch. Answers whether there was something.
    async fn step(&self) -> Result<bool, StepError> {
        let name = self.target.name.clone();
        let found = self.store.read(move |books| forwards::find(books, &name, LATE_MAX)).await?;
        let Some((through, late)) = found else {
            return Ok(false);
        };
        self.counted.through.store(through.as_millis(), Ordering::Relaxed);
        if let Some(last) = late.iter().map(|late| late.id).max() {
            // What was noted can be read when this is durable.
            self.note(through, None).await?;
            self.send(pieces(late)).await?;
            self.note(through, Some(last)).await?;
            return Ok(true);
        }
        let now = self.clock.wall();
        let kept = through.max(now.before(self.store.retention().raw));
        let next = now.before(DELAY).align_down(STRETCH).min(kept.after(STRETCH_MAX));
        if next <= kept {
            return Ok(false);
        }
        // From here on what comes of that time is noted, and what came before can be read when this is durable.
        self.store.forward_through(&self.target.name, next);
        self.note(kept, None).await?;
        self.send(vec![(None, TimeRange { after: kept, through: next })]).await?;
        self.note(next, None).await?;
        self.counted.through.store(next.as_millis(), Ordering::Relaxed);
        Ok(true)
    }

    async fn note(&self, through: Timestamp, late: Option<i64>) -> Result<(), StepError> {
        let forwarded = Forwarded { target: self.target.name.clone(), through, late };
        let commit = Commit { appends: Vec::new(), records: vec![Record::Forwarded(forwarded)] };
        Ok(self.store.commit(commit).await.map(drop)?)
    }

    async fn send(&self, pieces: Vec<Piece>) -> Result<(), StepError> {
        let (messages, mut made) = mpsc::channel(MESSAGES_MAX);
        let (store, rules) = (self.store.clone(), self.target.relabel.clone());
        let reading = tokio::task::spawn_blocking(move || read(&store, &pieces, &rules, &messages));
        while let Some(message) = made.recv().await {
            self.deliver(message).await?;
        }
        Ok(reading.await.map_err(|_| StepError::Stopped)??)
    }

    /// Sends a message until it is taken, or never will be.
    async fn deliver(&self, (body, samples): Sent) -> Result<(), StepError> {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let told = AtomicBool::new(false);
        loop {
            let post = self.post(body.clone());
            let answer = tokio::select! {
                answer = post => answer,
                () = self.stop.cancelled() => return Err(StepError::Stopped),
            };
            let (verdict, why) = match answer {
                Ok(status) => (judge(status), format!("it answered {status}")),
                Err(why) => (Verdict::Later, why),
            };
            match verdict {
                Verdict::Taken => {
                    self.counted.sent.fetch_add(samples, Ordering::Relaxed);
                    return Ok(());
                }
                Verdict::Never => {
                    self.counted.dropped.fetch_add(samples, Ordering::Relaxed);
                    tracing::warn!(
                        target = self.target.name,
                        why,
                        samples,
                        "samples were refused, and are not sent again"
                    );
                    return Ok(());
                }
                Verdict::Later => {
                    self.counted.failed.fetch_add(1, Ordering::Relaxed);
                    if !told.swap(true, Ordering::Relaxed) {
                        tracing::warn!(target = self.target.name, why, "samples were not taken: they wait");
                    }
                }
            }
            tokio::select! {
                () = self.clock.sleep(backoff.next(random())) => {}
                () = self.stop.cancelled() => return Err(StepError::Stopped),
            }
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<u16, String> {
        let own = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        let theirs = self.target.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let post = Post {
            url: &self.target.url,
            authorization: self.target.authorization.as_ref(),
            headers: own.into_iter().chain(theirs).collect(),
            timeout: TIMEOUT,
            body,
        };
        self.client.post(post).await.map(|status| status.as_u16()).map_err(|failure| failure.to_string())
    }
}

/// What an answer means, as for Prometheus.
const fn judge(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Taken,
        429 | 500.. => Verdict::Later,
        _ => Verdict::Never,
    }
}

/// What came late, host by host; what lies one window behind the other is one piece.
fn pieces(mut late: Vec<Late>) -> Vec<Piece> {
    late.sort_by_key(|late| (late.host, late.first));
    let mut pieces: Vec<Piece> = Vec::new();
    for Late { host, first, last, .. } in late {
        let after = first.before(Duration::from_millis(1));
        match pieces.last_mut() {
            Some((Some(same), range)) if *same == host && first <= range.through.after(STRETCH) => {
                range.through = range.through.max(last);
            }
            _ => pieces.push((Some(host), TimeRange { after, through: last })),
        }
    }
    pieces
}

/// From 0 to 1.
fn random() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use common::batch::HostId;

    use super::*;

    #[test]
    fn only_what_may_pass_is_sent_again() {
        for (status, expect) in [
            (200, Verdict::Taken),
            (204, Verdict::Taken),
            (302, Verdict::Never),
            (400, Verdict::Never),
            (404, Verdict::Never),
            (429, Verdict::Later),
            (500, Verdict::Later),
            (503, Verdict::Later),
        ] {
            assert_eq!(judge(status), expect, "{status}");
        }
    }

    #[test]
    fn what_lies_one_behind_the_other_is_one_piece() {
        let check = |late: &[(u32, i64, i64)], expect: &[(u32, i64, i64)]| {
            let seconds = Timestamp::from_seconds;
            let late = late.iter().map(|(host, first, last)| Late {
                id: 0,
                host: HostId(*host),
                first: seconds(*first),
                last: seconds(*last),
            });
            let told = pieces(late.collect()).into_iter().map(|(host, range)| {
                let after = range.after.after(Duration::from_millis(1));
                (host.unwrap().0, after.as_millis() / 1_000, range.through.as_millis() / 1_000)
            });
            assert_eq!(told.collect::<Vec<_>>(), expect);
        };
        check(&[], &[]);
        check(&[(1, 20, 20), (1, 10, 10), (2, 10, 10)], &[(1, 10, 20), (2, 10, 10)]);
        check(&[(1, 10, 10), (1, 21, 30), (1, 12, 15)], &[(1, 10, 30)]);
        check(&[(1, 10, 10), (1, 21, 30)], &[(1, 10, 10), (1, 21, 30)]);
        check(&[(1, 10, 40), (1, 20, 25)], &[(1, 10, 40)]);
    }
}
