//! Aggregations over series: `sum by (instance) (…)`, `topk(3, …)`.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;

use common::metric::Labels;
use common::metric::NAME;

use crate::query::QueryError;
use crate::query::column::ABSENT;
use crate::query::column::Grid;
use crate::query::column::Series;
use crate::query::column::is_present;
use crate::query::eval::Evaluator;
use crate::query::number::Mean;
use crate::query::number::Sum;
use crate::query::number::Variance;
use crate::query::number::ascending;
use crate::query::number::quantile;
use crate::query::number::shown;
use crate::query::place::Place;
use crate::query::plan::Aggregate;
use crate::query::plan::AggregateOp;
use crate::query::plan::Grouping;
use crate::query::plan::Node;
use crate::store::select::Levels;

/// Evaluates an aggregation.
pub(super) fn aggregate(
    evaluator: &Evaluator<'_>,
    aggregate: &Aggregate,
    grid: Grid,
) -> Result<Vec<Series>, QueryError> {
    let fold = Fold { evaluator, aggregate, grid };
    // The others see all values of a group at once, or the series that they come from.
    let groups = || Ok::<_, QueryError>(Groups::of(evaluator.vector(&aggregate.of, grid)?, &aggregate.grouping));
    let parameter = |name: &str| match &aggregate.parameter {
        Some(node) => evaluator.scalar(node, grid),
        None => Err(QueryError::bad(format!("{name} needs a parameter"))),
    };
    match aggregate.op {
        AggregateOp::Sum => fold.run(Sum::default, Sum::add, Sum::total),
        AggregateOp::Avg => fold.run(Mean::default, Mean::add, Mean::mean),
        AggregateOp::Min => fold.run(|| f64::NAN, |least, value| *least = least.min(value), |least| least),
        AggregateOp::Max => fold.run(|| f64::NAN, |most, value| *most = most.max(value), |most| most),
        AggregateOp::Count => fold.run(|| 0.0, |count, _| *count += 1.0, |count| count),
        AggregateOp::Group => fold.run(|| 1.0, |_, _| {}, |one| one),
        AggregateOp::Stdvar => fold.run(Variance::default, Variance::add, Variance::variance),
        AggregateOp::Stddev => fold.run(Variance::default, Variance::add, |variance| variance.variance().sqrt()),
        AggregateOp::Quantile => {
            let shares = parameter("quantile")?;
            warn_of_shares(evaluator, &shares, aggregate.place);
            Ok(groups()?.quantile(grid, &shares))
        }
        AggregateOp::CountValues => match &aggregate.parameter {
            Some(Node::Text(label)) => groups()?.count_values(grid, label, &aggregate.grouping),
            Some(_) | None => Err(QueryError::bad("count_values needs the name of a label")),
        },
        AggregateOp::Topk => fold.pick(&parameter("topk")?, |left, right| ascending(right, left)),
        AggregateOp::Bottomk => fold.pick(&parameter("bottomk")?, ascending),
        AggregateOp::Limitk => fold.pick(&parameter("limitk")?, |_, _| Ordering::Equal),
        AggregateOp::LimitRatio => {
            let ratios = parameter("limit_ratio")?;
            warn_of_ratios(evaluator, &ratios, aggregate.place)?;
            Ok(groups()?.sample(&ratios))
        }
    }
}

/// An aggregation that takes one series after the other and holds a state for each group and step.
struct Fold<'a> {
    evaluator: &'a Evaluator<'a>,
    aggregate: &'a Aggregate,
    grid: Grid,
}

impl Fold<'_> {
    fn run<S: Clone>(
        &self,
        start: impl Fn() -> S,
        add: impl Fn(&mut S, f64),
        end: impl Fn(S) -> f64,
    ) -> Result<Vec<Series>, QueryError> {
        let mut places = Places::default();
        let mut groups: Vec<(Labels, bool, Vec<Option<S>>)> = Vec::new();
        self.evaluator.stream(&self.aggregate.of, self.grid, &mut |series| {
            let place = places.of(series.labels, &self.aggregate.grouping);
            if place == groups.len() {
                self.evaluator.budget.hold(self.grid.count)?;
                let labels = group_labels(&series.labels.whole(), &self.aggregate.grouping);
                groups.push((labels, false, vec![None; self.grid.count]));
            }
            let (_, drops_name, states) = &mut groups[place];
            *drops_name |= series.drops_name;
            let present = series.values.iter().zip(states).filter(|(value, _)| is_present(**value));
            present.for_each(|(value, state)| add(state.get_or_insert_with(&start), *value));
            Ok(())
        })?;
        let ended = groups.into_iter().map(|(labels, drops_name, states)| {
            let values = states.into_iter().map(|state| state.map_or(ABSENT, &end)).collect();
            Series { labels, drops_name, values }
        });
        Ok(ended.collect())
    }

    /// Keeps the first k series of each group in an order of their values, at each step. NaN comes last.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    fn pick(&self, counts: &[f64], order: impl Fn(f64, f64) -> Ordering) -> Result<Vec<Series>, QueryError> {
        if let Some(nan) = counts.iter().find(|count| count.is_nan() || count.is_infinite()) {
            return Err(QueryError::execution(format!("scalar value {nan} overflows int64")));
        }
        let order = |left: f64, right: f64| left.is_nan().cmp(&right.is_nan()).then_with(|| order(left, right));
        let counts: Vec<usize> = counts.iter().map(|count| *count as usize).collect();
        let mut places = Places::default();
        let mut groups: Vec<Picked> = Vec::new();
        self.evaluator.stream(&self.aggregate.of, self.grid, &mut |series| {
            let place = places.of(series.labels, &self.aggregate.grouping);
            if place == groups.len() {
                self.evaluator.budget.hold(self.grid.count)?;
                groups.push(Picked { steps: vec![Best::default(); self.grid.count], ..Picked::default() });
            }
            let Picked { members, steps, .. } = &mut groups[place];
            let mut is_picked = false;
            for ((best, count), value) in steps.iter_mut().zip(&counts).zip(series.values) {
                is_picked |= is_present(*value) && best.offer((*value, members.len()), *count, &order);
            }
            if is_picked {
                let series = Series::absent(series.labels.whole(), series.drops_name, self.grid);
                self.evaluator.budget.hold(groups[place].push(series))?;
            }
            Ok(())
        })?;
        let mut answer = Vec::new();
        for Picked { mut members, mut steps, .. } in groups {
            for (step, (best, count)) in steps.iter_mut().zip(&counts).enumerate() {
                best.settle(*count, &order);
                best.ranked.iter().for_each(|(value, at)| members[*at].values[step] = *value);
            }
            // What an instant query answers is in the order of the ranks.
            match &steps[..] {
                [best] => answer.extend(best.ranked.iter().map(|(_, at)| members[*at].clone())),
                _ => answer.extend(members.into_iter().filter(|series| !series.is_absent())),
            }
        }
        Ok(answer)
    }
}

/// Which group a series falls into, groups in the order of their first series.
#[derive(Default)]
struct Places {
    known: HashMap<Vec<u8>, usize>,
    key: Vec<u8>,
    /// The key of the series before, and where it led.
    before: (Vec<u8>, usize),
}

impl Places {
    fn of(&mut self, labels: Levels<'_>, grouping: &Grouping) -> usize {
        group_key(labels, grouping, &mut self.key);
        // Neighbours mostly are of one group.
        if !self.known.is_empty() && self.key == self.before.0 {
            return self.before.1;
        }
        let new = self.known.len();
        let place = match self.known.get(&self.key) {
            Some(place) => *place,
            None => *self.known.entry(self.key.clone()).or_insert(new),
        };
        self.before.0.clone_from(&self.key);
        self.before.1 = place;
        place
    }
}

/// The first of a group.
#[derive(Default)]
struct Picked {
    /// Those that are among the first at a step, and some that were.
    members: Vec<Series>,
    steps: Vec<Best>,
    /// How many there were at most.
    most: usize,
    /// How many there are when those go that were pushed out.
    room: usize,
}

impl Picked {
    /// Adds one that is among the first. Answers how many samples are held more than before.
    fn push(&mut self, series: Series) -> usize {
        const ROOM_MIN: usize = 16;
        self.members.push(series);
        if self.room < self.members.len() {
            self.drop_pushed_out();
            self.room = ROOM_MIN.max(2 * self.members.len());
        }
        let more = self.members.len().saturating_sub(self.most);
        self.most += more;
        more * self.steps.len()
    }

    fn drop_pushed_out(&mut self) {
        let mut is_in = vec![false; self.members.len()];
        self.steps.iter().flat_map(|best| &best.ranked).for_each(|(_, at)| is_in[*at] = true);
        let mut kept = 0;
        let count = |is_in: &bool| {
            let place = kept;
            kept += usize::from(*is_in);
            place
        };
        let places: Vec<usize> = is_in.iter().map(count).collect();
        let mut is_in = is_in.into_iter();
        self.members.retain(|_| is_in.next().unwrap_or_default());
        self.steps.iter_mut().flat_map(|best| &mut best.ranked).for_each(|(_, at)| *at = places[*at]);
    }
}

/// The first values in an order, each with the place of its series; and some that came since they were told apart.
#[derive(Clone, Default)]
struct Best {
    ranked: Vec<(f64, usize)>,
    /// What is not before this one is not among them.
    bar: Option<f64>,
}

impl Best {
    /// Whether a value may be among the first `count`. Of equal ones those are that came first.
    fn offer(&mut self, value: (f64, usize), count: usize, order: &impl Fn(f64, f64) -> Ordering) -> bool {
        if count == 0 || self.bar.is_some_and(|bar| order(value.0, bar).is_ge()) {
            return false;
        }
        self.ranked.push(value);
        if count.saturating_mul(2) <= self.ranked.len() {
            self.settle(count, order);
        }
        true
    }

    fn settle(&mut self, count: usize, order: &impl Fn(f64, f64) -> Ordering) {
        self.ranked.sort_by(|(left, _), (right, _)| order(*left, *right));
        self.ranked.truncate(count);
        self.bar = self.ranked.last().filter(|_| self.ranked.len() == count).map(|(value, _)| *value);
    }
}

/// Says which of the shares is no share, each kind of mistake once.
fn warn_of_shares(evaluator: &Evaluator<'_>, shares: &[f64], place: Option<Place>) {
    let worst = [
        shares.iter().copied().find(|share| share.is_nan()),
        shares.iter().copied().reduce(f64::max).filter(|most| 1.0 < *most),
        shares.iter().copied().reduce(f64::min).filter(|least| *least < 0.0),
    ];
    worst.into_iter().flatten().for_each(|share| evaluator.warn_of_share(share, place));
}

fn warn_of_ratios(evaluator: &Evaluator<'_>, ratios: &[f64], place: Option<Place>) -> Result<(), QueryError> {
    if let Some(nan) = ratios.iter().find(|ratio| ratio.is_nan()) {
        return Err(QueryError::execution(format!("Ratio value {nan} is NaN")));
    }
    let most = ratios.iter().copied().reduce(f64::max).filter(|most| 1.0 < *most);
    let least = ratios.iter().copied().reduce(f64::min).filter(|least| *least < -1.0);
    for ratio in [most, least].into_iter().flatten() {
        let (ratio, cap) = (shown(ratio), ratio.signum());
        evaluator.warn(&format!("ratio value should be between -1 and 1, got {ratio}, capping to {cap}"), place);
    }
    Ok(())
}

/// What all series of a group have in common and no other series has, without making its labels: their values, one behind
/// the other.
fn group_key(labels: Levels<'_>, grouping: &Grouping, key: &mut Vec<u8>) {
    /// Ends a text; no text has it.
    const END: u8 = 0xff;
    key.clear();
    let mut put = |text: &str| {
        key.extend_from_slice(text.as_bytes());
        key.push(END);
    };
    match grouping {
        Grouping::By(names) => names.iter().for_each(|name| put(labels.get(name))),
        Grouping::Without(_) => group_labels(&labels.whole(), grouping).iter().for_each(|(name, value)| {
            put(name);
            put(value);
        }),
    }
}

/// The labels that a group keeps.
pub(super) fn group_labels(labels: &Labels, grouping: &Grouping) -> Labels {
    let mut kept = labels.clone();
    match grouping {
        Grouping::By(names) => kept.retain(|name| names.iter().any(|wanted| wanted == name)),
        Grouping::Without(names) => {
            kept.retain(|name| name != NAME && !names.iter().any(|unwanted| unwanted == name));
        }
    }
    kept
}

/// Series by the group they fall into, groups in the order of their first series.
struct Groups(Vec<(Labels, Vec<Series>)>);

impl Groups {
    fn of(series: Vec<Series>, grouping: &Grouping) -> Self {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut groups: Vec<(Labels, Vec<Series>)> = Vec::new();
        for series in series {
            let labels = group_labels(&series.labels, grouping);
            let place = *places.entry(labels).or_insert_with_key(|labels| {
                groups.push((labels.clone(), Vec::new()));
                groups.len() - 1
            });
            groups[place].1.push(series);
        }
        Self(groups)
    }

    fn quantile(self, grid: Grid, shares: &[f64]) -> Vec<Series> {
        let mut values = Vec::new();
        let of_group = |(labels, members): (Labels, Vec<Series>)| {
            let mut series = Series::absent(labels, members.iter().any(|series| series.drops_name), grid);
            for (step, share) in shares.iter().enumerate() {
                values.clear();
                values.extend(members.iter().map(|series| series.values[step]).filter(|value| is_present(*value)));
                if !values.is_empty() {
                    series.values[step] = quantile(*share, &mut values);
                }
            }
            series
        };
        self.0.into_iter().map(of_group).collect()
    }

    /// A series for each value that a group has, with the value as a label.
    fn count_values(self, grid: Grid, label: &str, grouping: &Grouping) -> Result<Vec<Series>, QueryError> {
        if label.is_empty() {
            return Err(QueryError::execution(format!("invalid label name {label:?}")));
        }
        let mut answer: Vec<Series> = Vec::new();
        let mut places: HashMap<Labels, usize> = HashMap::new();
        for (labels, members) in self.0 {
            // The label may be one that the group is made by: then the value replaces it.
            let drops_name = members.iter().any(|series| series.drops_name) && matches!(grouping, Grouping::By(_));
            for (step, value) in members.iter().flat_map(|series| series.values.iter().enumerate()) {
                if is_present(*value) {
                    let labels = labels.clone().with(label, shown(*value));
                    let place = *places.entry(labels).or_insert_with_key(|labels| {
                        answer.push(Series::absent(labels.clone(), drops_name && label != NAME, grid));
                        answer.len() - 1
                    });
                    let count = &mut answer[place].values[step];
                    *count = if is_present(*count) { *count + 1.0 } else { 1.0 };
                }
            }
        }
        Ok(answer)
    }

    /// Keeps a share of the series, the same ones each time; a negative ratio keeps those that its complement does not.
    #[expect(clippy::cast_precision_loss, reason = "a place in a line needs no more digits")]
    fn sample(self, ratios: &[f64]) -> Vec<Series> {
        let mut kept: Vec<Series> = self.0.into_iter().flat_map(|(_, members)| members).collect();
        for series in &mut kept {
            let mut hasher = DefaultHasher::new();
            series.labels.hash(&mut hasher);
            let place = hasher.finish() as f64 / u64::MAX as f64;
            for (value, ratio) in series.values.iter_mut().zip(ratios) {
                let keeps = if *ratio < 0.0 { 1.0 + ratio <= place } else { place < *ratio };
                if !keeps {
                    *value = ABSENT;
                }
            }
        }
        kept.retain(|series| !series.is_absent());
        kept
    }
}
