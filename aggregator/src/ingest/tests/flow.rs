//! An aggregator that is full, slow or stopping says so.

use common::metric::NAME;
use common::wire::message::read_return_within;
use tokio::sync::watch;

use super::*;
use crate::store::full;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_sessions_up_until_there_is_room() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let mut sent = Sent::new(bench.clock.wall());
    let mut older = bench.dial(Some(&key)).await;
    older.say(&hello()).await;
    assert!(matches!(older.hear().await, Message::Welcome(_)));
    older.say(&[sent.schema(), sent.batch()].concat()).await;
    assert!(matches!(older.hear().await, Message::Ack(ack) if ack.next == Seq(1)));

    bench.disk.fill();
    let waiting = [sent.batch(), sent.batch(), sent.batch()].concat();
    older.say(&waiting).await;
    for _ in 0..3 {
        assert!(matches!(bench.heard(&mut older).await, Message::Busy(_)));
    }
    // The next session of the host takes over, and has to wait as well.
    let key = bench.host(|host| host.token_labels = Labels::new().with("dc", "x".repeat(TOO_MANY_BYTES)));
    let mut newer = bench.dial(Some(&key)).await;
    newer.say(&hello()).await;
    assert_eq!(older.end().await, Reason::Replaced);
    for _ in 0..3 {
        assert!(matches!(bench.heard(&mut newer).await, Message::Busy(_)));
    }

    bench.disk.free();
    let welcome = loop {
        let heard = bench.heard(&mut newer).await;
        if let Message::Welcome(welcome) = heard {
            break welcome;
        }
        assert!(matches!(heard, Message::Busy(_)), "{heard:?}");
    };
    assert_eq!(welcome.spools, [SpoolHeld { spool: SPOOL, next: Seq(1), predecessor_held: true }]);
    newer.say(&waiting).await;
    while !matches!(newer.hear().await, Message::Ack(ack) if ack.next == Seq(4)) {}
    assert_eq!(bench.counters.malformed_total.get(), 0);
    assert_eq!(bench.counters.batches_total.get(), 4);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_holds_agents_back_and_loses_nothing() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let mut sent = Sent::new(bench.clock.wall());
    let mut client = bench.dial(Some(&key)).await;
    client.say(&hello()).await;
    assert!(matches!(client.hear().await, Message::Welcome(_)));
    let stalled = full::stall(&bench.store);
    client.say(&[sent.schema(), sent.batch()].concat()).await;
    for _ in 0..2 {
        assert!(matches!(client.hear().await, Message::Busy(_)));
    }
    assert_eq!(bench.counters.busy_total.get(), 2);
    drop(stalled);
    assert!(matches!(client.hear().await, Message::Ack(ack) if ack.next == Seq(1)));
    assert_eq!(bench.counters.batches_total.get(), 1);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_told_over_how_long_to_come_back() {
    let bench = Bench::start();
    for id in 2..=2_500 {
        bench.host(|host| host.id = HostId(id));
    }
    let key = bench.host(|_| {});
    let mut client = bench.dial(Some(&key)).await;
    client.say(&hello()).await;
    let Message::Welcome(welcome) = client.hear().await else { panic!() };
    assert_eq!(read_return_within(&welcome.ext), Some(Duration::from_secs(2)));
    bench.stop.cancel();
    let Message::Goodbye(goodbye) = client.hear().await else { panic!() };
    assert_eq!(Reason::from(goodbye.reason), Reason::Restart);
    assert_eq!(read_return_within(&goodbye.ext), Some(Duration::from_secs(2)));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_goes_away_from_a_full_disk_is_not_waited_for() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    let mut client = bench.dial(Some(&key)).await;
    client.say(&hello()).await;
    assert!(matches!(client.hear().await, Message::Welcome(_)));
    bench.disk.fill();
    let mut sent = Sent::new(bench.clock.wall());
    client.say(&[sent.schema(), sent.batch()].concat()).await;
    assert!(matches!(client.hear().await, Message::Busy(_)));
    client.say(&frame::encode(&session::End::new(Reason::Shutdown, String::new()).message(Duration::ZERO))).await;
    client.send.finish().unwrap();
    client.send.stopped().await.unwrap();
    drop(client);
    let gone = async {
        while bench.presence.snapshot()[0].connected {
            tokio::time::sleep(GLANCE).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
    assert_eq!(bench.presence.snapshot()[0].state, presence::State::Shutdown);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_of_an_aggregator_that_was_killed_hear_of_it_at_once() {
    let bench = Bench::start();
    let key = bench.host(|_| {});
    // Between them, so that the address stays: first to the one, then to the next, which knows no session.
    let relay = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let through = relay.local_addr().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let next = endpoint::bind(any, &bench.authority, Clock::real().wall()).unwrap().quic;
    let (first, next_address) = (bench.address, next.local_addr().unwrap());
    let to = watch::Sender::new(first);
    let mut towards = to.subscribe();
    let mut relaying = JoinSet::new();
    relaying.spawn(async move {
        let (mut packet, mut client) = ([0; 2_048], None);
        loop {
            let (length, from) = relay.recv_from(&mut packet).await.unwrap();
            let is_client = from != first && from != next_address;
            client = if is_client { Some(from) } else { client };
            let to = if is_client { *towards.borrow_and_update() } else { client.unwrap() };
            relay.send_to(&packet[..length], to).await.unwrap();
        }
    });
    let dialled = Endpoint::client(any).unwrap();
    let connection = dialled.connect_with(bench.client(Some(&key)), through, SERVER_NAME).unwrap().await.unwrap();
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&hello()).await.unwrap();
    to.send_replace(next_address);
    send.write_all(&[0; 200]).await.unwrap();
    let closed = timeout(PATIENCE, connection.closed()).await.unwrap();
    assert_eq!(closed, quinn::ConnectionError::Reset);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_much_room_there_is_is_written_without_any_host_and_once_a_window() {
    let bench = Bench::start();
    let names = || {
        let all = TimeRange { after: Timestamp::default(), through: Timestamp::from_millis(i64::MAX) };
        let found: Result<Vec<Labels>, SelectError> = bench.store.series(&[], all, (9, &|_| Ok(())));
        found.unwrap().iter().map(|labels| labels.get(NAME).to_owned()).collect::<Vec<_>>()
    };
    // Each ends when it has written a window, of three samples, and the next one starts in that.
    for _ in 0..3 {
        let stop = CancellationToken::new();
        let presence = Presence::new(Vec::new(), Vec::new(), bench.clock.wall());
        let mut runs = JoinSet::new();
        runs.spawn(presence.run(bench.store.clone(), bench.clock.clone(), stop.clone()));
        let before = bench.store.stats().samples_total;
        let written = async {
            while bench.store.stats().samples_total < before + 3 {
                tokio::time::sleep(GLANCE).await;
                bench.clock.advance(Duration::from_secs(1));
            }
        };
        timeout(PATIENCE, written).await.unwrap();
        stop.cancel();
        runs.join_all().await;
        assert_eq!(bench.store.stats().samples_total % 3, 0, "{:?}", names());
    }
    for name in ["lapwing_aggregator_disk_available_bytes", "lapwing_aggregator_disk_size_bytes"] {
        assert!(names().contains(&name.to_owned()), "{:?}", names());
    }
    let seen = bench.store.disk().unwrap();
    assert!(seen.available_bytes <= seen.size_bytes, "{seen:?}");
    bench.end().await;
}
