//! The certificate of the page and the API: the operator's, read again when it is renewed, or a self-made one.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use common::time::Clock;
use common::time::Timestamp;
use ring::digest;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::alert::seen::Seen;
use crate::config;
use crate::ingest::trust;
use crate::ingest::trust::TrustError;

/// How often the files are looked at: who renews a certificate sees it served at once.
const LOOK: Duration = Duration::from_secs(10);

/// A browser takes no certificate that lasts longer.
const SELF_MADE_LASTS: Duration = Duration::from_secs(397 * 24 * 3_600);

/// How long before its end a self-made certificate is made anew, when the aggregator starts.
const SELF_MADE_RENEWED: Duration = Duration::from_secs(60 * 24 * 3_600);

/// The files of a self-made one, in the data directory.
const SELF_MADE: [&str; 2] = ["http.pem", "http.key"];

/// Why nothing can be served over TLS. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read or written.
    #[error("cannot use {0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// It does not hold what it should.
    #[error("cannot read {0}: {1}")]
    Content(PathBuf, String),
    /// No certificate can be made.
    #[error(transparent)]
    Make(#[from] TrustError),
    /// The two do not belong together.
    #[error("{0}")]
    Unusable(String),
}

/// What is served. Cloning shares it.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    kept: Arc<Kept>,
}

/// The certificate in use, and where it comes from.
struct Kept {
    certificate: PathBuf,
    key: PathBuf,
    in_use: RwLock<Arc<CertifiedKey>>,
}

impl Tls {
    /// Reads the certificate that the configuration names, or makes one for these names.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn open(config: &config::Tls, data_dir: &Path, names: &[String], now: Timestamp) -> Result<Self, TlsError> {
        let (certificate, key) = match config {
            config::Tls::Files { certificate, key } => (certificate.clone(), key.clone()),
            config::Tls::SelfMade => {
                let [certificate, key] = SELF_MADE.map(|name| data_dir.join(name));
                if !is_fresh(&certificate, now) {
                    trust::self_made((&certificate, &key), names, SELF_MADE_LASTS, now)?;
                }
                (certificate, key)
            }
        };
        let in_use = RwLock::new(Arc::new(read(&certificate, &key)?));
        let kept = Arc::new(Kept { certificate, key, in_use });
        let tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Unusable(error.to_string()))?;
        let mut tls = tls.with_no_client_auth().with_cert_resolver(Arc::clone(&kept) as Arc<dyn ResolvesServerCert>);
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tracing::info!(sha256 = %kept.fingerprint(), "certificate of the page");
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(tls)), kept })
    }

    /// Makes connections secure.
    #[must_use]
    pub const fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Reads the files again when they change. The old certificate is kept on an error.
    pub async fn watch(self, clock: Clock, stop: CancellationToken) {
        let look = || [Seen::at(&self.kept.certificate), Seen::at(&self.kept.key)];
        let mut seen = look();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep(LOOK) => {}
            }
            if std::mem::replace(&mut seen, look()) == seen {
                continue;
            }
            match self.kept.read_again() {
                Ok(()) => tracing::info!(sha256 = %self.kept.fingerprint(), "certificate of the page is renewed"),
                Err(error) => tracing::warn!(%error, "the page keeps its old certificate"),
            }
        }
    }
}

impl Kept {
    fn read_again(&self) -> Result<(), TlsError> {
        let read = Arc::new(read(&self.certificate, &self.key)?);
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    fn in_use(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.in_use.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a browser shows of it.
    fn fingerprint(&self) -> String {
        let key = self.in_use();
        let hash = key.cert.first().map(|certificate| digest::digest(&digest::SHA256, certificate));
        hash.iter().flat_map(|hash| hash.as_ref()).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl ResolvesServerCert for Kept {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.in_use())
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Reads the files that a configuration names, if it does.
///
/// # Errors
/// When one cannot be used.
pub fn check(config: &config::Tls) -> Result<(), TlsError> {
    match config {
        config::Tls::Files { certificate, key } => read(certificate, key).map(drop),
        config::Tls::SelfMade => Ok(()),
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let pem = |file: &Path| fs::read(file).map_err(|error| TlsError::File(file.to_owned(), error));
    let content = |file: &Path, why: String| TlsError::Content(file.to_owned(), why);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem(certificate)?).collect();
    let chain = chain.map_err(|error| content(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(content(certificate, "there is no certificate in it".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(&pem(key)?).map_err(|error| content(key, error.to_string()))?;
    let signing = any_supported_type(&private).map_err(|error| content(key, error.to_string()))?;
    let certified = CertifiedKey::new(chain, signing);
    let mismatch = |_| TlsError::Unusable(format!("{} is not the key of {}", key.display(), certificate.display()));
    certified.keys_match().map_err(mismatch)?;
    Ok(certified)
}

/// Whether there is one that lasts a while.
fn is_fresh(certificate: &Path, now: Timestamp) -> bool {
    let pem = fs::read(certificate).unwrap_or_default();
    let ends = CertificateDer::from_pem_slice(&pem).ok().and_then(|certificate| trust::ends(&certificate));
    ends.is_some_and(|ends| now.after(SELF_MADE_RENEWED) < ends)
}

#[cfg(test)]
mod tests {
    use rustls::ClientConfig;
    use rustls::RootCertStore;
    use rustls::pki_types::ServerName;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio_rustls::TlsConnector;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn names() -> Vec<String> {
        vec!["lapwing.test".to_owned(), "127.0.0.1".to_owned()]
    }

    /// Whether somebody who believes this certificate alone gets an answer.
    async fn answers(tls: &Tls, believed: &Path, name: &'static str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&fs::read(believed).unwrap()).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(1_000);
        let connector = TlsConnector::from(Arc::new(client));
        let serve = async {
            let mut stream = tls.acceptor().accept(far).await.ok()?;
            stream.write_all(b"x").await.ok()
        };
        let ask = async {
            let mut stream = connector.connect(ServerName::try_from(name).unwrap(), near).await.ok()?;
            stream.read_u8().await.ok()
        };
        tokio::join!(serve, ask).1 == Some(b'x')
    }

    #[tokio::test]
    async fn a_self_made_certificate_is_for_its_names_and_kept_until_its_end_is_near() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("http.pem");
        let open = |now| Tls::open(&config::Tls::SelfMade, directory.path(), &names(), now).unwrap();
        let now = Clock::real().wall();
        let first = open(now).kept.fingerprint();
        let tls = open(now.after(300 * Duration::from_secs(86_400)));
        assert_eq!(tls.kept.fingerprint(), first);
        for (name, expect) in [("lapwing.test", true), ("127.0.0.1", true), ("other.test", false)] {
            assert_eq!(answers(&tls, &file, name).await, expect, "{name}");
        }
        assert_ne!(open(now.after(340 * Duration::from_secs(86_400))).kept.fingerprint(), first);
    }

    #[tokio::test]
    async fn files_that_change_are_read_again_and_kept_on_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key] = ["page.pem", "page.key"].map(|name| directory.path().join(name));
        trust::self_made((&certificate, &key), &names(), Duration::from_secs(1_000), NOW).unwrap();
        let files = config::Tls::Files { certificate: certificate.clone(), key: key.clone() };
        let open = || Tls::open(&files, directory.path(), &[], NOW);
        let tls = open().unwrap();
        let first = tls.kept.fingerprint();
        let other = directory.path().join("other.key");
        trust::self_made((&certificate, &other), &names(), Duration::from_secs(1_000), NOW).unwrap();
        let refused = tls.kept.read_again().unwrap_err().to_string();
        assert!(refused.contains("page.key is not the key of"), "{refused}");
        assert_eq!((tls.kept.fingerprint() == first, open().is_err()), (true, true));
        fs::rename(&other, &key).unwrap();
        tls.kept.read_again().unwrap();
        assert_ne!(tls.kept.fingerprint(), first);
        for (text, expect) in [("", "no certificate"), ("-----BEGIN CERTIFICATE-----\n", "cannot read")] {
            fs::write(&certificate, text).unwrap();
            let refused = open().err().unwrap().to_string();
            assert!(refused.contains(expect) && refused.contains("page.pem"), "{refused}");
        }
        fs::remove_file(&certificate).unwrap();
        assert!(open().err().unwrap().to_string().contains("cannot use"));
    }
}
