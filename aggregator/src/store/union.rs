//! What the head and the block files know together.

use std::collections::HashSet;
use std::time::Duration;

use common::batch::HostId;
use common::metric::Kind;
use common::time::TimeRange;
use common::time::Timestamp;

use crate::store::Shared;
use crate::store::Store;
use crate::store::block::Block;
use crate::store::block::Tier;
use crate::store::block::set::BlockFile;
use crate::store::block::set::Blocks;
use crate::store::catalog::series::Identity;
use crate::store::database::Readers;
use crate::store::head::Head;
use crate::store::head::Here;
use crate::store::head::host::Address;
use crate::store::lookup::Ended;
use crate::store::pile::Author;
use crate::store::pile::Pile;
use crate::store::pile::Piled;
use crate::store::select::Field;
use crate::store::select::Grains;
use crate::store::select::Question;
use crate::store::select::SelectError;
use crate::store::select::Selected;
use crate::store::select::Tiered;
use crate::store::settle::retain::Kept;

/// Series of a host that are read together: about what a part of a block file has. Few enough that the host is soon let
/// go of, and that what is read of them stays near the processor.
const SERIES_IN_PILE: usize = 256;

/// The head and the block files.
pub(super) struct Union<'a> {
    pub(super) head: &'a Head,
    pub(super) blocks: &'a Blocks,
    pub(super) readers: &'a Readers,
    /// Which tier answers what, oldest first; the head is asked what raw files are asked.
    pub(super) tiers: Vec<(Tier, TimeRange)>,
    /// Series of one kind alone, if it is said which.
    pub(super) kind: Option<Kind>,
    pub(super) samples_max: usize,
}

/// What is answered about a range is the same as long as this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    changed: u64,
    /// Where nobody says that longer windows may answer, and where any may.
    tiers: Vec<Vec<(Tier, TimeRange)>>,
    /// The last file of coarse windows.
    made: Option<i64>,
}

impl Store {
    /// All series that match, one after the other, with the samples of their windows in the range, oldest first. A series
    /// that matches without a sample there is left out.
    ///
    /// # Errors
    /// When a budget runs out, what is stored cannot be read, and those of `give`.
    pub fn select<E: From<SelectError>>(
        &self,
        question: Question<'_>,
        give: &mut dyn FnMut(Selected<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.shared.progress.answers(question.range)?;
        let Grains { gauges, counters } = question.grains;
        let (kept, unsealed) = self.kept();
        let [of_gauges, of_counters] = [gauges, counters].map(|grain| kept.tiers_of(question.range, grain, unsealed));
        if of_gauges == of_counters {
            return self.union(of_gauges, None).select(question, give);
        }
        self.union(of_gauges, Some(Kind::Gauge)).select(question, give)?;
        self.union(of_counters, Some(Kind::Counter)).select(question, give)
    }

    /// How long the windows are that answer for a moment, where they are not those that were written: longer ones where
    /// grains let them.
    #[must_use]
    pub fn resolution(&self, at: Timestamp, Grains { gauges, counters }: Grains) -> Option<Duration> {
        let moment = TimeRange { after: at.before(Duration::from_millis(1)), through: at };
        let (kept, unsealed) = self.kept();
        let of = |grain| kept.tiers_of(moment, grain, unsealed).first().and_then(|(tier, _)| tier.resolution());
        of(gauges).max(of(counters))
    }

    /// What is another one when what is answered about a range may be another.
    #[must_use]
    pub fn version(&self, range: TimeRange) -> Version {
        let grains = [None].into_iter().chain(Tier::COARSE.map(Tier::resolution));
        let (kept, unsealed) = self.kept();
        let tiers: Vec<_> = grains.map(|grain| kept.tiers_of(range, grain.unwrap_or_default(), unsealed)).collect();
        let Shared { head, blocks, .. } = &*self.shared;
        // Coarse windows are made of what changed before; raw ones lie in other files later, and are the same.
        let coarse = tiers.iter().flatten().filter(|(tier, _)| *tier != Tier::Raw);
        let made = coarse.flat_map(|(tier, range)| blocks.overlapping(*tier, *range)).map(|file| file.block.id).max();
        Version { changed: head.changed_in(range), tiers, made }
    }

    /// Which tier answers for which part of a range.
    pub(super) fn tiers(&self, range: TimeRange, grain: Duration) -> Vec<(Tier, TimeRange)> {
        let (kept, unsealed) = self.kept();
        kept.tiers_of(range, grain, unsealed)
    }

    /// Which files there are, and from when on there may be something that is in none.
    fn kept(&self) -> (Kept<'_>, Option<Timestamp>) {
        let Shared { head, blocks, config, clock, .. } = &*self.shared;
        // Before the files are looked at: what is sealed meanwhile is in one of them.
        let unsealed = head.unsealed();
        (Kept::of(blocks, &config.retention, clock.wall()), unsealed)
    }

    pub(super) fn union(&self, tiers: Vec<(Tier, TimeRange)>, kind: Option<Kind>) -> Union<'_> {
        let Shared { head, blocks, readers, config, .. } = &*self.shared;
        Union { head, blocks, readers, tiers, kind, samples_max: config.samples_max }
    }
}

impl Union<'_> {
    /// All series that match and have an entry, one after the other.
    pub(super) fn select<E: From<SelectError>>(
        &self,
        question: Question<'_>,
        give: &mut dyn FnMut(Selected<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.select_of(&self.head.ids(), question, give)
    }

    /// The same of some hosts.
    pub(super) fn select_of<E: From<SelectError>>(
        &self,
        hosts: &[HostId],
        question: Question<'_>,
        give: &mut dyn FnMut(Selected<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let raw = self.tiers.iter().find(|(tier, _)| *tier == Tier::Raw).map(|(_, range)| *range);
        let whole = self
            .tiers
            .first()
            .zip(self.tiers.last())
            .map(|((_, first), (_, last))| TimeRange { after: first.after, through: last.through });
        let whole = whole.map(|whole| lived(&self.tiers, whole));
        let (Some(whole), Some(range)) = (whole, raw.or_else(|| Some(nothing(self.tiers.last()?.1)))) else {
            return Ok(());
        };
        let tiers: Vec<Tiered> = self.tiers.iter().map(tiered).collect();
        let what_of = (question.fields, &tiers[..]);
        let mut candidates = self.head.candidates(question.matchers);
        candidates.retain(|candidate| self.wants(candidate.kind()));
        let mut ended = Ended::new(self.readers, question.matchers, whole);
        for host in hosts.iter().copied() {
            let found = self.head.find(host, &candidates);
            let what = (range, Some(whole), question.latest);
            let here = self.select_here((host, &found.series), what, what_of, give)?;
            if ended.may_be(&found) {
                self.select_ended(&mut ended, (host, &found, &here), what_of, give)?;
            }
        }
        Ok(())
    }

    /// Gives the series of a host that the head has. Answers their numbers.
    fn select_here<E: From<SelectError>>(
        &self,
        (host, found): (HostId, &[Address]),
        what: (TimeRange, Option<TimeRange>, bool),
        what_of: (&[Field], &[Tiered]),
        give: &mut dyn FnMut(Selected<'_>) -> Result<(), E>,
    ) -> Result<Vec<u32>, E> {
        let mut pile = Pile::default();
        let mut here = Vec::with_capacity(found.len());
        for some in found.chunks(SERIES_IN_PILE) {
            pile.clear();
            here.extend(self.head.put(host, some, what, &mut pile));
            if !pile.series().is_empty() {
                self.complete(host, &mut pile)?;
                pile.each(what_of, give)?;
            }
        }
        Ok(here)
    }

    /// Gives those that block files alone have.
    fn select_ended<E: From<SelectError>>(
        &self,
        ended: &mut Ended<'_>,
        (host, found, here): (HostId, &Here, &[u32]),
        what_of: (&[Field], &[Tiered]),
        give: &mut dyn FnMut(Selected<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let here: HashSet<u32> = here.iter().copied().collect();
        let mut pile = Pile::default();
        ended.each(self.head, (host, found), &mut |Identity { number, shape, sets, life }| {
            if here.contains(&number) || !self.wants(shape.kind) {
                return Ok(());
            }
            let (kind, lived) = (shape.kind, life.range());
            pile.begin(Piled { number, labels: sets.levels(), kind, sealed: true, lived });
            if pile.series().len() < SERIES_IN_PILE {
                return Ok(());
            }
            self.complete(host, &mut pile)?;
            pile.each(what_of, give)?;
            pile.clear();
            Ok::<_, E>(())
        })?;
        self.complete(host, &mut pile)?;
        pile.each(what_of, give)
    }

    /// Puts what block files have of a host's series beside what the head has of them.
    fn complete(&self, host: HostId, pile: &mut Pile) -> Result<(), SelectError> {
        self.within(pile)?;
        let series = pile.series().iter().enumerate().filter(|(_, series)| series.sealed);
        let mut wanted: Vec<(u32, usize, TimeRange)> =
            series.map(|(at, series)| (series.number, at, series.lived)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        wanted.sort_unstable_by_key(|(number, ..)| *number);
        for (tier, range) in &self.tiers {
            // After the head was asked: what it let go of meanwhile is in a file of the list.
            let files = self.blocks.overlapping(*tier, *range);
            let blocks: Vec<Block> = files.iter().map(|file| file.block).collect();
            for file in files {
                let parts = file.block.counts(*range, &blocks);
                let lived = wanted.iter().filter(|(.., lived)| file.block.may_have(*lived));
                let (numbers, places): (Vec<u32>, Vec<usize>) = lived.map(|(number, at, _)| (*number, *at)).unzip();
                if !numbers.is_empty() {
                    self.read(&file, (host, &parts), (&numbers, &places), pile)?;
                    self.within(pile)?;
                }
            }
        }
        Ok(())
    }

    /// Puts what a file has of the wanted series in parts of the range on the pile, where they have their places.
    fn read(
        &self,
        file: &BlockFile,
        (host, parts): (HostId, &[TimeRange]),
        (numbers, places): (&[u32], &[usize]),
        pile: &mut Pile,
    ) -> Result<(), SelectError> {
        let read = self.blocks.each(file, (host, numbers), |part, series| {
            if let Ok(at) = numbers.binary_search(&series.number) {
                let by = (Author::File(file.block.id), series.shape);
                for range in parts {
                    let chunks = part.chunks(series);
                    let within = chunks.filter(|chunk| range.after < chunk.last && chunk.first <= range.through);
                    within.for_each(|chunk| pile.push_chunk_of(places[at], by, chunk, *range));
                }
            }
        });
        read.map_err(|error| SelectError::Unreadable(error.to_string()))
    }

    fn wants(&self, kind: Kind) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
    }

    const fn within(&self, pile: &Pile) -> Result<(), SelectError> {
        if pile.entries() <= self.samples_max {
            Ok(())
        } else {
            Err(SelectError::TooManySamples { limit: self.samples_max })
        }
    }
}

/// When a series must have lived for these tiers to have something of it in a range: a coarse window is stamped after what
/// it was made of.
pub(super) fn lived(tiers: &[(Tier, TimeRange)], range: TimeRange) -> TimeRange {
    let coarsest = tiers.iter().filter_map(|(tier, _)| tier.resolution()).max().unwrap_or_default();
    TimeRange { after: range.after.before(coarsest), ..range }
}

/// As it is said of what is selected.
const fn tiered((tier, range): &(Tier, TimeRange)) -> Tiered {
    Tiered { through: range.through, resolution: tier.resolution() }
}

/// A range in which nothing is, where another one ends.
const fn nothing(range: TimeRange) -> TimeRange {
    TimeRange { after: range.through, through: range.through }
}
