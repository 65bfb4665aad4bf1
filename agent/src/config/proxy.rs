//! A proxy, as it is written: an address, and perhaps a user and a password.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

/// Where a proxy listens, and what it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `HOST:PORT`.
    pub address: String,
    /// User and password, encoded as a header has them: a secret.
    pub authorization: Option<String>,
}

/// A text that names no proxy.
#[derive(Debug, thiserror::Error)]
#[error("is no proxy that can be used: give `http://HOST:PORT`, or `http://USER:PASSWORD@HOST:PORT`")]
pub struct NotAProxy;

impl FromStr for Proxy {
    type Err = NotAProxy;

    fn from_str(text: &str) -> Result<Self, NotAProxy> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(NotAProxy),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, address) = rest.rsplit_once('@').map_or((None, rest), |(user, address)| (Some(user), address));
        let (host, port) = address.rsplit_once(':').ok_or(NotAProxy)?;
        let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name || port.parse::<u16>().is_err() {
            return Err(NotAProxy);
        }
        let encoded = |user: &str| STANDARD.encode(percent_decode_str(user).collect::<Vec<u8>>());
        Ok(Self { address: address.to_owned(), authorization: user.map(encoded) })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<(String, Option<String>)> {
        text.parse().ok().map(|Proxy { address, authorization }| (address, authorization))
    }

    #[test]
    fn a_proxy_is_an_address_and_perhaps_a_user() {
        let address = |text: &str| Some((text.to_owned(), None));
        assert_eq!(shown("http://proxy:3128"), address("proxy:3128"));
        assert_eq!(shown("proxy:3128"), address("proxy:3128"));
        assert_eq!(shown("http://[::1]:3128/"), address("[::1]:3128"));
        // `a:p@ss`, as RFC 7617 shows it.
        assert_eq!(shown("http://a:p%40ss@proxy:80"), Some(("proxy:80".to_owned(), Some("YTpwQHNz".to_owned()))));
        for none in [
            "",
            "proxy",
            "https://proxy:3128",
            "socks5://a:b@proxy:3128",
            "http://proxy",
            "http://:80",
            "http://a\r\n:80",
        ] {
            assert_eq!(shown(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_password_is_not_told() {
        let proxy: Proxy = "http://user:sesame@proxy:3128".parse().unwrap();
        let told = format!("{proxy} {proxy:?}");
        assert!(told.contains("proxy:3128") && !told.contains("sesame") && !told.contains("dXNl"), "{told}");
    }
}
