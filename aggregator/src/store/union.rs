//! What the head and the block files know together.

use common::batch::HostId;
use common::time::TimeRange;

use crate::store::block::Block;
use crate::store::block::Tier;
use crate::store::block::set::BlockFile;
use crate::store::block::set::Blocks;
use crate::store::head::Head;
use crate::store::pile::Author;
use crate::store::pile::Pile;
use crate::store::select::Question;
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
    /// All series that match and have an entry, one after the other.
    pub(super) fn select<E: From<SelectError>>(
        &self,
        question: Question<'_>,
        give: &mut dyn FnMut(Selected<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let raw = self.tiers.iter().find(|(tier, _)| *tier == Tier::Raw).map(|(_, range)| *range);
        let whole = self
            .tiers
            .first()
            .zip(self.tiers.last())
            .map(|((_, first), (_, last))| TimeRange { after: first.after, through: last.through });
        // A coarse window is stamped after what it was made of.
        let coarsest = self.tiers.iter().filter_map(|(tier, _)| tier.resolution()).max().unwrap_or_default();
        let whole = whole.map(|whole| TimeRange { after: whole.after.before(coarsest), ..whole });
        let (Some(whole), Some(range)) = (whole, raw.or_else(|| Some(nothing(self.tiers.last()?.1)))) else {
            return Ok(());
        };
        self.head.each_pile(question, (range, Some(whole)), |host, pile| {
            self.complete(host, pile)?;
            pile.each(question.fields, give)
        })
    }

    /// Puts what block files have of a host's series beside what the head has of them.
    fn complete(&self, host: HostId, pile: &mut Pile) -> Result<(), SelectError> {
        self.within(pile)?;
        let series = pile.series().iter().enumerate().filter(|(_, series)| series.sealed);
        let mut wanted: Vec<(u32, usize)> = series.map(|(at, series)| (series.number, at)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        wanted.sort_unstable();
        let (numbers, places): (Vec<u32>, Vec<usize>) = wanted.into_iter().unzip();
        for (tier, range) in &self.tiers {
            // After the head was asked: what it let go of meanwhile is in a file of the list.
            let files = self.blocks.overlapping(*tier, *range);
            let blocks: Vec<Block> = files.iter().map(|file| file.block).collect();
            for file in files {
                let parts = file.block.counts(*range, &blocks);
                self.read(&file, (host, &parts), (&numbers, &places), pile)?;
                self.within(pile)?;
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

    const fn within(&self, pile: &Pile) -> Result<(), SelectError> {
        if pile.entries() <= self.samples_max {
            Ok(())
        } else {
            Err(SelectError::TooManySamples { limit: self.samples_max })
        }
    }
}

/// A range in which nothing is, where another one ends.
const fn nothing(range: TimeRange) -> TimeRange {
    TimeRange { after: range.through, through: range.through }
}
