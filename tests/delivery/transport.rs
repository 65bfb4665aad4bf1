//! Where UDP does not pass, the same session goes over TCP, and returns.

use std::sync::atomic::Ordering::Relaxed;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;

use super::trust::until;
use super::*;

/// Forwards TCP connections.
async fn forward_tcp(listener: TcpListener, to: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        connections.spawn(async move { drop(copy_bidirectional(&mut near, &mut far).await) });
    }
}

/// Forwards TCP connections of those who ask for a tunnel to `target` and show that they may.
async fn forward_tunnels(listener: TcpListener, (target, to): (String, SocketAddr)) {
    let asked = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    let shown = "Proxy-Authorization: Basic YTpwQHNz\r\n";
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            near.read_buf(&mut head).await.unwrap();
        }
        if head == format!("{asked}{shown}\r\n").as_bytes() {
            near.write_all(b"HTTP/1.1 200 Connection established\r\nVia: us\r\n\r\n").await.unwrap();
            let mut far = TcpStream::connect(to).await.unwrap();
            drop(copy_bidirectional(&mut near, &mut far).await);
        } else {
            near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
        }
    }
}

/// Forwards the packets of whoever spoke last.
async fn forward_udp(near: UdpSocket, to: SocketAddr) {
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut there, mut back) = ([0; 2_048], [0; 2_048]);
    let mut speaker = None;
    loop {
        tokio::select! {
            Ok((length, from)) = near.recv_from(&mut there) => {
                speaker = Some(from);
                far.send_to(&there[..length], to).await.unwrap();
            }
            Ok((length, _)) = far.recv_from(&mut back) => {
                drop(near.send_to(&back[..length], speaker.unwrap()).await);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_does_not_pass_tcp_does_until_it_passes_again() {
    let bench = Bench::with(Clock::moved(Clock::real().wall())).await;
    let state = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = listener.local_addr().unwrap();
    // Packets that come here are taken and lost.
    let hole = UdpSocket::bind(way).await.unwrap();
    let mut forwarding = JoinSet::new();
    forwarding.spawn(forward_tcp(listener, bench.address));
    let mut uplink = bench.uplink(state.path(), Some(bench.token(1, Wanted::default()).await));
    uplink.config.aggregators = vec![way.to_string()];
    let (spool, counts, stop) = (uplink.spool.clone(), Arc::clone(&uplink.counts), CancellationToken::new());
    let mut running = JoinSet::new();
    running.spawn(uplink.run(stop.clone()));
    let push = |at: u64| {
        let stamp = bench.clock.wall().align_down(Duration::from_secs(10));
        spool.push(&batch(stamp.before(Duration::from_secs(100 - 10 * at))), &schema(), bench.clock.boot());
    };
    push(0);
    let acknowledged = |count: u64| {
        let spool = &spool;
        move || spool.figures().acknowledged_total == count
    };
    until(&bench, Duration::ZERO, acknowledged(1)).await;
    assert_eq!((counts.session_over_tcp.load(Relaxed), counts.round_trip_us.load(Relaxed)), (1, 0));
    assert_eq!(bench.counters.tcp_sessions_total.get(), bench.counters.sessions_total.get());

    forwarding.spawn(forward_udp(hole, bench.address));
    let quic = || bench.counters.sessions_total.get() - bench.counters.tcp_sessions_total.get();
    until(&bench, Duration::from_secs(30), || quic() == 1).await;
    push(1);
    until(&bench, Duration::ZERO, acknowledged(2)).await;
    assert_eq!(counts.session_over_tcp.load(Relaxed), 0);
    assert!(0 < counts.round_trip_us.load(Relaxed) && 0 < counts.congestion_window_bytes.load(Relaxed));
    stop.cancel();
    until(&bench, Duration::ZERO, || bench.presence.snapshot()[0].state == State::Shutdown).await;
    assert_eq!(counts.round_trip_us.load(Relaxed), 0);
    running.join_all().await.into_iter().for_each(Result::unwrap);
    drop(bench.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goodbye_over_tcp_arrives() {
    let bench = Bench::start().await;
    let state = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut uplink = bench.uplink(state.path(), Some(bench.token(1, Wanted::default()).await));
    uplink.config.aggregators = vec![listener.local_addr().unwrap().to_string()];
    let mut forwarding = JoinSet::new();
    forwarding.spawn(forward_tcp(listener, bench.address));
    bench.ship_one(uplink).await;
    assert_eq!(bench.counters.tcp_sessions_total.get(), 1);
    until(&bench, Duration::ZERO, || bench.presence.snapshot()[0].state == State::Shutdown).await;
    drop(bench.end().await);
}

/// Of two aggregators one is nowhere, and the other only behind a proxy, which lets in only those who show that they may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_ways_are_tried_in_turn_and_a_proxy_is_one() {
    let bench = Bench::start().await;
    let state = tempfile::tempdir().unwrap();
    let hole = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let mut forwarding = JoinSet::new();
    forwarding.spawn(forward_tunnels(listener, (hole.to_string(), bench.address)));

    let mut uplink = bench.uplink(state.path(), Some(bench.token(1, Wanted::default()).await));
    uplink.config.aggregators = vec!["127.0.0.1:1".to_owned(), hole.to_string()];
    uplink.config.proxy = Some(format!("http://a:p%40ss@{proxy}").parse().unwrap());
    bench.ship_one(uplink).await;
    assert_eq!(bench.counters.tcp_sessions_total.get(), 1);
    drop(bench.end().await);
}
