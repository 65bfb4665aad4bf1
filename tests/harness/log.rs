//! What was logged at WARN or above, of the one cluster that runs.

use std::io;
use std::sync::Mutex;
use std::sync::Once;
use std::sync::PoisonError;

use tokio::sync::MutexGuard;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
static LISTEN: Once = Once::new();

/// Waits for its turn, and forgets what was logged before.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    LISTEN.call_once(|| {
        let listener = tracing_subscriber::fmt().with_max_level(Level::WARN).with_ansi(false).with_writer(Lines);
        tracing::subscriber::set_global_default(listener.finish()).expect("nobody else listens to the log");
    });
    let alone = ALONE.lock().await;
    drop(taken());
    alone
}

/// What was logged since the last call.
pub(crate) fn taken() -> Vec<String> {
    std::mem::take(&mut LINES.lock().unwrap_or_else(PoisonError::into_inner))
}

struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line).into_owned();
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
