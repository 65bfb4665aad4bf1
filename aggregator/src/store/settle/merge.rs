//! The files of a finished day become one, whatever they were: of the hours, of what came late, of the day before that came.
//!
//! They are read side by side, series by series, so that it takes little memory; readers have the old ones until they are
//! done with them.

use std::sync::Arc;

use common::time::{TimeRange, Timestamp};

use crate::store::beside;
use crate::store::block::Block;
use crate::store::block::Tier;
use crate::store::block::file::Beside;
use crate::store::block::file::FileWriter;
use crate::store::block::file::Key;
use crate::store::block::set::BlockFile;
use crate::store::block::walk::Kept;
use crate::store::block::walk::Walk;
use crate::store::block::walk::together;
use crate::store::catalog;
use crate::store::chunk::Chunk;
use crate::store::chunk::Entry;
use crate::store::chunk::Shape;
use crate::store::chunk::merge;
use crate::store::settle::SettleError;
use crate::store::settle::Settler;
use crate::store::settle::seal::ENTRIES_IN_CHUNK;
use crate::store::settle::seal::chunked;

/// Series between two questions whether to stop.
const SERIES_IN_STEP: usize = 1_000;

/// Which files become one.
#[derive(Debug, PartialEq, Eq)]
struct Merge {
    tier: Tier,
    range: TimeRange,
    ids: Vec<i64>,
}

impl Settler {
    /// Merges what is to be. Answers whether there was something.
    pub(super) fn merge(&mut self, now: Timestamp, cut: Timestamp) -> Result<bool, SettleError> {
        let files = self.shared.blocks.all();
        let blocks: Vec<Block> = files.iter().map(|file| file.block).collect();
        let rested = |(tier, range): (Tier, TimeRange)| {
            let rest = range.through.since(range.after) / 4;
            self.merged.get(&(tier, range.through)).is_none_or(|merged| rest <= now.since(*merged))
        };
        let Some(merge) = due(&blocks, cut, rested) else {
            return Ok(false);
        };
        let sources: Vec<Arc<BlockFile>> =
            files.iter().filter(|file| merge.ids.contains(&file.block.id)).map(Arc::clone).collect();
        let made = self.make(&merge, &sources)?;
        self.replace(&merge.ids, made)?;
        self.merged.insert((merge.tier, merge.range.through), now);
        Ok(true)
    }

    /// Writes one file of several.
    fn make(&mut self, merge: &Merge, sources: &[Arc<BlockFile>]) -> Result<(Block, u64), SettleError> {
        let Self { shared, next_block, .. } = self;
        let block = Block { id: *next_block, tier: merge.tier, range: merge.range };
        *next_block += 1;
        let blocks = &shared.blocks;
        let mut file = FileWriter::create(blocks.data_dir(), block)?;
        let mut series = 0;
        together(sources.iter().map(|source| Walk::series(blocks, source)).collect(), |(host, number), kept| {
            if series % SERIES_IN_STEP == 0 {
                shared.stop.go_on()?;
            }
            series += 1;
            // One that was forgotten is left out.
            if let Some(shape) = shared.head.shape(host, number) {
                file.put((host, number), shape, &one(shape, kept))?;
            }
            Ok::<_, SettleError>(())
        })?;
        for what in Beside::ALL {
            let walk = |source| Walk::beside(blocks, source, (what, merge.range.after));
            together(sources.iter().map(|source| walk(source)).collect(), |key: Key, found| {
                shared.stop.go_on()?;
                let written = found.into_iter().map(|(_, data)| data).collect();
                file.put_beside(what, key, &beside::join(what, written))?;
                Ok::<_, SettleError>(())
            })?;
        }
        shared.stop.go_on()?;
        Ok((block, file.finish()?))
    }

    /// Records a file in place of others, and shows it.
    fn replace(&self, gone: &[i64], made: (Block, u64)) -> Result<(), SettleError> {
        let removed = gone.to_owned();
        self.change(move |transaction, _| {
            catalog::remove_blocks(transaction, &removed)?;
            catalog::put_block(transaction, &made.0, made.1)
        })?;
        self.shared.blocks.replace(gone, &[made]);
        Ok(())
    }
}

/// What is to be merged first. `rested` says of what was merged already whether it may be again: what comes late comes in
/// many pieces.
fn due(blocks: &[Block], cut: Timestamp, rested: impl Fn((Tier, TimeRange)) -> bool) -> Option<Merge> {
    let mut merges: Vec<Merge> = Vec::new();
    for block in blocks {
        let Some(range) = block.tier.finished(block.range.through, cut) else {
            continue;
        };
        match merges.iter_mut().find(|merge| (merge.tier, merge.range) == (block.tier, range)) {
            Some(merge) => merge.ids.push(block.id),
            None => merges.push(Merge { tier: block.tier, range, ids: vec![block.id] }),
        }
    }
    merges.retain(|Merge { tier, range, ids }| {
        let is_whole = |block: &&Block| ids.contains(&block.id) && block.range == *range;
        let is_merged = blocks.iter().any(|block| is_whole(&block));
        if is_merged { 1 < ids.len() && rested((*tier, *range)) } else { true }
    });
    merges.into_iter().min_by_key(|merge| (merge.tier, merge.range.through))
}

/// What files have of a series as chunks of one: as they are, where that is one behind the other and not in shreds.
fn one(shape: Shape, mut kept: Vec<(i64, Kept)>) -> Vec<Chunk> {
    kept.sort_by_key(|(_, (_, chunks))| chunks.first().map(|chunk| chunk.first));
    let chunks = || kept.iter().flat_map(|(_, (_, chunks))| chunks);
    let in_order = chunks().zip(chunks().skip(1)).all(|(chunk, next)| chunk.last < next.first);
    let entries: usize = chunks().map(Chunk::len).sum();
    if in_order && chunks().count() <= 2 * entries.div_ceil(ENTRIES_IN_CHUNK) {
        return kept.into_iter().flat_map(|(_, (_, chunks))| chunks).collect();
    }
    chunked(shape, &entries_of(kept))
}

/// All entries of a series, ascending; of two with one stamp that of the later file stands.
fn entries_of(mut kept: Vec<(i64, Kept)>) -> Vec<Entry> {
    kept.sort_by_key(|(id, _)| *id);
    let chunks = kept.iter().flat_map(|(_, (shape, chunks))| chunks.iter().map(move |chunk| chunk.decode(*shape)));
    merge(Vec::new(), chunks.flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::block::day;
    use crate::store::block::hour;

    #[test]
    fn a_day_is_merged_an_hour_after_its_end_and_what_comes_late_in_its_time() {
        let at = |hours: i64| Timestamp::from_seconds(3_600 * hours);
        let block = |id, range| Block { id, tier: Tier::Raw, range };
        let check = |blocks: &[Block], cut: i64, rested: bool, expect: Option<&[i64]>| {
            let merge = due(blocks, at(cut), |_| rested);
            assert_eq!(merge.map(|merge| merge.ids).as_deref(), expect, "{blocks:?} at {cut}");
        };
        let hours = [block(1, hour(at(1))), block(2, hour(at(24))), block(3, hour(at(25)))];
        check(&hours, 24, true, None);
        check(&hours, 25, true, Some(&[1, 2]));
        check(&hours, 25, false, Some(&[1, 2]));
        let merged = [block(3, hour(at(25))), block(4, day(at(24)))];
        check(&merged, 25, true, None);
        let late = [block(3, hour(at(25))), block(4, day(at(24))), block(5, day(at(24)))];
        check(&late, 26, false, None);
        check(&late, 26, true, Some(&[4, 5]));
        check(&late, 49, false, Some(&[3]));
        check(&[], 26, true, None);
    }
}
