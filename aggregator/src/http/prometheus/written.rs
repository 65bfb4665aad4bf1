//! What a query answers, written while it is sent: of a large answer there is never more text than a piece.

use std::convert::Infallible;
use std::io::Write as _;
use std::iter::once;
use std::vec::IntoIter;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;
use common::metric::Labels;
use common::time::Timestamp;
use futures::stream;
use serde::Serialize;
use serde_json::Value as Json;

use crate::http::prometheus::answer::CUT;
use crate::http::prometheus::answer::put_number;
use crate::query::Annotations;
use crate::query::Held;
use crate::query::Sample;
use crate::query::Value;

/// Bytes of a piece, about: soon written, and enough to compress well.
const PIECE_BYTES: usize = 64 << 10;

/// The answer to a query in Prometheus' envelope: its text, piece by piece.
pub(super) struct Written {
    head: Option<Vec<u8>>,
    series: Series,
    tail: Option<Vec<u8>>,
    /// Given back when all of it is sent, or nobody waits for it any more.
    _held: Held,
}

/// What is still to be written between head and tail, in the end nothing.
enum Series {
    Samples(IntoIter<Sample>),
    Points { rest: IntoIter<(Labels, Vec<(Timestamp, f64)>)>, begun: IntoIter<(Timestamp, f64)> },
}

/// What stands beside the result.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) stats: Option<Json>,
    pub(super) explain: Option<Json>,
    pub(super) said: Annotations,
}

impl Written {
    /// In Prometheus' shape, at most `limit` series unless it is 0. `at` is the time of the query: a scalar has none of its own.
    pub(super) fn new((mut value, held): (Value, Held), at: Timestamp, (limit, beside): (usize, Beside)) -> Self {
        let is_cut = cut(&mut value, limit);
        let mut head = Vec::with_capacity(2 * PIECE_BYTES);
        head.extend(br#"{"status":"success","data":{"resultType":""#);
        head.extend(value.result_type().bytes());
        head.extend(br#"","result":["#);
        let nothing = Series::Samples(Vec::new().into_iter());
        let series = match value {
            Value::Scalar(value) => {
                put_point(&mut head, (at, value));
                nothing
            }
            Value::String(text) => {
                put_seconds(&mut head, at);
                head.push(b',');
                put_json(&mut head, &text);
                nothing
            }
            Value::Vector(samples) => Series::Samples(samples.into_iter()),
            Value::Matrix(series) => Series::Points { rest: series.into_iter(), begun: Vec::new().into_iter() },
        };
        Self { head: Some(head), series, tail: Some(tail(beside, is_cut)), _held: held }
    }
}

impl Iterator for Written {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.tail.as_ref()?;
        let mut first = self.head.is_some();
        let mut piece = self.head.take().unwrap_or_else(|| Vec::with_capacity(2 * PIECE_BYTES));
        while piece.len() < PIECE_BYTES {
            if !self.series.put(&mut piece, first) {
                piece.extend(self.tail.take().unwrap_or_default());
                break;
            }
            first = false;
        }
        Some(piece)
    }
}

impl Series {
    /// Writes what comes next, if there is something.
    fn put(&mut self, out: &mut Vec<u8>, first: bool) -> bool {
        match self {
            Self::Samples(samples) => {
                let Some((labels, at, value)) = samples.next() else {
                    return false;
                };
                put_metric(out, &labels, first);
                out.extend(br#","value":["#);
                put_point(out, (at, value));
                out.extend(b"]}");
            }
            Self::Points { rest, begun } => {
                let is_new = begun.as_slice().is_empty();
                if is_new {
                    let Some((labels, points)) = rest.next() else {
                        return false;
                    };
                    put_metric(out, &labels, first);
                    out.extend(br#","values":["#);
                    *begun = points.into_iter();
                }
                put_points(out, begun, is_new);
                if begun.as_slice().is_empty() {
                    out.extend(b"]}");
                }
            }
        }
        true
    }
}

impl IntoResponse for Written {
    fn into_response(mut self) -> Response {
        let first = self.next().unwrap_or_default();
        let body = if self.tail.is_none() {
            Body::from(first)
        } else {
            Body::from_stream(stream::iter(once(first).chain(self).map(Ok::<_, Infallible>)))
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// Cuts the series to a limit, if there is one; whether any went.
fn cut(value: &mut Value, limit: usize) -> bool {
    let most = if limit == 0 { usize::MAX } else { limit };
    match value {
        Value::Scalar(_) | Value::String(_) => false,
        Value::Vector(samples) => {
            let is_cut = most < samples.len();
            samples.truncate(most);
            is_cut
        }
        Value::Matrix(series) => {
            let is_cut = most < series.len();
            series.truncate(most);
            is_cut
        }
    }
}

/// What stands behind the result.
fn tail(Beside { stats, explain, said }: Beside, is_cut: bool) -> Vec<u8> {
    let mut out = vec![b']'];
    let mut put = |name: &str, what: &Json| {
        write!(out, ",{name:?}:{what}").unwrap_or_default();
    };
    stats.iter().for_each(|stats| put("stats", stats));
    explain.iter().for_each(|explain| put("explain", explain));
    out.push(b'}');
    let warnings: Vec<String> = said.warnings().into_iter().chain(is_cut.then(|| CUT.to_owned())).collect();
    for (name, said) in [("warnings", warnings), ("infos", said.infos())] {
        if !said.is_empty() {
            write!(out, ",{name:?}:").unwrap_or_default();
            put_json(&mut out, &said);
        }
    }
    out.push(b'}');
    out
}

fn put_metric(out: &mut Vec<u8>, labels: &Labels, first: bool) {
    if !first {
        out.push(b',');
    }
    out.extend(br#"{"metric":"#);
    put_json(out, labels);
}

/// As many points as fill a piece, at least one if there is one.
fn put_points(out: &mut Vec<u8>, points: &mut IntoIter<(Timestamp, f64)>, mut first: bool) {
    for point in points {
        out.extend(if first { "[" } else { ",[" }.bytes());
        put_point(out, point);
        out.push(b']');
        first = false;
        if PIECE_BYTES <= out.len() {
            return;
        }
    }
}

/// A time in seconds and a value in text.
fn put_point(out: &mut Vec<u8>, (at, value): (Timestamp, f64)) {
    put_seconds(out, at);
    out.extend(b",\"");
    put_number(out, value);
    out.push(b'"');
}

fn put_seconds(out: &mut Vec<u8>, at: Timestamp) {
    let millis = at.as_millis();
    if millis % 1_000 == 0 { put_json(out, &(millis / 1_000)) } else { put_json(out, &at.as_seconds()) }
}

/// Texts and numbers can be written, and so to memory.
fn put_json(out: &mut Vec<u8>, what: &impl Serialize) {
    serde_json::to_writer(out, what).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Value, limit: usize) -> String {
        let written = Written::new((value, Held::default()), Timestamp::from_millis(1_500), (limit, Beside::default()));
        String::from_utf8(written.flatten().collect()).unwrap()
    }

    #[test]
    fn answers_have_prometheus_shape() {
        let check = |value: Value, expect: &str| {
            assert_eq!(text(value, 0), format!(r#"{{"status":"success","data":{expect}}}"#));
        };
        let labels = Labels::new().with("b", "2\"").with("a", "1");
        let at = Timestamp::from_seconds(7);
        check(Value::Scalar(1.0), r#"{"resultType":"scalar","result":[1.5,"1"]}"#);
        check(Value::String("x\"".to_owned()), r#"{"resultType":"string","result":[1.5,"x\""]}"#);
        check(Value::Vector(Vec::new()), r#"{"resultType":"vector","result":[]}"#);
        check(Value::Matrix(Vec::new()), r#"{"resultType":"matrix","result":[]}"#);
        check(
            Value::Vector(vec![(labels.clone(), at, f64::NAN)]),
            r#"{"resultType":"vector","result":[{"metric":{"a":"1","b":"2\""},"value":[7,"NaN"]}]}"#,
        );
        let points = vec![(at, 0.5), (Timestamp::from_millis(7_250), 3.0)];
        let series = vec![(labels.clone(), points.clone()), (labels, points)];
        check(
            Value::Matrix(series),
            r#"{"resultType":"matrix","result":[{"metric":{"a":"1","b":"2\""},"values":[[7,"0.5"],[7.25,"3"]]},{"metric":{"a":"1","b":"2\""},"values":[[7,"0.5"],[7.25,"3"]]}]}"#,
        );
    }

    #[test]
    fn what_stands_beside_the_result_stands_behind_it() {
        let beside = Beside { stats: Some(Json::from(1)), explain: Some(Json::from("x")), ..Beside::default() };
        let samples = vec![(Labels::new(), Timestamp::default(), 1.0); 2];
        let written = Written::new((Value::Vector(samples), Held::default()), Timestamp::default(), (1, beside));
        assert_eq!(
            String::from_utf8(written.flatten().collect()).unwrap(),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[0,"1"]}],"stats":1,"explain":"x"},"warnings":["results truncated due to limit"]}"#
        );
    }

    #[test]
    fn a_piece_may_end_anywhere() {
        for length in PIECE_BYTES - 300..PIECE_BYTES {
            let labels = Labels::new().with("a", "x".repeat(length));
            let points = vec![(Timestamp::default(), 1.0), (Timestamp::default(), 2.0)];
            let text = text(Value::Matrix(vec![(labels, points); 2]), 0);
            let read: Json = serde_json::from_str(&text).unwrap();
            assert_eq!(read["data"]["result"][1]["values"][1][1], "2");
        }
    }

    /// Whatever is a piece's end, all pieces together are what a parser reads, and none is much larger than the others.
    #[test]
    fn large_answers_come_in_pieces() {
        let points = |count: i64| (0..count).map(|at| (Timestamp::from_millis(at * 999), 0.1)).collect::<Vec<_>>();
        let series: Vec<_> = [0, 1, 20_000, 3, 0, 9_000, 1].map(|count| (Labels::new(), points(count))).into();
        let written = Written::new(
            (Value::Matrix(series.clone()), Held::default()),
            Timestamp::default(),
            (0, Beside::default()),
        );
        let pieces: Vec<Vec<u8>> = written.collect();
        assert!(7 < pieces.len() && pieces.iter().all(|piece| piece.len() < PIECE_BYTES + 100), "{}", pieces.len());
        let read: Json = serde_json::from_slice(&pieces.concat()).unwrap();
        let lengths =
            read["data"]["result"].as_array().unwrap().iter().map(|one| one["values"].as_array().unwrap().len());
        assert_eq!(lengths.collect::<Vec<_>>(), series.iter().map(|(_, points)| points.len()).collect::<Vec<_>>());
    }
}
