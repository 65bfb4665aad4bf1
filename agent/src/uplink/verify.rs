//! Whom the agent believes to be the aggregator: the one name and its CA, whatever address was dialled.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use common::trust::SERVER_NAME;
use common::trust::VALIDITY_TOLERANCE;
use rustls::CertificateError;
use rustls::DigitallySignedStruct;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;

use crate::uplink::identity::key_hash;

/// The CA that the aggregator's certificate must come from.
#[derive(Debug)]
pub(super) enum Believe {
    /// This one.
    Ca(CertificateDer<'static>),
    /// The one in the aggregator's chain whose key has this hash: what a join token says.
    KeyHash([u8; 32]),
}

/// Checks as rustls does, but for the clock: a host whose clock is up to two days off still finds its aggregator.
#[derive(Debug)]
pub(super) struct Verifier {
    believe: Believe,
    provider: Arc<CryptoProvider>,
    met_stranger: AtomicBool,
}

impl Verifier {
    pub(super) const fn new(believe: Believe, provider: Arc<CryptoProvider>) -> Self {
        Self { believe, provider, met_stranger: AtomicBool::new(false) }
    }

    /// Whether somebody else showed a certificate since this was asked last: the errors of transports do not tell.
    pub(super) fn met_stranger(&self) -> bool {
        self.met_stranger.swap(false, Relaxed)
    }

    fn strict(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let ca = match &self.believe {
            Believe::Ca(ca) => ca.clone(),
            Believe::KeyHash(hash) => {
                let named = chain.iter().find(|certificate| key_hash(certificate) == Some(*hash));
                let other = || rustls::Error::General("this is not the aggregator that made the join token".to_owned());
                named.ok_or_else(other)?.clone().into_owned()
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.strict(intermediates).and_then(|strict| {
            let name = ServerName::try_from(SERVER_NAME).map_err(|error| rustls::Error::General(error.to_string()))?;
            let at = |now| strict.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now);
            let (earlier, later) = around(now);
            at(now).or_else(|error| at(earlier).or_else(|_| at(later)).map_err(|_| error))
        });
        let is_stranger = verified.as_ref().is_err_and(|error| !is_of_time(error));
        self.met_stranger.fetch_or(is_stranger, Relaxed);
        verified
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC is TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether it is only that a certificate was valid at other times.
const fn is_of_time(error: &rustls::Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let rustls::Error::InvalidCertificate(error) = error else { return false };
    matches!(error, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

fn around(now: UnixTime) -> (UnixTime, UnixTime) {
    let now = std::time::Duration::from_secs(now.as_secs());
    let moment = UnixTime::since_unix_epoch;
    (moment(now.saturating_sub(VALIDITY_TOLERANCE)), moment(now.saturating_add(VALIDITY_TOLERANCE)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::BasicConstraints;
    use rcgen::CertificateParams;
    use rcgen::IsCa;
    use rcgen::Issuer;
    use rcgen::KeyPair;
    use rcgen::date_time_ymd;
    use rustls::crypto::ring::default_provider;

    use super::*;

    const DAY: u64 = 24 * 3_600;
    /// 2026-01-01.
    const FROM: u64 = 1_767_225_600;

    struct Fixture {
        ca: CertificateDer<'static>,
        server: CertificateDer<'static>,
    }

    /// A CA, and a certificate of it for `name`, both valid through January 2026.
    fn fixture(name: &str) -> Fixture {
        let january = |params: &mut CertificateParams| {
            (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 2, 1));
        };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        january(&mut params);
        let ca = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        january(&mut params);
        let server = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
        Fixture { ca, server }
    }

    fn check(believe: Believe, shown: &Fixture, at: u64, expect: bool) {
        let verifier = Verifier::new(believe, Arc::new(default_provider()));
        let now = UnixTime::since_unix_epoch(Duration::from_secs(at));
        let dialled = ServerName::try_from("192.0.2.1").unwrap();
        let chain = [shown.ca.clone()];
        let verified = verifier.verify_server_cert(&shown.server, &chain, &dialled, &[], now);
        assert_eq!(verified.is_ok(), expect, "{verified:?}");
        // All that is refused within the time of the certificates is somebody else's.
        let within = (FROM..FROM + 31 * DAY).contains(&at);
        assert_eq!(verifier.met_stranger(), !expect && within, "{verified:?}");
        assert!(!verifier.met_stranger(), "it is told once");
    }

    #[test]
    fn the_name_and_the_ca_are_believed_whatever_was_dialled() {
        let (ours, other) = (fixture(SERVER_NAME), fixture(SERVER_NAME));
        let misnamed = fixture("aggregator.example");
        check(Believe::Ca(ours.ca.clone()), &ours, FROM + DAY, true);
        check(Believe::Ca(ours.ca.clone()), &other, FROM + DAY, false);
        check(Believe::Ca(misnamed.ca.clone()), &misnamed, FROM + DAY, false);
        check(Believe::KeyHash(key_hash(&ours.ca).unwrap()), &ours, FROM + DAY, true);
        check(Believe::KeyHash(key_hash(&ours.ca).unwrap()), &other, FROM + DAY, false);
    }

    #[test]
    fn a_clock_may_be_two_days_off() {
        let ours = fixture(SERVER_NAME);
        let check = |at, expect| check(Believe::Ca(ours.ca.clone()), &ours, at, expect);
        check(FROM - DAY, true);
        check(FROM - 3 * DAY, false);
        check(FROM + 32 * DAY, true);
        check(FROM + 34 * DAY, false);
    }
}
