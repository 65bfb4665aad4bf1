//! From alerts that fire to notifications on their way: grouped, decided, and told once. Pure: nothing in it waits.

use std::time::Duration;

use common::metric::Labels;
use common::time::Timestamp;

use crate::notify::config::NotifyConfig;
use crate::notify::decide::Reason;
use crate::notify::decide::Told;
use crate::notify::decide::decide;
use crate::notify::group::Firing;
use crate::notify::group::Groups;
use crate::notify::outbox;
use crate::notify::outbox::Address;
use crate::notify::outbox::OUTBOX_AGE_MAX;
use crate::notify::outbox::Outbox;
use crate::notify::outbox::Pending;
use crate::notify::receiver::Failure;
use crate::store::record::Record;
use crate::store::record::notifications::Notification;
use crate::store::record::notifications::Status;

/// Decisions that wait for a commit: when the disk is full for longer, the oldest are forgotten.
const HISTORY_WAITING_MAX: usize = 1_000;

/// Owns groups, outbox and the decisions about them.
#[derive(Debug, Default)]
pub struct Notifier {
    config: Option<NotifyConfig>,
    groups: Groups,
    outbox: Outbox,
    /// Decisions that are yet to be committed, by their name.
    history: Vec<Notification>,
}

/// How an attempt ended.
#[derive(Debug)]
pub struct Attempt {
    /// Whom it was about.
    pub address: Address,
    /// What was sent.
    pub pending: Pending,
    /// Whether the receiver took it.
    pub result: Result<(), Failure>,
}

impl Notifier {
    /// A notifier that continues with what was recorded, and tells nobody before it is configured.
    #[must_use]
    pub fn new(groups: Groups, outbox: Outbox) -> Self {
        Self { config: None, groups, outbox, history: Vec::new() }
    }

    /// Takes a new configuration; `None` tells nobody.
    pub fn configure(&mut self, config: Option<NotifyConfig>) {
        self.config = config;
    }

    /// The configuration in use.
    #[must_use]
    pub const fn config(&self) -> Option<&NotifyConfig> {
        self.config.as_ref()
    }

    /// Takes over what an evaluation found, and decides about all groups whose turn it is.
    pub fn take(&mut self, firing: &[Firing], at: Timestamp) {
        let Some(config) = self.config.take() else { return };
        self.drop_lost(&config, at);
        self.groups.take(&config.route, firing, at);
        for key in self.groups.due(&config.route, at) {
            self.flush(&config, &key, at);
        }
        self.groups.forget(&config.route, at);
        self.config = Some(config);
    }

    /// The clock was set back to `now`: nothing waits for times that were.
    pub fn set_back(&mut self, now: Timestamp) {
        self.groups.set_back(now);
    }

    /// At most so many of the notifications whose turn it is, in running time.
    pub fn depart(&mut self, now: Duration, most: usize) -> Vec<(Address, Pending)> {
        if self.config.is_some() { self.outbox.depart(now, most) } else { Vec::new() }
    }

    /// When the next notification's turn is, in running time.
    #[must_use]
    pub fn next_departure(&self) -> Option<Duration> {
        self.config.as_ref().and_then(|_| self.outbox.next_departure())
    }

    /// An attempt ended. `now` is running time, `random` from 0 to 1.
    pub fn arrived(&mut self, attempt: Attempt, now: Duration, random: f64) {
        let Attempt { address, mut pending, result } = attempt;
        pending.attempts = pending.attempts.saturating_add(1);
        match result {
            Ok(()) => {
                pending.error = None;
                self.note(pending.entry(&address, Status::Sent, pending.reason));
                self.outbox.remove_exactly(&address, &pending.id);
                let known = pending.told.resolved.clone();
                self.groups.told(&address.0, &address.1, pending.told);
                if !self.outbox.has_group(&address.0) {
                    self.groups.settle(&address.0, &known);
                }
            }
            Err(Failure::Lasting(error)) => {
                pending.error = Some(error);
                if self.outbox.remove_exactly(&address, &pending.id).is_some() {
                    self.note(pending.entry(&address, Status::Failed, pending.reason));
                }
            }
            Err(Failure::Passing(error)) => {
                self.outbox.failed(&address, &pending.id, error, (now, random));
                if let Some(pending) = self.outbox.get(&address) {
                    self.note(pending.entry(&address, Status::Pending, pending.reason));
                }
            }
        }
    }

    /// The keys of the groups in which an alert with these labels is told.
    #[must_use]
    pub fn groups_of(&self, labels: &Labels) -> Vec<String> {
        let routes = self.config.iter().flat_map(|config| config.route.matching(labels));
        routes.map(|route| route.group(labels).0).collect()
    }

    /// What changed since the last commit.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let groups = self.groups.records().map(Record::Group);
        let outbox = self.outbox.records().map(Record::Outbox);
        let history = self.history.iter().cloned().map(Record::Notification);
        groups.chain(outbox).chain(history).collect()
    }

    /// The records were committed: gives the decisions among them.
    pub fn committed(&mut self) -> Vec<Notification> {
        self.groups.committed();
        self.outbox.committed();
        std::mem::take(&mut self.history)
    }

    /// Decides for each receiver of one group.
    fn flush(&mut self, config: &NotifyConfig, key: &str, at: Timestamp) {
        let Some(group) = self.groups.get(key).cloned() else { return };
        let Some(route) = config.route.find(&group.route) else { return };
        let standing = group.standing();
        for receiver in config.webhook_names(&route.receiver) {
            let Some((_, webhook)) = config.webhook(&receiver) else { continue };
            let reason = decide(group.told.get(&receiver), &standing, webhook.send_resolved, route.repeat_interval, at);
            let message = group.message(route, webhook.send_resolved);
            let told = Told { firing: standing.firing.clone(), resolved: standing.resolved.clone(), at };
            let address = (key.to_owned(), receiver);
            let id = outbox::id(&address, at);
            let decided = Pending {
                id,
                reason,
                told,
                message,
                attempts: 0,
                error: None,
                not_before: Duration::ZERO,
                in_flight: false,
            };
            if reason.sends() { self.enqueue(&address, decided) } else { self.skip(&address, decided) }
        }
        if !self.outbox.has_group(key) {
            self.groups.settle(key, &standing.resolved);
        }
    }

    fn enqueue(&mut self, address: &Address, decided: Pending) {
        let same = |told: &Told| (told.firing == decided.told.firing) && (told.resolved == decided.told.resolved);
        if self.outbox.get(address).is_some_and(|pending| same(&pending.told)) {
            return;
        }
        self.note(decided.entry(address, Status::Pending, decided.reason));
        if let Some(replaced) = self.outbox.put(address.clone(), decided) {
            self.note(replaced.entry(address, Status::Skipped, Reason::Replaced));
        }
    }

    fn skip(&mut self, address: &Address, decided: Pending) {
        // While an attempt is being made it is not known what the receiver knows; the next flush decides.
        if self.outbox.get(address).is_some_and(|pending| pending.in_flight) {
            return;
        }
        if let Some(dropped) = self.outbox.remove(address) {
            self.note(dropped.entry(address, Status::Skipped, decided.reason));
        }
        // A group that stands as it stood would fill history with the same words.
        if decided.reason != Reason::NothingNew {
            self.note(decided.entry(address, Status::Skipped, decided.reason));
        }
        if decided.reason == Reason::ResolvedUnwanted {
            self.groups.told(&address.0, &address.1, decided.told);
        }
    }

    /// Takes out what nobody is there for any more, and what is too old to act on.
    fn drop_lost(&mut self, config: &NotifyConfig, at: Timestamp) {
        let lost = |(address, pending): (&Address, &Pending)| {
            let why = if config.webhook(&address.1).is_none() {
                (Status::Skipped, Reason::ReceiverGone)
            } else if OUTBOX_AGE_MAX <= at.since(pending.told.at) {
                (Status::Failed, Reason::TooOld)
            } else {
                return None;
            };
            (!pending.in_flight).then(|| (address.clone(), why))
        };
        let lost: Vec<_> = self.outbox.addresses().filter_map(lost).collect();
        for (address, (status, why)) in lost {
            if let Some(pending) = self.outbox.remove(&address) {
                self.note(pending.entry(&address, status, why));
            }
        }
    }

    /// Adds to history; what was said about the same decision before is replaced.
    fn note(&mut self, notification: Notification) {
        self.history.retain(|noted| noted.id != notification.id);
        if HISTORY_WAITING_MAX <= self.history.len() {
            self.history.remove(0);
        }
        self.history.push(notification);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::alert::fingerprint::Fingerprint;
    use crate::notify::outbox::SUBJECTS_MAX;

    const SIBLINGS: &str = r#"
route:
  receiver: all
  group_wait: 0s
  routes:
  - {matchers: ['severity="page"'], receiver: pager, continue: true}
  - {matchers: ['severity="page"'], receiver: chat}
receivers:
- {name: all}
- {name: pager, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}
- {name: chat, webhook_configs: [{url: 'http://127.0.0.1:2/'}]}
"#;

    fn page(number: u64, at: Timestamp) -> Firing {
        let labels = [("alertname", "A"), ("severity", "page")].into_iter().collect::<Labels>();
        Firing {
            fingerprint: Fingerprint(number),
            labels: labels.with("number", number.to_string()),
            annotations: Labels::new(),
            fired: at,
            generator_url: String::new(),
        }
    }

    #[test]
    fn history_says_what_is_new_and_names_not_every_alert() {
        let mut notifier = Notifier::default();
        notifier.configure(Some(NotifyConfig::parse(SIBLINGS, Path::new("")).unwrap()));
        let at = Timestamp::from_seconds(10);
        let firing: Vec<_> = (0..1_000).map(|number| page(number, at)).collect();
        notifier.take(&firing, at);
        for (address, pending) in notifier.depart(Duration::ZERO, 9) {
            notifier.arrived(Attempt { address, pending, result: Ok(()) }, Duration::ZERO, 0.0);
        }
        let told = notifier.committed();
        assert_eq!(told.len(), 2);
        assert!(
            told.iter().all(|decision| decision.about.total == 1_000 && decision.about.alerts.len() == SUBJECTS_MAX)
        );
        let groups = notifier.groups_of(&firing[0].labels);
        assert!(told.iter().all(|decision| groups.contains(&decision.group_key)), "{groups:?}");
        for minutes in 1..60 {
            notifier.take(&firing, at.after(Duration::from_secs(60 * minutes)));
        }
        assert_eq!(notifier.committed(), [], "nothing is new");
    }

    /// One alert, an evaluation each 10 s: since when those rules say that it fires that have it. Gives what is told: when,
    /// whether it fires, and since when.
    fn told(evaluations: &[&[i64]]) -> Vec<(i64, bool, i64)> {
        let config = "route: {receiver: a, group_wait: 0s, group_interval: 30s}\n\
                      receivers: [{name: a, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}]\n";
        let mut notifier = Notifier::default();
        notifier.configure(Some(NotifyConfig::parse(config, Path::new("")).unwrap()));
        let mut told = Vec::new();
        for (second, fired) in (1..).map(|round| 10 * round).zip(evaluations) {
            let firing: Vec<_> = fired.iter().map(|fired| page(1, Timestamp::from_seconds(*fired))).collect();
            notifier.take(&firing, Timestamp::from_seconds(second));
            for (address, pending) in notifier.depart(Duration::ZERO, 9) {
                let alert = &pending.message.alerts[0];
                let seconds = alert.starts_at.as_millis() / 1_000;
                told.push((second, alert.ends_at.is_none(), seconds));
                notifier.arrived(Attempt { address, pending, result: Ok(()) }, Duration::ZERO, 0.0);
            }
        }
        told
    }

    #[test]
    fn an_alert_that_goes_on_firing_keeps_its_beginning() {
        // Two rules have the same labels, and the first stops.
        assert_eq!(told(&[&[10], &[10, 20], &[10, 20], &[20], &[], &[], &[]]), [(10, true, 10), (70, false, 10)]);
        assert_eq!(told(&[&[10], &[20, 10], &[], &[]]), [(10, true, 10), (40, false, 10)]);
        // A rule is moved to another file: its alert begins anew, and never stopped.
        assert_eq!(told(&[&[10], &[20], &[], &[]]), [(10, true, 10), (40, false, 10)]);
        // One that stopped and fires anew begins anew, also when nobody heard of it in between: as in Alertmanager.
        assert_eq!(told(&[&[10], &[], &[30], &[30], &[], &[], &[]]), [(10, true, 10), (70, false, 30)]);
    }

    #[test]
    fn rules_that_raise_one_alert_do_not_write_at_each_evaluation() {
        let mut notifier = Notifier::default();
        notifier.configure(Some(NotifyConfig::parse(SIBLINGS, Path::new("")).unwrap()));
        let firing = [10, 20].map(|fired| Firing {
            annotations: [("summary", fired.to_string().as_str())].into_iter().collect(),
            ..page(1, Timestamp::from_seconds(fired))
        });
        for second in [20, 30, 40] {
            notifier.take(&firing, Timestamp::from_seconds(second));
            let written = notifier.records().len();
            assert_eq!(written == 0, 20 < second, "{written} records at {second}");
            notifier.committed();
        }
    }

    #[test]
    fn routes_with_the_same_matchers_tell_both_their_receivers() {
        let mut notifier = Notifier::default();
        notifier.configure(Some(NotifyConfig::parse(SIBLINGS, Path::new("")).unwrap()));
        let at = Timestamp::from_seconds(10);
        notifier.take(&[page(1, at)], at);
        let departed = notifier.depart(Duration::ZERO, 9);
        let mut told: Vec<_> = departed.iter().map(|((_, receiver), _)| receiver.as_str()).collect();
        told.sort_unstable();
        assert_eq!(told, ["chat/webhook/0", "pager/webhook/0"]);
        for (_, pending) in departed {
            assert_eq!(pending.message.group_key, r#"{}/{severity="page"}:{}"#, "as in Alertmanager");
        }
    }
}
