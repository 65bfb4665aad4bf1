//! What is told of a process of a host's agent when the next one is there: how it ended, and how its last minute was.

use std::time::Duration;

use common::batch::HostId;
use common::batch::WINDOW;
use common::metric::NAME;
use common::time::TimeRange;
use common::time::Timestamp;
use common::wire::message::Reason;

use crate::store::Store;
use crate::store::select::Field;
use crate::store::select::Grains;
use crate::store::select::Is;
use crate::store::select::Matcher;
use crate::store::select::Question;
use crate::store::select::SelectError;

/// The stretch before an end that is told of.
const LAST: Duration = Duration::from_secs(60);

/// How a process of an agent ended, as far as the next one and its last words say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It said that it is stopped; whether the host was booted after that.
    Stopped { booted: bool },
    /// It said that it restarts.
    Restarted,
    /// It said that the host is shut down.
    Shutdown,
    /// It said nothing, and the host runs on.
    Killed,
    /// It said nothing, and the host was booted after that.
    Down,
    /// The aggregator that knew ended before all that was left had come.
    Forgotten,
}

impl How {
    /// By the last words of the process that ended, and whether the host was booted since.
    pub(super) fn of(goodbye: Option<u16>, booted: bool) -> Self {
        match goodbye.map(Reason::from) {
            Some(Reason::Stopped) => Self::Stopped { booted },
            Some(Reason::Shutdown) => Self::Shutdown,
            Some(Reason::Restart) => Self::Restarted,
            _ if booted => Self::Down,
            _ => Self::Killed,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Stopped { booted: false } => "its agent had been stopped",
            Self::Stopped { booted: true } => "its agent had been stopped, and then the host was booted",
            Self::Restarted => "its agent was restarted",
            Self::Shutdown => "the host had been shut down",
            Self::Killed => "its agent had been killed, or had crashed",
            Self::Forgotten => "how its agent had ended is not known, because the aggregator restarted meanwhile",
            Self::Down => "the host had gone down without a word: its power, its kernel or a reset",
        }
    }
}

/// What is known of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Obituary {
    pub(super) how: How,
    /// End of the last window.
    pub(super) last: Timestamp,
    /// End of the first window of the process that is there.
    pub(super) back: Timestamp,
    /// Windows that came from the disk after the return.
    pub(super) left: u64,
}

impl Obituary {
    /// As it is told, with what the windows before the end say.
    pub(super) fn text(&self, instance: &str, windows: &str) -> String {
        let away = self.back.since(self.last).as_secs();
        let left = match self.left {
            0 => String::new(),
            left => format!(" {left} windows of before were on its disk."),
        };
        format!("{instance} is back: {}. Between its windows lie {away} s.{left}{windows}", self.how.words())
    }
}

/// The load and the memory of a host in the last windows before an end. Blocks.
pub(super) fn windows(store: &Store, host: HostId, (instance, last): (&str, Timestamp)) -> String {
    let range = TimeRange { after: last.before(LAST), through: last };
    let of = |metric: &str| -> Vec<f64> {
        let is = |name: &str, value: &str| Matcher { name: name.to_owned(), is: Is::Equal(value.to_owned()) };
        let matchers = [is(NAME, metric), is("instance", instance), is("job", "node")];
        let mut found = Vec::new();
        let question =
            Question { matchers: &matchers, range, fields: &[Field::Last], latest: false, grains: Grains::default() };
        let read = store.select::<SelectError>(question, &mut |selected| {
            selected.samples.drop_stale();
            found.extend(selected.samples.columns.first().into_iter().flatten().copied());
            Ok(())
        });
        if let Err(error) = read {
            tracing::debug!(host = host.0, %error, "cannot read the windows before an end");
        }
        found.truncate(usize::try_from(LAST.as_secs() / WINDOW.as_secs()).unwrap_or(usize::MAX));
        found
    };
    let list = |values: &mut dyn Iterator<Item = f64>, decimals: usize| {
        values.map(|value| format!("{value:.decimals$}")).collect::<Vec<_>>().join(", ")
    };
    let loads = of("node_load1");
    let (available, total) = (of("node_memory_MemAvailable_bytes"), of("node_memory_MemTotal_bytes"));
    let mut text = String::new();
    if !loads.is_empty() {
        text += &format!(" In its last minute the load was {}", list(&mut loads.iter().copied(), 2));
        let shares = available.iter().zip(&total).map(|(available, total)| 100.0 * available / total);
        if !available.is_empty() && !total.is_empty() {
            text += &format!("; memory available, in per cent, {}", list(&mut { shares }, 0));
        }
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(goodbye: Option<Reason>, booted: bool, expect: &str) {
        let how = How::of(goodbye.map(|reason| reason as u16), booted);
        let (last, back) = (Timestamp::from_seconds(100), Timestamp::from_seconds(350));
        let text = Obituary { how, last, back, left: 3 }.text("web", " So it was.");
        let rest = "Between its windows lie 250 s. 3 windows of before were on its disk. So it was.";
        assert_eq!(text, format!("web is back: {expect}. {rest}"));
    }

    #[test]
    fn each_end_has_its_words() {
        check(Some(Reason::Stopped), false, "its agent had been stopped");
        check(Some(Reason::Stopped), true, "its agent had been stopped, and then the host was booted");
        check(Some(Reason::Restart), false, "its agent was restarted");
        check(Some(Reason::Shutdown), true, "the host had been shut down");
        check(None, false, "its agent had been killed, or had crashed");
        check(None, true, "the host had gone down without a word: its power, its kernel or a reset");
        check(Some(Reason::Malformed), false, "its agent had been killed, or had crashed");
    }
}
