//! The functions of the language: one row each.

use crate::query::QueryError;
use crate::query::budget::Budget;
use crate::query::column::ABSENT;
use crate::query::column::Answer;
use crate::query::column::Grid;
use crate::query::date;
use crate::query::eval::Evaluator;
use crate::query::histogram;
use crate::query::info;
use crate::query::label;
use crate::query::over;
use crate::query::over::Windows;
use crate::query::plan::Arguments;
use crate::query::slide;
use crate::query::slide::Slide;
use crate::query::whole;
use crate::store::select::Field;

/// One function.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) how: How,
}

/// What a function makes of its arguments. The parser has checked their number and their types.
#[derive(Debug)]
pub(super) enum How {
    /// Of each value by itself, and the scalars beside it. The value is that of `time()` where no vector is given.
    Each(fn(f64, &[f64]) -> f64),
    /// Of the windows in a range.
    Over(Over),
    /// Of its arguments as they stand.
    Whole(fn(&Evaluator<'_>, &Arguments, Grid) -> Result<Answer, QueryError>),
}

/// A function of the windows in a range.
#[derive(Debug)]
pub(super) struct Over {
    /// The fields it reads.
    pub(super) fields: &'static [Field],
    /// Whether series keep their metric's name.
    pub(super) keeps_name: bool,
    /// What may have to be said of its arguments.
    pub(super) remark: Remark,
    /// Of which series longer windows say the same.
    pub(super) folds: Folds,
    pub(super) apply: Apply,
}

/// Of which series windows that were made of others say what those say, where a range holds whole ones of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folds {
    /// Of none.
    None,
    /// Of gauges.
    Gauges,
    /// Of counters.
    Counters,
    /// Of all.
    All,
}

impl Over {
    /// Whether it looks at the growth inside windows, where those were made of others.
    pub(super) fn grows(&self) -> bool {
        self.fields == GROWTH
    }

    /// The fields that it reads of windows as they were written, or of all.
    pub(super) fn fields(&self, coarse: bool) -> &'static [Field] {
        if self.grows() && !coarse { LAST } else { self.fields }
    }
}

/// How a function of windows comes to its values.
#[derive(Debug)]
pub(super) enum Apply {
    /// At each step, from the windows of its range and the scalars beside it.
    Step(fn(&Windows<'_>, &[f64]) -> Option<f64>),
    /// At all steps as the range slides over a series, from that and the scalars at each step.
    Slide(fn(Slide<'_>, &[Vec<f64>]) -> Vec<f64>),
    /// At all steps, from what grew: a step may cost as much as was reset in its range.
    Grow(fn(Slide<'_>, &Budget<'_>) -> Result<Vec<f64>, QueryError>),
}

/// What may have to be said of the arguments of a function of windows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Remark {
    /// Nothing.
    None,
    /// That they do not look like counters.
    Counter,
    /// That the first scalar is no share of a whole.
    Share,
    /// That the scalars are not factors between 0 and 1: an error.
    Factors,
}

/// Functions that PromQL does not have. Each takes one range vector.
pub(super) const OURS: &[&str] = &["peak_rate"];

/// Finds a function by its name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

const LAST: &[Field] = &[Field::Last];

/// Of windows as they were written the values say what grew; of those that were made of others, they themselves.
const GROWTH: &[Field] = &[Field::Last, Field::Increase];

/// All functions, by name.
static FUNCTIONS: &[Function] = &[
    each("abs", |value, _| value.abs()),
    whole("absent", whole::absent),
    whole("absent_over_time", whole::absent_over_time),
    each("acos", |value, _| value.acos()),
    each("acosh", |value, _| value.acosh()),
    each("asin", |value, _| value.asin()),
    each("asinh", |value, _| value.asinh()),
    each("atan", |value, _| value.atan()),
    each("atanh", |value, _| value.atanh()),
    slid("avg_over_time", &[Field::Sum, Field::Count], Remark::None, slide::avg).folding(Folds::Gauges),
    each("ceil", |value, _| value.ceil()),
    slid("changes", LAST, Remark::None, slide::changes),
    each("clamp", |value, limits| clamp(value, limits[0], limits[1])),
    each("clamp_max", |value, limits| lower(value, limits[0])),
    each("clamp_min", |value, limits| higher(value, limits[0])),
    each("cos", |value, _| value.cos()),
    each("cosh", |value, _| value.cosh()),
    slid("count_over_time", &[Field::Count], Remark::None, slide::sum).folding(Folds::All),
    each("day_of_month", |value, _| date::day_of_month(value)),
    each("day_of_week", |value, _| date::day_of_week(value)),
    each("day_of_year", |value, _| date::day_of_year(value)),
    each("days_in_month", |value, _| date::days_in_month(value)),
    each("deg", |value, _| value * 180.0 / std::f64::consts::PI),
    growing("delta", Remark::None, over::delta),
    over("deriv", LAST, over::deriv),
    remarking("double_exponential_smoothing", (LAST, Remark::Factors), over::double_exponential_smoothing),
    each("exp", |value, _| value.exp()),
    each("floor", |value, _| value.floor()),
    whole("histogram_avg", histogram::none),
    whole("histogram_count", histogram::none),
    whole("histogram_fraction", histogram::fraction),
    whole("histogram_quantile", histogram::quantile),
    whole("histogram_stddev", histogram::none),
    whole("histogram_stdvar", histogram::none),
    whole("histogram_sum", histogram::none),
    each("hour", |value, _| date::hour(value)),
    over("idelta", GROWTH, over::idelta),
    growing("increase", Remark::Counter, over::increase).folding(Folds::Counters),
    whole("info", info::info),
    over("irate", GROWTH, over::irate),
    whole("label_join", label::join),
    whole("label_replace", label::replace),
    over_named("last_over_time", LAST, over::last).folding(Folds::All),
    each("ln", |value, _| value.ln()),
    each("log10", |value, _| value.log10()),
    each("log2", |value, _| value.log2()),
    over("mad_over_time", LAST, over::mad),
    slid("max_over_time", &[Field::Max], Remark::None, slide::max).folding(Folds::Gauges),
    slid("min_over_time", &[Field::Min], Remark::None, slide::min).folding(Folds::Gauges),
    each("minute", |value, _| date::minute(value)),
    each("month", |value, _| date::month(value)),
    over("peak_rate", &[Field::Peak], over::peak_rate).folding(Folds::All),
    whole("pi", whole::pi),
    over("predict_linear", LAST, over::predict_linear),
    over("present_over_time", LAST, over::present).folding(Folds::All),
    slid("quantile_over_time", LAST, Remark::Share, slide::quantile),
    each("rad", |value, _| value * std::f64::consts::PI / 180.0),
    growing("rate", Remark::Counter, over::rate).folding(Folds::Counters),
    slid("resets", LAST, Remark::None, slide::resets),
    each("round", |value, to| round(value, to.first().copied().unwrap_or(1.0))),
    whole("scalar", whole::scalar),
    each("sgn", |value, _| if value == 0.0 || value.is_nan() { value } else { value.signum() }),
    each("sin", |value, _| value.sin()),
    each("sinh", |value, _| value.sinh()),
    whole("sort", whole::sort),
    whole("sort_by_label", label::sort),
    whole("sort_by_label_desc", label::sort_descending),
    whole("sort_desc", whole::sort_descending),
    each("sqrt", |value, _| value.sqrt()),
    over("stddev_over_time", LAST, over::stddev),
    over("stdvar_over_time", LAST, over::stdvar),
    slid("sum_over_time", &[Field::Sum], Remark::None, slide::sum).folding(Folds::Gauges),
    each("tan", |value, _| value.tan()),
    each("tanh", |value, _| value.tanh()),
    whole("time", whole::time),
    whole("timestamp", whole::timestamp),
    over("ts_of_last_over_time", LAST, over::ts_of_last),
    over("ts_of_max_over_time", &[Field::Max], over::ts_of_max),
    over("ts_of_min_over_time", &[Field::Min], over::ts_of_min),
    whole("vector", whole::vector),
    each("year", |value, _| date::year(value)),
];

impl Function {
    const fn folding(self, folds: Folds) -> Self {
        match self.how {
            How::Over(over) => Self { how: How::Over(Over { folds, ..over }), ..self },
            how @ (How::Each(_) | How::Whole(_)) => Self { how, ..self },
        }
    }
}

const fn each(name: &'static str, apply: fn(f64, &[f64]) -> f64) -> Function {
    Function { name, how: How::Each(apply) }
}

const fn over(
    name: &'static str,
    fields: &'static [Field],
    apply: fn(&Windows<'_>, &[f64]) -> Option<f64>,
) -> Function {
    let apply = Apply::Step(apply);
    Function {
        name,
        how: How::Over(Over { fields, keeps_name: false, remark: Remark::None, folds: Folds::None, apply }),
    }
}

const fn remarking(
    name: &'static str,
    (fields, remark): (&'static [Field], Remark),
    apply: fn(&Windows<'_>, &[f64]) -> Option<f64>,
) -> Function {
    let apply = Apply::Step(apply);
    Function { name, how: How::Over(Over { fields, keeps_name: false, remark, folds: Folds::None, apply }) }
}

const fn over_named(
    name: &'static str,
    fields: &'static [Field],
    apply: fn(&Windows<'_>, &[f64]) -> Option<f64>,
) -> Function {
    let apply = Apply::Step(apply);
    Function {
        name,
        how: How::Over(Over { fields, keeps_name: true, remark: Remark::None, folds: Folds::None, apply }),
    }
}

const fn slid(
    name: &'static str,
    fields: &'static [Field],
    remark: Remark,
    apply: fn(Slide<'_>, &[Vec<f64>]) -> Vec<f64>,
) -> Function {
    let apply = Apply::Slide(apply);
    Function { name, how: How::Over(Over { fields, keeps_name: false, remark, folds: Folds::None, apply }) }
}

const fn growing(
    name: &'static str,
    remark: Remark,
    apply: fn(Slide<'_>, &Budget<'_>) -> Result<Vec<f64>, QueryError>,
) -> Function {
    let apply = Apply::Grow(apply);
    Function { name, how: How::Over(Over { fields: GROWTH, keeps_name: false, remark, folds: Folds::None, apply }) }
}

const fn whole(
    name: &'static str,
    apply: fn(&Evaluator<'_>, &Arguments, Grid) -> Result<Answer, QueryError>,
) -> Function {
    Function { name, how: How::Whole(apply) }
}

fn clamp(value: f64, least: f64, most: f64) -> f64 {
    if most < least { ABSENT } else { higher(lower(value, most), least) }
}

/// The lower of two, NaN if either is.
fn lower(left: f64, right: f64) -> f64 {
    if left.is_nan() || right.is_nan() { f64::NAN } else { left.min(right) }
}

/// The higher of two, NaN if either is.
fn higher(left: f64, right: f64) -> f64 {
    if left.is_nan() || right.is_nan() { f64::NAN } else { left.max(right) }
}

/// The nearest multiple of `to`, ties up.
fn round(value: f64, to: f64) -> f64 {
    // Dividing by the inverse keeps multiples of 0.1 exact.
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_unique_and_sorted() {
        let unsorted: Vec<_> =
            FUNCTIONS.windows(2).filter(|pair| pair[1].name <= pair[0].name).map(|pair| pair[1].name).collect();
        assert_eq!(unsorted, Vec::<&str>::new());
    }
}
