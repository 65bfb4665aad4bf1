//! What series there are, and the names and values of their labels.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::Path;
use axum::extract::State;
use common::metric::Labels;
use common::time::TimeRange;

use crate::http::App;
use crate::http::prometheus::answer::Failure;
use crate::http::prometheus::answer::Success;
use crate::http::prometheus::parameters::Parameters;
use crate::query;
use crate::query::QueryError;
use crate::store::Store;
use crate::store::select::Matcher;
use crate::store::select::Spend;

/// `series`: the label sets of those that match.
pub(super) async fn series(
    State(app): State<Arc<App>>,
    parameters: Parameters,
) -> Result<Success<Vec<Labels>>, Failure> {
    let limit = parameters.limit()?;
    let found = Lookup::of_some(&parameters)?;
    let find =
        |store: &Store, Place { matchers, range, most, spend }: Place<'_>| store.series(matchers, range, (most, spend));
    let answer = look_up(app, (found, limit), find).await?;
    Ok(Success::limited(answer, limit))
}

/// `labels`: the names of their labels.
pub(super) async fn labels(
    State(app): State<Arc<App>>,
    parameters: Parameters,
) -> Result<Success<Vec<String>>, Failure> {
    let limit = parameters.limit()?;
    let found = Lookup::of_any(&parameters)?;
    let find = |store: &Store, Place { matchers, range, most, spend }: Place<'_>| {
        store.label_names(matchers, range, (most, spend))
    };
    let answer = look_up(app, (found, limit), find).await?;
    Ok(Success::limited(texts(&answer), limit))
}

/// `label/NAME/values`: the values of one of them.
pub(super) async fn label_values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Result<Success<Vec<String>>, Failure> {
    let name = unescaped(&name).unwrap_or(name);
    if name.is_empty() {
        return Err(Failure::bad_data(format!("invalid label name: {name:?}")));
    }
    let limit = parameters.limit()?;
    let found = Lookup::of_any(&parameters)?;
    let find = move |store: &Store, Place { matchers, range, most, spend }: Place<'_>| {
        store.label_values(&name, matchers, range, (most, spend))
    };
    let answer = look_up(app, (found, limit), find).await?;
    Ok(Success::limited(texts(&answer), limit))
}

/// A name that is no plain word, as it is written in an address: `U__http_2e_method` is `http.method`.
fn unescaped(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("U__")?;
    let mut plain = String::new();
    while let Some((before, behind)) = rest.split_once('_') {
        plain.push_str(before);
        let (code, behind) =
            behind.split_once('_').filter(|(code, _)| code.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        plain.push(if code.is_empty() { '_' } else { char::from_u32(u32::from_str_radix(code, 16).ok()?)? });
        rest = behind;
    }
    Some(plain + rest)
}

fn texts(shared: &[Arc<str>]) -> Vec<String> {
    shared.iter().map(|text| text.as_ref().to_owned()).collect()
}

/// What is looked up: series that match any of the selectors.
pub(super) struct Lookup {
    selectors: Vec<query::Expr>,
    pub(super) range: TimeRange,
    everything: bool,
}

impl Lookup {
    /// For calls about some series: who does not say which is refused.
    pub(super) fn of_some(parameters: &Parameters) -> Result<Self, Failure> {
        let found = Self::read(parameters, |why| Failure::parameter("match[]", why))?;
        if found.selectors.is_empty() { Err(Failure::bad_data("no match[] parameter provided")) } else { Ok(found) }
    }

    /// For calls about all series where nobody says which. Prometheus does not name the parameter there.
    fn of_any(parameters: &Parameters) -> Result<Self, Failure> {
        let found = Self::read(parameters, Failure::bad_data)?;
        Ok(Self { everything: found.selectors.is_empty(), ..found })
    }

    fn read(parameters: &Parameters, refuse: impl Fn(String) -> Failure) -> Result<Self, Failure> {
        let range = parameters.lookup_range()?;
        let mut selectors = Vec::new();
        for text in parameters.all("match[]") {
            let expr = query::parse(text).map_err(|error| refuse(of_parameter(&error.to_string())))?;
            if expr.matchers().is_none() {
                return Err(refuse("it must be a selector".to_owned()));
            }
            selectors.push(expr);
        }
        Ok(Self { selectors, range, everything: false })
    }

    pub(super) fn matchers(&self) -> impl Iterator<Item = &[Matcher]> {
        let everything: Option<&[Matcher]> = self.everything.then_some(&[]);
        self.selectors.iter().filter_map(query::Expr::matchers).chain(everything)
    }
}

/// What is wrong with a selector, as Prometheus says it of one that is a parameter.
fn of_parameter(why: &str) -> String {
    why.strip_prefix("vector selector").map_or_else(|| why.to_owned(), |what| format!("match[]{what}"))
}

/// What one selector is looked up with.
struct Place<'a> {
    matchers: &'a [Matcher],
    range: TimeRange,
    most: usize,
    spend: Spend<'a, QueryError>,
}

/// The union of what each selector finds, sorted: of more than `limit` one more, so that the answer can say so.
async fn look_up<T, F>(app: Arc<App>, (lookup, limit): (Lookup, usize), find: F) -> Result<Vec<T>, Failure>
where
    T: Ord + Send + 'static,
    F: Fn(&Store, Place<'_>) -> Result<Vec<T>, QueryError> + Send + 'static,
{
    let store = app.store.clone();
    let most = if limit == 0 { usize::MAX } else { limit.saturating_add(1) };
    let found = app.ask(move |engine, turn| {
        engine.look_up(turn, |spend| {
            let mut found = BTreeSet::new();
            for matchers in lookup.matchers() {
                found.extend(find(&store, Place { matchers, range: lookup.range, most, spend })?);
            }
            Ok(found.into_iter().collect())
        })
    });
    Ok(found.await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_in_addresses_as_prometheus_does() {
        let check = |name: &str, expect: Option<&str>| assert_eq!(unescaped(name).as_deref(), expect, "{name}");
        check("instance", None);
        check("U__http_2e_method", Some("http.method"));
        check("U__a__b_fc_", Some("a_b\u{fc}"));
        check("U__", Some(""));
        check("U__a_2e", None);
        check("U__a_zz_", None);
        check("U__a_+41_", None);
        check("U__a_d800_", None);
    }
}
