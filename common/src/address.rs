//! Addresses of aggregators, as they tell them and agents dial them: `HOST:PORT`, and what to write instead of something else.

use std::net::Ipv6Addr;

/// Where an aggregator takes agents that says nothing else.
const PORT: u16 = 4641;

/// Where the page of one is served that says nothing else, and those that stand for a page everywhere.
const PORTS_OF_PAGES: [u16; 3] = [4640, 80, 443];

/// Says what is wrong with an address, and what to write.
#[must_use]
pub fn refusal(address: &str) -> Option<String> {
    let meant = meant(address, PORT);
    if meant.as_deref() == Some(address) {
        return None;
    }
    let why = match address.split_once("://") {
        Some(_) => "which is the address of a page",
        None => "which is not HOST:PORT",
    };
    let instead = match meant {
        Some(meant) => format!("write `{meant}`, "),
        None => String::new(),
    };
    Some(format!(
        "is `{address}`, {why}: {instead}with the port of the aggregator's `ingest.listen`, {PORT} if it says none"
    ))
}

/// The `HOST:PORT` that an aggregator tells agents, of a host with a port or without one, or what is wrong with it.
///
/// # Errors
/// When it is neither.
pub fn advertised(address: &str, port: u16) -> Result<String, String> {
    let Some(meant) = meant(address, port) else {
        return Err(format!("is `{address}`, which is not HOST or HOST:PORT"));
    };
    let same = [address.to_owned(), format!("{address}:{port}"), format!("[{address}]:{port}")].contains(&meant);
    if same { Ok(meant) } else { Err(format!("is `{address}`, which is not HOST or HOST:PORT: write `{meant}`")) }
}

/// The `HOST:PORT` that was probably meant, without what belongs to the address of a page.
fn meant(address: &str, otherwise: u16) -> Option<String> {
    let (scheme, rest) = address.split_once("://").map_or((None, address), |(scheme, rest)| (Some(scheme), rest));
    let rest = rest.split(['/', '?', '#']).next()?;
    if rest.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@') {
        return None;
    }
    let (host, port) = if rest.parse::<Ipv6Addr>().is_ok() {
        (format!("[{rest}]"), None)
    } else if let Some((host, behind)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let host = host.split('%').next()?.parse::<Ipv6Addr>().ok().map(|_| format!("[{host}]"))?;
        (host, behind.strip_prefix(':'))
    } else {
        let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
        (Some(host).filter(|host| !host.is_empty() && !host.contains(['[', ']']))?.to_owned(), port)
    };
    let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    let port = port.filter(|port| scheme.is_none() || !PORTS_OF_PAGES.contains(port));
    Some(format!("{host}:{}", port.unwrap_or(otherwise)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said to write instead; nothing if that is an address, `?` if nothing can be said.
    fn check(address: &str, expect: &str) {
        let refused = refusal(address);
        let instead = refused.as_ref().map(|told| told.split("write `").nth(1).unwrap_or("?"));
        assert_eq!(instead.map_or("", |told| told.split('`').next().unwrap_or_default()), expect, "{refused:?}");
    }

    #[test]
    fn a_host_and_a_port_are_taken_and_nothing_else() {
        for address in ["a:1", "lapwing.example.com:4641", "192.0.2.1:65535", "[::1]:4641", "[fe80::1%2]:1", "a:4640"] {
            check(address, "");
        }
        check("http://a:4641", "a:4641");
        check("https://lapwing.example.com", "lapwing.example.com:4641");
        check("http://a:4640/hosts?x=1", "a:4641");
        check("quic://a:9", "a:9");
        check("http://[::1]:4640/", "[::1]:4641");
        check("a", "a:4641");
        check("a:", "a:4641");
        check("a:0", "a:4641");
        check("a:65536", "a:4641");
        check("a:4641/", "a:4641");
        check("a:04641", "a:4641");
        check("::1", "[::1]:4641");
        check("2001:db8::1:4641", "[2001:db8::1:4641]:4641");
        check("[::1]", "[::1]:4641");
        check("[a]:1", "?");
        check("u:p@a:1", "?");
        check("u@a:1", "?");
        check(":4641", "?");
        check("", "?");
        check("http://", "?");
        check("a b:1", "?");
        check("\u{0}:1", "?");
    }

    #[test]
    fn what_is_advertised_is_a_host_perhaps_with_a_port() {
        let check = |address: &str, expect: Result<&str, &str>| {
            let told = advertised(address, 9);
            assert_eq!(told.as_deref().map_err(|why| why.rsplit(": ").next().unwrap_or_default()), expect, "{address}");
        };
        for (address, expect) in
            [("a", "a:9"), ("a.example:1", "a.example:1"), ("::1", "[::1]:9"), ("[::1]", "[::1]:9")]
        {
            check(address, Ok(expect));
        }
        check("https://a.example", Err("write `a.example:9`"));
        check("a:x", Err("write `a:9`"));
        check("a:", Err("write `a:9`"));
        check("a:0", Err("write `a:9`"));
        check("a/", Err("write `a:9`"));
        check("u@a", Err("is `u@a`, which is not HOST or HOST:PORT"));
        check(" ", Err("is ` `, which is not HOST or HOST:PORT"));
    }
}
