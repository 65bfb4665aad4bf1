//! HTTP/1.1, as much of it as asking a container engine takes: one question a connection, over a Unix socket, and its
//! answer, which may be a stream that never ends. Nothing is ever sent but `GET`.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Bytes of an answer's head: an engine sends ten lines.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the line that begins a chunk: its length, and extensions that nobody sends.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Asks what is at `target`; nothing is waited for longer than `patience` at a time.
///
/// # Errors
/// When nobody listens, the answer has not the form of one, or does not come in time; [`ErrorKind::NotFound`] when it says
/// that there is no such thing.
pub fn get(socket: &Path, target: &str, patience: Duration) -> io::Result<Answer<BufReader<UnixStream>>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n").as_bytes())?;
    Answer::new(BufReader::new(stream))
}

/// What was answered, behind its head. A read that fails because nothing came in time may be repeated.
#[derive(Debug)]
pub struct Answer<R> {
    from: R,
    left: Left,
    /// The part that has come of the line that begins a chunk.
    chunk_line: Vec<u8>,
}

/// What is left of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Bytes(u64),
    /// As many bytes of a chunk, then further chunks.
    Chunk(u64),
    /// The end of a chunk's bytes, then further chunks.
    ChunkEnd,
    /// The line that begins a chunk.
    ChunkLine,
    UntilClosed,
}

impl<R: BufRead> Answer<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// As [`get`].
    pub fn new(mut from: R) -> io::Result<Self> {
        let mut head = (&mut from).take(HEAD_BYTES_MAX as u64);
        let mut line = Vec::new();
        head.read_until(b'\n', &mut line)?;
        check_status(&line)?;
        let mut left = Left::UntilClosed;
        loop {
            line.clear();
            head.read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                return Err(ErrorKind::InvalidData.into());
            }
            let Ok(field) = str::from_utf8(&line) else { continue };
            if field.trim().is_empty() {
                return Ok(Self { from, left, chunk_line: Vec::new() });
            }
            let Some((name, value)) = field.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("Transfer-Encoding") && value.trim().eq_ignore_ascii_case("chunked") {
                left = Left::ChunkLine;
            } else if name.eq_ignore_ascii_case("Content-Length") && left == Left::UntilClosed {
                left = Left::Bytes(value.trim().parse().map_err(|_| ErrorKind::InvalidData)?);
            }
        }
    }

    /// What comes first of the `left` bytes, and how many are left behind it.
    fn read_some(&mut self, buffer: &mut [u8], left: u64) -> io::Result<(usize, u64)> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.from.read(&mut buffer[..most])?;
        if read == 0 && 0 < most {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok((read, left - read as u64))
    }

    /// The line that begins or ends a chunk, once it is whole.
    fn read_chunk_line(&mut self) -> io::Result<Vec<u8>> {
        let room = CHUNK_LINE_BYTES_MAX - self.chunk_line.len();
        (&mut self.from).take(room as u64).read_until(b'\n', &mut self.chunk_line)?;
        if self.chunk_line.ends_with(b"\n") {
            return Ok(std::mem::take(&mut self.chunk_line));
        }
        let too_long = CHUNK_LINE_BYTES_MAX <= self.chunk_line.len();
        Err(if too_long { ErrorKind::InvalidData } else { ErrorKind::UnexpectedEof }.into())
    }
}

impl<R: BufRead> Read for Answer<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.left {
                Left::UntilClosed => return self.from.read(buffer),
                Left::Bytes(0) => return Ok(0),
                Left::Bytes(bytes) => {
                    let (read, left) = self.read_some(buffer, bytes)?;
                    self.left = Left::Bytes(left);
                    return Ok(read);
                }
                Left::Chunk(bytes) => {
                    let (read, left) = self.read_some(buffer, bytes)?;
                    self.left = if left == 0 { Left::ChunkEnd } else { Left::Chunk(left) };
                    return Ok(read);
                }
                Left::ChunkEnd => {
                    let end = self.read_chunk_line()?;
                    if !end.trim_ascii().is_empty() {
                        return Err(ErrorKind::InvalidData.into());
                    }
                    self.left = Left::ChunkLine;
                }
                Left::ChunkLine => {
                    let line = self.read_chunk_line()?;
                    // Behind the last chunk there may be trailers, which nobody reads.
                    let bytes = parse_chunk_line(&line).ok_or(ErrorKind::InvalidData)?;
                    self.left = if bytes == 0 { Left::Bytes(0) } else { Left::Chunk(bytes) };
                }
            }
        }
    }
}

/// `HTTP/1.1 200 OK`.
fn check_status(line: &[u8]) -> io::Result<()> {
    let line = str::from_utf8(line).ok().and_then(|line| line.strip_prefix("HTTP/1."));
    let status = line.and_then(|line| line.split(' ').nth(1)).map(str::trim);
    match status {
        Some("200") => Ok(()),
        Some("404") => Err(ErrorKind::NotFound.into()),
        Some(status) if status.len() == 3 => Err(io::Error::other(format!("it answers with status {status:?}"))),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// `1f;extension`: hexadecimal.
fn parse_chunk_line(line: &[u8]) -> Option<u64> {
    let length = str::from_utf8(line).ok()?.split(';').next()?.trim();
    let plain = length.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { u64::from_str_radix(length, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of an answer that comes in pieces of any length.
    fn read(answer: &[u8]) -> Result<String, ErrorKind> {
        let mut found = Vec::new();
        for capacity in [1, 2, 3, 7, 4_096] {
            let mut body = Vec::new();
            let whole = Answer::new(BufReader::with_capacity(capacity, answer))
                .and_then(|mut answer| answer.read_to_end(&mut body))
                .map(|_| String::from_utf8(body).unwrap())
                .map_err(|error| error.kind());
            found.push(whole);
        }
        found.dedup();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[track_caller]
    fn check(answer: &str, expect: Result<&str, ErrorKind>) {
        assert_eq!(read(answer.as_bytes()), expect.map(str::to_owned), "{answer:?}");
    }

    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\nServer: Docker/20.10.24+dfsg1 (linux)\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn bodies_of_each_kind() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", Ok("abc"));
        check("HTTP/1.1 200 OK\ncontent-length:0\n\nabcd", Ok(""));
        check("HTTP/1.0 200 OK\r\n\r\nto the end", Ok("to the end"));
        check(&format!("{CHUNKED}3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"), Ok("abc0123456789"));
        check(&format!("{CHUNKED}0\r\n\r\n"), Ok(""));
        let both = CHUNKED.replace("Server:", "Content-Length: 99\r\nServer:");
        check(&format!("{both}1\r\na\r\n0\r\n\r\n"), Ok("a"));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        check("", Err(ErrorKind::InvalidData));
        check("SSH-2.0-OpenSSH_9.2\r\n", Err(ErrorKind::InvalidData));
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", Err(ErrorKind::InvalidData));
        check("HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n", Err(ErrorKind::InvalidData));
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", Err(ErrorKind::UnexpectedEof));
        check("HTTP/1.1 404 Not Found\r\n\r\n{}", Err(ErrorKind::NotFound));
        check("HTTP/1.1 503 No\r\n\r\n", Err(ErrorKind::Other));
        check(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "x".repeat(HEAD_BYTES_MAX)), Err(ErrorKind::InvalidData));
        check(&format!("{CHUNKED}3\r\nab"), Err(ErrorKind::UnexpectedEof));
        check(&format!("{CHUNKED}3\r\nabcd\r\n"), Err(ErrorKind::InvalidData));
        check(&format!("{CHUNKED}3\r\nabc\r\n"), Err(ErrorKind::UnexpectedEof));
        check(&format!("{CHUNKED}+3\r\nabc\r\n0\r\n"), Err(ErrorKind::InvalidData));
        check(&format!("{CHUNKED}ffffffffffffffffff\r\nabc"), Err(ErrorKind::InvalidData));
        check(&format!("{CHUNKED}ffffffffffffffff\r\nabc"), Err(ErrorKind::UnexpectedEof));
        check(&format!("{CHUNKED}{}", "0".repeat(CHUNK_LINE_BYTES_MAX)), Err(ErrorKind::InvalidData));
    }

    /// Gives one byte and then nothing in time, by turns.
    struct Hesitant<'a>(&'a [u8], bool);

    impl Read for Hesitant<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.0.read(&mut buffer[..1])
        }
    }

    #[test]
    fn a_stream_that_pauses_anywhere_is_read_on() {
        let (mut from, mut body, mut pauses) = (Answer::new(CHUNKED.as_bytes()).unwrap(), Vec::new(), 0);
        assert_eq!(from.read(&mut [0]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        let stream = Hesitant(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", false);
        let mut answer = Answer { from: BufReader::new(stream), left: from.left, chunk_line: Vec::new() };
        loop {
            let mut buffer = [0; 8];
            match answer.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => body.extend(&buffer[..read]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    pauses += 1;
                }
            }
        }
        assert_eq!((body.as_slice(), 10 < pauses), (&b"abcde"[..], true));
    }
}
