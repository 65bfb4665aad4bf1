//! What the aggregator sets of this agent's configuration: checked, kept over a restart, handed to whom it concerns, and
//! answered.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use common::wire::message::Message;
use common::wire::message::SETTINGS_BYTES_MAX;
use common::wire::message::Settled;
use tokio::sync::watch;

use crate::collect::OwnCounts;
use crate::config::Given;
use crate::config::Pinned;
use crate::host;
use crate::uplink::identity::StateDir;

/// The file in the state directory.
const FILE: &str = "settings.toml";

/// Where settings go, and what stays whatever they say.
#[derive(Debug, Default)]
pub struct Settings {
    /// What is in force.
    pub given: watch::Sender<Given>,
    /// What the host's own configuration sets.
    pub pinned: Pinned,
}

impl Settings {
    /// What an earlier session brought. What cannot be read was given by a later version: the next session brings it again.
    #[must_use]
    pub fn kept(state_dir: &Path) -> Given {
        let file = host::read_bounded(&state_dir.join(FILE), SETTINGS_BYTES_MAX).ok().flatten();
        let text = file.and_then(|file| String::from_utf8(file).ok()).unwrap_or_default();
        Given::read(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, "the settings that are kept are not in force");
            Given::default()
        })
    }

    /// Takes what the aggregator sets. Returns what it is told of that.
    pub(super) fn hear(&self, text: &str, state: &StateDir, own: &OwnCounts) -> Message {
        let refused = |why: String| {
            tracing::warn!(%why, "the aggregator's settings are refused: those before stay in force");
            own.settings_refused.store(1, Relaxed);
            Message::Settled(Settled { refused: why, overruled: Vec::new(), ext: Vec::new() })
        };
        if SETTINGS_BYTES_MAX < text.len() {
            return refused(format!("more than {SETTINGS_BYTES_MAX} bytes"));
        }
        let given = match Given::read(text) {
            Ok(given) => given,
            Err(error) => return refused(error.to_string()),
        };
        own.settings_refused.store(0, Relaxed);
        let overruled = self.pinned.overrules(&given);
        let changed = self.given.send_if_modified(|known| {
            let changed = *known != given;
            *known = given;
            changed
        });
        if changed {
            tracing::info!(overruled = overruled.join(" "), "the aggregator's settings are in force");
            if let Err(error) = state.write(FILE, text) {
                tracing::warn!(%error, "the aggregator's settings are not kept: a restart begins without them");
            }
        }
        Message::Settled(Settled { refused: String::new(), overruled, ext: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_in_force_and_kept_and_what_does_not_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::new(directory.path().join("state"));
        let (settings, own) = (Settings::default(), OwnCounts::default());
        let check = |text: &str, expect: &str, interval: &str| {
            let Message::Settled(settled) = settings.hear(text, &state, &own) else { panic!("no answer") };
            assert!(settled.refused.contains(expect) && settled.refused.is_empty() == expect.is_empty(), "{settled:?}");
            assert_eq!(own.settings_refused.load(Relaxed), u64::from(!expect.is_empty()));
            let expect = Given::read(interval).unwrap();
            assert_eq!(*settings.given.borrow(), expect);
            assert_eq!(Settings::kept(&directory.path().join("state")), expect);
        };
        check("", "", "");
        check("processes.interval_seconds = 5", "", "processes.interval_seconds = 5");
        check("processes.interval_seconds = 7", "is 7", "processes.interval_seconds = 5");
        check("uplink.aggregator = 'x:1'", "uplink", "processes.interval_seconds = 5");
        check(&"#".repeat(SETTINGS_BYTES_MAX + 1), "more than", "processes.interval_seconds = 5");
        check("processes.interval_seconds = 2", "", "processes.interval_seconds = 2");
        check("", "", "");
        std::fs::write(directory.path().join("state/settings.toml"), b"\xff").unwrap();
        assert!(Settings::kept(&directory.path().join("state")).is_empty());
    }
}
