//! `info(v, {…})`: series with the labels of the info series that share their `instance` and `job`.

use std::collections::BTreeSet;
use std::collections::HashMap;

use common::metric::Labels;
use common::metric::NAME;

use crate::query::QueryError;
use crate::query::column::ABSENT;
use crate::query::column::Answer;
use crate::query::column::Grid;
use crate::query::column::Series;
use crate::query::column::duplicate;
use crate::query::column::is_present;
use crate::query::eval::Evaluator;
use crate::query::plan::Arguments;
use crate::query::plan::Node;
use crate::query::plan::Selector;
use crate::query::plan::Shift;
use crate::query::plan::shift_of;
use crate::query::whole::argument;
use crate::store::select::Is;
use crate::store::select::Matcher;

/// The labels that say to what a series belongs.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The info metric where none is named.
const TARGET_INFO: &str = "target_info";

/// `info(vector)`, `info(vector, {label=~"…"})`.
pub(super) fn info(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    let of = argument(arguments, 0)?;
    let base = evaluator.vector(of, grid)?;
    let wanted = Wanted::of(arguments.get(1))?;
    let (bare, enriched): (Vec<_>, Vec<_>) =
        base.into_iter().partition(|series| wanted.names.iter().all(|name| name.matches(series.labels.get(NAME))));
    let infos = Infos::select(evaluator, &wanted, (&enriched, shift_of(of)), grid)?;
    let mut joined = Joined { series: Vec::new(), places: HashMap::new(), grid };
    for series in bare {
        joined.add(&series, &series.labels.clone(), 0..grid.count)?;
    }
    for series in enriched {
        evaluator.budget.touch(grid.count)?;
        for (steps, labels) in infos.labels(&series, &wanted, grid)? {
            joined.add(&series, &labels, steps)?;
        }
    }
    Ok(Answer::Vector(joined.series))
}

/// What the second argument asks for.
struct Wanted {
    /// Of the info metric's name.
    names: Vec<Matcher>,
    /// Of its other labels; only these are taken over, or all where there are none.
    data: Vec<Matcher>,
}

impl Wanted {
    fn of(node: Option<&Node>) -> Result<Self, QueryError> {
        let matchers = match node {
            Some(Node::Select(selector)) => selector.matchers.clone(),
            Some(_) => return Err(QueryError::bad("expected label selectors as the second argument to info()")),
            None => Vec::new(),
        };
        let (mut names, data): (Vec<_>, Vec<_>) = matchers.into_iter().partition(|matcher| matcher.name == NAME);
        if names.is_empty() {
            names.push(Matcher { name: NAME.to_owned(), is: Is::Equal(TARGET_INFO.to_owned()) });
        }
        Ok(Self { names, data })
    }

    fn takes(&self, label: &str) -> bool {
        self.data.is_empty() || self.data.iter().any(|matcher| matcher.name == label)
    }

    /// Whether a series without an info series stays.
    fn is_optional(&self) -> bool {
        self.data.iter().all(|matcher| matcher.matches(""))
    }
}

/// Info series by what they belong to; each value is the stamp of the sample, in seconds.
struct Infos(HashMap<Labels, Vec<Series>>);

impl Infos {
    fn select(
        evaluator: &Evaluator<'_>,
        wanted: &Wanted,
        (base, shift): (&[Series], Shift),
        grid: Grid,
    ) -> Result<Self, QueryError> {
        let mut matchers: Vec<Matcher> = wanted.names.iter().chain(&wanted.data).cloned().collect();
        for name in IDENTIFYING {
            let values: BTreeSet<&str> =
                base.iter().map(|series| series.labels.get(name)).filter(|value| !value.is_empty()).collect();
            if !values.is_empty() {
                let pattern = values.into_iter().map(regex::escape).collect::<Vec<_>>().join("|");
                let regex = regex::Regex::new(&format!("^(?:{pattern})$"))
                    .map_err(|error| QueryError::execution(error.to_string()))?;
                matchers.push(Matcher { name: name.to_owned(), is: Is::Match(regex) });
            }
        }
        let mut infos: HashMap<Labels, Vec<Series>> = HashMap::new();
        if matchers.len() == wanted.names.len() + wanted.data.len() {
            return Ok(Self(infos));
        }
        let selector = Selector { matchers, shift };
        for series in evaluator.select(&selector, grid, |_, stamp| stamp.as_seconds())? {
            infos.entry(identity(&series.labels)).or_default().push(series);
        }
        Ok(Self(infos))
    }

    /// The labels of a series once the info series have given theirs, by runs of steps.
    fn labels(
        &self,
        base: &Series,
        wanted: &Wanted,
        grid: Grid,
    ) -> Result<Vec<(std::ops::Range<usize>, Labels)>, QueryError> {
        let none = Vec::new();
        let infos = self.0.get(&identity(&base.labels)).unwrap_or(&none);
        let mut runs: Vec<(std::ops::Range<usize>, Labels)> = Vec::new();
        for step in (0..grid.count).filter(|step| is_present(base.values[*step])) {
            let given = given(&latest(infos, step)?, base, wanted)?;
            if given.is_empty() && !wanted.is_optional() {
                continue;
            }
            let labels = base.labels.clone().and(&given);
            match runs.last_mut() {
                Some((steps, same)) if *same == labels => steps.end = step + 1,
                Some(_) | None => runs.push((step..step + 1, labels)),
            }
        }
        Ok(runs)
    }
}

/// Of each info metric the series whose sample is newest at a step.
fn latest(infos: &[Series], step: usize) -> Result<Vec<&Series>, QueryError> {
    let mut latest: Vec<&Series> = Vec::new();
    for info in infos.iter().filter(|info| is_present(info.values[step])) {
        let name = info.labels.get(NAME);
        let Some(held) = latest.iter_mut().find(|held| held.labels.get(NAME) == name) else {
            latest.push(info);
            continue;
        };
        if held.values[step] == info.values[step] {
            return Err(QueryError::execution(format!("found duplicate series for info metric {name}")));
        }
        if held.values[step] < info.values[step] {
            *held = info;
        }
    }
    Ok(latest)
}

/// The labels that info series give to a series that does not have them.
fn given(infos: &[&Series], base: &Series, wanted: &Wanted) -> Result<Labels, QueryError> {
    let mut given = Labels::new();
    for info in infos {
        for (name, value) in info.labels.iter().filter(|(name, _)| *name != NAME && wanted.takes(name)) {
            let held = given.get(name);
            if !held.is_empty() && held != value {
                return Err(QueryError::execution(format!("conflicting label: {name}")));
            }
            if base.labels.get(name).is_empty() {
                given.set(name, value);
            }
        }
    }
    Ok(given)
}

fn identity(labels: &Labels) -> Labels {
    IDENTIFYING.iter().map(|name| (*name, labels.get(name))).filter(|(_, value)| !value.is_empty()).collect()
}

/// The series that come out, by their labels.
struct Joined {
    series: Vec<Series>,
    places: HashMap<Labels, usize>,
    grid: Grid,
}

impl Joined {
    fn add(&mut self, base: &Series, labels: &Labels, steps: std::ops::Range<usize>) -> Result<(), QueryError> {
        let place = *self.places.entry(labels.clone()).or_insert_with(|| {
            self.series.push(Series::absent(labels.clone(), base.drops_name, self.grid));
            self.series.len() - 1
        });
        for step in steps.filter(|step| is_present(base.values[*step])) {
            let held = &mut self.series[place].values[step];
            if held.to_bits() != ABSENT.to_bits() {
                return Err(duplicate());
            }
            *held = base.values[step];
        }
        Ok(())
    }
}
