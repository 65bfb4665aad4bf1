//! The real endpoint on port 0, and a client that says whatever a test wants.

mod flow;
mod hostile;

use std::thread;

use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::Event;
use common::batch::HostId;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::batch::WINDOW;
use common::metric::Decimals;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::Tier;
use common::schema::Column;
use common::schema::Entity;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::schema::SeriesIndex;
use common::time::TimeRange;
use common::time::Timestamp;
use common::trust::ALPN;
use common::trust::SERVER_NAME;
use common::window::Gauge;
use common::window::Window;
use common::wire::codec;
use common::wire::codec::CODEC;
use common::wire::codec::State;
use common::wire::frame;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message::ANSWERS_RECALL;
use common::wire::message::Extensions;
use common::wire::message::Hello;
use common::wire::message::Message;
use common::wire::message::Reason;
use common::wire::message::Recall;
use common::wire::message::Recorded;
use common::wire::message::SchemaMessage;
use common::wire::message::SpoolHeld;
use common::wire::message::abilities;
use quinn::Connection;
use quinn::Endpoint;
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
use crate::ingest::door::HANDSHAKES_CLAIMED_MAX;
use crate::ingest::door::HANDSHAKES_PER_ADDRESS_MAX;
use crate::ingest::recall::NotRecalled;
use crate::ingest::session::BUSY_FOR;
use crate::store::StoreConfig;
use crate::store::full::Disk;
use crate::store::full::TOO_MANY_BYTES;
use crate::store::lock::Lock;
use crate::store::record::hosts::Host;
use crate::store::select::SelectError;

/// Everything here takes milliseconds; a hung test must not cost more than this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Real time between two looks at what the network does in real time.
const GLANCE: Duration = Duration::from_millis(10);

struct Bench {
    _data: tempfile::TempDir,
    clock: Clock,
    disk: Disk,
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
        let clock = Clock::moved(Clock::real().wall());
        let config = StoreConfig { commit_interval: Duration::from_millis(1), ..StoreConfig::default() };
        let (store, writer) = Store::open(Lock::take(data.path()).unwrap(), config, clock.clone()).unwrap();
        let disk = Disk::under(&writer, data.path());
        thread::spawn(|| writer.run());
        let authority = Arc::new(Authority::open(data.path(), clock.wall()).unwrap());
        let presence = Presence::new(Vec::new(), Vec::new(), clock.wall());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let ingest = Ingest::bind(any, Arc::clone(&authority), store.clone(), presence.clone(), clock.clone()).unwrap();
        let (address, counters, stop) = (ingest.local_addr().unwrap(), ingest.counters(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(ingest.run(stop.clone()));
        Self { _data: data, clock, disk, store, authority, presence, counters, address, stop, tasks }
    }

    /// Makes a host known, changed as the test wants, and returns its key.
    fn host(&self, change: impl FnOnce(&mut Host)) -> KeyPair {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let now = self.clock.wall();
        let mut host = Host {
            id: HostId(1),
            key_hash: trust::key_hash(certificate.der()).unwrap(),
            instance: "web".to_owned(),
            hostname: "web".to_owned(),
            token_labels: Labels::new(),
            agent_labels: Labels::new(),
            operator_labels: Labels::new(),
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

    fn client(&self, key: Option<&KeyPair>) -> quinn::ClientConfig {
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
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
    }

    async fn dial(&self, key: Option<&KeyPair>) -> Client {
        self.dial_at(self.address, key).await
    }

    async fn dial_at(&self, address: SocketAddr, key: Option<&KeyPair>) -> Client {
        let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let connecting = endpoint.connect_with(self.client(key), address, SERVER_NAME).unwrap();
        let connection = connecting.await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        Client { _endpoint: endpoint, _connection: connection, send, receive, reader: Reader::new(FRAME_BYTES_MAX) }
    }

    /// What a client hears next, while time passes.
    async fn heard(&self, client: &mut Client) -> Message {
        loop {
            tokio::select! {
                message = client.hear() => return message,
                () = tokio::time::sleep(GLANCE) => self.clock.advance(BUSY_FOR),
            }
        }
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.store.close();
    }
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

const RUN: RunId = RunId([1; 16]);
const SPOOL: SpoolId = SpoolId([2; 16]);

fn hello() -> Vec<u8> {
    hello_with(Vec::new())
}

/// With fields that came later.
fn hello_with(ext: Extensions) -> Vec<u8> {
    frame::encode(&Message::Hello(Hello {
        agent_version: "0.1.0".to_owned(),
        run: RUN,
        schema_version: 0,
        spools: vec![SPOOL],
        codec_max: 1,
        boot_id: [0; 16],
        hostname: "web".to_owned(),
        labels: Labels::new(),
        wall: Timestamp::default(),
        ext,
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
    let found: Result<Vec<Labels>, SelectError> = bench.store.series(&[], all, (1, &|_| Ok(())));
    assert_eq!(found.unwrap(), []);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_does_not_say_so_is_not_asked_what_it_recorded() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let ask = || bench.presence.recall(HostId(1), Timestamp::from_seconds(1), Timestamp::from_seconds(2));
    assert_eq!(ask().unwrap_err(), NotRecalled::Away);
    let mut client = bench.dial(Some(&key)).await;
    client.say(&hello()).await;
    assert!(matches!(client.hear().await, Message::Welcome(_)));
    assert_eq!(ask().unwrap_err(), NotRecalled::Unable);
    let mut newer = bench.dial(Some(&key)).await;
    newer.say(&hello_with(vec![abilities(ANSWERS_RECALL)])).await;
    assert!(matches!(newer.hear().await, Message::Welcome(_)));
    let mut answers = ask().unwrap();
    let Message::Recall(Recall { id, .. }) = newer.hear().await else { panic!() };
    // What was never asked for is told to stop, and disturbs nobody.
    for (id, end) in [(id + 7, false), (id, true)] {
        let recorded = Recorded { id, run: RUN, begin: true, decimals: vec![], bytes: vec![0xff; 9], end, ext: vec![] };
        newer.say(&frame::encode(&Message::Recorded(recorded))).await;
    }
    assert!(matches!(newer.hear().await, Message::Recall(recall) if recall.id == id + 7 && recall.to < recall.from));
    assert!(timeout(PATIENCE, answers.recv()).await.unwrap().unwrap().end);
    drop(newer);
    bench.end().await;
}

/// A whole frame around a payload that no codec wrote.
fn unreadable_batch() -> Vec<u8> {
    frame::encode(&Message::Batch(EncodedBatch {
        run: RUN,
        spool: SPOOL,
        seq: Seq(0),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_connections_to_linger() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let (address, _way) = far(bench.address).await;
    let mut client = bench.dial_at(address, Some(&key)).await;
    client.say(&hello()).await;
    assert!(matches!(client.hear().await, Message::Welcome(_)));
    let stopping = tokio::time::Instant::now();
    bench.stop.cancel();
    assert_eq!(client.end().await, Reason::Restart);
    bench.end().await;
    // What was said takes a round trip to be acknowledged; a connection lingers for six of them.
    let took = stopping.elapsed();
    assert!(took < 4 * FAR, "{took:?}");
}

/// How far away one is behind [`far`], there and back.
const FAR: Duration = Duration::from_secs(1);

/// A way to an address that takes its time, until it is dropped.
async fn far(address: SocketAddr) -> (SocketAddr, JoinSet<()>) {
    let near = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let there = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
    there.connect(address).await.unwrap();
    let (this, mut way) = (near.local_addr().unwrap(), JoinSet::new());
    way.spawn(async move {
        let (mut from, mut out, mut back, mut under_way) = (this, [0; 2_048], [0; 2_048], JoinSet::new());
        loop {
            let (packet, socket, to) = tokio::select! {
                Ok((length, sender)) = near.recv_from(&mut out) => {
                    from = sender;
                    (out[..length].to_vec(), &there, address)
                }
                Ok(length) = there.recv(&mut back) => (back[..length].to_vec(), &near, from),
            };
            let socket = Arc::clone(socket);
            under_way.spawn(async move {
                tokio::time::sleep(FAR / 2).await;
                // Whoever is gone takes nothing.
                socket.send_to(&packet, to).await.unwrap_or_default();
            });
        }
    });
    (this, way)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_agents_of_an_earlier_process_learn_at_once_that_their_sessions_are_gone() {
    const AGENTS: u8 = 200;
    let bench = Bench::start();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for agent in 0..AGENTS {
        // A short header with the name of a connection, and what nobody can read.
        let packet = [&[0x40, agent][..], &[7; 60]].concat();
        socket.send_to(&packet, bench.address).unwrap();
    }
    for _ in 0..AGENTS {
        let length = socket.recv(&mut [0; 2_048]).unwrap();
        assert!(length < 62);
    }
    bench.end().await;
}

/// An agent's spool, as frames.
struct Sent {
    schema: Schema,
    state: State,
    seq: Seq,
    stamp: Timestamp,
}

impl Sent {
    fn new(stamp: Timestamp) -> Self {
        Self { schema: Schema::default(), state: State::default(), seq: Seq(0), stamp }
    }

    fn column() -> Column {
        Column {
            metric: "node_load1".to_owned(),
            labels: Labels::new(),
            kind: Kind::Gauge,
            decimals: Decimals::new(2),
            peak: false,
            tier: Tier::Window,
        }
    }

    fn schema(&mut self) -> Vec<u8> {
        let change = SchemaChange {
            version: 1,
            entities: vec![Entity::default()],
            columns: vec![Self::column()],
            series: vec![(0, 0)],
            ended: Vec::new(),
        };
        self.schema.apply(&change).unwrap();
        frame::encode(&Message::Schema(SchemaMessage { run: RUN, change, ext: Vec::new() }))
    }

    /// The next batch: a keyframe only if it is the first, and too large for a full disk.
    fn batch(&mut self) -> Vec<u8> {
        let text = "x".repeat(TOO_MANY_BYTES);
        let event = Event { at: self.stamp, kind: "oom_kill".to_owned(), entity: Labels::new(), text };
        let samples = vec![(SeriesIndex(0), Window::Gauge(Gauge::of(1.5)))];
        let batch = Batch { stamp: self.stamp, samples, events: vec![event], ..Batch::default() };
        let encoded = EncodedBatch {
            run: RUN,
            spool: SPOOL,
            seq: self.seq,
            schema_version: 1,
            stamp: self.stamp,
            codec: CODEC,
            keyframe: self.seq == Seq(0),
            payload: codec::encode(CODEC, &batch, (&self.schema, 1), &mut self.state),
        };
        (self.seq, self.stamp) = (self.seq.next(), self.stamp.after(WINDOW));
        frame::encode(&Message::Batch(encoded))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_nobody_completes_lock_nobody_out() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    // First packets of clients that believe the aggregator at a place where nobody answers: what a spoofer sends.
    let nowhere = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    nowhere.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let spoofer = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let mut first = [0; 2_048];
    let mut waiting = Vec::new();
    for _ in 0..4 * HANDSHAKES_CLAIMED_MAX {
        waiting.push(spoofer.connect_with(bench.client(None), nowhere.local_addr().unwrap(), SERVER_NAME).unwrap());
        let (length, _) = nowhere.recv_from(&mut first).unwrap();
        sender.send_to(&first[..length], bench.address).unwrap();
    }
    let mut client = bench.dial(Some(&key)).await;
    client.say(&hello()).await;
    assert!(matches!(client.hear().await, Message::Welcome(_)));
    bench.end().await;
}
