//! Peers that mean harm, beside an agent that must not lose a batch by them.

use std::io::Write as _;
use std::net::TcpStream;
use std::net::UdpSocket;

use super::*;

/// An agent in session.
struct Agent {
    client: Client,
    sent: Sent,
}

impl Agent {
    async fn greet(bench: &Bench, key: &KeyPair) -> Self {
        let mut client = bench.dial(Some(key)).await;
        client.say(&hello()).await;
        assert!(matches!(client.hear().await, Message::Welcome(_)));
        let mut sent = Sent::new(bench.clock.wall());
        client.say(&sent.schema()).await;
        Self { client, sent }
    }

    /// Sends a batch and hears that it is durable.
    async fn delivers(&mut self) {
        let batch = self.sent.batch();
        self.client.say(&batch).await;
        let heard = self.client.hear().await;
        assert!(matches!(&heard, Message::Ack(ack) if ack.next == self.sent.seq), "{heard:?}");
    }
}

/// The host that means harm.
fn evil(bench: &Bench) -> KeyPair {
    bench.host(|host| (host.id, host.instance) = (HostId(2), "evil".to_owned()))
}

/// Waits until a counter is there, in real time.
async fn reaches(counter: impl Fn() -> u64, count: u64) {
    let there = async {
        while counter() < count {
            tokio::time::sleep(GLANCE).await;
        }
    };
    timeout(PATIENCE, there).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_before_tls_costs_nobody_a_batch() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let mut agent = Agent::greet(&bench, &key).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let garbage: Vec<u8> = (0..1_400_u32).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    for length in 0..garbage.len() {
        // As long packets of connections that are none, and as first packets.
        for first in [0x40, 0xc0] {
            let packet = [&[first, 0, 0, 0, 1][..], &garbage[..length]].concat();
            socket.send_to(&packet, bench.address).unwrap();
        }
    }
    agent.delivers().await;
    for first in [0x16, 0x47] {
        let mut stream = TcpStream::connect(bench.address).unwrap();
        stream.write_all(&[&[first, 3, 1][..], &garbage].concat()).unwrap();
    }
    reaches(|| bench.counters.handshakes_failed_total.get(), 2).await;
    agent.delivers().await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_take_their_time_cost_nobody_a_batch() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let mut agent = Agent::greet(&bench, &key).await;
    // The first bytes of a handshake, whose rest does not come.
    let slow: Vec<TcpStream> = (0..16 * HANDSHAKES_PER_ADDRESS_MAX)
        .map(|_| {
            let mut stream = TcpStream::connect(bench.address).unwrap();
            stream.write_all(&[0x16, 3, 1, 0x7f]).unwrap();
            stream
        })
        .collect();
    reaches(|| bench.counters.turned_away_total.get(), (slow.len() - HANDSHAKES_PER_ADDRESS_MAX) as u64).await;
    agent.delivers().await;
    // Handshakes that are done, behind which nothing comes.
    let (none, half) = (bench.dial(None).await, bench.dial(Some(&evil(&bench))).await);
    let mut half = half;
    half.say(&hello()[..9]).await;
    let mut again = Agent::greet(&bench, &key).await;
    again.delivers().await;
    assert_eq!(agent.client.end().await, Reason::Replaced);
    reaches(|| bench.counters.wordless_total.get(), 2).await;
    drop((slow, none, half));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_cost_nobody_a_batch() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let mut agent = Agent::greet(&bench, &key).await;
    let evil = evil(&bench);
    let change = |series: usize| SchemaChange {
        version: 1,
        entities: vec![Entity::default()],
        columns: vec![Sent::column()],
        series: vec![(0, 0); series],
        ended: Vec::new(),
    };
    let schema = |change| frame::encode(&Message::Schema(SchemaMessage { run: RUN, change, ext: Vec::new() }));
    let batch = |payload: Vec<u8>| {
        let batch = EncodedBatch {
            run: RUN,
            spool: SPOOL,
            seq: Seq(0),
            schema_version: 1,
            stamp: bench.clock.wall(),
            codec: CODEC,
            keyframe: true,
            payload,
        };
        [schema(change(1)), frame::encode(&Message::Batch(batch))].concat()
    };
    let bombs = [
        schema(change(common::schema::SERIES_PER_HOST_MAX + 1)),
        // Counts of 2^63 behind each other, and of as much as may travel.
        batch(vec![0xff; 64]),
        batch([0xff; 8].into_iter().chain([0x7f]).cycle().take(100_000).collect()),
        batch(vec![0x80; FRAME_BYTES_MAX - 1_000]),
    ];
    for (number, bomb) in (1..).zip(bombs) {
        let mut client = bench.dial(Some(&evil)).await;
        client.say(&hello()).await;
        assert!(matches!(client.hear().await, Message::Welcome(_)));
        client.say(&bomb).await;
        assert_eq!(client.end().await, Reason::Malformed, "bomb {number}");
        assert_eq!(bench.counters.malformed_total.get(), number);
        agent.delivers().await;
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_played_again_stores_nothing_twice() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let mut sent = Sent::new(bench.clock.wall());
    let session = [hello(), sent.schema(), sent.batch(), sent.batch(), sent.batch()].concat();
    for _ in 0..3 {
        let mut client = bench.dial(Some(&key)).await;
        client.say(&session).await;
        while !matches!(client.hear().await, Message::Ack(ack) if ack.next == Seq(3)) {}
    }
    assert_eq!(bench.counters.batches_total.get(), 3);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_speaks_for_its_own_host_alone() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let mut agent = Agent::greet(&bench, &key).await;
    agent.delivers().await;
    // It says the same name, the same run and the same spool.
    let mut evil = bench.dial(Some(&evil(&bench))).await;
    evil.say(&hello()).await;
    let Message::Welcome(welcome) = evil.hear().await else { panic!() };
    assert_eq!((welcome.instance.as_str(), welcome.schema_version), ("evil", 0));
    assert_eq!(welcome.spools, [SpoolHeld { spool: SPOOL, next: Seq(0), predecessor_held: false }]);
    let mut sent = Sent::new(bench.clock.wall());
    evil.say(&[sent.schema(), sent.batch(), sent.batch(), sent.batch()].concat()).await;
    while !matches!(evil.hear().await, Message::Ack(ack) if ack.next == Seq(3)) {}
    agent.delivers().await;
    let hosts = bench.presence.snapshot();
    let named: Vec<_> = hosts.iter().map(|host| (host.instance.as_str(), host.connected)).collect();
    assert_eq!(named, [("web", true), ("evil", true)]);
    assert_eq!(bench.counters.replaced_total.get(), 0);
    bench.end().await;
}
