//! The control socket: the same API for whoever may open the file, with the admin's role.

use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;
use std::iter;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;

use anyhow::Context as _;
use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::http::Method;
use axum::http::Request;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::HOST;
use futures::stream;
use http_body_util::BodyExt as _;
use http_body_util::Limited;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tower::ServiceExt as _;

use crate::http::auth::Caller;

/// Longest answer that a command reads: the hosts of ten thousand agents are a fifth of it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Bytes that are read at once of what is sent.
const PIECE_BYTES: usize = 64 << 10;

/// What is answered, as it comes.
pub type Answer = Response<Body>;

/// Opens the socket. One that is left from a run before is replaced: whoever calls holds the lock of the directory.
///
/// # Errors
/// When the file cannot be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The router for whoever came through the socket.
pub fn trusted(router: Router) -> Router {
    router.layer(Extension(Caller::Admin))
}

/// One request to the API.
#[derive(Debug)]
pub struct Question {
    method: Method,
    path: String,
    body: Body,
}

impl Question {
    /// A GET with these parameters.
    #[must_use]
    pub fn get(path: &str, parameters: &[(&str, &str)]) -> Self {
        Self { method: Method::GET, path: address(path, parameters), body: Body::empty() }
    }

    /// A POST with this JSON.
    #[must_use]
    pub fn post(path: &str, body: &Value) -> Self {
        Self { method: Method::POST, path: path.to_owned(), body: body.to_string().into() }
    }

    /// A PATCH with this JSON.
    #[must_use]
    pub fn patch(path: &str, body: &Value) -> Self {
        Self { method: Method::PATCH, path: path.to_owned(), body: body.to_string().into() }
    }

    /// A POST of all that can be read, while it is read.
    #[must_use]
    pub fn upload(path: &str, parameters: &[(&str, &str)], mut from: impl Read + Send + 'static) -> Self {
        let pieces = iter::from_fn(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let read = from.read(&mut piece);
            piece.truncate(*read.as_ref().unwrap_or(&0));
            read.map(|_| (!piece.is_empty()).then_some(piece)).transpose()
        });
        Self { method: Method::POST, path: address(path, parameters), body: Body::from_stream(stream::iter(pieces)) }
    }

    /// A DELETE.
    #[must_use]
    pub fn delete(path: &str) -> Self {
        Self { method: Method::DELETE, path: path.to_owned(), body: Body::empty() }
    }

    fn request(self) -> anyhow::Result<Request<Body>> {
        let request = Request::builder().method(self.method).uri(self.path).header(HOST, "localhost");
        Ok(request.header(CONTENT_TYPE, "application/json").body(self.body)?)
    }
}

/// Asks a running aggregator through its socket, and takes the answer.
///
/// # Errors
/// When it does not answer, and those of `take`.
pub async fn ask<T>(
    path: &Path,
    question: Question,
    take: impl AsyncFnOnce(Answer) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let unanswered = || format!("an aggregator runs there, but {} does not answer", path.display());
    let stream = UnixStream::connect(path).await.with_context(unanswered)?;
    let io = TokioIo::new(Heard { stream, has_left: false });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let exchange = async move {
        let response = sender.send_request(question.request()?).await?;
        take(response.map(Body::new)).await
    };
    let mut exchange = pin!(exchange);
    // An answer ends it, whatever was still to be sent.
    tokio::select! {
        biased;
        answer = exchange.as_mut() => answer,
        _ended = connection => exchange.await,
    }
}

/// A connection whose peer may answer and leave while it is written to: nothing more is written then, and what it said is
/// read all the same.
struct Heard {
    stream: UnixStream,
    has_left: bool,
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.has_left {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        let left = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        self.has_left = matches!(&written, Poll::Ready(Err(error)) if left.contains(&error.kind()));
        if self.has_left {
            // What can be read is looked for once more.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

/// Asks handlers that run in this very process, as the socket would.
///
/// # Errors
/// Those of `take`.
pub async fn ask_here<T>(
    router: Router,
    question: Question,
    take: impl AsyncFnOnce(Answer) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let Ok(response) = trusted(router).oneshot(question.request()?).await;
    take(response).await
}

/// Writes an answer as it comes.
///
/// # Errors
/// When it is a refusal, breaks off, or cannot be written.
pub async fn copy(response: Answer, out: &mut impl Write) -> anyhow::Result<()> {
    if !response.status().is_success() {
        return read(response).await.map(drop);
    }
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let broke = "the answer broke off, and what was written is not whole: the aggregator's log says why";
        if let Ok(piece) = frame.context(broke)?.into_data() {
            out.write_all(&piece)?;
        }
    }
    Ok(out.flush()?)
}

/// Reads an answer.
///
/// # Errors
/// When it is a refusal, or no JSON.
pub async fn read(response: Answer) -> anyhow::Result<Value> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    if status == StatusCode::NO_CONTENT {
        return Ok(Value::Null);
    }
    let answer: Value = serde_json::from_slice(&body)?;
    if status.is_success() {
        return Ok(answer);
    }
    // A problem has a detail, Prometheus' API an error.
    let why = answer["detail"].as_str().or(answer["error"].as_str()).unwrap_or("refused");
    Err(anyhow::anyhow!("{why}"))
}

fn address(path: &str, parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// Percent-encodes what is not plain in a query string.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
