//! How a host without a certificate gets one, and how the right to do so is made.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use common::batch::HostId;
use common::metric::Labels;
use common::time::Clock;
use common::time::Timestamp;
use common::trust::JoinToken;
use common::wire::message::Enroll;
use common::wire::message::Enrolled;
use common::wire::message::Reason;
use common::wire::message::renew_after;
use tokio::sync::Semaphore;

use crate::ingest::entry::event;
use crate::ingest::presence::Presence;
use crate::ingest::session::End;
use crate::ingest::trust::Authority;
use crate::ingest::trust::RENEWED_BEFORE;
use crate::ingest::trust::Request;
use crate::ingest::trust::Signed;
use crate::ingest::trust::TrustError;
use crate::ingest::trust::sha256;
use crate::store::ReadError;
use crate::store::Store;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::commit::CommitError;
use crate::store::record::Record;
use crate::store::record::hosts;
use crate::store::record::hosts::Host;
use crate::store::record::tokens;
use crate::store::record::tokens::Token;
use crate::store::record::tokens::TokenUse;
use crate::store::record::tokens::Used;

/// A hostname is at most 64 bytes on Linux; names people give have room for a domain.
pub const HOSTNAME_BYTES_MAX: usize = 255;

/// Whether people can call a host so.
#[must_use]
pub fn is_hostname(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= HOSTNAME_BYTES_MAX && !name.chars().any(char::is_control)
}

/// What a token is to allow.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How many hosts it may enrol.
    pub uses: u32,
    /// How long it may be used.
    pub expires: Duration,
    /// Labels for the hosts it enrols.
    pub labels: Labels,
    /// How long after they were last seen its hosts are forgotten, if they are ephemeral.
    pub ephemeral: Option<Duration>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { uses: 1, expires: Duration::from_secs(24 * 3_600), labels: Labels::new(), ephemeral: None }
    }
}

/// Makes a token. `secret` is random; only its hash is kept.
///
/// # Errors
/// When it cannot be stored.
pub async fn mint(
    store: &Store,
    authority: &Authority,
    wanted: Wanted,
    secret: [u8; 16],
    now: Timestamp,
) -> Result<JoinToken, CommitError> {
    let token = Token {
        hash: sha256(&secret),
        uses: wanted.uses,
        created: now,
        expires: now.after(wanted.expires),
        labels: wanted.labels,
        ephemeral: wanted.ephemeral,
        revoked: false,
    };
    store.commit(Commit { appends: Vec::new(), records: vec![Record::Token(token)] }).await?;
    Ok(authority.token(secret))
}

/// Enrols hosts. They are judged one at a time, because numbers, names and uses must not be given twice, and recorded
/// together.
#[derive(Debug)]
pub(super) struct Registrar {
    store: Store,
    presence: Presence,
    clock: Clock,
    turn: Semaphore,
    /// Judged, and not recorded yet; each with the token that it used.
    promised: Mutex<Vec<(Host, Token)>>,
}

/// What is promised to a host until it is recorded, or could not be.
struct Promise<'a> {
    registrar: &'a Registrar,
    host: Host,
    token: Token,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        let mut promised = self.registrar.promised();
        // Of several promises to one key, each takes one away.
        if let Some(at) = promised.iter().position(|(host, _)| host.id == self.host.id) {
            promised.swap_remove(at);
        }
    }
}

impl Registrar {
    pub(super) const fn new(store: Store, presence: Presence, clock: Clock) -> Self {
        Self { store, presence, clock, turn: Semaphore::const_new(1), promised: Mutex::new(Vec::new()) }
    }

    /// Signs the next certificate of a host that shows its present one. An expired one will do: its key is what counts.
    pub(super) async fn renew(&self, enroll: &Enroll, shown: [u8; 32], authority: &Authority) -> Result<Enrolled, End> {
        let request = parse(enroll)?;
        if request.key_hash() != shown {
            return Err(End::new(
                Reason::Malformed,
                "the signing request is for another key than the one shown".to_owned(),
            ));
        }
        let host = known(&self.presence, shown)?;
        let now = self.clock.wall();
        let signed = authority.sign(&request, &host.id.0.to_string(), now)?;
        let renewed = self.presence.renewed(host.id, signed.expires).ok_or_else(unknown)?;
        self.store.commit(Commit { appends: Vec::new(), records: vec![renewed] }).await?;
        Ok(enrolled(&signed, &host, authority, now))
    }

    /// Judges a request by its token and signs it.
    pub(super) async fn enroll(&self, enroll: Enroll, authority: &Authority) -> Result<(Enrolled, Host), End> {
        let request = parse(&enroll)?;
        let mut promise = self.promise(&enroll, request.key_hash()).await?;
        let now = self.clock.wall();
        let signed = authority.sign(&request, &promise.host.id.0.to_string(), now)?;
        promise.host.certificate_expires = signed.expires;
        let Promise { host, token, .. } = &promise;
        self.record(host, token).await?;
        self.presence.enrolled(host.clone(), now);
        Ok((enrolled(&signed, host, authority, now), host.clone()))
    }

    /// The host that a key is or will be, if its token lets it in.
    async fn promise(&self, enroll: &Enroll, key_hash: [u8; 32]) -> Result<Promise<'_>, End> {
        let token: JoinToken = enroll.token.parse().map_err(|error| refusal(&error))?;
        let _turn = self.turn.acquire().await.map_err(|error| refusal(&error))?;
        let hash = sha256(&token.secret);
        // Before the books are read: what is recorded meanwhile is in the one or in the other.
        let using: Vec<[u8; 32]> = {
            let promised = self.promised();
            promised.iter().filter(|(_, token)| token.hash == hash).map(|(host, _)| host.key_hash).collect()
        };
        let mut found = self.store.read(move |connection| tokens::find(connection, hash)).await?;
        let last = self.store.read(hosts::last_number).await?;
        let now = self.clock.wall();
        if let Some((_, keys)) = &mut found {
            let more: Vec<_> = using.into_iter().filter(|using| !keys.contains(using)).collect();
            keys.extend(more);
        }
        let token = judge(found, key_hash, now)?;
        let mut promised = self.promised();
        let host = self.presence.with_hosts(|recorded| {
            let hosts: Vec<&Host> = recorded.into_iter().chain(promised.iter().map(|(host, _)| host)).collect();
            let revoked = hosts.iter().any(|host| host.revoked && host.key_hash == key_hash);
            if revoked {
                Err(End::revoked())
            } else {
                Ok(welcome((&hosts, last), key_hash, &enroll.hostname, &token, now))
            }
        })?;
        promised.push((host.clone(), token.clone()));
        Ok(Promise { registrar: self, host, token })
    }

    fn promised(&self) -> MutexGuard<'_, Vec<(Host, Token)>> {
        // Nothing between two changes of it can panic.
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn record(&self, host: &Host, token: &Token) -> Result<(), CommitError> {
        let used = TokenUse { token: token.hash, key_hash: host.key_hash };
        let mut appends = vec![Append::HostLabels { host: host.id, labels: host.labels() }];
        if host.instance != host.hostname {
            let text = format!("{} was taken: this host is called {}", host.hostname, host.instance);
            appends.push(event(host.id, self.clock.wall(), "host_renamed", text));
        }
        let commit = Commit { appends, records: vec![Record::TokenUse(used), Record::Host(Box::new(host.clone()))] };
        self.store.commit(commit).await.map(drop)
    }
}

/// The host that a key belongs to, unless it may not come in.
///
/// # Errors
/// When there is none, or it was revoked.
pub(super) fn known(presence: &Presence, key_hash: [u8; 32]) -> Result<Host, End> {
    let host = presence.by_key(key_hash).ok_or_else(unknown)?;
    if host.revoked {
        return Err(End::revoked());
    }
    Ok(host)
}

fn unknown() -> End {
    End::new(Reason::Unknown, "this certificate is not known here: join with a new token".to_owned())
}

fn parse(enroll: &Enroll) -> Result<Request, End> {
    let malformed = || End::new(Reason::Malformed, "the signing request cannot be read".to_owned());
    Request::parse(&enroll.csr).ok_or_else(malformed)
}

fn enrolled(signed: &Signed, host: &Host, authority: &Authority, now: Timestamp) -> Enrolled {
    Enrolled {
        certificate: signed.certificate.to_vec(),
        ca: authority.certificate().to_vec(),
        instance: host.instance.clone(),
        ext: vec![renew_after(signed.expires.before(RENEWED_BEFORE).since(now))],
    }
}

/// Whether a token lets this key in.
fn judge(found: Option<Used>, key_hash: [u8; 32], now: Timestamp) -> Result<Token, End> {
    let refuse = |why: &str| {
        End::new(Reason::Token, format!("the join token {why}: make a new one with `lapwing-aggregator token create`"))
    };
    let (token, keys) = found.ok_or_else(|| refuse("is not known here"))?;
    if token.revoked {
        return Err(refuse("was revoked"));
    }
    if token.expires <= now {
        return Err(refuse("has expired"));
    }
    if !keys.contains(&key_hash) && token.uses as usize <= keys.len() {
        return Err(refuse("was used up"));
    }
    Ok(token)
}

/// The host that this key is, or a new one. `last` is the highest number that was ever recorded.
fn welcome((hosts, last): (&[&Host], u32), key_hash: [u8; 32], hostname: &str, token: &Token, now: Timestamp) -> Host {
    if let Some(known) = hosts.iter().find(|host| host.key_hash == key_hash) {
        return Host { token_labels: token.labels.clone(), ..(*known).clone() };
    }
    let last = hosts.iter().fold(last, |last, host| last.max(host.id.0));
    Host {
        id: HostId(last.saturating_add(1)),
        key_hash,
        instance: unique(hosts, hostname),
        hostname: hostname.to_owned(),
        token_labels: token.labels.clone(),
        agent_labels: Labels::new(),
        operator_labels: Labels::new(),
        ephemeral: token.ephemeral,
        certificate_expires: now,
        created: now,
        revoked: false,
        agent_version: String::new(),
        boot_id: None,
        run: None,
        last_seen: now,
        goodbye: None,
    }
}

/// The name, or `name-2` if it is taken, or `name-3`, …
fn unique(hosts: &[&Host], hostname: &str) -> String {
    let shown: String = hostname.chars().filter(|c| !c.is_control()).take(HOSTNAME_BYTES_MAX).collect();
    let name = if shown.is_empty() { "host".to_owned() } else { shown };
    let taken: HashSet<&str> = hosts.iter().map(|host| host.instance.as_str()).collect();
    let mut candidate = name.clone();
    for number in 2..=hosts.len() + 2 {
        if !taken.contains(candidate.as_str()) {
            break;
        }
        candidate = format!("{name}-{number}");
    }
    candidate
}

fn refusal(error: &impl ToString) -> End {
    End::new(Reason::Token, error.to_string())
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        Self::new(Reason::Error, error.to_string())
    }
}

impl From<CommitError> for End {
    fn from(error: CommitError) -> Self {
        Self::new(Reason::Error, error.to_string())
    }
}

impl From<TrustError> for End {
    fn from(error: TrustError) -> Self {
        Self::new(Reason::Error, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn token() -> Token {
        Token {
            hash: [1; 32],
            uses: 1,
            created: NOW,
            expires: NOW.after(Duration::from_secs(10)),
            labels: Labels::new().with("env", "prod"),
            ephemeral: None,
            revoked: false,
        }
    }

    #[test]
    fn a_token_lets_in_whom_it_should() {
        let check = |found: Option<Used>, later: u64, expect: Option<&str>| {
            let judged = judge(found, [9; 32], NOW.after(Duration::from_secs(later)));
            let why = judged.err().map(|end| end.text.split(':').next().unwrap().to_owned());
            assert_eq!(why.as_deref(), expect);
        };
        check(Some((token(), vec![])), 9, None);
        check(Some((token(), vec![[9; 32]])), 9, None);
        check(Some((token(), vec![])), 10, Some("the join token has expired"));
        check(Some((token(), vec![[8; 32]])), 9, Some("the join token was used up"));
        check(Some((Token { revoked: true, ..token() }, vec![])), 9, Some("the join token was revoked"));
        check(None, 9, Some("the join token is not known here"));
    }

    #[test]
    fn names_and_numbers_are_unique() {
        let mut hosts = BTreeMap::new();
        let mut join = |key: u8, hostname: &str| {
            let host = welcome((&hosts.values().collect::<Vec<_>>(), 0), [key; 32], hostname, &token(), NOW);
            hosts.insert(host.id, host.clone());
            (host.id.0, host.instance)
        };
        assert_eq!(join(1, "web"), (1, "web".to_owned()));
        assert_eq!(join(2, "web"), (2, "web-2".to_owned()));
        assert_eq!(join(3, "web"), (3, "web-3".to_owned()));
        assert_eq!(join(2, "db"), (2, "web-2".to_owned()), "the key is the host, whatever it is called");
        assert_eq!(join(4, "a\nb"), (4, "ab".to_owned()));
        assert_eq!(join(5, ""), (5, "host".to_owned()));
        assert_eq!(
            welcome((&[], 7), [1; 32], "web", &token(), NOW).id,
            HostId(8),
            "also those of hosts that were forgotten"
        );
    }
}
