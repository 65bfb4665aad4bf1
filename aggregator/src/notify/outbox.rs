//! What is yet to be delivered: at most one notification for each group and receiver, a later one in place of it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use common::backoff::Backoff;
use common::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::fingerprint::fnv1a;
use crate::notify::decide::Reason;
use crate::notify::decide::Told;
use crate::notify::message::Member;
use crate::notify::message::Message;
use crate::store::record::notifications::About;
use crate::store::record::notifications::Notification;
use crate::store::record::notifications::Status;
use crate::store::record::notifications::Subject;
use crate::store::record::outbox;

/// How long a notification is tried before it is given up: after a day nobody acts on it, and its group has decided anew.
pub const OUTBOX_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The first pause between two attempts, and the longest: whoever returns hears of it soon.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Alerts that history names of one decision: more than anybody reads in a row, and 10,000 rows stay small.
pub const SUBJECTS_MAX: usize = 20;

/// Attempts after which pauses grow no more.
const ATTEMPTS_COUNTED: u32 = 30;

/// A group and one of its receivers: `team/webhook/0`.
pub type Address = (String, String);

/// One notification on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pending {
    /// Names it, also to the receiver.
    pub id: String,
    /// Why it is sent.
    pub reason: Reason,
    /// What the receiver knows once it has it.
    pub told: Told,
    /// What it says.
    pub message: Message,
    /// Attempts so far, of this start of the program.
    #[serde(skip)]
    pub attempts: u32,
    /// What went wrong the last time.
    #[serde(skip)]
    pub error: Option<String>,
    /// When it is tried next, in running time; zero is at once.
    #[serde(skip)]
    pub not_before: Duration,
    /// Whether an attempt is being made.
    #[serde(skip)]
    pub in_flight: bool,
}

/// All notifications on their way.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    pending: BTreeMap<Address, Pending>,
    /// Changed since the last commit.
    dirty: BTreeSet<Address>,
}

impl Outbox {
    /// The notifications that were recorded. A record that cannot be understood is left out: its group decides anew.
    #[must_use]
    pub fn restored(recorded: Vec<outbox::Pending>) -> Self {
        let mut restored = Self::default();
        for record in recorded {
            match record.body.as_deref().map(serde_json::from_str) {
                Some(Ok(pending)) => drop(restored.pending.insert((record.group_key, record.receiver), pending)),
                Some(Err(_)) | None => tracing::warn!(group = record.group_key, "recorded notification cannot be read"),
            }
        }
        restored
    }

    /// The notification on its way there, if any.
    #[must_use]
    pub fn get(&self, address: &Address) -> Option<&Pending> {
        self.pending.get(address)
    }

    /// Whether anything is on its way about this group.
    #[must_use]
    pub fn has_group(&self, key: &str) -> bool {
        self.pending.keys().any(|(group, _)| group == key)
    }

    /// Puts a notification in, and takes out the one that it replaces.
    pub fn put(&mut self, address: Address, pending: Pending) -> Option<Pending> {
        self.dirty.insert(address.clone());
        self.pending.insert(address, pending)
    }

    /// Takes a notification out: it was delivered, or is not to be.
    pub fn remove(&mut self, address: &Address) -> Option<Pending> {
        self.dirty.insert(address.clone());
        self.pending.remove(address)
    }

    /// Takes a notification out if it is still this one.
    pub fn remove_exactly(&mut self, address: &Address, id: &str) -> Option<Pending> {
        let same = self.pending.get(address).is_some_and(|pending| pending.id == id);
        if same { self.remove(address) } else { None }
    }

    /// Notes a failed attempt at the notification that is still this one. `random` is from 0 to 1.
    pub fn failed(&mut self, address: &Address, id: &str, error: String, (now, random): (Duration, f64)) {
        let Some(pending) = self.pending.get_mut(address).filter(|pending| pending.id == id) else { return };
        pending.attempts = pending.attempts.saturating_add(1);
        pending.error = Some(error);
        pending.in_flight = false;
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let pause = (0..pending.attempts.min(ATTEMPTS_COUNTED)).map(|_| backoff.next(random)).last();
        pending.not_before = now.saturating_add(pause.unwrap_or_default());
    }

    /// At most so many of the notifications whose turn it is, marked as being attempted.
    pub fn depart(&mut self, now: Duration, most: usize) -> Vec<(Address, Pending)> {
        let due = self.pending.iter_mut().filter(|(_, pending)| !pending.in_flight && pending.not_before <= now);
        due.take(most)
            .map(|(address, pending)| {
                pending.in_flight = true;
                (address.clone(), pending.clone())
            })
            .collect()
    }

    /// When the next one's turn is, in running time.
    #[must_use]
    pub fn next_departure(&self) -> Option<Duration> {
        self.pending.values().filter(|pending| !pending.in_flight).map(|pending| pending.not_before).min()
    }

    /// Where notifications are on their way to.
    pub fn addresses(&self) -> impl Iterator<Item = (&Address, &Pending)> {
        self.pending.iter()
    }

    /// What changed since the last commit.
    pub fn records(&self) -> impl Iterator<Item = outbox::Pending> {
        self.dirty.iter().map(|address| {
            let body = self.pending.get(address).map(|pending| serde_json::to_string(pending).unwrap_or_default());
            outbox::Pending { group_key: address.0.clone(), receiver: address.1.clone(), body }
        })
    }

    /// The records were committed.
    pub fn committed(&mut self) {
        self.dirty.clear();
    }
}

impl Pending {
    /// What history says of it.
    #[must_use]
    pub fn entry(&self, address: &Address, status: Status, reason: Reason) -> Notification {
        Notification {
            id: self.id.clone(),
            at: self.told.at,
            group_key: address.0.clone(),
            receiver: address.1.clone(),
            status,
            reason: reason.code().to_owned(),
            attempts: self.attempts,
            error: self.error.clone(),
            about: about(&self.message),
        }
    }
}

/// Names a decision: the same one by the same name, whoever asks again.
#[must_use]
pub fn id((group, receiver): &Address, at: Timestamp) -> String {
    let name = group.bytes().chain([0]).chain(receiver.bytes());
    format!("{:016x}-{}", fnv1a(name), at.as_millis())
}

/// The alerts of a message, for history.
fn about(message: &Message) -> About {
    let subject = |alert: &Member| Subject { labels: alert.labels.clone(), firing: alert.ends_at.is_none() };
    About { total: message.alerts.len(), alerts: message.alerts.iter().take(SUBJECTS_MAX).map(subject).collect() }
}
