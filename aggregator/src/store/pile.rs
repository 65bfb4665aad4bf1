//! What is found of some series of one host, compressed as it is kept: copied while a lock is held, unpacked behind it.
//!
//! Of two entries with one stamp the one that was written later stands.

use std::cmp::Reverse;
use std::ops::Range;

use common::metric::{Kind, Labels};
use common::time::{TimeRange, Timestamp};

use crate::store::chunk::ChunkRef;
use crate::store::chunk::Shape;
use crate::store::chunk::read::Unpacked;
use crate::store::chunk::run::Run;
use crate::store::chunk::tail::TailRef;
use crate::store::select::Field;
use crate::store::select::Levels;
use crate::store::select::Samples;
use crate::store::select::Selected;
use crate::store::select::Tiered;

/// Some series, and what there is of each.
#[derive(Debug, Default)]
pub(super) struct Pile {
    series: Vec<Piled>,
    stretches: Vec<Stretch>,
    /// Of all chunks, one behind the other.
    bytes: Vec<u8>,
    /// Entries in the chunks and runs, those outside the range among them.
    entries: usize,
    unpacked: Unpacked,
    samples: Samples,
}

/// One series.
#[derive(Debug)]
pub(super) struct Piled {
    /// What block files call it.
    pub(super) number: u32,
    /// The nearest first.
    pub(super) labels: [Labels; 3],
    pub(super) kind: Kind,
    /// Whether block files may have more.
    pub(super) sealed: bool,
    /// All that they may have is in this.
    pub(super) lived: TimeRange,
}

/// By whom entries were written; who is greater wrote later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Author {
    /// A block file, by its number.
    File(i64),
    /// The head, what it has set aside to be sealed.
    Frozen,
    /// The head.
    Growing,
    /// The head, what came late and is not merged yet.
    Late,
}

/// Entries that lie together.
#[derive(Debug)]
struct Stretch {
    series: usize,
    author: Author,
    /// As its author had it: what an agent says of a column may change.
    shape: Shape,
    /// What counts of it: from this stamp …
    first: Timestamp,
    /// … through this one.
    last: Timestamp,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Chunk { first: Timestamp, last: Timestamp, bytes: Range<usize> },
    Tail { first: Timestamp, runs: u32, windows: u32, latest: Run, bytes: Range<usize> },
    Run(Run),
}

impl Pile {
    /// Takes everything away; the place is used again.
    pub(super) fn clear(&mut self) {
        self.series.clear();
        self.stretches.clear();
        self.bytes.clear();
        self.entries = 0;
    }

    /// Puts a series on it. What is put on it until it ends belongs to that.
    pub(super) fn begin(&mut self, series: Piled) {
        self.series.push(series);
    }

    /// Says of the latest series whether block files may have more; it goes if nobody has anything.
    pub(super) fn end(&mut self, sealed: bool) {
        let has = self.stretches.last().is_some_and(|stretch| stretch.series + 1 == self.series.len());
        if !has && !sealed {
            self.series.pop();
        } else if let Some(series) = self.series.last_mut() {
            series.sealed = sealed;
        }
    }

    pub(super) fn series(&self) -> &[Piled] {
        &self.series
    }

    /// How many entries lie on it, about.
    pub(super) const fn entries(&self) -> usize {
        self.entries
    }

    /// Puts a chunk of the latest series on it, of which what is in `range` counts.
    pub(super) fn push_chunk(&mut self, by: (Author, Shape), chunk: ChunkRef<'_>, range: TimeRange) {
        self.push_chunk_of(self.latest(), by, chunk, range);
    }

    /// Puts a chunk of any series on it.
    pub(super) fn push_chunk_of(
        &mut self,
        series: usize,
        (author, shape): (Author, Shape),
        chunk: ChunkRef<'_>,
        range: TimeRange,
    ) {
        let ChunkRef { first, last, bytes } = chunk;
        let from = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.entries += chunk.len();
        let kept = Kept::Chunk { first, last, bytes: from..self.bytes.len() };
        self.push(Stretch { series, author, shape, first, last, kept }, range);
    }

    /// Puts a run of the latest series on it, of which what is in `range` counts.
    pub(super) fn push_run(&mut self, (author, shape): (Author, Shape), run: Run, range: TimeRange) {
        self.entries += run.len();
        let (series, first, last) = (self.latest(), run.first, run.last());
        self.push(Stretch { series, author, shape, first, last, kept: Kept::Run(run) }, range);
    }

    /// Puts a tail of the latest series on it, of which what is in `range` counts.
    pub(super) fn push_tail(&mut self, (author, shape): (Author, Shape), tail: TailRef<'_>, range: TimeRange) {
        let TailRef { bytes, latest, first, runs, windows } = tail;
        let from = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.entries += windows as usize;
        let kept = Kept::Tail { first, runs, windows, latest, bytes: from..self.bytes.len() };
        self.push(Stretch { series: self.latest(), author, shape, first, last: latest.last(), kept }, range);
    }

    const fn latest(&self) -> usize {
        self.series.len().saturating_sub(1)
    }

    fn push(&mut self, mut stretch: Stretch, range: TimeRange) {
        stretch.first = stretch.first.max(Timestamp::from_millis(range.after.as_millis().saturating_add(1)));
        stretch.last = stretch.last.min(range.through);
        if stretch.first <= stretch.last {
            self.stretches.push(stretch);
        }
    }

    /// Gives all series that have an entry, one after the other.
    pub(super) fn each<E>(
        &mut self,
        (fields, tiers): (&[Field], &[Tiered]),
        give: &mut dyn FnMut(Selected<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { series, stretches, bytes, unpacked, samples, .. } = self;
        stretches.sort_by_key(|stretch| (stretch.series, stretch.first, stretch.author));
        let mut rest = &stretches[..];
        for (at, Piled { labels, kind, .. }) in series.iter().enumerate() {
            let (own, behind) = rest.split_at(rest.partition_point(|stretch| stretch.series <= at));
            rest = behind;
            samples.reset(fields.len());
            read(own, bytes, fields, (unpacked, samples));
            if !samples.is_empty() {
                give(Selected { labels: Levels(labels), kind: *kind, tiers, samples })?;
            }
        }
        Ok(())
    }
}

/// Unpacks the stretches of one series, which are in the order of their first stamps.
fn read(stretches: &[Stretch], bytes: &[u8], fields: &[Field], (unpacked, into): (&mut Unpacked, &mut Samples)) {
    let apart = stretches.windows(2).all(|pair| pair[0].last < pair[1].first);
    let mut authors = Vec::new();
    for Stretch { author, shape, first, last, kept, .. } in stretches {
        let after = Timestamp::from_millis(first.as_millis().saturating_sub(1));
        let range = TimeRange { after, through: *last };
        match kept {
            Kept::Chunk { first, last, bytes: at } => {
                let chunk = ChunkRef { first: *first, last: *last, bytes: &bytes[at.clone()] };
                unpacked.append_within(chunk, (*shape, fields), range, into);
            }
            Kept::Tail { first, runs, windows, latest, bytes: at } => {
                let bytes = &bytes[at.clone()];
                let tail = TailRef { bytes, latest: *latest, first: *first, runs: *runs, windows: *windows };
                tail.append_within((*shape, fields), range, into);
            }
            Kept::Run(run) => run.append_within((*shape, fields), range, into),
        }
        if !apart {
            authors.resize(into.len(), *author);
        }
    }
    if !apart {
        *into = latest_written(&authors, into);
    }
}

/// The same in the order of their stamps; of those with one stamp only the one that was written last.
fn latest_written(authors: &[Author], samples: &Samples) -> Samples {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by_key(|at| (samples.stamps[*at], Reverse(authors[*at])));
    order.dedup_by_key(|at| samples.stamps[*at]);
    let column = |column: &Vec<f64>| order.iter().map(|at| column[*at]).collect();
    Samples {
        stamps: order.iter().map(|at| samples.stamps[*at]).collect(),
        columns: samples.columns.iter().map(column).collect(),
    }
}
