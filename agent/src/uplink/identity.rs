//! The host's key and certificate, kept in the state directory, readable by the agent alone.

use std::fmt::Display;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use ring::digest;
use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// What the agent shows and whom it believes.
#[derive(Debug)]
pub(super) struct Identity {
    /// The host's certificate.
    pub(super) certificate: CertificateDer<'static>,
    /// Its key.
    pub(super) key: PrivateKeyDer<'static>,
    /// The aggregator's CA.
    pub(super) ca: CertificateDer<'static>,
    /// Those that it had before, while this host was there, the latest first.
    pub(super) earlier: Vec<CertificateDer<'static>>,
}

impl Identity {
    /// Whether the aggregator's CA is or was the one that a join token names.
    pub(super) fn knows(&self, ca: [u8; 32]) -> bool {
        [&self.ca].into_iter().chain(&self.earlier).any(|known| key_hash(known) == Some(ca))
    }
}

/// CAs that are remembered: a join token of one of them is no other aggregator's.
const EARLIER_MAX: usize = 8;

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {file}: {why}")]
pub struct StateError {
    file: PathBuf,
    why: String,
}

/// The state directory.
#[derive(Clone, Debug)]
pub(super) struct StateDir(PathBuf);

impl StateDir {
    /// A directory that may not exist.
    #[must_use]
    pub(super) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The identity, if the host has one.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub(super) fn identity(&self) -> Result<Option<Identity>, StateError> {
        let Some(certificate) = self.read("certificate.pem")? else { return Ok(None) };
        let (Some(ca), Some(key)) = (self.read("ca.pem")?, self.read("key.pem")?) else { return Ok(None) };
        let earlier: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&ca).skip(1).collect();
        Ok(Some(Identity {
            certificate: self.parse("certificate.pem", &certificate)?,
            key: self.parse("key.pem", &key)?,
            ca: self.parse("ca.pem", &ca)?,
            earlier: earlier.map_err(|error| self.error("ca.pem", error))?,
        }))
    }

    /// The host's key: the one that is kept, or a new one. Kept before it is used, so that a repeated enrolment is the
    /// same host.
    ///
    /// # Errors
    /// When it cannot be read or kept.
    pub(super) fn key(&self) -> Result<KeyPair, StateError> {
        if let Some(pem) = self.read("key.pem")? {
            return KeyPair::from_pem(&String::from_utf8_lossy(&pem)).map_err(|error| self.error("key.pem", error));
        }
        let key = KeyPair::generate().map_err(|error| self.error("key.pem", error))?;
        self.write("key.pem", &key.serialize_pem())?;
        Ok(key)
    }

    /// The key of an identity, whatever is kept by now.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn key_of(&self, identity: &Identity) -> Result<KeyPair, StateError> {
        KeyPair::try_from(&identity.key).map_err(|error| self.error("key.pem", error))
    }

    /// A signing request for the key. Everything but the key is the aggregator's to say.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn request(&self, key: &KeyPair) -> Result<Vec<u8>, StateError> {
        let request = CertificateParams::default().serialize_request(key);
        request.map(|request| request.der().to_vec()).map_err(|error| self.error("key.pem", error))
    }

    /// Keeps what enrolment gave, and the identity's CAs behind another one. The certificate is written last: it says that
    /// the identity is whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn keep(
        &self,
        certificate: &[u8],
        ca: &CertificateDer<'_>,
        renewed: Option<&Identity>,
    ) -> Result<(), StateError> {
        let known = renewed.into_iter().flat_map(|identity| [&identity.ca].into_iter().chain(&identity.earlier));
        let earlier = known.filter(|known| *known != ca).take(EARLIER_MAX);
        let all: String = [ca].into_iter().chain(earlier).map(|ca| pem(ca)).collect();
        self.write("ca.pem", &all)?;
        self.write("certificate.pem", &pem(certificate))
    }

    /// Writes the identity again, if nothing of it is left. Whether that was so.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn restore(&self, identity: &Identity) -> Result<bool, StateError> {
        // A part of it is somebody at work, who joins anew, or what nobody can mend: it is left alone.
        if ["key.pem", "certificate.pem", "ca.pem"]
            .iter()
            .any(|name| !matches!(fs::exists(self.0.join(name)), Ok(false)))
        {
            return Ok(false);
        }
        self.write("key.pem", &self.key_of(identity)?.serialize_pem())?;
        self.keep(&identity.certificate, &identity.ca, Some(identity))?;
        Ok(true)
    }

    /// Writes a file: all of it, or as it was.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|error| self.error("", error))?;
        let (file, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let write = || {
            let mut open = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            open.write_all(text.as_bytes())?;
            open.sync_all()?;
            fs::rename(&new, &file)
        };
        write().map_err(|error| self.error(name, error))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        match fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(name, error)),
        }
    }

    fn parse<T: PemObject>(&self, name: &str, pem: &[u8]) -> Result<T, StateError> {
        T::from_pem_slice(pem).map_err(|error| self.error(name, error))
    }

    fn error(&self, name: &str, why: impl Display) -> StateError {
        StateError { file: self.0.join(name), why: format!("{why}") }
    }
}

/// What a join token names a CA by: the SHA-256 of its public key info.
#[must_use]
pub(super) fn key_hash(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    let hash = digest::digest(&digest::SHA256, certificate.subject_public_key_info().as_ref());
    hash.as_ref().try_into().ok()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).filter_map(|at| text.get(at..text.len().min(at + 64))).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_identity_is_kept_privately_and_whole() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::new(directory.path().join("state"));
        assert!(state.identity().unwrap().is_none());
        let key = state.key().unwrap();
        assert_eq!(state.key().unwrap().serialized_der(), key.serialized_der());
        assert!(state.identity().unwrap().is_none(), "a key alone is no identity");
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        state.keep(certificate.der(), certificate.der(), None).unwrap();
        let identity = state.identity().unwrap().unwrap();
        assert_eq!((&identity.certificate, &identity.ca), (certificate.der(), certificate.der()));
        let mode = fs::metadata(directory.path().join("state/key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let next = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap();
        for _ in 0..2 {
            state.keep(certificate.der(), next.der(), Some(&state.identity().unwrap().unwrap())).unwrap();
        }
        let renewed = state.identity().unwrap().unwrap();
        assert_eq!((&renewed.ca, renewed.earlier.as_slice()), (next.der(), &[certificate.der().clone()][..]));
        let hashes = [&identity.ca, &renewed.ca].map(|ca| key_hash(ca).unwrap());
        assert!(hashes.into_iter().all(|hash| renewed.knows(hash)) && !renewed.knows([0; 32]));
        let file = directory.path().join("state/ca.pem");
        let torn = fs::read_to_string(&file).unwrap().replacen("\n-----END", "!\n-----END", 2);
        fs::write(&file, torn.replacen("!\n-----END", "\n-----END", 1)).unwrap();
        assert!(state.identity().unwrap_err().to_string().contains("ca.pem"), "an earlier one is not passed over");
        fs::write(&file, "sesame").unwrap();
        assert!(state.identity().unwrap_err().to_string().contains("ca.pem"));
    }

    #[test]
    fn an_identity_of_which_nothing_is_left_is_written_again_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let state = StateDir::new(path.clone());
        let key = state.key().unwrap();
        let [certificate, ca, earlier] = [(); 3].map(|()| CertificateParams::default().self_signed(&key).unwrap());
        state.keep(certificate.der(), earlier.der(), None).unwrap();
        state.keep(certificate.der(), ca.der(), Some(&state.identity().unwrap().unwrap())).unwrap();
        let identity = state.identity().unwrap().unwrap();
        assert!(!state.restore(&identity).unwrap(), "it is there");
        fs::remove_dir_all(&path).unwrap();
        assert!(state.restore(&identity).unwrap());
        let restored = state.identity().unwrap().unwrap();
        assert_eq!(format!("{restored:?}"), format!("{identity:?}"));
        assert_eq!(restored.key.secret_der(), identity.key.secret_der());
        // Somebody joins anew, with a key of its own.
        fs::remove_dir_all(&path).unwrap();
        let anew = state.key().unwrap();
        assert!(!state.restore(&identity).unwrap());
        assert_eq!(state.key().unwrap().serialized_der(), anew.serialized_der());
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "no directory").unwrap();
        assert!(!state.restore(&identity).unwrap_or_default());
    }
}
