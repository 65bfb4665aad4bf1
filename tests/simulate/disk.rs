//! The agent's disk: what is written lasts, what is being written may be torn, and blocks of it may be missing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use agent::spool::shelf::Job;
use agent::spool::shelf::Outcome;
use common::time::Timestamp;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message::Message;

use crate::random::Random;
use crate::world::Sabotage;

/// What a power loss leaves or takes as a whole.
const BLOCK: usize = 64;

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Killed: what it had written is there.
    Process,
    /// The power went: blocks of the last write may be missing, a removed file may be there again.
    Power,
}

#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<u64, Vec<u8>>,
    removed: BTreeMap<u64, Vec<u8>>,
    /// Windows in each file.
    windows: BTreeMap<u64, BTreeSet<Timestamp>>,
    /// Files that were damaged: what is appended behind that is lost with them.
    damaged: BTreeSet<u64>,
    under_way: Option<Job>,
    pub(crate) refuses: bool,
    pub(crate) written: u64,
}

impl Disk {
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    pub(crate) fn begin(&mut self, job: Job) {
        self.under_way = Some(job);
    }

    /// Windows that a later run finds.
    pub(crate) fn windows(&self) -> BTreeSet<Timestamp> {
        self.windows.values().flatten().copied().collect()
    }

    /// Windows that may be lost, because the files that they are in were damaged.
    pub(crate) fn damaged(&self) -> BTreeSet<Timestamp> {
        let windows = self.damaged.iter().filter_map(|number| self.windows.get(number));
        windows.flatten().copied().collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }

    /// Ends the job that is under way.
    pub(crate) fn finish(&mut self, random: &mut Random, sabotage: Sabotage) -> Option<Outcome> {
        Some(match self.under_way.take()? {
            Job::Append { number, begin, bytes } => self.append((number, begin), &bytes, random, sabotage),
            Job::Read { .. } if self.refuses && random.chance(30) => Err("input/output error".to_owned()),
            Job::Read { .. } if sabotage == Sabotage::NeverRead => Err("input/output error".to_owned()),
            Job::Read { number } => self.files.get(&number).cloned().ok_or_else(|| "no such file".to_owned()),
            Job::Remove { .. } if sabotage == Sabotage::NeverRemove => Ok(Vec::new()),
            Job::Remove { number } => {
                self.windows.remove(&number);
                let file = self.files.remove(&number);
                self.removed.extend(file.map(|file| (number, file)));
                Ok(Vec::new())
            }
        })
    }

    fn append(
        &mut self,
        (number, begin): (u64, bool),
        bytes: &[u8],
        random: &mut Random,
        sabotage: Sabotage,
    ) -> Outcome {
        if begin == self.files.contains_key(&number) {
            return Err("the file is there, or is not there".to_owned());
        }
        if self.refuses {
            // The writer cuts off what it could write, as far as it can.
            let part = if random.chance(30) { random.below(bytes.len() as u64) } else { 0 };
            self.put(number, &bytes[..usize::try_from(part).unwrap()]);
            return Err("no space left on device".to_owned());
        }
        self.written += 1;
        self.windows.entry(number).or_default().extend(windows(bytes));
        if sabotage != Sabotage::WriteNothing {
            self.put(number, bytes);
        }
        Ok(Vec::new())
    }

    fn put(&mut self, number: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.files.entry(number).or_default().extend(bytes);
        }
    }

    /// What a later run finds.
    pub(crate) fn crash(&mut self, crash: Crash, random: &mut Random) {
        match self.under_way.take() {
            Some(Job::Append { number, bytes, .. }) => {
                let part = usize::try_from(random.below(bytes.len() as u64 + 1)).unwrap();
                let mut torn = bytes[..part].to_vec();
                if crash == Crash::Power {
                    torn = bytes;
                    torn.chunks_mut(BLOCK).for_each(|block| {
                        if random.chance(30) {
                            block.fill(0);
                        }
                    });
                }
                self.put(number, &torn);
            }
            Some(Job::Remove { number }) if random.chance(50) => {
                self.files.remove(&number);
                self.windows.remove(&number);
            }
            Some(Job::Remove { .. } | Job::Read { .. }) | None => {}
        }
        if crash == Crash::Power && random.chance(50) {
            self.files.append(&mut self.removed);
        }
        self.removed.clear();
    }

    /// Damages a file.
    pub(crate) fn corrupt(&mut self, random: &mut Random) {
        let at = usize::try_from(random.below(self.files.len().max(1) as u64)).unwrap();
        let Some((number, file)) = self.files.iter_mut().nth(at) else { return };
        let at = usize::try_from(random.below(file.len() as u64)).unwrap();
        file[at] ^= 1 << random.below(8);
        self.damaged.insert(*number);
    }
}

/// The windows in what is written: records of checksum, length, and a frame.
fn windows(mut bytes: &[u8]) -> Vec<Timestamp> {
    let mut windows = Vec::new();
    bytes = bytes.strip_prefix(b"LWSPOOL\x01").unwrap_or(bytes);
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let (frame, rest) = rest.split_at(length as usize);
        let mut reader = Reader::new(FRAME_BYTES_MAX);
        reader.push(frame);
        if let Ok(Some(Message::Batch(batch))) = reader.next() {
            windows.push(batch.stamp);
        }
        bytes = rest;
    }
    windows
}
