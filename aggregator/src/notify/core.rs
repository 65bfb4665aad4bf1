//! The stage without its waiting: evaluation, decision, and the one commit that holds both.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::time::Timestamp;

use crate::alert::active::Missing;
use crate::alert::evaluator::Evaluator;
use crate::alert::files::RuleFiles;
use crate::alert::seen::Seen;
use crate::alert::snapshot::Snapshot;
use crate::alert::state::State;
use crate::ingest::hearing::Unheard;
use crate::notify::config::FILE;
use crate::notify::config::NotifyConfig;
use crate::notify::group::Firing;
use crate::notify::notifier::Notifier;
use crate::store::commit::Commit;
use crate::store::record::Record;
use crate::store::record::alerts::Evaluated;
use crate::store::record::notifications::Notification;

/// How far back missed evaluations are made up.
const MADE_UP_MAX: Duration = Duration::from_secs(10 * 60);

/// An evaluation waits for so long until a clock that was set back gets there again; after a longer step evaluations
/// begin anew, or nobody would be told of anything until then.
const SET_BACK_MAX: Duration = Duration::from_secs(10);

/// Rules, alerts, groups and outbox, and how far they were evaluated.
pub(super) struct Core {
    pub(super) evaluator: Evaluator,
    pub(super) files: RuleFiles,
    pub(super) notifier: Notifier,
    routing: Routing,
    external_url: Arc<str>,
    /// The evaluation behind which the next one is looked for.
    last: Timestamp,
    /// The last one that was made since the start.
    made: Option<Timestamp>,
    skipped: u64,
}

/// `alertmanager.yml`, as of the last look.
struct Routing {
    directory: PathBuf,
    seen: Seen,
    /// Why the file as it lies there is not in use.
    error: Option<String>,
}

impl Core {
    pub(super) fn new(
        evaluator: Evaluator,
        notifier: Notifier,
        directory: &Path,
        external_url: Arc<str>,
        last: Timestamp,
    ) -> Self {
        let routing = Routing { directory: directory.to_owned(), seen: Seen::Absent, error: None };
        Self {
            evaluator,
            files: RuleFiles::new(directory).with_built_in(),
            notifier,
            routing,
            external_url,
            last,
            made: None,
            skipped: 0,
        }
    }

    /// Looks at the files that people write. Says whether what others see of them is different.
    pub(super) fn look(&mut self, again: bool) -> bool {
        let changed = self.files.look(again);
        let error = self.routing.error.clone();
        if let Some(config) = self.routing.look(again) {
            self.notifier.configure(config);
        }
        changed || error != self.routing.error
    }

    /// The next evaluation. What is too old to be made up is left out and counted.
    pub(super) fn next(&mut self, now: Timestamp) -> Timestamp {
        if now.after(SET_BACK_MAX) < self.last {
            self.last = now;
            self.evaluator.set_back(now);
            self.notifier.set_back(now);
        }
        let oldest = now.before(MADE_UP_MAX);
        let mut next = self.evaluator.next(&self.files, self.last);
        while next < oldest {
            self.skipped += 1;
            // Far behind, each step is the default interval's: the exact number of a day's evaluations helps nobody.
            self.last = next;
            next = self.evaluator.next(&self.files, self.last);
        }
        next
    }

    /// Evaluates, decides, and gives what is to be committed.
    pub(super) fn evaluate(&mut self, unheard: &Unheard, at: Timestamp) -> Commit {
        let silent = self.evaluator.silent(at);
        let appends = self.evaluator.evaluate(&self.files, Missing { silent: &silent, unheard }, at);
        self.last = at;
        self.made = Some(at);
        let firing = self.firing();
        self.notifier.take(&firing, at);
        let mut commit = self.changes();
        commit.appends = appends;
        commit
    }

    /// What changed since the last commit, and by which evaluation.
    pub(super) fn changes(&self) -> Commit {
        let mut records = self.evaluator.records();
        records.extend(self.notifier.records());
        records.push(Record::Evaluated(Evaluated { through: self.last }));
        Commit { appends: Vec::new(), records }
    }

    /// The changes were committed: gives the decisions among them.
    pub(super) fn committed(&mut self) -> Vec<Notification> {
        self.evaluator.committed();
        self.notifier.committed()
    }

    /// What others see.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut picture = Snapshot::of(&self.evaluator, &self.files, self.made, self.skipped);
        for alert in &mut picture.alerts {
            alert.groups = self.notifier.groups_of(&alert.labels);
        }
        picture.routing_error.clone_from(&self.routing.error);
        picture
    }

    /// Where people reach the aggregator.
    pub(super) fn external_url(&self) -> &str {
        &self.external_url
    }

    fn firing(&self) -> Vec<Firing> {
        let firing = self.evaluator.alerts().iter().filter_map(|(_, fingerprint, alert)| {
            let State::Firing { fired, .. } = alert.state else { return None };
            Some(Firing {
                fingerprint,
                labels: alert.found.labels.clone(),
                annotations: alert.found.annotations.clone(),
                fired,
                // The alert's card has the chart of its expression.
                generator_url: format!("{}/alerts?alert={fingerprint}", self.external_url),
            })
        });
        firing.collect()
    }
}

impl Routing {
    /// The configuration if it is different: `Some(None)` if there is none any more. After an error the old one stays.
    fn look(&mut self, again: bool) -> Option<Option<NotifyConfig>> {
        let seen = Seen::at(&self.directory.join(FILE));
        if seen == self.seen && !again {
            return None;
        }
        self.seen = seen;
        self.error = None;
        match NotifyConfig::read(&self.directory) {
            Ok(config) => {
                for warning in config.iter().flat_map(|config| &config.warnings) {
                    tracing::warn!(warning, "alertmanager.yml asks for what is not done");
                }
                Some(config)
            }
            Err(error) => {
                tracing::warn!(error, "alertmanager.yml is not in use");
                self.error = Some(error);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alertmanager.yml");
        let mut routing = Routing { directory: directory.path().to_owned(), seen: Seen::Absent, error: None };
        fs::write(&path, "route: {receiver: a}\nreceivers: [{name: a}]\n").unwrap();
        assert!(matches!(routing.look(false), Some(Some(_))));
        fs::remove_file(&path).unwrap();
        symlink(&path, &path).unwrap();
        assert!(routing.look(false).is_none() && routing.error.is_some(), "what was read stays in force");
        fs::remove_file(&path).unwrap();
        assert!(matches!(routing.look(false), Some(None)) && routing.error.is_none());
    }
}
