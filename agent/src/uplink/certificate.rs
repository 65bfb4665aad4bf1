//! How the host gets its certificates: the first by a join token, each next one by the one that it has.

use std::convert::Infallible;
use std::time::Duration;

use common::backoff::Backoff;
use common::time::Clock;
use common::wire::message::Enroll;
use common::wire::message::Message;
use common::wire::message::Reason;
use common::wire::message::read_renew_after;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config;
use crate::uplink::Ended;
use crate::uplink::connection::Credentials;
use crate::uplink::connection::Link;
use crate::uplink::connection::LinkError;
use crate::uplink::connection::Transport;
use crate::uplink::identity::Identity;
use crate::uplink::identity::StateDir;
use crate::uplink::identity::StateError;
use crate::uplink::random;

/// How long the aggregator may take to answer.
const ENROLL_TIMEOUT: Duration = Duration::from_secs(60);

/// Delays between attempts to renew: there are ten days for it.
const RENEW_FIRST: Duration = Duration::from_secs(60);
const RENEW_MOST: Duration = Duration::from_secs(3_600);

/// How often it is looked whether the identity is still where it is kept.
const LOOK: Duration = Duration::from_secs(60);

/// Where certificates are asked for, by whom, and where they are kept.
pub(super) struct Desk<'a> {
    pub(super) uplink: &'a config::Uplink,
    pub(super) hostname: &'a str,
    pub(super) state: &'a StateDir,
    pub(super) clock: &'a Clock,
}

/// A certificate that is kept.
pub(super) struct Given {
    /// The host's `instance` label.
    pub(super) instance: String,
    /// When to ask for the next, if the aggregator says so.
    pub(super) renew_after: Option<Duration>,
}

/// When to renew, in time since boot. Sessions and renewals say so; none before.
pub(super) type Due = watch::Sender<Option<Duration>>;

impl Desk<'_> {
    /// Asks for a certificate and keeps it.
    pub(super) async fn ask(
        &self,
        credentials: &Credentials<'_>,
        token: String,
    ) -> Result<Result<Given, Ended>, StateError> {
        let key = match credentials {
            Credentials::Renew(identity) => self.state.key_of(identity)?,
            Credentials::Identity(_) | Credentials::Join(_) => self.state.key()?,
        };
        let csr = self.state.request(&key)?;
        let enroll = Message::Enroll(Enroll { token, csr, hostname: self.hostname.to_owned(), ext: Vec::new() });
        let answer = async {
            let mut link = Link::dial(self.uplink, credentials, &[Transport::Quic, Transport::Tcp]).await?;
            link.say(&enroll).await?;
            let answer = link.hear().await?;
            link.close().await;
            Ok::<_, LinkError>(answer)
        };
        Ok(match timeout(ENROLL_TIMEOUT, answer).await {
            Ok(Ok(Message::Enrolled(enrolled))) => {
                let renewed = match credentials {
                    Credentials::Renew(identity) => Some(*identity),
                    Credentials::Identity(_) | Credentials::Join(_) => None,
                };
                self.state.keep(&enrolled.certificate, &CertificateDer::from(enrolled.ca), renewed)?;
                Ok(Given { instance: enrolled.instance, renew_after: read_renew_after(&enrolled.ext) })
            }
            Ok(Ok(Message::Goodbye(goodbye))) => Err(Ended::Dismissed(Reason::from(goodbye.reason), goodbye.text)),
            Ok(Ok(_)) => Err(Ended::Dismissed(Reason::Malformed, "an answer that enrolment does not have".to_owned())),
            Ok(Err(error)) => Err(Ended::Lost(error)),
            Err(_) => Err(Ended::Lost(LinkError::Broken(format!("no answer within {ENROLL_TIMEOUT:?}")))),
        })
    }

    /// Asks for the next certificate, by the present one.
    pub(super) async fn renew(&self, identity: &Identity) -> Result<Result<Given, Ended>, StateError> {
        self.ask(&Credentials::Renew(identity), String::new()).await
    }

    /// Renews beside a session, whenever that is due. The session keeps the certificate that it began with.
    pub(super) async fn keep_renewed(&self, identity: &Identity, due: &Due) -> Infallible {
        let mut known = due.subscribe();
        let mut backoff = Backoff::new(RENEW_FIRST, RENEW_MOST);
        loop {
            let at = *known.borrow_and_update();
            let passed = async {
                match at {
                    Some(at) => self.clock.sleep_until_boot(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => {}
                // The sender is borrowed: it does not go away.
                _ = known.changed() => continue,
            }
            let renewed = self.renew(identity).await.map_err(|error| error.to_string());
            let after = match renewed.and_then(|asked| asked.map_err(|ended| ended.to_string())) {
                Ok(given) => {
                    tracing::info!("the certificate is renewed");
                    backoff.reset();
                    given.renew_after
                }
                Err(why) => {
                    let pause = backoff.next(random());
                    tracing::warn!(%why, ?pause, "cannot renew the certificate: trying again");
                    Some(pause)
                }
            };
            due.send_replace(after.map(|after| self.clock.boot().saturating_add(after)));
        }
    }

    /// Looks beside a session, in which the aggregator takes this host for what it is, whether its identity is still kept:
    /// without it the next start would be that of another host.
    pub(super) async fn keep_identity(&self, identity: &Identity) -> Infallible {
        let mut told = String::new();
        loop {
            self.clock.sleep(LOOK).await;
            match self.state.restore(identity) {
                Ok(false) => {}
                Ok(true) => tracing::warn!(
                    "the identity of this host was removed from the state directory: it is written again"
                ),
                Err(error) => {
                    let error = error.to_string();
                    if told != error {
                        tracing::warn!(%error, "the identity of this host was removed, and cannot be written: it ends with this process");
                        told = error;
                    }
                }
            }
        }
    }
}
