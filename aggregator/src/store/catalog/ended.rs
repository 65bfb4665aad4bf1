//! Which of the series that block files have are asked for: found by their labels, and by when they lived.

use std::collections::BTreeSet;
use std::collections::HashMap;

use common::batch::HostId;
use common::metric::{Labels, NAME};
use common::time::TimeRange;
use rusqlite::{CachedStatement, Connection, ToSql};

use crate::store::catalog::labels;
use crate::store::catalog::labels::Part;
use crate::store::catalog::labels::Reading;
use crate::store::catalog::series::COLUMNS;
use crate::store::catalog::series::Identity;
use crate::store::catalog::series::LabelSets;
use crate::store::catalog::series::Numbered;
use crate::store::head::columns::leave_open;
use crate::store::select::Is;
use crate::store::select::Levels;
use crate::store::select::Matcher;

/// Label sets that a host is asked for one by one; where more come into question all that it had is looked through.
const ASKED_FOR_MAX: usize = 1_000;

/// How to find the series that match.
#[derive(Debug)]
pub(in crate::store) struct Search<'a> {
    /// The columns that no matcher rules out, with those that leave them open.
    columns: HashMap<i64, Vec<&'a Matcher>>,
    by: By,
    /// Nobody else has any.
    hosts: Option<BTreeSet<HostId>>,
}

/// What the series of a host are looked up by.
#[derive(Debug)]
enum By {
    Entities(Vec<i64>),
    Columns(Vec<i64>),
    /// All that it had.
    Time,
}

impl<'a> Search<'a> {
    pub(in crate::store) fn new(connection: &Connection, matchers: &'a [Matcher]) -> rusqlite::Result<Self> {
        let equal = |matcher: &'a Matcher| match &matcher.is {
            Is::Equal(value) if !value.is_empty() => Some((matcher.name.as_str(), value.as_str())),
            Is::Equal(_) | Is::NotEqual(_) | Is::Match(_) | Is::NoMatch(_) => None,
        };
        let named = matchers.iter().filter_map(equal).find(|(name, _)| *name == NAME);
        let ids = match named {
            Some(name) => labels::with(connection, Part::Column, name, usize::MAX - 1)?,
            None => labels::columns(connection)?,
        };
        let mut sets = Reading::new(connection);
        let mut columns = HashMap::new();
        for id in ids {
            columns.extend(leave_open(&sets.labels(id)?, matchers.iter()).map(|open| (id, open)));
        }
        let few = columns.len() <= ASKED_FOR_MAX;
        let by = if few { By::Columns(columns.keys().copied().collect()) } else { By::Time };
        let mut search = Self { columns, by, hosts: None };
        for matcher in matchers {
            let is_open = |open: &Vec<&Matcher>| open.iter().any(|open| std::ptr::eq(*open, matcher));
            if let Some(pair) = equal(matcher).filter(|_| search.columns.values().all(is_open)) {
                search.narrow(connection, pair)?;
            }
        }
        Ok(search)
    }

    /// Looks at those alone who have a label that columns do not have.
    fn narrow(&mut self, connection: &Connection, pair: (&str, &str)) -> rusqlite::Result<()> {
        let [entities, of_hosts] =
            [Part::Entity, Part::Host].map(|part| labels::with(connection, part, pair, ASKED_FOR_MAX));
        let (entities, of_hosts) = (entities?, of_hosts?);
        if ASKED_FOR_MAX < entities.len() || ASKED_FOR_MAX < of_hosts.len() {
            return Ok(());
        }
        let mut hosts = BTreeSet::new();
        for id in &of_hosts {
            hosts.extend(labels::hosts(connection, *id)?);
        }
        let mut statement = connection.prepare_cached("SELECT DISTINCT host FROM series WHERE entity_set = ?1")?;
        for id in &entities {
            let having = statement.query_map([id], |row| row.get(0).map(HostId))?;
            hosts.extend(having.collect::<rusqlite::Result<Vec<HostId>>>()?);
        }
        let both = self.hosts.take().map(|before| &before & &hosts);
        self.hosts = Some(both.unwrap_or(hosts));
        let is_fewer = !matches!(&self.by, By::Entities(before) if before.len() <= entities.len());
        if of_hosts.is_empty() && is_fewer {
            self.by = By::Entities(entities);
        }
        Ok(())
    }

    /// Gives the series of a host that match and may have something in a range, as one moment has them. Those that go on
    /// are left out, unless `all_if` says after that moment that they are wanted too.
    pub(in crate::store) fn each<E>(
        &self,
        connection: &Connection,
        (host, range): (HostId, TimeRange),
        all_if: impl Fn() -> bool,
        give: &mut dyn FnMut(Identity) -> Result<(), E>,
    ) -> rusqlite::Result<Result<(), E>> {
        if self.columns.is_empty() || self.hosts.as_ref().is_some_and(|hosts| !hosts.contains(&host)) {
            return Ok(Ok(()));
        }
        // The first thing that is read decides which moment that is.
        let moment = connection.unchecked_transaction()?;
        let known = "SELECT 1 FROM series WHERE host = ?1 LIMIT 1";
        if !moment.prepare_cached(known)?.exists([host.0])? {
            return Ok(Ok(()));
        }
        let ended = if all_if() { "(last_ms IS NULL OR ?2 < last_ms)" } else { "?2 < last_ms" };
        let lived = format!("SELECT {COLUMNS} FROM series WHERE host = ?1 AND {ended} AND first_ms <= ?3");
        let (after, through) = (range.after.as_millis(), range.through.as_millis());
        let mut sets = Reading::new(&moment);
        let (more, ids) = match &self.by {
            By::Entities(ids) => ("AND entity_set = ?4", ids.as_slice()),
            By::Columns(ids) => ("AND column_set = ?4", ids.as_slice()),
            By::Time => {
                let mut statement = moment.prepare_cached(&lived)?;
                return self.give(&mut statement, &[&host.0, &after, &through], &mut sets, give);
            }
        };
        let mut statement = moment.prepare_cached(&format!("{lived} {more}"))?;
        for id in ids {
            if let Err(error) = self.give(&mut statement, &[&host.0, &after, &through, id], &mut sets, give)? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn give<E>(
        &self,
        statement: &mut CachedStatement<'_>,
        parameters: &[&dyn ToSql],
        sets: &mut Reading<'_>,
        give: &mut dyn FnMut(Identity) -> Result<(), E>,
    ) -> rusqlite::Result<Result<(), E>> {
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            let series = Numbered::read(row)?;
            let Some(open) = self.columns.get(&series.column) else {
                continue;
            };
            let [entity, host] = [sets.labels(series.entity)?, sets.labels(series.host)?];
            let Some(open) = leave_open(&entity, open.iter().copied()) else {
                continue;
            };
            if open.iter().all(|matcher| matcher.matches(host.get(&matcher.name))) {
                let Numbered { number, shape, column, life, .. } = series;
                let sets = LabelSets { column: sets.labels(column)?, entity, host };
                if let Err(error) = give(Identity { number, shape, sets, life }) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(()))
    }
}

impl LabelSets {
    /// The levels that its labels come from, the nearest first.
    pub(in crate::store) fn levels(&self) -> [Labels; 3] {
        [self.column.clone(), self.entity.clone(), self.host.clone()]
    }

    /// All labels.
    pub(in crate::store) fn whole(&self) -> Labels {
        Levels(&self.levels()).whole()
    }
}
