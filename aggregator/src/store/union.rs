//! What the head and the block files know together: of two entries with one stamp the one that was written later stands.

use common::batch::HostId;
use common::time::TimeRange;
use common::window::Window;

use crate::store::block::Tier;
use crate::store::block::set::BlockFile;
use crate::store::block::set::Blocks;
use crate::store::chunk::Detail;
use crate::store::chunk::Entry;
use crate::store::chunk::Shape;
use crate::store::head::Head;
use crate::store::head::host::Picked;
use crate::store::select::Field;
use crate::store::select::Matcher;
use crate::store::select::STALE;
use crate::store::select::SelectError;
use crate::store::select::Selected;

/// The head and the block files.
pub(super) struct Union<'a> {
    pub(super) head: &'a Head,
    pub(super) blocks: &'a Blocks,
    /// Which tier answers what, oldest first; the head is asked what raw files are asked.
    pub(super) tiers: Vec<(Tier, TimeRange)>,
    pub(super) samples_max: usize,
}

impl Union<'_> {
    /// All series that match, with their samples.
    pub(super) fn select(&self, matchers: &[Matcher], fields: &[Field]) -> Result<Vec<Selected>, SelectError> {
        let mut answer = Vec::new();
        let mut samples = 0;
        self.select_each(matchers, fields, &mut |selected: Selected| {
            samples += selected.stamps.len();
            answer.push(selected);
            self.within(samples)
        })?;
        Ok(answer)
    }

    /// The same, series by series. A host's series are gathered, then given.
    pub(super) fn select_each<E: From<SelectError>>(
        &self,
        matchers: &[Matcher],
        fields: &[Field],
        give: &mut dyn FnMut(Selected) -> Result<(), E>,
    ) -> Result<(), E> {
        let raw = self.tiers.iter().find(|(tier, _)| *tier == Tier::Raw).map(|(_, range)| *range);
        let whole = self
            .tiers
            .first()
            .zip(self.tiers.last())
            .map(|((_, first), (_, last))| TimeRange { after: first.after, through: last.through });
        let (Some(whole), Some(range)) = (whole, raw.or_else(|| Some(nothing(self.tiers.last()?.1)))) else {
            return Ok(());
        };
        let last_only = fields.iter().all(|field| *field == Field::Last);
        let detail = if last_only { Detail::Last } else { Detail::Full };
        self.head.each_host(matchers, (range, Some(whole), detail), |host, picked| {
            let selected = self.complete(host, picked, (fields, detail))?;
            selected.into_iter().filter(|selected| !selected.stamps.is_empty()).try_for_each(&mut *give)
        })
    }

    /// Puts what block files have of one host's series before what the head has of them.
    fn complete(
        &self,
        host: HostId,
        picked: Vec<Picked>,
        (fields, detail): (&[Field], Detail),
    ) -> Result<Vec<Selected>, SelectError> {
        let mut samples: usize = picked.iter().map(|picked| picked.entries.len()).sum();
        self.within(samples)?;
        let mut order: Vec<(u32, usize)> = picked
            .iter()
            .enumerate()
            .filter(|(_, picked)| picked.sealed)
            .map(|(at, picked)| (picked.number, at))
            .collect();
        order.sort_unstable();
        let numbers: Vec<u32> = order.iter().map(|(number, _)| *number).collect();
        let mut sealed: Vec<Vec<(i64, Vec<Entry>)>> = vec![Vec::new(); order.len()];
        for (tier, range) in &self.tiers {
            // After the head was asked: what it let go of meanwhile is in a file of the list.
            for file in self.blocks.overlapping(*tier, *range) {
                self.read(&file, (host, &numbers), (*range, detail), |at, entries| {
                    samples += entries.len();
                    sealed[at].push((file.block.id, entries));
                })?;
                self.within(samples)?;
            }
        }
        let mut before: Vec<Vec<(i64, Vec<Entry>)>> = Vec::new();
        before.resize_with(picked.len(), Vec::new);
        order.into_iter().zip(sealed).for_each(|((_, at), sealed)| before[at] = sealed);
        Ok(picked.into_iter().zip(before).map(|(picked, before)| selected(picked, before, fields)).collect())
    }

    /// Gives the entries in `range` that a file has of the wanted series, by their place among those wanted.
    fn read(
        &self,
        file: &BlockFile,
        (host, numbers): (HostId, &[u32]),
        (range, detail): (TimeRange, Detail),
        mut give: impl FnMut(usize, Vec<Entry>),
    ) -> Result<(), SelectError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let read = self.blocks.each(file, (host, numbers), |part, series| {
            let chunks = part.chunks(series).filter(|chunk| range.after < chunk.last && chunk.first <= range.through);
            let entries = chunks.flat_map(|chunk| chunk.decode(series.shape, detail));
            let entries: Vec<Entry> = entries.filter(|entry| range.contains(entry.stamp)).collect();
            if let (Ok(at), false) = (numbers.binary_search(&series.number), entries.is_empty()) {
                give(at, entries);
            }
        });
        read.map_err(|error| SelectError::Unreadable(error.to_string()))
    }

    const fn within(&self, samples: usize) -> Result<(), SelectError> {
        if samples <= self.samples_max { Ok(()) } else { Err(SelectError::TooManySamples { limit: self.samples_max }) }
    }
}

/// A range in which nothing is, where another one ends.
const fn nothing(range: TimeRange) -> TimeRange {
    TimeRange { after: range.through, through: range.through }
}

fn selected(picked: Picked, sealed: Vec<(i64, Vec<Entry>)>, fields: &[Field]) -> Selected {
    let Picked { labels, shape, entries, .. } = picked;
    let entries = if sealed.is_empty() { entries } else { joined(sealed, entries) };
    let stamps = entries.iter().map(|entry| entry.stamp).collect();
    let column = |field: &Field| entries.iter().map(|entry| value(*entry, *field, shape)).collect();
    Selected { labels, kind: shape.kind, stamps, columns: fields.iter().map(column).collect() }
}

/// All entries, ascending: of those with one stamp that of the file written last, or of the head.
pub(super) fn joined(mut sealed: Vec<(i64, Vec<Entry>)>, head: Vec<Entry>) -> Vec<Entry> {
    sealed.push((i64::MAX, head));
    sealed.retain(|(_, entries)| !entries.is_empty());
    sealed.sort_by_key(|(_, entries)| entries.first().map(|entry| entry.stamp));
    let last = |entries: &[Entry]| entries.last().map(|entry| entry.stamp);
    let first = |entries: &[Entry]| entries.first().map(|entry| entry.stamp);
    if sealed.windows(2).all(|pair| last(&pair[0].1) < first(&pair[1].1)) {
        return sealed.into_iter().flat_map(|(_, entries)| entries).collect();
    }
    let ranked = sealed.into_iter().flat_map(|(id, entries)| entries.into_iter().map(move |entry| (id, entry)));
    let mut ranked: Vec<(i64, Entry)> = ranked.collect();
    ranked.sort_by_key(|(id, entry)| (entry.stamp, std::cmp::Reverse(*id)));
    ranked.dedup_by_key(|(_, entry)| entry.stamp);
    ranked.into_iter().map(|(_, entry)| entry).collect()
}

/// One field of an entry. A mark reads as a mark in all of them.
fn value(entry: Entry, field: Field, shape: Shape) -> f64 {
    let Some(window) = entry.window else {
        return f64::from_bits(STALE);
    };
    match (window, field) {
        (_, Field::Count) => f64::from(window.count()),
        (Window::Counter(counter), Field::Peak) if shape.peak => counter.peak,
        (_, Field::Peak) => f64::NAN,
        (Window::Gauge(gauge), Field::Min) => gauge.min,
        (Window::Gauge(gauge), Field::Max) => gauge.max,
        (Window::Gauge(gauge), Field::Sum) => gauge.sum,
        (Window::Counter(counter), Field::Increase) => counter.increase,
        (Window::Gauge(_), Field::Last | Field::Increase)
        | (Window::Counter(_), Field::Last | Field::Min | Field::Max | Field::Sum) => window.last(),
    }
}
