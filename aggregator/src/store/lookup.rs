//! Which series there are, and the names and values of their labels: in the head, and where block files alone have them.

use std::sync::Arc;

use common::batch::HostId;
use common::metric::Labels;
use common::time::TimeRange;
use rusqlite::Connection;

use crate::store::catalog::ended::Search;
use crate::store::catalog::series::Identity;
use crate::store::database::Readers;
use crate::store::first::First;
use crate::store::head::Head;
use crate::store::head::Here;
use crate::store::head::lookup::Hunt;
use crate::store::head::lookup::When;
use crate::store::select::Levels;
use crate::store::select::Matcher;
use crate::store::select::SelectError;
use crate::store::select::Spend;

/// Series that block files alone have, of host after host. How they are found is decided when the first is asked.
pub(super) struct Ended<'a> {
    readers: &'a Readers,
    matchers: &'a [Matcher],
    range: TimeRange,
    search: Option<Search<'a>>,
}

impl<'a> Ended<'a> {
    pub(super) const fn new(readers: &'a Readers, matchers: &'a [Matcher], range: TimeRange) -> Self {
        Self { readers, matchers, range, search: None }
    }

    /// Whether there may be any of a host.
    pub(super) fn may_be(&self, here: &Here) -> bool {
        here.ended.is_some_and(|ended| self.range.after < ended)
    }

    /// Gives those of a host that match and may have something in the range, some of those in the head among them. `here`
    /// is what was in the head before.
    pub(super) fn each<E: From<SelectError>>(
        &mut self,
        head: &Head,
        (host, here): (HostId, &Here),
        give: &mut dyn FnMut(Identity) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { readers, matchers, range, search } = self;
        let ask = |connection: &Connection| {
            let search = match search {
                Some(search) => search,
                None => search.insert(Search::new(connection, matchers)?),
            };
            // One that came back since may go on by then, as far as the books say.
            let came_back = || head.recalled(host) != here.recalled;
            search.each(connection, (host, *range), came_back, give)
        };
        readers.ask(ask).map_err(|error| SelectError::Unreadable(error.to_string()))?
    }
}

/// Who looks series up.
pub(super) struct Lookup<'a, E> {
    pub(super) head: &'a Head,
    pub(super) readers: &'a Readers,
    pub(super) matchers: &'a [Matcher],
    pub(super) when: When,
    pub(super) limit: usize,
    pub(super) spend: Spend<'a, E>,
}

impl<E: From<SelectError>> Lookup<'_, E> {
    /// Label sets of the series that match and are there, sorted, the first of them.
    pub(super) fn series(&self) -> Result<Vec<Labels>, E> {
        let Self { head, readers, matchers, when, limit, spend } = *self;
        let mut answer = First::new(limit);
        let candidates = head.candidates(matchers);
        let mut ended = Ended::new(readers, matchers, when.in_files);
        for host in head.ids() {
            let mut give = |levels: Levels<'_>| spend(answer.push_new(levels.whole()));
            let here = head.each(host, (&candidates, when), &mut give)?;
            if ended.may_be(&here) {
                ended.each(head, (host, &here), &mut |series: Identity| give(Levels(&series.sets.levels())))?;
            }
        }
        Ok(answer.into_sorted())
    }

    /// Names of their labels.
    pub(super) fn label_names(&self) -> Result<Vec<Arc<str>>, E> {
        self.texts(None)
    }

    /// Values of one of their labels.
    pub(super) fn label_values(&self, name: &str) -> Result<Vec<Arc<str>>, E> {
        self.texts(Some(name))
    }

    fn texts(&self, of: Option<&str>) -> Result<Vec<Arc<str>>, E> {
        let Self { head, readers, matchers, when, limit, spend } = *self;
        let candidates = head.candidates(matchers);
        let mut hunt = Hunt::new(of, &candidates, when, (limit, spend));
        let mut ended = Ended::new(readers, matchers, when.in_files);
        for host in head.ids() {
            let here = head.hunt(host, &mut hunt)?;
            if ended.may_be(&here) {
                ended.each(head, (host, &here), &mut |series: Identity| hunt.take(Levels(&series.sets.levels())))?;
            }
        }
        Ok(hunt.into_sorted())
    }
}
