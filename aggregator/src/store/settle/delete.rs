//! What is deleted: what the head has of it is sealed, and the files that have some of it are written anew without it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use common::batch::HostId;
use common::time::{TimeRange, Timestamp};
use tokio::sync::oneshot;

use crate::store::Store;
use crate::store::block::Block;
use crate::store::block::Tier;
use crate::store::block::file::Key;
use crate::store::block::set::BlockFile;
use crate::store::catalog;
use crate::store::catalog::ended::Search;
use crate::store::catalog::series;
use crate::store::catalog::series::Identity;
use crate::store::chunk::Chunk;
use crate::store::chunk::Entry;
use crate::store::chunk::Shape;
use crate::store::commit::CommitError;
use crate::store::select::Matcher;
use crate::store::settle::SettleError;
use crate::store::settle::Settler;
use crate::store::settle::merge::Merge;
use crate::store::settle::retain::Kept;
use crate::store::settle::seal::chunked;

/// Deletions that wait for their turn: they are an operator's, one at a time.
pub(in crate::store) const DELETIONS_MAX: usize = 16;

/// Rows of the log end where an hour does, and so do the windows of every tier.
const HOUR: Duration = Duration::from_secs(3_600);

/// What is to be deleted.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// Matchers of each selector: series that match all of any of them.
    pub selectors: Vec<Vec<Matcher>>,
    /// Their samples in this.
    pub range: TimeRange,
}

/// Who waits for what is deleted.
pub(in crate::store) type Waiting = (Deletion, oneshot::Sender<Result<(), String>>);

/// Series, and of when they are to be left out.
#[derive(Debug)]
pub(super) struct Doomed {
    series: BTreeMap<HostId, BTreeSet<u32>>,
    range: TimeRange,
}

/// What files have of them.
#[derive(Debug, Default)]
struct Found {
    /// Files with something that is to go.
    files: HashSet<i64>,
    /// Series that have something besides.
    left: HashSet<Key>,
}

impl Doomed {
    /// What is left of the chunks of a series.
    pub(super) fn spare(&self, (tier, key): (Tier, Key), shape: Shape, chunks: Vec<Chunk>) -> Vec<Chunk> {
        let (host, number) = key;
        let is_meant = self.series.get(&host).is_some_and(|numbers| numbers.contains(&number));
        if !is_meant || !chunks.iter().any(|chunk| self.reaches(tier, (chunk.first, chunk.last))) {
            return chunks;
        }
        let entries = chunks.iter().flat_map(|chunk| chunk.decode(shape));
        // A mark is a moment in every tier.
        let goes = |entry: &Entry| match entry.window {
            Some(_) => self.reaches(tier, (entry.stamp, entry.stamp)),
            None => self.range.contains(entry.stamp),
        };
        chunked(shape, &entries.filter(|entry| !goes(entry)).collect::<Vec<_>>())
    }

    /// Whether windows with stamps from the first through the last may be made of something in the range. One that is made
    /// of other things, too, cannot be taken apart.
    fn reaches(&self, tier: Tier, (first, last): (Timestamp, Timestamp)) -> bool {
        let begin = match tier.resolution() {
            None => first.before(Duration::from_millis(1)),
            Some(length) => first.align_up(length).before(length),
        };
        self.range.after < last && begin < self.range.through
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        self.series.iter().flat_map(|(host, numbers)| numbers.iter().map(|number| (*host, *number)))
    }
}

impl Store {
    /// Deletes what there is of some series in a range, and waits until nothing of it is left. What comes meanwhile and
    /// later stays.
    ///
    /// # Errors
    /// When files cannot be read or written, which is told, or the store is closed: nothing is deleted then.
    pub async fn delete(&self, deletion: Deletion) -> Result<(), CommitError> {
        let (done, answer) = oneshot::channel();
        self.shared.deletions.send((deletion, done)).await.map_err(|_| CommitError::Closed)?;
        answer.await.map_err(|_| CommitError::Closed)?.map_err(CommitError::Io)
    }
}

impl Settler {
    /// Deletes what somebody waits for.
    pub(super) fn answer(&mut self, (deletion, done): Waiting, now: Timestamp) {
        let outcome = self.delete(&deletion, now).map_err(|error| error.to_string());
        if let Err(error) = &outcome {
            tracing::warn!(%error, "cannot delete series: they stay");
        }
        // Who asked for it may be gone.
        drop(done.send(outcome));
    }

    /// Deletes all of it in one commit, or nothing.
    pub(in crate::store) fn delete(&mut self, deletion: &Deletion, now: Timestamp) -> Result<(), SettleError> {
        self.seal(self.cuts(deletion))?;
        let doomed = self.doomed(deletion)?;
        let files = self.shared.blocks.all();
        let Found { files: touched, left } = self.look(&doomed, &files)?;
        let merges = self.rewritten(&doomed, &touched, now);
        let mut made = Vec::new();
        for merge in &merges {
            let is_source = |file: &&BlockFile| merge.ids.contains(&file.block.id);
            let sources: Vec<&BlockFile> = files.iter().map(|file| &**file).filter(is_source).collect();
            made.extend(self.make(merge, &sources, Some(&doomed))?);
            sources.iter().try_for_each(|source| self.shared.blocks.quarantine(source))?;
        }
        let gone: Vec<i64> = merges.into_iter().flat_map(|merge| merge.ids).collect();
        self.forget(doomed.keys().filter(|key| !left.contains(key)).collect(), gone, made)
    }

    /// Records files in place of others, and shows them, without the series of which nothing is left.
    fn forget(&self, whole: Vec<Key>, gone: Vec<i64>, made: Vec<(Block, u64)>) -> Result<(), SettleError> {
        let books = (Arc::clone(&self.shared), whole.clone(), gone.clone(), made.clone());
        let shared = Arc::clone(&self.shared);
        self.change_and(
            move |transaction, _| {
                let (shared, whole, gone, made) = books;
                catalog::remove_blocks(transaction, &gone)?;
                made.iter().try_for_each(|(block, bytes)| catalog::put_block(transaction, block, *bytes))?;
                // One that goes on keeps its number.
                let mut over = whole.iter().filter(|key| !shared.head.has_more(**key));
                over.try_for_each(|key| series::remove_one(transaction, *key))
            },
            move || {
                shared.blocks.replace(&gone, &made);
                shared.head.remove(&whole);
            },
        )
    }

    /// Up to where hosts that may have something of it are to be sealed: no row of their logs lies on both sides.
    fn cuts(&self, Deletion { selectors, range }: &Deletion) -> Vec<(HostId, Timestamp)> {
        let head = &self.shared.head;
        let mut hosts = BTreeSet::new();
        for matchers in selectors {
            let candidates = head.candidates(matchers);
            hosts.extend(head.ids().into_iter().filter(|host| !head.find(*host, &candidates).series.is_empty()));
        }
        let cut = |host| {
            let last = head.last_stamp(host)?;
            Some((host, range.through.min(last).align_up(HOUR).min(last)))
        };
        hosts.into_iter().filter_map(cut).collect()
    }

    /// The series that match and may have something in the range.
    fn doomed(&self, Deletion { selectors, range }: &Deletion) -> Result<Doomed, SettleError> {
        let mut series: BTreeMap<HostId, BTreeSet<u32>> = BTreeMap::new();
        let hosts = self.shared.head.ids();
        for matchers in selectors {
            let search = self.shared.readers.ask(|connection| Search::new(connection, matchers))?;
            for host in &hosts {
                let mut numbers = BTreeSet::new();
                let mut note = |series: Identity| {
                    numbers.insert(series.number);
                    Ok::<_, Infallible>(())
                };
                let ask = |connection: &_| search.each(connection, (*host, *range), || true, &mut note);
                let Ok(()) = self.shared.readers.ask(ask)?;
                if !numbers.is_empty() {
                    series.entry(*host).or_default().extend(numbers);
                }
            }
        }
        Ok(Doomed { series, range: *range })
    }

    /// Looks for them in all files.
    fn look(&self, doomed: &Doomed, files: &[Arc<BlockFile>]) -> Result<Found, SettleError> {
        let mut found = Found::default();
        for file in files {
            let Block { id, tier, .. } = file.block;
            for (host, numbers) in &doomed.series {
                self.shared.stop.go_on()?;
                let numbers: Vec<u32> = numbers.iter().copied().collect();
                self.shared.blocks.each(file, (*host, &numbers), |part, series| {
                    for chunk in part.chunks(series) {
                        let stays = |at| !doomed.reaches(tier, (at, at));
                        if stays(chunk.first) || stays(chunk.last) {
                            found.left.insert((*host, series.number));
                        }
                        if doomed.reaches(tier, (chunk.first, chunk.last)) {
                            found.files.insert(id);
                        }
                    }
                })?;
            }
        }
        Ok(found)
    }

    /// What files are written anew: with each one those that lie over it, whose order counts, in one. Coarser ones come
    /// first, so that it is seen of raw ones behind them that coarser windows are to be made of those again: of those that
    /// were waiting for that already, too, and of all that have something of a window that went.
    fn rewritten(&self, doomed: &Doomed, touched: &HashSet<i64>, now: Timestamp) -> Vec<Merge> {
        let kept = Kept::of(&self.shared.blocks, &self.shared.config.retention, now);
        let windows =
            TimeRange { after: doomed.range.after.align_down(HOUR), through: doomed.range.through.align_up(HOUR) };
        let mut merges: Vec<Merge> = Vec::new();
        for tier in Tier::ALL.into_iter().rev() {
            for (range, of) in groups(kept.of_tier(tier)) {
                let waits = |raw: &Block| {
                    let lacking = |coarse: &Merge| kept.lacks(coarse.tier, *raw) || raw.overlaps(windows);
                    merges.iter().any(|coarse| raw.overlaps(coarse.range) && lacking(coarse))
                };
                let is_touched = |block: &Block| touched.contains(&block.id) || (tier == Tier::Raw && waits(block));
                if of.iter().any(is_touched) {
                    let ids = of.iter().map(|block| block.id).collect();
                    merges.push(Merge { tier, range, ids, make: vec![tier] });
                }
            }
        }
        merges
    }
}

/// Files that lie over each other, with what they cover together.
fn groups(mut blocks: Vec<Block>) -> Vec<(TimeRange, Vec<Block>)> {
    blocks.sort_by_key(|block| (block.range.after, std::cmp::Reverse(block.range.through)));
    let mut groups: Vec<(TimeRange, Vec<Block>)> = Vec::new();
    for block in blocks {
        match groups.last_mut().filter(|(range, _)| block.overlaps(*range)) {
            Some((range, of)) => {
                range.through = range.through.max(block.range.through);
                of.push(block);
            }
            None => groups.push((block.range, vec![block])),
        }
    }
    groups
}
