//! The number that names a label set, as Prometheus and Alertmanager compute it.

use std::fmt;
use std::str::FromStr;

use common::metric::Labels;
use serde::{Deserialize, Serialize};

/// Names a label set: FNV-1a over names and values, each followed by the byte 255, in the order of the names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// The fingerprint of these labels.
    #[must_use]
    pub fn of(labels: &Labels) -> Self {
        const SEPARATOR: &[u8] = &[255];
        let parts = labels.iter().flat_map(|(name, value)| [name.as_bytes(), SEPARATOR, value.as_bytes(), SEPARATOR]);
        Self(fnv1a(parts.flatten().copied()))
    }
}

/// FNV-1a, 64 bits: stable over versions and machines, not meant against malice.
#[must_use]
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.into_iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}
