//! The parameters of Prometheus' API: from the address, and from the form of a POST.

use std::time::Duration;

use axum::RequestExt as _;
use axum::extract::Form;
use axum::extract::FromRequest;
use axum::extract::Query;
use axum::extract::Request;
use axum::http::Method;
use common::time::TimeRange;
use common::time::Timestamp;

use crate::config;
use crate::http::prometheus::answer::Failure;
use crate::query::Moments;

/// Names and values, in the order they came: some names may repeat.
#[derive(Debug)]
pub struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Parameters {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let from_address = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
        let Query(mut pairs) = from_address.map_err(|error| Failure::bad_data(error.body_text()))?;
        if *request.method() == Method::POST && request.headers().contains_key(axum::http::header::CONTENT_TYPE) {
            let form = request.extract::<Form<Vec<(String, String)>>, _>().await;
            let Form(written) = form.map_err(|error| Failure::bad_data(error.body_text()))?;
            // A form goes before the address, as in Go.
            pairs.splice(..0, written);
        }
        Ok(Self(pairs))
    }
}

impl Parameters {
    /// The first value of a name; an empty one counts as missing.
    pub fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// `time`, or what stands for it.
    pub fn time_or(&self, name: &str, missing: Timestamp) -> Result<Timestamp, Failure> {
        let Some(text) = self.get(name) else { return Ok(missing) };
        parse_time(text).ok_or_else(|| {
            let why = format_args!("invalid time value for '{name}': cannot parse {text:?} to a valid timestamp");
            Failure::parameter(name, why)
        })
    }

    /// `limit`; 0 is none.
    pub fn limit(&self) -> Result<usize, Failure> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        match text.parse::<i64>() {
            Ok(limit) => usize::try_from(limit).map_err(|_| Failure::parameter("limit", "limit must be non-negative")),
            Err(_) => {
                let why = format_args!("strconv.Atoi: parsing {text:?}: invalid syntax");
                Err(Failure::parameter("limit", why))
            }
        }
    }

    /// A limit where a negative one is none.
    pub fn signed(&self, name: &str) -> Result<Option<usize>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let limit: i64 = text.parse().map_err(|_| Failure::bad_data(format!("{name} must be a number")))?;
        Ok(usize::try_from(limit).ok())
    }

    /// A duration, if there is one.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, Failure> {
        self.get(name).map(|text| duration(name, text)).transpose()
    }

    /// `start` and `end` of the calls that look labels and series up; all of time where they are missing.
    pub fn lookup_range(&self) -> Result<TimeRange, Failure> {
        let start = self.time_or("start", Timestamp::from_millis(0))?;
        let end = self.time_or("end", Timestamp::from_millis(i64::MAX))?;
        if end < start {
            // In the words of the one of these calls of Prometheus that looks.
            return Err(Failure::bad_data("end timestamp must not be before start timestamp"));
        }
        // Prometheus' range is closed, ours is open on the left.
        Ok(TimeRange { after: start.before(Duration::from_millis(1)), through: end })
    }

    /// `start`, `end` and `step` of a range query.
    pub fn steps(&self) -> Result<Moments, Failure> {
        let start = self.required_time("start")?;
        let end = self.required_time("end")?;
        if end < start {
            return Err(Failure::parameter("end", "end timestamp must not be before start time"));
        }
        let text = self.get("step").unwrap_or_default();
        let negative = text.starts_with('-');
        let step = duration("step", text.trim_start_matches('-'))?;
        if negative || step.is_zero() {
            let why = "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(Failure::parameter("step", why));
        }
        Ok(Moments::Range { start, end, step })
    }

    fn required_time(&self, name: &str) -> Result<Timestamp, Failure> {
        let text = self.get(name).unwrap_or_default();
        parse_time(text)
            .ok_or_else(|| Failure::parameter(name, format_args!("cannot parse {text:?} to a valid timestamp")))
    }
}

fn duration(name: &str, text: &str) -> Result<Duration, Failure> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let parsed = seconds.or_else(|| config::duration(text));
    // Time is counted in whole milliseconds everywhere.
    let whole = parsed.map(|duration| Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)));
    whole.ok_or_else(|| Failure::parameter(name, format_args!("cannot parse {text:?} to a valid duration")))
}

/// How Prometheus writes its first and its last moment, which clients send for "ever": years that no calendar has.
const EVER: [(&str, Timestamp); 2] = [
    ("-292273086-05-16T16:47:06Z", Timestamp::from_millis(0)),
    ("+292277025-08-18T07:12:54.999999999Z", Timestamp::from_millis(i64::MAX)),
];

/// Seconds since the epoch, or RFC 3339.
fn parse_time(text: &str) -> Option<Timestamp> {
    if let Some((_, ever)) = EVER.iter().find(|(written, _)| *written == text) {
        return Some(*ever);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return millis(seconds * 1_000.0).map(Timestamp::from_millis);
    }
    let parsed: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(parsed.as_millisecond()))
}

#[expect(clippy::cast_possible_truncation, reason = "checked to lie inside")]
fn millis(value: f64) -> Option<i64> {
    (value.abs() < 9e18).then(|| value.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        Parameters(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        let check =
            |text: &str, expect: Option<i64>| assert_eq!(parse_time(text).map(Timestamp::as_millis), expect, "{text}");
        check("1435781430.781", Some(1_435_781_430_781));
        check("0", Some(0));
        check("-1.5", Some(-1_500));
        check("2015-07-01T20:10:30.781Z", Some(1_435_781_430_781));
        check("2015-07-01T22:10:30+02:00", Some(1_435_781_430_000));
        check("NaN", None);
        check("+Inf", None);
        check("yesterday", None);
        check("", None);
    }

    #[test]
    fn steps_are_refused_as_prometheus_refuses_them() {
        let check = |start: &str, end: &str, step: &str, expect: Result<u64, &str>| {
            let steps = parameters(&[("start", start), ("end", end), ("step", step)]).steps();
            match expect {
                Ok(millis) => {
                    let steps = steps.unwrap();
                    assert!(matches!(steps, Moments::Range { step, .. } if step == Duration::from_millis(millis)));
                }
                Err(part) => {
                    let failure = serde_json::to_string(&steps.unwrap_err()).unwrap();
                    assert!(failure.contains(part), "{failure}");
                }
            }
        };
        check("0", "60", "15", Ok(15_000));
        check("0", "60", "0.5", Ok(500));
        check("0", "60", "1m30s", Ok(90_000));
        check("0", "60", "0", Err("zero or negative"));
        check("0", "60", "-1", Err("zero or negative"));
        check("0", "60", "", Err("cannot parse"));
        check("0", "60", "x", Err("cannot parse"));
        check("60", "0", "1", Err("must not be before start"));
        check("", "0", "1", Err("start"));
    }
}
