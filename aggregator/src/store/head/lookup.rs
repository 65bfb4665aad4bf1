//! The names and values of labels of what the head has: it is looked for what is not found yet, and no longer.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::batch::HostId;
use common::time::TimeRange;

use crate::store::first::First;
use crate::store::head::Head;
use crate::store::head::Here;
use crate::store::head::columns::Candidate;
use crate::store::head::host::Found;
use crate::store::head::host::Host;
use crate::store::head::read;
use crate::store::select::Levels;
use crate::store::select::Spend;

/// When a series must have had something, to be there.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct When {
    pub(in crate::store) in_memory: TimeRange,
    /// From earlier on where coarse windows answer: they are stamped after what they were made of.
    pub(in crate::store) in_files: TimeRange,
}

/// Looks for texts that series have: for the values of a label, or for the names of all.
pub(in crate::store) struct Hunt<'a, E> {
    answer: First<Arc<str>>,
    of: Option<&'a str>,
    when: When,
    spend: Spend<'a, E>,
    /// Those whose own labels may have something new.
    columns: Vec<&'a Candidate<'a>>,
    /// Those of which an entity or a host may.
    others: Vec<&'a Candidate<'a>>,
}

impl Head {
    /// Looks at the series of a host. Answers what block files alone may have.
    pub(in crate::store) fn hunt<E>(&self, host: HostId, hunt: &mut Hunt<'_, E>) -> Result<Here, E> {
        let Some(host) = self.known(host) else {
            return Ok(Here::default());
        };
        let host = read(&host);
        hunt.in_host(&host)?;
        let (ended, recalled) = host.ended();
        Ok(Here { series: Vec::new(), ended, recalled })
    }
}

impl<'a, E> Hunt<'a, E> {
    /// For the first `limit` of them.
    pub(in crate::store) fn new(
        of: Option<&'a str>,
        candidates: &'a [Candidate<'_>],
        when: When,
        (limit, spend): (usize, Spend<'a, E>),
    ) -> Self {
        // What a column says wins over what is said of an entity or a host.
        let says = |candidate: &&Candidate<'_>| of.is_some_and(|name| !candidate.label(name).is_empty());
        let columns = candidates.iter().filter(|candidate| of.is_none() || says(candidate)).collect();
        let others = candidates.iter().filter(|candidate| !says(candidate)).collect();
        Self { answer: First::new(limit), of, when, spend, columns, others }
    }

    /// Takes in what a series has that is there.
    pub(in crate::store) fn take(&mut self, levels: Levels<'_>) -> Result<(), E> {
        let more = match self.of {
            None => levels.names().map(|name| self.answer.push(name)).sum(),
            Some(name) => {
                Some(levels.get(name)).filter(|value| !value.is_empty()).map_or(0, |text| self.answer.push(text))
            }
        };
        (self.spend)(more)
    }

    pub(in crate::store) fn into_sorted(self) -> Vec<Arc<str>> {
        self.answer.into_sorted()
    }

    fn in_host(&mut self, host: &Host) -> Result<(), E> {
        let of = self.of;
        let columns = std::mem::take(&mut self.columns);
        let mut missing = self.wanted(columns.iter().flat_map(|column| column.texts(of)));
        self.among(host.find(&columns), &mut missing)?;
        self.columns = columns;
        self.columns.retain(|column| column.texts(of).any(|text| self.answer.wants(text)));

        let others = std::mem::take(&mut self.others);
        let mut missing = self.wanted(host.texts(of));
        if let Some(name) = of {
            for value in missing.clone() {
                let mut one = BTreeSet::from([value]);
                self.among(host.latest_with((name, value), &others), &mut one)?;
                if one.is_empty() {
                    missing.remove(value);
                }
            }
        }
        self.among(host.find(&others), &mut missing)?;
        self.others = others;
        Ok(())
    }

    /// Those that would be new.
    fn wanted<'t>(&self, texts: impl Iterator<Item = &'t str>) -> BTreeSet<&'t str> {
        texts.filter(|text| !text.is_empty() && self.answer.wants(*text)).collect()
    }

    /// Looks at series until none of the texts is missing any more.
    fn among<'h>(&mut self, series: impl Iterator<Item = Found<'h>>, missing: &mut BTreeSet<&str>) -> Result<(), E> {
        if missing.is_empty() {
            return Ok(());
        }
        for found in series {
            let is_new = found.texts(self.of).any(|text| missing.contains(text)) && found.touches(self.when);
            let mut more = 0;
            for text in found.texts(self.of).filter(|_| is_new) {
                missing.remove(text);
                more += self.answer.push(text);
            }
            (self.spend)(more)?;
            if missing.is_empty() {
                break;
            }
        }
        Ok(())
    }
}
