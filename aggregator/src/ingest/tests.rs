//! The real endpoint on port 0, and a client that says whatever a test wants.

use std::path::Path;
use std::thread;

use common::batch::HostId;
use common::batch::RunId;
use common::metric::Labels;
use common::time::TimeRange;
use common::time::Timestamp;
use common::trust::ALPN;
use common::trust::SERVER_NAME;
use common::wire::frame;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message::Hello;
use common::wire::message::Message;
use common::wire::message::Reason;
use quinn::Connection;
use quinn::RecvStream;
use quinn::SendStream;
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::version::TLS13;
use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::store::StoreConfig;
use crate::store::lock::Lock;
use crate::store::record::hosts::Host;

/// Everything here takes milliseconds; a hung test must not cost more than this.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    _data: tempfile::TempDir,
    store: Store,
    authority: Arc<Authority>,
    presence: Presence,
    counters: Arc<Counters>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Bench {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock = Clock::real();
        let config = StoreConfig { commit_interval: Duration::from_millis(1), ..StoreConfig::default() };
        let (store, writer) = open(data.path(), config, &clock);
        thread::spawn(|| writer.run());
        let authority = Arc::new(Authority::open(data.path(), clock.wall()).unwrap());
        let presence = Presence::new(Vec::new(), clock.wall());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let ingest = Ingest::bind(any, Arc::clone(&authority), store.clone(), presence.clone(), clock).unwrap();
        let (address, counters, stop) = (ingest.local_addr().unwrap(), ingest.counters(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(ingest.run(stop.clone()));
        Self { _data: data, store, authority, presence, counters, address, stop, tasks }
    }

    /// Makes a host known, changed as the test wants, and returns its key.
    fn host(&self, change: impl FnOnce(&mut Host)) -> KeyPair {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let now = Clock::real().wall();
        let mut host = Host {
            id: HostId(1),
            key_hash: trust::key_hash(certificate.der()).unwrap(),
            instance: "web".to_owned(),
            hostname: "web".to_owned(),
            token_labels: Labels::new(),
            agent_labels: Labels::new(),
            ephemeral: None,
            certificate_expires: now.after(Duration::from_secs(1_000)),
            created: now,
            revoked: false,
            agent_version: String::new(),
            boot_id: None,
            run: None,
            last_seen: now,
            goodbye: None,
        };
        change(&mut host);
        self.presence.enrolled(host, now);
        key
    }

    async fn dial(&self, key: Option<&KeyPair>) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate().clone()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match key {
            Some(key) => {
                let certificate = CertificateParams::default().self_signed(key).unwrap();
                let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
                tls.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
            None => tls.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let connection = endpoint.connect_with(config, self.address, SERVER_NAME).unwrap().await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        Client { _endpoint: endpoint, _connection: connection, send, receive, reader: Reader::new(FRAME_BYTES_MAX) }
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.store.close();
    }
}

fn open(data: &Path, config: StoreConfig, clock: &Clock) -> (Store, crate::store::Writer) {
    Store::open(Lock::take(data).unwrap(), config, clock.clone()).unwrap()
}

struct Client {
    _endpoint: Endpoint,
    _connection: Connection,
    send: SendStream,
    receive: RecvStream,
    reader: Reader,
}

impl Client {
    async fn say(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.unwrap();
    }

    async fn hear(&mut self) -> Message {
        let heard = async {
            loop {
                if let Some(message) = self.reader.next().unwrap() {
                    return message;
                }
                let chunk = self.receive.read_chunk(1_000, true).await.unwrap().unwrap();
                self.reader.push(&chunk.bytes);
            }
        };
        timeout(PATIENCE, heard).await.unwrap()
    }

    /// The reason with which the aggregator ends the session.
    async fn end(&mut self) -> Reason {
        loop {
            if let Message::Goodbye(goodbye) = self.hear().await {
                return Reason::from(goodbye.reason);
            }
        }
    }
}

fn hello() -> Vec<u8> {
    frame::encode(&Message::Hello(Hello {
        agent_version: "0.1.0".to_owned(),
        run: RunId([1; 16]),
        schema_version: 0,
        spools: Vec::new(),
        codec_max: 1,
        boot_id: [0; 16],
        hostname: "web".to_owned(),
        labels: Labels::new(),
        wall: Timestamp::default(),
        ext: Vec::new(),
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_ends_the_session_with_a_reason_and_stores_nothing() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let check = async |bytes: &[u8], expect: Reason| {
        let mut client = bench.dial(Some(&key)).await;
        client.say(&hello()).await;
        assert!(matches!(client.hear().await, Message::Welcome(_)));
        client.say(bytes).await;
        assert_eq!(client.end().await, expect, "{bytes:?}");
    };
    check(&[4, 0, 0xff, 0xff, 0xff, 0x7f], Reason::Limit).await;
    check(&[4, 0, 3, 1, 2, 3], Reason::Malformed).await;
    check(&[1, 0, 1, 0xff], Reason::Malformed).await;
    check(&hello(), Reason::Malformed).await;
    check(&unreadable_batch(), Reason::Malformed).await;
    assert_eq!(bench.counters.malformed_total.get(), 5);
    assert_eq!(bench.counters.batches_total.get(), 0);
    let all = TimeRange { after: Timestamp::default(), through: Timestamp::from_millis(i64::MAX) };
    assert_eq!(bench.store.series(&[], all), Vec::<Labels>::new());
    bench.end().await;
}

/// A whole frame around a payload that no codec wrote.
fn unreadable_batch() -> Vec<u8> {
    frame::encode(&Message::Batch(common::batch::EncodedBatch {
        run: RunId([1; 16]),
        spool: common::batch::SpoolId([2; 16]),
        seq: common::batch::Seq(0),
        schema_version: 9,
        stamp: Clock::real().wall(),
        codec: 1,
        keyframe: true,
        payload: vec![1, 200],
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_judged_by_the_session() {
    let check = async |change: fn(&mut Host), shown: bool, expect: Reason| {
        let bench = Bench::start();
        let key = bench.host(change);
        let mut client = bench.dial(shown.then_some(&key)).await;
        client.say(&hello()).await;
        assert_eq!(client.end().await, expect);
        assert_eq!(bench.counters.refused_total.get(), 1);
        bench.end().await;
    };
    check(|_| {}, false, Reason::Unknown).await;
    check(|host| host.key_hash = [0; 32], true, Reason::Unknown).await;
    check(|host| host.revoked = true, true, Reason::Revoked).await;
    check(|host| host.certificate_expires = Timestamp::default(), true, Reason::Expired).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newer_of_two_sessions_wins_and_a_stop_says_goodbye() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let mut older = bench.dial(Some(&key)).await;
    older.say(&hello()).await;
    assert!(matches!(older.hear().await, Message::Welcome(_)));
    let mut newer = bench.dial(Some(&key)).await;
    newer.say(&hello()).await;
    assert_eq!(older.end().await, Reason::Replaced);
    assert!(matches!(newer.hear().await, Message::Welcome(_)));
    assert_eq!(bench.counters.replaced_total.get(), 1);
    bench.stop.cancel();
    assert_eq!(newer.end().await, Reason::Restart);
    bench.end().await;
}
