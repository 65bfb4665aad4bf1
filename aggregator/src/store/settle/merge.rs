//! The quarters of a finished hour become one file, and so do the files of a finished day, whatever they were: of the hours, of
//! what came late, of the day before that came; coarser windows are made of those on the way. Those of days become a month's,
//! and of months a year's.
//!
//! They are read side by side, series by series, so that it takes little memory; readers have the old ones until they are
//! done with them.

use std::sync::Arc;

use common::time::{TimeRange, Timestamp};

use crate::store::Shared;
use crate::store::beside;
use crate::store::block::Block;
use crate::store::block::Tier;
use crate::store::block::file::Beside;
use crate::store::block::file::FileWriter;
use crate::store::block::file::Key;
use crate::store::block::hour;
use crate::store::block::overlap;
use crate::store::block::set::BlockFile;
use crate::store::block::walk::OfSeries;
use crate::store::block::walk::Walk;
use crate::store::block::walk::together;
use crate::store::catalog;
use crate::store::catalog::series;
use crate::store::chunk::Chunk;
use crate::store::chunk::Entry;
use crate::store::chunk::Shape;
use crate::store::chunk::merge;
use crate::store::database::Readers;
use crate::store::settle::SettleError;
use crate::store::settle::Settler;
use crate::store::settle::delete::Doomed;
use crate::store::settle::fold::fold;
use crate::store::settle::retain::Kept;
use crate::store::settle::seal::ENTRIES_IN_CHUNK;
use crate::store::settle::seal::chunked;

/// Series between two questions whether to stop.
const SERIES_IN_STEP: usize = 1_000;

/// What is to be made of which files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Merge {
    /// That of the files.
    pub(super) tier: Tier,
    pub(super) range: TimeRange,
    pub(super) ids: Vec<i64>,
    /// A file each of these: of that of the files to take their place, of coarser ones beside them.
    pub(super) make: Vec<Tier>,
}

/// Files that are being written.
struct Making<'a> {
    merge: &'a Merge,
    without: Option<&'a Doomed>,
    readers: &'a Readers,
    sources: Vec<Block>,
    files: Vec<FileWriter>,
}

impl Settler {
    /// Merges what is to be. Answers whether there was something.
    pub(super) fn merge(&mut self, now: Timestamp, cut: Timestamp) -> Result<bool, SettleError> {
        let shared = Arc::clone(&self.shared);
        let kept = Kept::of(&shared.blocks, &shared.config.retention, now);
        let rested = |(tier, range): (Tier, TimeRange)| {
            let rest = range.through.since(range.after) / 4;
            self.merged.get(&(tier, range.through)).is_none_or(|merged| rest <= now.since(*merged))
        };
        let Some(merge) = due(&kept, cut, rested) else {
            return Ok(false);
        };
        let files = shared.blocks.all();
        let sources: Vec<&BlockFile> =
            files.iter().map(|file| &**file).filter(|file| merge.ids.contains(&file.block.id)).collect();
        let made = self.make(&merge, &sources, None)?;
        let gone = if merge.make.contains(&merge.tier) { &*merge.ids } else { &[] };
        if !gone.is_empty() {
            sources.iter().try_for_each(|source| shared.blocks.quarantine(source))?;
        }
        self.replace(gone, &made)?;
        self.merged.insert((merge.tier, merge.range.through), now);
        Ok(true)
    }

    /// Writes files of what others have, but for what is to be left out.
    pub(super) fn make(
        &mut self,
        merge: &Merge,
        sources: &[&BlockFile],
        without: Option<&Doomed>,
    ) -> Result<Vec<(Block, u64)>, SettleError> {
        let Shared { blocks, readers, stop, .. } = &*self.shared;
        let mut files = Vec::new();
        for tier in &merge.make {
            let block = Block { id: self.next_block, tier: *tier, range: merge.range };
            files.push(FileWriter::create(blocks.data_dir(), block)?);
            self.next_block += 1;
        }
        let blocks_of = sources.iter().map(|source| source.block).collect();
        let mut making = Making { merge, without, readers, sources: blocks_of, files };
        let mut series = 0;
        together(sources.iter().map(|source| Walk::series(blocks, source)).collect(), |key, kept| {
            if series % SERIES_IN_STEP == 0 {
                stop.go_on()?;
            }
            series += 1;
            making.put(key, kept)
        })?;
        for what in Beside::ALL {
            let from = merge.range.after;
            together(
                sources.iter().map(|source| Walk::beside(blocks, source, (what, from))).collect(),
                |key, found| {
                    stop.go_on()?;
                    making.put_beside(what, key, found)
                },
            )?;
        }
        let finish = |file: FileWriter| {
            stop.go_on()?;
            Ok((file.block(), file.finish()?))
        };
        making.files.into_iter().map(finish).collect()
    }

    /// Records files in place of others, and shows them.
    fn replace(&self, gone: &[i64], made: &[(Block, u64)]) -> Result<(), SettleError> {
        let (removed, new) = (gone.to_owned(), made.to_owned());
        self.change(move |transaction, _| {
            catalog::remove_blocks(transaction, &removed)?;
            new.iter().try_for_each(|(block, bytes)| catalog::put_block(transaction, block, *bytes))
        })?;
        self.shared.blocks.replace(gone, made);
        Ok(())
    }
}

impl Making<'_> {
    /// Adds a series. One that was forgotten is left out.
    fn put(&mut self, key: Key, kept: Vec<(Block, OfSeries)>) -> Result<(), SettleError> {
        let Some(shape) = self.readers.ask(|connection| series::shape(connection, key))? else {
            return Ok(());
        };
        let mut chunks = one(shape, kept, &self.sources);
        if let Some(without) = self.without {
            chunks = without.spare((self.merge.tier, key), shape, chunks);
        }
        let mut entries: Option<Vec<Entry>> = None;
        for file in &mut self.files {
            match file.block().tier.resolution().filter(|_| file.block().tier != self.merge.tier) {
                None => file.put(key, shape, &chunks)?,
                Some(resolution) => {
                    let decoded = || chunks.iter().flat_map(|chunk| chunk.decode(shape)).collect();
                    let folded = fold(shape, entries.get_or_insert_with(decoded), resolution);
                    file.put(key, shape, &chunked(shape, &folded))?;
                }
            }
        }
        Ok(())
    }

    /// Adds what lies beside the samples of a host in an hour, which coarser files do not have.
    fn put_beside(&self, what: Beside, key: Key, found: Vec<(Block, Vec<u8>)>) -> Result<(), SettleError> {
        let written = found.into_iter().map(|(_, data)| data).collect();
        if let Some(file) = self.files.iter().find(|file| file.block().tier == self.merge.tier) {
            file.put_beside(what, key, &beside::join(what, written))?;
        }
        Ok(())
    }
}

/// What is to be merged first. `rested` says of what was merged already whether it may be again: what comes late comes in
/// many pieces. A longer stretch waits for its days: the number of a file says which raw files it was made of.
fn due(kept: &Kept<'_>, cut: Timestamp, rested: impl Fn((Tier, TimeRange)) -> bool) -> Option<Merge> {
    let mut merges: Vec<Merge> = Vec::new();
    for block in &kept.blocks {
        let Some(range) = block.tier.finished(block.range.through, cut) else {
            continue;
        };
        let at = merges.iter().position(|merge| (merge.tier, merge.range) == (block.tier, range));
        let at = at.unwrap_or(merges.len());
        if at == merges.len() {
            merges.push(Merge { tier: block.tier, range, ids: Vec::new(), make: Vec::new() });
        }
        let Merge { ids, make, .. } = &mut merges[at];
        // What comes late for an hour is merged with its day, of which coarser windows are made.
        let is_hour = range == hour(range.through);
        let lacking = Tier::COARSE.into_iter().filter(|coarse| !is_hour && kept.lacks(*coarse, *block));
        let is_scattered = block.range != range || !is_hour && !ids.is_empty();
        let scattered = is_scattered.then_some(block.tier);
        make.extend(scattered.into_iter().chain(lacking));
        make.sort_unstable();
        make.dedup();
        ids.push(block.id);
    }
    merges.retain(|merge| !merge.make.is_empty());
    merges.sort_by_key(|merge| (merge.tier, merge.range.through));
    let waited_for: Vec<TimeRange> =
        merges.iter().filter(|merge| merge.tier == Tier::Raw).map(|merge| merge.range).collect();
    // What is made has the highest number: it would stand before a file that was written later and is for another time to
    // merge, as one of a day is where the clock was set back.
    let is_behind = |merge: &Merge| {
        let is_later = |block: &Block| !merge.ids.contains(&block.id) && merge.ids.iter().any(|id| *id < block.id);
        let is_over = |block: &Block| block.tier == merge.tier && block.overlaps(merge.range);
        kept.blocks.iter().any(|block| is_over(block) && is_later(block))
    };
    let is_due = |merge: &Merge| {
        let is_merged = kept.blocks.iter().any(|block| merge.ids.contains(&block.id) && block.range == merge.range);
        let is_first = !is_merged || merge.make.iter().all(|tier| *tier != merge.tier);
        let waits = merge.tier != Tier::Raw && waited_for.iter().any(|day| overlap(merge.range, *day));
        !waits && !is_behind(merge) && (is_first || rested((merge.tier, merge.range)))
    };
    merges.into_iter().find(is_due)
}

/// What files have of a series as chunks of one: as they are, where that is one behind the other and not in shreds.
fn one(shape: Shape, mut kept: Vec<(Block, OfSeries)>, sources: &[Block]) -> Vec<Chunk> {
    kept.sort_by_key(|(_, (_, chunks))| chunks.first().map(|chunk| chunk.first));
    let chunks = || kept.iter().flat_map(|(_, (_, chunks))| chunks);
    let in_order = chunks().zip(chunks().skip(1)).all(|(chunk, next)| chunk.last < next.first);
    let entries: usize = chunks().map(Chunk::len).sum();
    let in_shreds = 2 * entries.div_ceil(ENTRIES_IN_CHUNK) < chunks().count();
    let is_whole = |(block, (of, _)): &(Block, OfSeries)| {
        // What an agent says of a column may change.
        (of.kind, of.peak) == (shape.kind, shape.peak) && block.counts(block.range, sources) == [block.range]
    };
    if in_order && !in_shreds && kept.iter().all(is_whole) {
        return kept.into_iter().flat_map(|(_, (_, chunks))| chunks).collect();
    }
    kept.sort_by_key(|(block, _)| block.id);
    let decoded = kept.iter().flat_map(|(block, (shape, chunks))| {
        let parts = block.counts(block.range, sources);
        let entries = chunks.iter().flat_map(move |chunk| chunk.decode(*shape));
        entries.filter(move |entry| parts.iter().any(|part| part.contains(entry.stamp)))
    });
    chunked(shape, &merge(Vec::new(), decoded))
}

#[cfg(test)]
mod tests {
    use Tier::{FiveMinutes, OneHour, Raw};

    use super::*;
    use crate::store::Retention;
    use crate::store::block::day;
    use crate::store::block::quarter;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_seconds(3_600 * hours)
    }

    const fn block(id: i64, tier: Tier, range: TimeRange) -> Block {
        Block { id, tier, range }
    }

    fn check(blocks: &[Block], (cut, rested): (i64, bool), expect: Option<(&[i64], &[Tier])>) {
        let retention = Retention::default();
        let kept = Kept::new(blocks.to_vec(), &retention, at(cut));
        let merge = due(&kept, at(cut), |_| rested);
        let merge = merge.as_ref().map(|merge| (merge.ids.as_slice(), merge.make.as_slice()));
        assert_eq!(merge, expect, "{blocks:?} at {cut}");
    }

    #[test]
    fn a_day_is_merged_an_hour_after_its_end_and_what_comes_late_in_its_time() {
        let all = &Tier::ALL;
        let hours = [block(1, Raw, hour(at(1))), block(2, Raw, hour(at(24))), block(3, Raw, hour(at(25)))];
        check(&hours, (24, true), None);
        check(&hours, (25, true), Some((&[1, 2], all)));
        check(&hours, (25, false), Some((&[1, 2], all)));
        let made = [block(5, FiveMinutes, day(at(24))), block(6, OneHour, day(at(24)))];
        let merged = [&[block(3, Raw, hour(at(25))), block(4, Raw, day(at(24)))], made.as_slice()].concat();
        check(&merged, (25, true), None);
        check(&merged, (49, false), Some((&[3], all)));
        let late = [merged.as_slice(), &[block(7, Raw, day(at(24)))]].concat();
        check(&late, (26, false), None);
        check(&late, (26, true), Some((&[4, 7], all)));
        check(&[block(4, Raw, day(at(24)))], (26, false), Some((&[4], &Tier::COARSE)));
        check(&[], (26, true), None);
    }

    #[test]
    fn the_quarters_of_an_hour_are_merged_and_what_comes_late_for_it_waits_for_its_day() {
        let quarters = [15, 60, 75].map(|minutes| quarter(Timestamp::from_seconds(60 * minutes)));
        let quarters = [1, 2, 3].map(|id| block(id, Raw, quarters[usize::try_from(id).unwrap() - 1]));
        check(&quarters, (1, true), None);
        check(&quarters, (2, true), Some((&[1, 2], &[Raw])));
        let late = [quarters[0], block(4, Raw, hour(at(1)))];
        check(&late, (2, true), Some((&[1, 4], &[Raw])));
        let merged = [block(5, Raw, hour(at(1))), block(6, Raw, hour(at(1)))];
        check(&merged, (2, true), None);
        check(&merged, (25, true), Some((&[5, 6], &Tier::ALL)));
        check(&quarters, (25, true), Some((&[1, 2, 3], &Tier::ALL)));
        // The clock was set back behind the end of a day that was sealed.
        let later = [quarters[0], block(2, Raw, day(at(1)))];
        check(&later, (2, true), None);
        check(&later, (25, true), Some((&[1, 2], &Tier::ALL)));
        check(&[block(1, Raw, day(at(1))), quarters[1]], (2, true), Some((&[2], &[Raw])));
    }

    #[test]
    fn days_become_a_month_when_they_are_made_and_months_a_year() {
        let month = 24 * 31;
        let days = [block(2, OneHour, day(at(24))), block(3, OneHour, day(at(48)))];
        check(&days, (month, true), None);
        check(&days, (month + 1, true), Some((&[2, 3], &[OneHour])));
        // The samples went of which windows of an hour were made, and none of five minutes.
        let outlived = [days.as_slice(), &[block(4, Raw, day(at(48)))]].concat();
        check(&outlived, (month + 1, true), Some((&[4], &[FiveMinutes])));
        let late = [days.as_slice(), &[block(1, Raw, day(at(48))), block(4, Raw, day(at(48)))]].concat();
        check(&late, (month + 1, false), None);
        let twice = [block(2, OneHour, day(at(24))), block(3, OneHour, day(at(24)))];
        check(&twice, (48, true), Some((&[2, 3], &[OneHour])));
        check(&days, (24 * 365 + 1, true), Some((&[2, 3], &[OneHour])));
    }
}
