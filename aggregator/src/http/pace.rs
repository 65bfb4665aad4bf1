//! How slow a peer may be that sends much, or is sent much: one that stands still, or drips, holds memory and a place that
//! others want.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use common::time::Clock;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// How long may be waited, in all, until [`STRIDE`] bytes have come or are taken: less than 1 KiB a second is no pace.
const PACE_WAIT_MAX: Duration = Duration::from_secs(60);

/// Bytes at which the time begins anew.
const STRIDE: usize = 64 << 10;

/// What a peer was waited for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: usize,
}

impl Pace {
    /// Waits for what comes next, unless the peer is too slow by then.
    pub(super) async fn wait<T>(&mut self, clock: &Clock, next: impl Future<Output = T>) -> Option<T> {
        let since = clock.boot();
        let came = tokio::select! {
            biased;
            came = next => Some(came),
            () = clock.sleep(self.left()) => None,
        };
        self.waited(clock.boot().saturating_sub(since));
        came.filter(|_| self.waited <= PACE_WAIT_MAX)
    }

    /// So much has come, or is taken.
    pub(super) const fn moved(&mut self, bytes: usize) {
        self.bytes += bytes;
        if STRIDE <= self.bytes {
            *self = Self { waited: Duration::ZERO, bytes: 0 };
        }
    }

    const fn left(&self) -> Duration {
        PACE_WAIT_MAX.saturating_sub(self.waited)
    }

    const fn waited(&mut self, time: Duration) {
        self.waited = self.waited.saturating_add(time);
    }
}

/// A connection that breaks when its peer takes too slowly what is written.
pub(super) struct Paced<I> {
    io: I,
    clock: Clock,
    pace: Pace,
    /// While there is no room to write.
    waiting: Option<Waiting>,
}

struct Waiting {
    since: Duration,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<I> Paced<I> {
    pub(super) fn new(io: I, clock: &Clock) -> Self {
        Self { io, clock: clock.clone(), pace: Pace::default(), waiting: None }
    }

    fn paced(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let Self { clock, pace, waiting, .. } = self;
        let Poll::Ready(written) = written else {
            let waiting = waiting.get_or_insert_with(|| {
                let (clock, left) = (clock.clone(), pace.left());
                Waiting { since: clock.boot(), over: Box::pin(async move { clock.sleep(left).await }) }
            });
            ready!(waiting.over.as_mut().poll(context));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes too slowly what is sent")));
        };
        if let Some(Waiting { since, .. }) = waiting.take() {
            pace.waited(clock.boot().saturating_sub(since));
        }
        pace.moved(*written.as_ref().unwrap_or(&0));
        Poll::Ready(written)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Paced<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.paced(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.paced(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Paced<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}
