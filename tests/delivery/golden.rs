//! Sessions as released versions spoke them, byte by byte: both programs read them for ever.
//!
//! `tests/fixtures/sessions/VERSION` has what an agent said (`agent.bin`), what an aggregator said (`aggregator.bin`), and
//! what they mean (the same names, `.txt`). A recording is made once, by `UPDATE=1`, when there is none of this version; it is
//! never made again.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use agent::uplink::dialogue::Dialogue;
use agent::uplink::dialogue::Heard as Said;
use agent::uplink::dialogue::goodbye;
use agent::uplink::recall::Recalls;
use aggregator::ingest::session::Heard;
use aggregator::ingest::session::Session;
use aggregator::store::commit::Append;
use aggregator::store::commit::Commit;
use common::batch::Event;
use common::batch::HostId;
use common::batch::Process;
use common::batch::Seq;
use common::window::Counter;
use common::wire::codec;
use common::wire::codec::Against;
use common::wire::codec::State as Decoder;
use common::wire::frame;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message;
use common::wire::message::Ack;
use common::wire::message::Busy;
use common::wire::message::Copied;
use common::wire::message::Goodbye;
use common::wire::message::Message;
use common::wire::message::Recall;
use common::wire::message::Recorded;
use common::wire::message::Settings as Set;
use common::wire::message::Settled;
use common::wire::message::SpoolHeld;
use common::wire::message::Welcome;

use super::*;

const HOST: HostId = HostId(1);
const RUN: RunId = RunId([7; 16]);
const SPOOL: SpoolId = SpoolId([9; 16]);

/// The last of these windows begins an hour.
const BEGAN: i64 = 1_700_000_000 - 1_700_000_000 % 3_600 - 20;

fn sessions() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/sessions"))
}

/// What an agent has: a schema that grows and of which a series ends, and windows of all kinds.
fn filled() -> Spool {
    let spool = Spool::new(RUN, SPOOL);
    let mut schema = schema();
    for window in 0..4 {
        if window == 2 {
            let column = Column { kind: Kind::Counter, peak: true, tier: Tier::Window, ..schema.columns()[0].clone() };
            let entities = vec![Entity { labels: Labels::new().with("device", "sda") }];
            let change =
                SchemaChange { version: 2, entities, columns: vec![column], series: vec![(1, 1)], ended: vec![] };
            schema.apply(&change).unwrap();
        }
        let stamp = Timestamp::from_seconds(BEGAN + 10 * window);
        let value = f64::from(i32::try_from(window).unwrap());
        let mut batch = batch(stamp);
        batch.samples[0].1 =
            Window::Gauge(Gauge { count: 10, min: value - 0.25, max: value + 1.0, sum: 15.5, last: value });
        if 2 <= window {
            let counter = Counter { count: 1, last: 1e15 + value, increase: 5.0, peak: 2.5 };
            batch.samples.push((SeriesIndex(1), Window::Counter(counter)));
        }
        if window == 1 {
            let [user, command, command_line] = ["root", "postgres", "postgres -D /data"].map(str::to_owned);
            batch.processes = vec![Process { pid: 42, user, command, command_line, cpu_ms: 17, ..Process::default() }];
            let entity = Labels::new().with("name", "web");
            let text = "web began".to_owned();
            batch.events = vec![Event { at: stamp, kind: "container_started".to_owned(), entity, text }];
        }
        spool.push(&batch, &schema, Duration::ZERO);
    }
    spool
}

fn opened(spool: &Spool) -> (Dialogue, Message) {
    let introduction = Introduction {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: [3; 16],
        hostname: "web".to_owned(),
        labels: Labels::new().with("env", "prod"),
        lineage: Lineage { session: [5; 16], before: Some([4; 16]) },
    };
    let recalls = Recalls::new(Recorder::default(), RUN);
    Dialogue::open(spool.clone(), recalls, &introduction, (Timestamp::from_seconds(BEGAN), Duration::ZERO))
}

/// What this version's aggregator says to such an agent.
fn aggregator() -> Vec<Message> {
    let ext =
        vec![message::renew_after(Duration::from_secs(20 * 86_400)), message::return_within(Duration::from_secs(8))];
    let welcome = Welcome {
        now: Timestamp::from_seconds(BEGAN + 40),
        instance: "web-2".to_owned(),
        schema_version: 0,
        spools: vec![SpoolHeld { spool: SPOOL, next: Seq(0), predecessor_held: false }],
        codec: codec::CODEC,
        frame_bytes_max: 4 << 20,
        ext: ext.clone(),
    };
    let (from, to) = (Timestamp::from_seconds(BEGAN), Timestamp::from_seconds(BEGAN + 30));
    let ack = |next| Message::Ack(Ack { spool: SPOOL, next: Seq(next), ext: Vec::new() });
    vec![
        Message::Welcome(welcome),
        Message::Settings(Set { text: "[processes]\ninterval_seconds = 5\n".to_owned(), ext: Vec::new() }),
        ack(1),
        Message::Busy(Busy { retry_ms: 2_000, ext: Vec::new() }),
        Message::Recall(Recall { id: 3, from, to, ext: Vec::new() }),
        ack(4),
        Message::Goodbye(Goodbye {
            reason: Reason::Replaced as u16,
            text: "a copy".to_owned(),
            ext: vec![message::copied(Copied::State), message::return_within(Duration::from_secs(8))],
        }),
    ]
}

/// What this version's agent says to it.
fn agent() -> Vec<Message> {
    let (mut dialogue, hello) = opened(&filled());
    let Some(welcome) = aggregator().into_iter().next() else { unreachable!("it greets") };
    dialogue.hear(welcome, Duration::ZERO);
    let said = std::iter::from_fn(|| dialogue.next(Duration::ZERO));
    let recorded = Recorded {
        id: 3,
        run: RUN,
        begin: true,
        decimals: vec![Decimals::new(2)],
        bytes: vec![1, 2, 3],
        end: true,
        ext: Vec::new(),
    };
    let overruled = vec!["processes.groups".to_owned()];
    let settled = Settled { refused: String::new(), overruled, ext: Vec::new() };
    let last = [Message::Settled(settled), Message::Recorded(recorded), goodbye(Reason::Shutdown, "the agent stops")];
    [hello].into_iter().chain(said).chain(last).collect()
}

fn messages(bytes: &[u8]) -> Vec<Message> {
    let mut reader = Reader::new(FRAME_BYTES_MAX);
    reader.push(bytes);
    let messages = std::iter::from_fn(|| reader.next().unwrap()).collect();
    assert!(reader.next().unwrap().is_none());
    messages
}

/// What the aggregator's session makes of an agent's messages, its batches decoded, and what it would commit.
fn hear_agent(said: Vec<Message>) -> (String, Vec<Append>) {
    let (mut session, mut text) = (Session::new(HOST), String::new());
    let (mut schema, mut decoder) = (Schema::default(), Decoder::default());
    for message in said {
        if let Message::Schema(message) = &message {
            schema.apply(&message.change).unwrap();
        }
        if let Message::Batch(batch) = &message {
            let against = Against { schema: &schema, version: batch.schema_version, stamp: batch.stamp };
            if batch.keyframe {
                decoder = Decoder::default();
            }
            let decoded = codec::decode(batch.codec, &batch.payload, against, &mut decoder).unwrap();
            writeln!(text, "{} {} {:?}", batch.seq.0, batch.keyframe, decoded).unwrap();
        }
        let heard = session.hear(message).unwrap();
        if heard != Heard::Nothing {
            writeln!(text, "{heard:?}").unwrap();
        }
    }
    (text, session.take())
}

/// What an agent's dialogue makes of an aggregator's messages.
fn hear_aggregator(said: Vec<Message>) -> String {
    let (spool, mut text) = (filled(), String::new());
    let (mut dialogue, _) = opened(&spool);
    for message in said {
        let heard = dialogue.hear(message, Duration::ZERO);
        writeln!(text, "{heard:?}, {} wait", spool.figures().depth).unwrap();
        if let Said::End(goodbye) = heard {
            writeln!(text, "{:?}", message::read_copied(&goodbye.ext)).unwrap();
        }
    }
    text
}

#[track_caller]
fn check(path: &Path, found: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, found).unwrap();
    }
    let expect = fs::read_to_string(path).unwrap();
    assert_eq!(found, expect, "{}", path.display());
}

fn record() {
    let directory = sessions().join(env!("CARGO_PKG_VERSION"));
    if std::env::var_os("UPDATE").is_none() || directory.exists() {
        return;
    }
    fs::create_dir_all(&directory).unwrap();
    for (name, said) in [("agent.bin", agent()), ("aggregator.bin", aggregator())] {
        let bytes: Vec<u8> = said.iter().flat_map(frame::encode).collect();
        fs::write(directory.join(name), bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_released_versions_are_read() {
    record();
    let mut versions: Vec<_> = fs::read_dir(sessions()).unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    assert!(!versions.is_empty());
    for version in versions {
        let read = |name: &str| messages(&fs::read(version.join(name)).unwrap());
        let (text, appends) = hear_agent(read("agent.bin"));
        check(&version.join("agent.txt"), &text);
        check(&version.join("aggregator.txt"), &hear_aggregator(read("aggregator.bin")));

        let bench = Bench::start().await;
        let batches = appends.iter().filter(|append| matches!(append, Append::Batch { .. })).count();
        let labels = Append::HostLabels { host: HOST, labels: Labels::new().with("instance", "web") };
        let appends = [labels].into_iter().chain(appends).collect();
        let committed = bench.store.commit(Commit { appends, records: Vec::new() }).await.unwrap();
        let stored = committed.batches.iter().filter(|batch| batch.samples.is_some() && batch.missing == 0).count();
        assert_eq!((stored, batches), (batches, 4), "{}", version.display());
        drop(bench.end().await);
    }
}
