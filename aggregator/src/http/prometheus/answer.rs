//! The envelope of Prometheus' API, and how it writes values and times.

use std::io::Write as _;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::IntoResponse;
use axum::response::Response;
use common::time::Timestamp;
use serde::Serialize;

use crate::http::reading::ASK_AGAIN;
use crate::query::QueryError;

/// What is answered when all went well.
#[derive(Serialize)]
pub struct Success<D> {
    status: &'static str,
    data: D,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// What Prometheus says when an answer was cut.
pub(super) const CUT: &str = "results truncated due to limit";

impl<D> Success<D> {
    /// An answer without warnings.
    pub const fn new(data: D) -> Self {
        Self { status: "success", data, warnings: Vec::new() }
    }
}

impl<T> Success<Vec<T>> {
    /// An answer cut to `limit` items (0: all), with the warning that Prometheus gives.
    pub fn limited(mut items: Vec<T>, limit: usize) -> Self {
        let is_cut = limit != 0 && limit < items.len();
        if is_cut {
            items.truncate(limit);
        }
        let warnings = is_cut.then(|| CUT.to_owned()).into_iter().collect();
        Self { warnings, ..Self::new(items) }
    }
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

    /// It is not the asker's fault.
    pub fn internal(error: &impl std::fmt::Display) -> Self {
        Self { status: "error", kind: "internal", error: error.to_string() }
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
        let waits = self.kind == "unavailable";
        let mut response = (self.code(), Json(self)).into_response();
        if waits {
            response.headers_mut().insert(RETRY_AFTER, ASK_AGAIN);
        }
        response
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self { status: "error", kind: error.error_type(), error: error.to_string() }
    }
}

/// A value as Prometheus writes it: the fewest digits that read back the same, with an exponent where there would be many
/// zeros.
#[must_use]
pub fn number(value: f64) -> String {
    let mut text = Vec::new();
    put_number(&mut text, value);
    String::from_utf8(text).unwrap_or_default()
}

/// The same, behind what is written already.
pub(super) fn put_number(out: &mut Vec<u8>, value: f64) {
    let from = out.len();
    if let Some(whole) = whole(value) {
        // Writing to memory does not fail, here and below.
        write!(out, "{whole}").unwrap_or_default();
        return;
    }
    // Quicker than what is sure, and the same unless it has an exponent or tells what is whole from what is not.
    if value.is_finite()
        && serde_json::to_writer(&mut *out, &value).is_ok()
        && !out[from..].contains(&b'e')
        && !out.ends_with(b".0")
    {
        return;
    }
    out.truncate(from);
    let plain = value == 0.0 || (1e-6..1e21).contains(&value.abs());
    if value.is_nan() {
        out.extend(b"NaN");
    } else if value.is_infinite() {
        out.extend(if value.is_sign_positive() { b"+Inf" } else { b"-Inf" });
    } else if plain {
        write!(out, "{value}").unwrap_or_default();
    } else {
        out.extend(exponential(value).bytes());
    }
}

/// A whole number that every digit of is known of; what most values are.
#[expect(clippy::cast_possible_truncation, reason = "checked against the value itself")]
fn whole(value: f64) -> Option<i64> {
    const EXACT_BELOW: u64 = 1 << 53;
    let whole = value as i64;
    #[expect(clippy::cast_precision_loss, reason = "the same")]
    let is_same = (whole as f64).to_bits() == value.to_bits();
    (is_same && whole.unsigned_abs() < EXACT_BELOW).then_some(whole)
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
        check(1.5e-6, "0.0000015");
        check(123_456.75, "123456.75");
        check(9_007_199_254_740_993.0, "9007199254740992");
        check(1.8e19, "18000000000000000000");
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
    fn a_limit_cuts_and_says_so() {
        let answer = serde_json::to_string(&Success::limited(vec!["a", "b"], 1)).unwrap();
        assert_eq!(answer, r#"{"status":"success","data":["a"],"warnings":["results truncated due to limit"]}"#);
        let answer = serde_json::to_string(&Success::limited(vec!["a", "b"], 0)).unwrap();
        assert_eq!(answer, r#"{"status":"success","data":["a","b"]}"#);
    }
}
