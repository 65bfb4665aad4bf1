//! Coarser windows against the fold of the raw ones, field by field, and what is answered where both are.

use std::collections::BTreeMap;

use super::*;
use crate::store::block::Tier as Stored;
use crate::store::settle::delete::Deletion;
use crate::store::settle::retain::Kept;
use crate::store::union::Union;

const FIELDS: [Field; 7] =
    [Field::Last, Field::Min, Field::Max, Field::Sum, Field::Count, Field::Increase, Field::Peak];

/// Its fields at a stamp; a mark in all of them. As bits, so that what is no number is like itself.
pub(super) type Fields = BTreeMap<Timestamp, [u64; 7]>;

/// What some tiers have, by labels.
pub(super) fn read(store: &Store, tiers: Vec<(Stored, TimeRange)>) -> BTreeMap<String, Fields> {
    let Shared { head, blocks, readers, .. } = &*store.shared;
    let union = Union { head, blocks, readers, tiers, kind: None, samples_max: usize::MAX };
    let mut read = BTreeMap::new();
    let question = Question { matchers: &[], range: ALL, fields: &FIELDS, latest: false, grains: Grains::default() };
    let mut give = |selected: Selected<'_>| {
        let Samples { stamps, columns } = selected.samples;
        let fields = |at: usize| columns.iter().map(|column| column[at].to_bits()).collect::<Vec<_>>();
        let samples = (0..).zip(stamps).map(|(at, stamp)| (*stamp, fields(at).try_into().unwrap())).collect();
        read.insert(selected.labels.whole().to_string(), samples);
        Ok::<_, SelectError>(())
    };
    union.select(question, &mut give).unwrap();
    read
}

/// What the raw windows of one series make, by another way than the store's.
pub(super) fn folded((labels, raw): (&str, &Fields), resolution: Duration) -> Fields {
    let is_counter = labels.contains("_total");
    let mut stretches: BTreeMap<Timestamp, Vec<(Timestamp, [u64; 7])>> = BTreeMap::new();
    for (stamp, fields) in raw {
        stretches.entry(stamp.align_up(resolution)).or_default().push((*stamp, *fields));
    }
    let mut folded = Fields::new();
    for (end, windows) in stretches {
        let pieces: Vec<_> = windows.split_inclusive(|(_, fields)| fields[0] == STALE).collect();
        for piece in pieces {
            let (living, mark) = match piece.split_last().unwrap() {
                (mark, living) if mark.1[0] == STALE => (living, Some(mark)),
                _ => (piece, None),
            };
            folded.extend(mark.copied());
            let Some((last, _)) = living.last() else { continue };
            let column = |field: usize| living.iter().map(move |(_, fields)| f64::from_bits(fields[field]));
            let latest = column(0).next_back().unwrap();
            let or_last = |value: f64| if is_counter { latest } else { value };
            let fields = [
                latest,
                or_last(column(1).fold(f64::INFINITY, f64::min)),
                or_last(column(2).fold(f64::NEG_INFINITY, f64::max)),
                or_last(column(3).sum()),
                column(4).sum(),
                if is_counter { column(5).sum() } else { latest },
                f64::NAN,
            ];
            folded.insert(if mark.is_some() { *last } else { end }, fields.map(f64::to_bits));
        }
    }
    folded
}

/// All days that are over and merged have their coarser windows, and these are the raw ones' fold.
pub(super) fn assert_folded(store: &Store) {
    let made: Vec<_> = store.shared.blocks.all().iter().map(|file| file.block).collect();
    let raw = read(store, vec![(Stored::Raw, ALL)]);
    for tier in Stored::COARSE {
        let expect = raw.iter().map(|(labels, samples)| {
            let is_made = |stamp: Timestamp| made.iter().any(|block| block.tier == tier && block.range.contains(stamp));
            let made = samples.iter().filter(|(stamp, _)| is_made(**stamp)).map(|(stamp, fields)| (*stamp, *fields));
            (labels.clone(), folded((labels, &made.collect()), tier.resolution().unwrap()))
        });
        let expect: BTreeMap<_, _> = expect.filter(|(_, samples)| !samples.is_empty()).collect();
        assert_eq!(read(store, vec![(tier, ALL)]), expect, "{tier:?}");
    }
}

/// Where raw windows are kept for so long only, coarser ones stand in front of them, and nothing is missing or twice.
pub(super) fn assert_pieced(store: &Store, raw: Duration, now: Timestamp) {
    let retention = Retention { raw, five_minutes: raw * 2, ..Retention::default() };
    let tiers = Kept::of(&store.shared.blocks, &retention, now).tiers(ALL);
    assert!(tiers.windows(2).all(|pair| pair[0].1.through == pair[1].1.after), "{tiers:?}");
    assert_eq!(tiers.last().map(|(tier, range)| (*tier, range.through)), Some((Stored::Raw, ALL.through)));
    let expect = pieced(store, &retention, now);
    assert_eq!(read(store, tiers), expect);
}

/// What is to be answered where windows are kept for so long, of all raw ones.
pub(super) fn pieced(store: &Store, retention: &Retention, now: Timestamp) -> BTreeMap<String, Fields> {
    let mut expect: BTreeMap<String, Fields> = BTreeMap::new();
    let tiers = Kept::of(&store.shared.blocks, retention, now).tiers(ALL);
    for (labels, samples) in read(store, vec![(Stored::Raw, ALL)]) {
        for (tier, range) in &tiers {
            let samples =
                tier.resolution().map_or_else(|| samples.clone(), |resolution| folded((&labels, &samples), resolution));
            let inside = samples.into_iter().filter(|(stamp, _)| range.contains(*stamp));
            expect.entry(labels.clone()).or_default().extend(inside);
        }
    }
    expect.retain(|_, samples| !samples.is_empty());
    expect
}

/// What is answered.
pub(super) fn answered(store: &Store) -> BTreeMap<String, Fields> {
    read(store, store.tiers(ALL, Duration::ZERO))
}

/// Deletes a range of `node_load1` where coarser windows answer: of those, all that have something of it go. Where raw ones
/// are still kept behind them, they are made again of what these have besides.
pub(super) fn delete(
    store: &Store,
    (settler, now): (&mut Settler, Timestamp),
    range: TimeRange,
    mut expect: BTreeMap<String, Fields>,
) -> BTreeMap<String, Fields> {
    let deletion = Deletion { selectors: vec![vec![equal(NAME, "node_load1")]], range };
    let tiers = Kept::of(&store.shared.blocks, &store.shared.config.retention, now).tiers(ALL);
    let mut raw = read(store, vec![(Stored::Raw, ALL)]);
    let files = store.shared.blocks.all();
    settler.delete(&deletion, now).unwrap();
    let goes = |stamp: Timestamp, fields: &[u64; 7]| {
        let tier = tiers.iter().find(|(_, range)| range.contains(stamp)).map(|(tier, _)| *tier);
        match tier.and_then(Stored::resolution).filter(|_| fields[0] != STALE) {
            Some(length) => range.after < stamp && stamp.align_up(length).before(length) < range.through,
            None => range.contains(stamp),
        }
    };
    let is_raw =
        |stamp: Timestamp| files.iter().any(|file| file.block.tier == Stored::Raw && file.block.range.contains(stamp));
    for (labels, fields) in expect.iter_mut().filter(|(labels, _)| labels.starts_with("node_load1")) {
        fields.retain(|stamp, fields| !goes(*stamp, fields));
        let mut left = raw.remove(labels).unwrap_or_default();
        left.retain(|stamp, _| !range.contains(*stamp));
        for (length, part) in tiers.iter().filter_map(|(tier, part)| Some((tier.resolution()?, part))) {
            let again = folded((labels, &left), length).into_iter();
            fields.extend(again.filter(|(stamp, _)| part.contains(*stamp) && is_raw(*stamp)));
        }
    }
    expect.retain(|_, fields| !fields.is_empty());
    expect
}
