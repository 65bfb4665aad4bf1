//! Texts that come slowly, last long, are torn or refused while they are sent.

use std::io;
use std::io::Read;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::time::Duration;

use aggregator::http::control;
use aggregator::http::control::Question;
use tokio::io::AsyncWriteExt as _;

use crate::export::IMPORT;

/// Pieces of a text that does not end. One of them comes only when the peer has answered and gone: it is written to nobody.
struct Endless {
    pieces: u32,
    here: mpsc::Sender<()>,
    gone: mpsc::Receiver<()>,
}

const PIECES_BEFORE: u32 = 10;

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.pieces += 1;
        if self.pieces == PIECES_BEFORE {
            self.here.send(()).unwrap();
            self.gone.recv().unwrap();
        }
        into.fill(b'\n');
        Ok(into.len())
    }
}

#[tokio::test]
async fn who_is_refused_while_sending_hears_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    for (answer, expect) in [
        (
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 26\r\n\r\n{\"detail\":\"as it happens\"}\n",
            "as it happens",
        ),
        ("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n{\"detail\":\"no text\"}", "no text"),
        ("", "connection"),
    ] {
        let ((here, sent), (left, gone)) = (mpsc::channel(), mpsc::channel());
        let listener = listener.try_clone().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let mut piece = vec![0; 64 << 10];
            while sent.try_recv().is_err() {
                // None is there yet, or some is.
                drop(stream.read(&mut piece));
            }
            stream.write_all(answer.as_bytes()).unwrap();
            drop(stream);
            left.send(()).unwrap();
        });
        let question = Question::upload(IMPORT, &[("as", "a")], Endless { pieces: 0, here, gone });
        let told = control::ask(&path, question, control::read).await.unwrap_err();
        assert!(format!("{told:#}").contains(expect), "{told:#}");
        server.join().unwrap();
    }
}
