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
use ring::hmac;
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

/// How long after a rotation agents are let in that know only the CA before: three times as long as a host that is up needs
/// at most to learn the new one.
const OVERLAP: Duration = Duration::from_secs(90 * DAY.as_secs());

/// How long before its end a certificate is renewed, a third of its time: a host may be off for a week and more without
/// its certificate ending.
pub(super) const RENEWED_BEFORE: Duration = Duration::from_secs(10 * DAY.as_secs());

/// What a certificate in a file ends with.
const END: &str = "-----END CERTIFICATE-----\n";

/// Signs the certificates of hosts and of the aggregator itself.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// What shows it to those who know only the CA before: its certificate by that one, and that one's own.
    before: Vec<CertificateDer<'static>>,
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
    /// Hosts would be left behind.
    #[error(
        "the CA is new already: until {} there may be agents that know only the one before, and another would lock them \
         out; `--anew` does it", date(*.0)
    )]
    Overlaps(Timestamp),
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Sign(#[from] rcgen::Error),
}

impl Authority {
    /// A secret for one purpose, which stays the same as long as its key does.
    pub(super) fn secret(&self, purpose: &str) -> hmac::Key {
        let own = hmac::Key::new(hmac::HMAC_SHA256, &self.issuer.key().serialize_der());
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&own, purpose.as_bytes()).as_ref())
    }

    /// Reads `ca.key` and `ca.pem` of the data directory, or makes them.
    ///
    /// # Errors
    /// When a file cannot be read, written or understood.
    pub fn open(data_dir: &Path, now: Timestamp) -> Result<Self, TrustError> {
        let [key_file, next_key_file, certificate_file, _] = files(data_dir);
        if !certificate_file.exists() {
            // The certificate is written last: a key without one is a first start that was cut off.
            make(&key_file, &certificate_file, now)?;
        }
        let content = |why: String| TrustError::Content(certificate_file.clone(), why);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(read(&certificate_file)?.as_bytes()).collect();
        let mut chain = chain.map_err(|error| content(error.to_string()))?.into_iter();
        let certificate = chain.next().ok_or_else(|| content("it has no certificate".to_owned()))?;
        let mut before: Vec<_> = chain.collect();
        if before.first().and_then(ends).is_none_or(|ends| ends <= now) {
            before.clear();
        }
        if next_key_file.exists() {
            finish(&next_key_file, &key_file, &certificate)?;
        }
        let key = read_key(&key_file)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| content(error.to_string()))?;
        Ok(Self { issuer, certificate, before })
    }

    /// Makes another authority in place of the one of a data directory that nobody uses, whose key is gone then. Those who
    /// know only the one before are let in for a while: answers until when. `anew` does it though such a while lasts.
    ///
    /// # Errors
    /// When such a while lasts, and when a file cannot be read, written or understood.
    pub fn rotate(data_dir: &Path, now: Timestamp, anew: bool) -> Result<Timestamp, TrustError> {
        let old = Self::open(data_dir, now)?;
        if let Some(until) = old.before.first().and_then(ends).filter(|_| !anew) {
            return Err(TrustError::Overlaps(until));
        }
        let [key_file, next_key_file, certificate_file, next_certificate_file] = files(data_dir);
        let key = KeyPair::generate()?;
        let (own, _) = authority(now, CA_VALIDITY);
        let (known, until) = authority(now, OVERLAP);
        let before = read(&certificate_file)?;
        let before = before.split_inclusive(END).next().unwrap_or_default();
        let chain = [&own.self_signed(&key)?.pem(), &known.signed_by(&key, &old.issuer)?.pem(), before];
        // Whichever of these is the last one done, `open` finds one authority and its key.
        write(&next_key_file, 0o600, &key.serialize_pem())?;
        write(&next_certificate_file, 0o644, &chain.concat())?;
        rename(&next_certificate_file, &certificate_file)?;
        rename(&next_key_file, &key_file)?;
        Ok(until)
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
        let shown = [certificate.der(), &self.certificate].into_iter().chain(&self.before);
        let chain = shown.cloned().collect();
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

/// The day of a moment, for a person.
#[must_use]
pub fn date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.as_millis());
    at.map(|at| at.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
}

/// Until when a certificate is valid.
#[must_use]
pub fn ends(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(Timestamp::from_millis(certificate.validity().not_after.timestamp().checked_mul(1_000)?))
}

fn make(key_file: &Path, certificate_file: &Path, now: Timestamp) -> Result<(), TrustError> {
    let key = KeyPair::generate()?;
    let (params, _) = authority(now, CA_VALIDITY);
    let certificate = params.self_signed(&key)?;
    write(key_file, 0o600, &key.serialize_pem())?;
    write(certificate_file, 0o644, &certificate.pem())
}

/// What a certificate of the authority says, and until when.
fn authority(now: Timestamp, validity: Duration) -> (CertificateParams, Timestamp) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Lapwing CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let until = valid(&mut params, now, validity);
    (params, until)
}

/// The authority's key and certificates, each with what it is to become.
fn files(data_dir: &Path) -> [PathBuf; 4] {
    ["ca.key", "ca.key.next", "ca.pem", "ca.pem.next"].map(|name| data_dir.join(name))
}

/// A rotation that was cut off is finished where its certificate is in place, and was none where it is not.
fn finish(next_key_file: &Path, key_file: &Path, certificate: &CertificateDer<'_>) -> Result<(), TrustError> {
    let next = read_key(next_key_file).ok().map(|key| sha256(&key.subject_public_key_info()));
    if next.is_some() && next == key_hash(certificate) {
        return rename(next_key_file, key_file);
    }
    fs::remove_file(next_key_file).map_err(|error| TrustError::File(next_key_file.to_owned(), error))
}

fn read_key(file: &Path) -> Result<KeyPair, TrustError> {
    KeyPair::from_pem(&read(file)?).map_err(|error| TrustError::Content(file.to_owned(), error.to_string()))
}

fn read(file: &Path) -> Result<String, TrustError> {
    fs::read_to_string(file).map_err(|error| TrustError::File(file.to_owned(), error))
}

fn rename(from: &Path, to: &Path) -> Result<(), TrustError> {
    let renamed = fs::rename(from, to).and_then(|()| match to.parent() {
        Some(directory) => fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    });
    renamed.map_err(|error| TrustError::File(to.to_owned(), error))
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

    /// The hashes of the keys of all authorities that a server shows.
    fn shown(data_dir: &Path, now: Timestamp) -> Vec<[u8; 32]> {
        let identity = Authority::open(data_dir, now).unwrap().server(now).unwrap();
        identity.chain.iter().skip(1).map(|certificate| key_hash(certificate).unwrap()).collect()
    }

    #[test]
    fn a_new_authority_is_shown_with_the_one_before_for_ninety_days() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path();
        let first = Authority::open(dir, NOW).unwrap().key_hash();
        let until = Authority::rotate(dir, NOW, false).unwrap();
        assert_eq!(until, NOW.after(OVERLAP));
        let second = Authority::open(dir, NOW).unwrap().key_hash();
        assert_ne!(first, second);
        assert_eq!(shown(dir, NOW), [second, second, first]);
        let refused = Authority::rotate(dir, until.before(DAY), false).unwrap_err();
        assert!(matches!(refused, TrustError::Overlaps(at) if at == until), "{refused}");
        assert_eq!(shown(dir, until), [second]);

        Authority::rotate(dir, until, false).unwrap();
        let third = Authority::open(dir, until).unwrap().key_hash();
        assert_eq!(shown(dir, until), [third, third, second]);
        Authority::rotate(dir, until, true).unwrap();
        assert_eq!(shown(dir, until)[2], third);
    }

    /// A kill behind each of its writes leaves one authority, and its key.
    #[test]
    fn a_rotation_that_is_cut_off_is_done_or_was_none() {
        let [before, after] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [old, new] = [&before, &after].map(|directory| directory.path());
        let first = Authority::open(old, NOW).unwrap().key_hash();
        for file in ["ca.key", "ca.pem"] {
            fs::copy(old.join(file), new.join(file)).unwrap();
        }
        Authority::rotate(new, NOW, false).unwrap();
        let second = Authority::open(new, NOW).unwrap().key_hash();
        let check = |written: &[(&str, &str)], expect: [u8; 32]| {
            let directory = tempfile::tempdir().unwrap();
            for file in ["ca.key", "ca.pem"] {
                fs::copy(old.join(file), directory.path().join(file)).unwrap();
            }
            for (from, to) in written {
                fs::copy(new.join(from), directory.path().join(to)).unwrap();
            }
            assert_eq!(Authority::open(directory.path(), NOW).unwrap().key_hash(), expect, "{written:?}");
            assert_eq!(shown(directory.path(), NOW)[0], expect, "{written:?}");
            assert!(!directory.path().join("ca.key.next").exists(), "{written:?}");
        };
        check(&[("ca.key", "ca.key.next")], first);
        check(&[("ca.key", "ca.key.next"), ("ca.pem", "ca.pem.next")], first);
        check(&[("ca.key", "ca.key.next"), ("ca.pem", "ca.pem")], second);
        check(&[("ca.key", "ca.key"), ("ca.pem", "ca.pem")], second);
        fs::write(old.join("ca.key.next"), "-----BEGIN").unwrap();
        assert_eq!(Authority::open(old, NOW).unwrap().key_hash(), first, "a key that is not whole");
    }

    #[test]
    fn a_file_that_is_not_what_it_should_be_is_named() {
        for file in ["ca.pem", "ca.key"] {
            let directory = tempfile::tempdir().unwrap();
            Authority::open(directory.path(), NOW).unwrap();
            fs::write(directory.path().join(file), "sesame").unwrap();
            let error = Authority::open(directory.path(), NOW).err().unwrap().to_string();
            assert!(error.contains(file) && !error.contains("sesame"), "{error}");
        }
    }
}
