//! The envelope of Prometheus' API, and how it writes values and times.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use common::metric::Labels;
use common::time::Timestamp;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeTuple as _;

use crate::query::QueryError;
use crate::query::Value;

/// What is answered when all went well.
#[derive(Serialize)]
pub struct Success<D> {
    status: &'static str,
    data: D,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    infos: Vec<String>,
}

const CUT: &str = "results truncated due to limit";

impl<D> Success<D> {
    /// An answer without warnings.
    pub const fn new(data: D) -> Self {
        Self { status: "success", data, warnings: Vec::new(), infos: Vec::new() }
    }

    /// The same with warnings and infos.
    pub fn saying(mut self, warnings: Vec<String>, infos: Vec<String>) -> Self {
        (self.warnings, self.infos) = (warnings, infos);
        self
    }

    /// The same with the warning that Prometheus gives when an answer was cut.
    pub fn cut(mut self, is_cut: bool) -> Self {
        self.warnings.extend(is_cut.then(|| CUT.to_owned()));
        self
    }
}

impl<T> Success<Vec<T>> {
    /// An answer cut to `limit` items (0: all), with the warning that Prometheus gives.
    pub fn limited(mut items: Vec<T>, limit: usize) -> Self {
        let is_cut = cut(&mut items, limit);
        Self::new(items).cut(is_cut)
    }
}

/// Cuts items to a limit, if there is one; whether any went.
fn cut<T>(items: &mut Vec<T>, limit: usize) -> bool {
    let is_cut = limit != 0 && limit < items.len();
    if is_cut {
        items.truncate(limit);
    }
    is_cut
}

impl<D: Serialize> IntoResponse for Success<D> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// What is answered when something went wrong, in Prometheus' shape.
#[derive(Debug, Serialize)]
pub struct Failure {
    status: &'static str,
    #[serde(rename = "errorType")]
    kind: &'static str,
    error: String,
}

impl Failure {
    /// The request makes no sense.
    pub fn bad_data(error: impl Into<String>) -> Self {
        Self { status: "error", kind: "bad_data", error: error.into() }
    }

    /// One parameter makes no sense.
    pub fn parameter(name: &str, why: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {why}"))
    }

    fn code(&self) -> StatusCode {
        match self.kind {
            "bad_data" => StatusCode::BAD_REQUEST,
            "execution" => StatusCode::UNPROCESSABLE_ENTITY,
            "timeout" | "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            // nginx' number for a client that has gone, as in Prometheus.
            "canceled" => StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.code(), Json(self)).into_response()
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self { status: "error", kind: error.error_type(), error: error.to_string() }
    }
}

/// The result of an expression.
#[derive(Serialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub enum Data {
    /// One number.
    Scalar(Point),
    /// One text.
    String(Text),
    /// A sample for each series.
    Vector(Vec<Sample>),
    /// Many samples for each series.
    Matrix(Vec<Series>),
}

/// One sample of a series.
#[derive(Serialize)]
pub struct Sample {
    metric: Labels,
    value: Point,
}

/// The samples of a series.
#[derive(Serialize)]
pub struct Series {
    metric: Labels,
    values: Vec<Point>,
}

impl Data {
    /// Cuts the series to a limit, if there is one; whether any went.
    pub fn cut(&mut self, limit: usize) -> bool {
        match self {
            Self::Scalar(_) | Self::String(_) => false,
            Self::Vector(samples) => cut(samples, limit),
            Self::Matrix(series) => cut(series, limit),
        }
    }

    /// In Prometheus' shape. `at` is the time of the query: a scalar has none of its own.
    pub fn of(value: Value, at: Timestamp) -> Self {
        match value {
            Value::Scalar(value) => Self::Scalar(Point(at, value)),
            Value::String(text) => Self::String(Text(at, text)),
            Value::Vector(samples) => Self::Vector(
                samples.into_iter().map(|(metric, at, value)| Sample { metric, value: Point(at, value) }).collect(),
            ),
            Value::Matrix(series) => Self::Matrix(
                series
                    .into_iter()
                    .map(|(metric, points)| Series {
                        metric,
                        values: points.into_iter().map(|(at, value)| Point(at, value)).collect(),
                    })
                    .collect(),
            ),
        }
    }
}

/// A time in seconds and a value in text.
pub struct Point(Timestamp, f64);

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&Seconds(self.0))?;
        pair.serialize_element(&number(self.1))?;
        pair.end()
    }
}

/// A time in seconds and a text.
pub struct Text(Timestamp, String);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&Seconds(self.0))?;
        pair.serialize_element(&self.1)?;
        pair.end()
    }
}

struct Seconds(Timestamp);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = self.0.as_millis();
        if millis % 1_000 == 0 {
            serializer.serialize_i64(millis / 1_000)
        } else {
            serializer.serialize_f64(self.0.as_seconds())
        }
    }
}

/// A value as Prometheus writes it: the fewest digits that read back the same, with an exponent where there would be many
/// zeros.
#[must_use]
pub fn number(value: f64) -> String {
    let plain = value == 0.0 || (1e-6..1e21).contains(&value.abs());
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value.is_sign_positive() { "+Inf" } else { "-Inf" }.to_owned()
    } else if !plain {
        exponential(value)
    } else {
        value.to_string()
    }
}

/// A value as Go's `%e` writes it in its fewest digits: how the API of alerts does.
#[must_use]
pub fn exponential(value: f64) -> String {
    if !value.is_finite() {
        return number(value);
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// A time as RFC 3339.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis()).map_or_else(|_| String::new(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_go_does() {
        let check = |value: f64, expect: &str| assert_eq!(number(value), expect);
        check(1.0, "1");
        check(-0.0, "-0");
        check(0.1 + 0.2, "0.30000000000000004");
        check(1e21, "1e+21");
        check(-9.9e20, "-990000000000000000000");
        check(1e-6, "0.000001");
        check(6.81e-7, "6.81e-07");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
    }

    #[test]
    fn values_of_alerts_have_an_exponent() {
        let check = |value: f64, expect: &str| assert_eq!(exponential(value), expect);
        check(0.0, "0e+00");
        check(1234.5, "1.2345e+03");
        check(-1e-100, "-1e-100");
        check(f64::INFINITY, "+Inf");
    }

    #[test]
    fn answers_have_prometheus_shape() {
        let check = |value: Value, expect: &str| {
            let data = Success::new(Data::of(value, Timestamp::from_millis(1_500)));
            assert_eq!(serde_json::to_string(&data).unwrap(), format!(r#"{{"status":"success","data":{expect}}}"#));
        };
        let labels = Labels::new().with("b", "2").with("a", "1");
        let at = Timestamp::from_seconds(7);
        check(Value::Scalar(1.0), r#"{"resultType":"scalar","result":[1.5,"1"]}"#);
        check(Value::String("x".to_owned()), r#"{"resultType":"string","result":[1.5,"x"]}"#);
        check(Value::Vector(Vec::new()), r#"{"resultType":"vector","result":[]}"#);
        check(
            Value::Vector(vec![(labels.clone(), at, f64::NAN)]),
            r#"{"resultType":"vector","result":[{"metric":{"a":"1","b":"2"},"value":[7,"NaN"]}]}"#,
        );
        check(
            Value::Matrix(vec![(labels, vec![(at, 0.5)])]),
            r#"{"resultType":"matrix","result":[{"metric":{"a":"1","b":"2"},"values":[[7,"0.5"]]}]}"#,
        );
    }

    #[test]
    fn a_limit_cuts_and_says_so() {
        let answer = serde_json::to_string(&Success::limited(vec!["a", "b"], 1)).unwrap();
        assert_eq!(answer, r#"{"status":"success","data":["a"],"warnings":["results truncated due to limit"]}"#);
        let answer = serde_json::to_string(&Success::limited(vec!["a", "b"], 0)).unwrap();
        assert_eq!(answer, r#"{"status":"success","data":["a","b"]}"#);
    }
}
