//! Through whole files from their beginnings, a part of each at a time: how files are merged in little memory.

use std::collections::VecDeque;

use common::time::Timestamp;

use crate::store::block::Block;
use crate::store::block::HOUR;
use crate::store::block::file::Beside;
use crate::store::block::file::FileError;
use crate::store::block::file::Key;
use crate::store::block::file::Row;
use crate::store::block::file::Table;
use crate::store::block::part::Part;
use crate::store::block::set::BlockFile;
use crate::store::block::set::Blocks;
use crate::store::chunk::Chunk;
use crate::store::chunk::Shape;

/// One file, and how far it was read. What is damaged is passed over.
#[derive(Debug)]
pub(in crate::store) struct Walk<'a, T> {
    blocks: &'a Blocks,
    file: &'a BlockFile,
    table: Table,
    /// What a row holds.
    split: Split<T>,
    /// From when hours are counted.
    from: Timestamp,
    /// The last row that was read.
    at: Option<Key>,
    waiting: VecDeque<(Key, T)>,
}

/// A series of a file.
pub(in crate::store) type OfSeries = (Shape, Vec<Chunk>);

impl<'a> Walk<'a, OfSeries> {
    /// Through the series, by host and number.
    pub(in crate::store) fn series(blocks: &'a Blocks, file: &'a BlockFile) -> Self {
        Self::begin(blocks, file, (Table::Part, series, file.block.range.after))
    }
}

impl<'a> Walk<'a, Vec<u8>> {
    /// Through what lies beside them, by host and hour since `from`, which is not after the file.
    pub(in crate::store) fn beside(blocks: &'a Blocks, file: &'a BlockFile, (what, from): (Beside, Timestamp)) -> Self {
        Self::begin(blocks, file, (Table::Beside(what), hour, from))
    }
}

type Split<T> = fn(&Block, Timestamp, Row) -> Vec<(Key, T)>;

impl<'a, T> Walk<'a, T> {
    const fn begin(
        blocks: &'a Blocks,
        file: &'a BlockFile,
        (table, split, from): (Table, Split<T>, Timestamp),
    ) -> Self {
        Self { blocks, file, table, split, from, at: None, waiting: VecDeque::new() }
    }

    /// The key of what comes next, if anything does.
    pub(in crate::store) fn peek(&mut self) -> Result<Option<Key>, FileError> {
        while self.waiting.is_empty() {
            let damaged = |error| self.blocks.note_damage(self.file, &error);
            let Some(row) = self.blocks.lend_rest(self.file, |file| file.next_row(self.table, self.at, damaged))?
            else {
                return Ok(None);
            };
            self.at = Some(row.key);
            self.waiting.extend((self.split)(&self.file.block, self.from, row));
        }
        Ok(self.waiting.front().map(|(key, _)| *key))
    }
}

/// Gives what several files have, key by key: all that they have under one together, each with its file.
pub(in crate::store) fn together<T, E: From<FileError>>(
    mut walks: Vec<Walk<'_, T>>,
    mut give: impl FnMut(Key, Vec<(Block, T)>) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let mut next: Option<Key> = None;
        for walk in &mut walks {
            next = walk.peek()?.into_iter().chain(next).min();
        }
        let Some(next) = next else {
            return Ok(());
        };
        let mut found = Vec::new();
        for walk in &mut walks {
            let is_next = walk.waiting.front().is_some_and(|(key, _)| *key == next);
            found.extend(if is_next { walk.waiting.pop_front().map(|(_, one)| (walk.file.block, one)) } else { None });
        }
        give(next, found)?;
    }
}

fn series(block: &Block, _: Timestamp, Row { key: (host, first), data }: Row) -> Vec<(Key, OfSeries)> {
    let part = Part::read((first, block.range.after), &data);
    let kept = part.series().iter().map(|series| {
        let chunks = part.chunks(*series).map(|chunk| chunk.to_chunk()).collect();
        ((host, series.number), (series.shape, chunks))
    });
    kept.collect()
}

fn hour(block: &Block, from: Timestamp, Row { key: (host, hour), data }: Row) -> Vec<(Key, Vec<u8>)> {
    let before = block.range.after.since(from).as_secs() / HOUR.as_secs();
    vec![((host, hour.saturating_add(u32::try_from(before).unwrap_or(u32::MAX))), data)]
}
