//! A proxy on the way: it is asked for a tunnel, and TLS runs in that as it would without one.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::config::Proxy;

/// What the head of an answer ends with.
const END: &[u8] = b"\r\n\r\n";

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
    // A page may follow a refusal. Nothing follows a tunnel that opens: the aggregator waits for our first words.
    while !answer.windows(END.len()).any(|bytes| bytes == END) {
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
    use tokio::net::TcpListener;

    use super::*;

    /// What a proxy's answer becomes.
    async fn check(answer: &'static [u8], expect: Option<&str>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy { address: listener.local_addr().unwrap().to_string(), authorization: None };
        let answers = async {
            let (mut asked, _) = listener.accept().await.unwrap();
            let mut head = [0; 128];
            assert_ne!(asked.read(&mut head).await.unwrap(), 0);
            drop(asked.write_all(answer).await);
        };
        let (tunnel, ()) = tokio::join!(tunnel(&proxy, "a:1"), answers);
        let error = tunnel.err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), expect, "{}", String::from_utf8_lossy(answer));
    }

    #[tokio::test]
    async fn a_refusal_is_told_with_and_without_a_page_behind_it() {
        check(b"HTTP/1.0 200 Connection established\r\nProxy-agent: p\r\n\r\n", None).await;
        let user = Some("it wants a user and a password, in `uplink.proxy`");
        check(b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n", user).await;
        check(b"HTTP/1.0 407 Proxy Authentication Required\r\nServer: p\r\n\r\n<html>no</html>", user).await;
        check(b"HTTP/1.1 403 Filtered\r\n\r\n<html>", Some("it refuses with status 403")).await;
        check(b"SSH-2.0-x\r\n", Some("it answers no HTTP")).await;
        check(b"SSH-2.0-x\r\n\r\n", Some("it answers no HTTP")).await;
        check(b"", Some("it answers no HTTP")).await;
        check(&[b'a'; 20_000], Some("it answers no HTTP")).await;
    }

    #[test]
    fn an_answer_has_a_status_or_is_none() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407 x\r\n\r\n"), Some(407));
        for none in [&b""[..], b"HTTP/1.1 2", b"SSH-2.0-x 200 \r\n", b"HTTP/1.1 \xff\xff\xff", b"HTTP/1.1200 "] {
            assert_eq!(status(none), None, "{none:?}");
        }
    }
}
