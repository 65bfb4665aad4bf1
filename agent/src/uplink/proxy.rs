//! A proxy on the way: it is asked for a tunnel, and TLS runs in that as it would without one.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::config::Proxy;

/// Bytes of an answer at most: a status and a few headers.
const PROXY_ANSWER_BYTES_MAX: usize = 8 << 10;

/// A stream to `target`, a host and a port, through a proxy.
pub(super) async fn tunnel(proxy: &Proxy, target: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(&proxy.address).await?;
    let shown = proxy.authorization.as_ref().map(|shown| format!("Proxy-Authorization: Basic {shown}\r\n"));
    let shown = shown.unwrap_or_default();
    let asked = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{shown}\r\n");
    stream.write_all(asked.as_bytes()).await?;
    let mut answer = Vec::new();
    // The aggregator waits for our first words: nothing follows the answer.
    while !answer.ends_with(b"\r\n\r\n") {
        if PROXY_ANSWER_BYTES_MAX <= answer.len() || stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::other("it answers no HTTP"));
        }
    }
    match status(&answer) {
        Some(200..300) => Ok(stream),
        Some(407) => Err(io::Error::other("it wants a user and a password, in `uplink.proxy`")),
        Some(status) => Err(io::Error::other(format!("it refuses with status {status}"))),
        None => Err(io::Error::other("it answers no HTTP")),
    }
}

/// That of `HTTP/1.1 200 Connection established`.
fn status(answer: &[u8]) -> Option<u16> {
    let (version, rest) = answer.split_at_checked(b"HTTP/1.1 ".len())?;
    let is_http = version.starts_with(b"HTTP/1.") && version.ends_with(b" ");
    str::from_utf8(rest.get(..3)?).ok().filter(|_| is_http)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_or_is_none() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407 x\r\n\r\n"), Some(407));
        for none in [&b""[..], b"HTTP/1.1 2", b"SSH-2.0-x 200 \r\n", b"HTTP/1.1 \xff\xff\xff", b"HTTP/1.1200 "] {
            assert_eq!(status(none), None, "{none:?}");
        }
    }
}
