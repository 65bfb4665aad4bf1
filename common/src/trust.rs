//! What both programs must agree on before they trust each other: names, protocols, tolerance, join tokens.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The one name in the aggregator's certificate, whatever address is dialled.
pub const SERVER_NAME: &str = "aggregator.lapwing.internal";

/// The protocol of agents that have a certificate; the number is that of the framing.
pub const ALPN: &[u8] = b"lapwing/1";

/// The protocol of hosts that have none: all they may say is `Enroll`.
pub const ALPN_ENROLL: &[u8] = b"lapwing-enroll/1";

/// How far a host's clock may be off before it refuses a certificate that is valid: a wrong day in the firmware must
/// not silence a host.
pub const VALIDITY_TOLERANCE: Duration = Duration::from_secs(2 * 24 * 3_600);

/// What `token create` prints and `--join` takes: which CA to believe, and the right to join.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the subject public key info of the aggregator's CA.
    pub ca: [u8; 32],
    /// Random; the aggregator keeps only its hash.
    pub secret: [u8; 16],
}

/// Why a text is not a join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: it should be the 64 characters that `lapwing-aggregator token create` printed")]
pub struct NotAToken;

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode([self.ca.as_slice(), &self.secret].concat()))
    }
}

impl fmt::Debug for JoinToken {
    /// A token is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| NotAToken)?;
        let (ca, secret) = bytes.split_first_chunk().ok_or(NotAToken)?;
        Ok(Self { ca: *ca, secret: secret.try_into().map_err(|_| NotAToken)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text() {
        let token = JoinToken { ca: [0xfe; 32], secret: [7; 16] };
        let text = token.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(format!(" {text}\n").parse(), Ok(token));
        assert_eq!(text[1..].parse::<JoinToken>(), Err(NotAToken));
        assert_eq!("sesame".parse::<JoinToken>(), Err(NotAToken));
        assert!(!format!("{token:?}").contains('7'), "a secret must not reach a log");
    }
}
