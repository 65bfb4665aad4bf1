//! Random secrets, and the hashes by which they are known once they were given out.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ingest::trust::sha256;

/// SHA-256 of a secret. Secrets are 256 random bits, so that a plain hash cannot be turned back, and comparing hashes
/// tells nobody how close a guess was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of a secret as it is written.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(sha256(secret.as_bytes()))
    }

    /// As it is stored.
    #[must_use]
    pub const fn bytes(self) -> [u8; 32] {
        self.0
    }
}

/// A new secret, in characters that need no escaping in a URL, a header or a shell.
///
/// # Errors
/// When the kernel has no random bytes to give.
pub fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The secret in a file that only its owner may read; written if it is not there.
///
/// # Errors
/// When the file cannot be read or written.
pub fn kept(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(secret) if !secret.trim().is_empty() => return Ok(secret.trim().to_owned()),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let secret = random()?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_kept_secret_stays_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        let secret = kept(&path).unwrap();
        assert_eq!(kept(&path).unwrap(), secret);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "\n").unwrap();
        assert_ne!(kept(&path).unwrap(), secret, "an empty file is no secret");
    }
}
