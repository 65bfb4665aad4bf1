//! What range queries answered, in aligned pieces: who asks again an hour's dashboard ten seconds later is told most of it from
//! here. A piece stands as long as nothing has changed in the time that it was made of.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::metric::Labels;
use common::time::TimeRange;
use common::time::Timestamp;

use crate::query::QueryError;
use crate::query::column::ABSENT;
use crate::query::column::Grid;
use crate::query::column::is_present;
use crate::query::column::merge;
use crate::query::source::Source;
use crate::store::Version;

/// Steps of a piece. A piece's first step is a multiple of so many steps since 1970: what is asked later has the same pieces.
pub(super) const STEPS: usize = 32;

/// What a piece takes besides its rows: its question, and where it stands in line.
const PIECE_BYTES: usize = 512;

/// What a text of a label takes besides its letters.
const LABEL_BYTES: usize = 40;

/// Series, each with a value a step.
pub(super) type Rows = Vec<(Labels, Vec<f64>)>;

/// What an engine answered. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How often pieces were there, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caching {
    /// Pieces that were answered from here.
    pub hits: u64,
    /// Pieces that were not.
    pub misses: u64,
    /// Bytes of all of them.
    pub bytes: usize,
}

/// What is asked, but for when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) text: Arc<str>,
    pub(super) step_ms: i64,
    /// By how much the steps are off its multiples.
    pub(super) phase_ms: i64,
    pub(super) lookback_ms: i64,
    pub(super) longest: Option<Duration>,
    /// How far before a step it looks, and how far behind it.
    pub(super) reach_ms: (i64, i64),
}

#[derive(Debug, Default)]
struct State {
    pieces: HashMap<Question, BTreeMap<i64, Piece>>,
    /// Whose turn it is to go, by when they were asked for last.
    turns: BTreeMap<u64, (Question, i64)>,
    turn: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    version: Version,
    rows: Arc<Rows>,
    bytes: usize,
    turn: u64,
}

/// A part of a grid: all steps of one piece, or those of them that are asked for.
struct Part {
    piece: i64,
    steps: Range<usize>,
    /// Where its steps begin in the piece.
    from: usize,
}

impl Cache {
    /// Answers at all steps: from here what is here, by `run` what is not. That says also whether it may be told again.
    pub(super) fn answer(
        &self,
        question: &Question,
        (grid, bytes_max): (Grid, usize),
        source: &dyn Source,
        mut run: impl FnMut(Grid) -> Result<(Rows, bool), QueryError>,
    ) -> Result<(Rows, usize), QueryError> {
        let mut answer = Joined { rows: Vec::new(), places: HashMap::new(), steps: grid.count };
        let parts = question.parts(grid);
        // Before anything is read: what comes meanwhile makes the answer one of before.
        let versions: Vec<Option<Version>> =
            parts.iter().map(|part| source.version(question.time_of(part.piece))).collect();
        let known: Vec<Option<Arc<Rows>>> = parts
            .iter()
            .zip(&versions)
            .map(|(part, version)| self.get(question, part.piece, version.as_ref()?))
            .collect();
        let (mut at, mut told) = (0, 0);
        while let Some(part) = parts.get(at) {
            if let Some(rows) = &known[at] {
                answer.put(rows, part.from, part.steps.clone())?;
                told += part.steps.len();
                at += 1;
                continue;
            }
            let end = known[at..].iter().position(Option::is_some).map_or(parts.len(), |missing| at + missing);
            let steps = part.steps.start..parts[end - 1].steps.end;
            let (rows, lasts) = run(grid.part(steps.clone()))?;
            for (part, version) in parts[at..end].iter().zip(&versions[at..end]) {
                if let Some(version) = version.clone().filter(|_| lasts && part.steps.len() == STEPS) {
                    let from = part.steps.start - steps.start;
                    self.put((question.clone(), part.piece), (version, cut(&rows, from)), bytes_max);
                }
            }
            answer.put(&rows, 0, steps)?;
            at = end;
        }
        Ok((answer.rows, told))
    }

    /// How it fares.
    pub(super) fn caching(&self) -> Caching {
        let Shared { state, hits, misses } = &*self.0;
        let bytes = state.lock().unwrap_or_else(PoisonError::into_inner).bytes;
        Caching { hits: hits.load(Ordering::Relaxed), misses: misses.load(Ordering::Relaxed), bytes }
    }

    /// A piece, if it is here and nothing of what it was made of has changed.
    fn get(&self, question: &Question, piece: i64, version: &Version) -> Option<Arc<Rows>> {
        let mut state = self.lock();
        let State { pieces, turns, turn, .. } = &mut *state;
        let kept = pieces.get_mut(question).and_then(|pieces| pieces.get_mut(&piece));
        let Some(kept) = kept.filter(|kept| kept.version == *version) else {
            self.0.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.0.hits.fetch_add(1, Ordering::Relaxed);
        *turn += 1;
        if let Some(named) = turns.remove(&kept.turn) {
            turns.insert(*turn, named);
        }
        kept.turn = *turn;
        Some(Arc::clone(&kept.rows))
    }

    /// Keeps a piece; those that were not asked for longest make room for it.
    fn put(&self, (question, piece): (Question, i64), (version, rows): (Version, Rows), bytes_max: usize) {
        let bytes = PIECE_BYTES + rows.iter().map(|(labels, values)| row_bytes(labels, values)).sum::<usize>();
        if bytes_max < bytes {
            return;
        }
        let mut state = self.lock();
        state.remove(&question, piece);
        state.turn += 1;
        let turn = state.turn;
        state.bytes += bytes;
        state.turns.insert(turn, (question.clone(), piece));
        state.pieces.entry(question).or_default().insert(piece, Piece { version, rows: Arc::new(rows), bytes, turn });
        while bytes_max < state.bytes {
            let Some((_, (question, piece))) = state.turns.pop_first() else {
                break;
            };
            state.remove(&question, piece);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, question: &Question, piece: i64) {
        let Some(pieces) = self.pieces.get_mut(question) else {
            return;
        };
        if let Some(gone) = pieces.remove(&piece) {
            self.bytes -= gone.bytes;
            self.turns.remove(&gone.turn);
        }
        if pieces.is_empty() {
            self.pieces.remove(question);
        }
    }
}

impl Question {
    /// A grid in pieces.
    fn parts(&self, grid: Grid) -> Vec<Part> {
        let steps = i64::try_from(STEPS).unwrap_or(i64::MAX);
        let first = (grid.start - self.phase_ms).div_euclid(self.step_ms);
        let (mut at, mut parts) = (0, Vec::new());
        while at < grid.count {
            let step = first + i64::try_from(at).unwrap_or(i64::MAX);
            let from = usize::try_from(step.rem_euclid(steps)).unwrap_or(0);
            let end = grid.count.min(at + STEPS - from);
            parts.push(Part { piece: step.div_euclid(steps), steps: at..end, from });
            at = end;
        }
        parts
    }

    /// When something must happen to make a piece another.
    fn time_of(&self, piece: i64) -> TimeRange {
        let steps = i64::try_from(STEPS).unwrap_or(i64::MAX);
        let first = self.phase_ms + piece * steps * self.step_ms;
        let last = first + (steps - 1) * self.step_ms;
        let (back_ms, ahead_ms) = self.reach_ms;
        TimeRange {
            after: Timestamp::from_millis(first.saturating_sub(back_ms)),
            through: Timestamp::from_millis(last.saturating_add(ahead_ms)),
        }
    }
}

/// An answer that is put together.
struct Joined {
    rows: Rows,
    places: HashMap<Labels, usize>,
    steps: usize,
}

impl Joined {
    /// Puts in what rows have from one of their steps on.
    fn put(&mut self, rows: &Rows, from: usize, steps: Range<usize>) -> Result<(), QueryError> {
        for (labels, values) in rows {
            let values = &values[from..from + steps.len()];
            if values.iter().all(|value| !is_present(*value)) {
                continue;
            }
            let place = *self.places.entry(labels.clone()).or_insert_with_key(|labels| {
                self.rows.push((labels.clone(), vec![ABSENT; self.steps]));
                self.rows.len() - 1
            });
            merge(&mut self.rows[place].1[steps.clone()], values)?;
        }
        Ok(())
    }
}

/// The steps of one piece.
fn cut(rows: &Rows, from: usize) -> Rows {
    let cut = rows.iter().map(|(labels, values)| (labels.clone(), values[from..from + STEPS].to_vec()));
    cut.filter(|(_, values)| values.iter().any(|value| is_present(*value))).collect()
}

/// What a row takes, with labels that nobody else has any more.
fn row_bytes(labels: &Labels, values: &[f64]) -> usize {
    let text: usize = labels.iter().map(|(name, value)| 2 * LABEL_BYTES + name.len() + value.len()).sum();
    size_of::<(Labels, Vec<f64>)>() + text + size_of_val(values)
}
