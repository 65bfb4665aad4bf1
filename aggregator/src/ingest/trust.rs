//! The aggregator's own certificate authority, and the hashes by which keys and secrets are known.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use common::time::Timestamp;
use common::trust::JoinToken;
use common::trust::SERVER_NAME;
use common::trust::VALIDITY_TOLERANCE;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateSigningRequestParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::PublicKeyData;
use rcgen::date_time_ymd;
use ring::digest;
use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The CA outlives the machine that it is on. So does the aggregator's own certificate, whose key is made anew at each
/// start and never leaves memory.
const CA_VALIDITY: Duration = Duration::from_secs(20 * 365 * DAY.as_secs());

/// A key that was stolen with a host's disk is worth nothing after this.
const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(30 * DAY.as_secs());

/// How long before its end a certificate is renewed, a third of its time: a host may be off for a week and more without
/// its certificate ending.
pub(super) const RENEWED_BEFORE: Duration = Duration::from_secs(10 * DAY.as_secs());

/// Signs the certificates of hosts and of the aggregator itself.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate chain and its key.
pub struct Identity {
    /// The certificate, then the CA's: enrolling agents look for it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

/// Why there is no authority, or why it cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read or written.
    #[error("cannot use {0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// A file does not hold what it should.
    #[error("cannot read {0}: {1}")]
    Content(PathBuf, String),
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Sign(#[from] rcgen::Error),
}

impl Authority {
    /// Reads `ca.key` and `ca.pem` of the data directory, or makes them.
    ///
    /// # Errors
    /// When a file cannot be read, written or understood.
    pub fn open(data_dir: &Path, now: Timestamp) -> Result<Self, TrustError> {
        let (key_file, certificate_file) = (data_dir.join("ca.key"), data_dir.join("ca.pem"));
        if !certificate_file.exists() {
            // The certificate is written last: a key without one is a first start that was cut off.
            make(&key_file, &certificate_file, now)?;
        }
        let key = fs::read_to_string(&key_file).map_err(|error| TrustError::File(key_file.clone(), error))?;
        let key = KeyPair::from_pem(&key).map_err(|error| TrustError::Content(key_file, error.to_string()))?;
        let pem = fs::read(&certificate_file).map_err(|error| TrustError::File(certificate_file.clone(), error))?;
        let content = |why: String| TrustError::Content(certificate_file.clone(), why);
        let certificate = CertificateDer::from_pem_slice(&pem).map_err(|error| content(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| content(error.to_string()))?;
        Ok(Self { issuer, certificate })
    }

    /// The CA's certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What a join token names the CA by.
    #[must_use]
    pub fn key_hash(&self) -> [u8; 32] {
        sha256(&self.issuer.key().subject_public_key_info())
    }

    /// A new token. `secret` is random.
    #[must_use]
    pub fn token(&self, secret: [u8; 16]) -> JoinToken {
        JoinToken { ca: self.key_hash(), secret }
    }

    /// A certificate for the aggregator itself; its key never leaves memory.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn server(&self, now: Timestamp) -> Result<Identity, TrustError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([SERVER_NAME.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        valid(&mut params, now, CA_VALIDITY);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok(Identity { chain, key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) })
    }

    /// A certificate for the key of a signing request; everything else that the request asks for is passed over.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn sign(&self, request: &Request, name: &str, now: Timestamp) -> Result<Signed, TrustError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let expires = valid(&mut params, now, CERTIFICATE_VALIDITY);
        let certificate = params.signed_by(&request.0.public_key, &self.issuer)?;
        Ok(Signed { certificate: certificate.der().clone(), expires })
    }
}

/// A certificate that was signed.
pub struct Signed {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Until when it is valid.
    pub expires: Timestamp,
}

/// A signing request whose own signature is right.
pub struct Request(CertificateSigningRequestParams);

impl Request {
    /// Parses DER.
    #[must_use]
    pub fn parse(der: &[u8]) -> Option<Self> {
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der)).ok().map(Self)
    }

    /// What the host will be known by.
    #[must_use]
    pub fn key_hash(&self) -> [u8; 32] {
        sha256(&self.0.public_key.subject_public_key_info())
    }
}

/// What the host that shows a certificate is known by.
#[must_use]
pub fn key_hash(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    Some(sha256(certificate.subject_public_key_info().as_ref()))
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Makes a certificate that nobody has signed, for names and addresses, and writes it and its key. It is no authority:
/// whoever trusts it trusts nothing else.
///
/// # Errors
/// When it cannot be made or written.
pub fn self_made(
    (certificate, key): (&Path, &Path),
    names: &[String],
    lasts: Duration,
    now: Timestamp,
) -> Result<(), TrustError> {
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Lapwing");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid(&mut params, now, lasts);
    let made = params.self_signed(&pair)?;
    write(key, 0o600, &pair.serialize_pem())?;
    write(certificate, 0o644, &made.pem())
}

/// Until when a certificate is valid.
#[must_use]
pub fn ends(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(Timestamp::from_millis(certificate.validity().not_after.timestamp().checked_mul(1_000)?))
}

fn make(key_file: &Path, certificate_file: &Path, now: Timestamp) -> Result<(), TrustError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Lapwing CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, CA_VALIDITY);
    let certificate = params.self_signed(&key)?;
    write(key_file, 0o600, &key.serialize_pem())?;
    write(certificate_file, 0o644, &certificate.pem())
}

fn write(file: &Path, mode: u32, text: &str) -> Result<(), TrustError> {
    let open = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(file);
    let written = open.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| TrustError::File(file.to_owned(), error))
}

/// Valid from the tolerance before now on. Returns until when.
fn valid(params: &mut CertificateParams, now: Timestamp, validity: Duration) -> Timestamp {
    let (from, until) = (now.before(VALIDITY_TOLERANCE), now.after(validity));
    let calendar = |at: Timestamp| date_time_ymd(1970, 1, 1) + at.since(Timestamp::default());
    (params.not_before, params.not_after) = (calendar(from), calendar(until));
    until
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let made = Authority::open(directory.path(), NOW).unwrap();
        let opened = Authority::open(directory.path(), NOW).unwrap();
        assert_eq!(made.key_hash(), opened.key_hash());
        assert_eq!(key_hash(made.certificate()), Some(made.key_hash()));
        let mode = fs::metadata(directory.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_host_is_known_by_the_key_of_its_request() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), NOW).unwrap();
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let request = Request::parse(csr.der()).unwrap();
        let signed = authority.sign(&request, "1", NOW).unwrap();
        assert_eq!(key_hash(&signed.certificate), Some(request.key_hash()));
        assert!(Request::parse(b"no request").is_none());
    }

    #[test]
    fn a_file_that_is_not_a_certificate_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), "sesame").unwrap();
        fs::write(directory.path().join("ca.key"), "sesame").unwrap();
        let error = Authority::open(directory.path(), NOW).err().unwrap().to_string();
        assert!(error.contains("ca.key"), "{error}");
    }
}
