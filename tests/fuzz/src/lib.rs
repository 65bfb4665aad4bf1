//! What is fuzzed: everything that parses bytes from outside. Each takes any bytes and must neither panic nor take more
//! memory than its input is worth. The ordinary test `corpus` replays what was found through the same functions.

use std::path::Path;
use std::time::Duration;

use agent::collect;
use agent::config::DiskLimits;
use agent::config::Given;
use agent::identify;
use agent::labels;
use agent::spool::Limits;
use agent::spool::Spool;
use agent::spool::shelf::Job;
use aggregator::alert::rule;
use aggregator::notify::config::NotifyConfig;
use aggregator::query;
use aggregator::receive::openmetrics::Format;
use aggregator::receive::openmetrics::Reader as TextReader;
use aggregator::receive::received::Terms;
use aggregator::receive::remote_write as receive;
use aggregator::receive::remote_write::Version;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::metric::Decimals;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::NAME;
use common::metric::Tier;
use common::schema::Column;
use common::schema::Entity;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::time::TimeRange;
use common::time::Timestamp;
use common::wire::codec;
use common::wire::codec::Against;
use common::wire::codec::CODEC;
use common::wire::codec::CODEC_VARINTS;
use common::wire::codec::State;
use common::wire::frame;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message::Message;
use common::wire::recording::Track;

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// A target for each corpus.
pub const TARGETS: [(&str, Target); 9] = [
    ("frame", frame),
    ("control_message", control_message),
    ("column_codec", column_codec),
    ("recording", recording),
    ("procfs", procfs),
    ("spool_file", spool_file),
    ("rule_file", rule_file),
    ("remote_write", remote_write),
    ("openmetrics", openmetrics),
];

/// A stream of frames that arrives in chunks; the first byte is their length.
pub fn frame(bytes: &[u8]) {
    let Some((chunk, stream)) = bytes.split_first() else { return };
    let mut reader = Reader::new(FRAME_BYTES_MAX);
    for chunk in stream.chunks(usize::from(*chunk).max(1)) {
        reader.push(chunk);
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// The content of one frame, behind its type and flags: what can be read can be written, and read again.
pub fn control_message(bytes: &[u8]) {
    let Some((header, content)) = bytes.split_first_chunk() else { return };
    let Ok(Some(message)) = frame::decode(*header, content) else { return };
    if let Message::Settings(settings) = &message {
        drop(Given::read(&settings.text));
    }
    let mut reader = Reader::new(FRAME_BYTES_MAX);
    reader.push(&frame::encode(&message));
    assert_eq!(reader.next(), Ok(Some(message)));
}

/// Batches of one spool, each behind its length, against a schema that grows: what can be read can be written, and read
/// again.
pub fn column_codec(bytes: &[u8]) {
    [CODEC_VARINTS, CODEC].into_iter().for_each(|codec| column_codec_of(codec, bytes));
}

fn column_codec_of(codec: u8, mut bytes: &[u8]) {
    let schema = schema();
    let (mut state, mut written, mut read) = (State::default(), State::default(), State::default());
    for at in 0.. {
        let Some(((length, payload), version)) = bytes.split_first().zip(Some(1 + at % schema.version())) else {
            return;
        };
        let (payload, rest) = payload.split_at(usize::from(*length).min(payload.len()));
        bytes = rest;
        let stamp = Timestamp::from_seconds(10 * i64::from(at));
        let against = Against { schema: &schema, version, stamp };
        let Ok(batch) = codec::decode(codec, payload, against, &mut state) else { continue };
        let again = codec::encode(codec, &batch, (&schema, version), &mut written);
        let again = codec::decode(codec, &again, against, &mut read);
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(batch)));
    }
}

/// A block of the flight recorder, as an agent sends it.
pub fn recording(block: &[u8]) {
    let decimals = [Decimals::new(0), Decimals::new(2), Decimals::FULL].repeat(5);
    let (mut track, mut at) = (Track::default(), 0);
    while track.next(&decimals, block, &mut at).is_some() {
        assert!(at <= block.len() && track.slots.len() <= decimals.len());
    }
}

fn schema() -> Schema {
    let column = |(kind, digits, tier)| Column {
        metric: "m".to_owned(),
        labels: Labels::new(),
        kind,
        decimals: Decimals::new(digits),
        peak: digits == 2,
        tier,
    };
    let columns = [
        (Kind::Gauge, 0, Tier::Second),
        (Kind::Gauge, 2, Tier::Minute),
        (Kind::Gauge, 255, Tier::Window),
        (Kind::Counter, 0, Tier::Second),
        (Kind::Counter, 2, Tier::Second),
    ];
    let mut schema = Schema::default();
    let first = SchemaChange {
        version: 1,
        entities: vec![Entity::default()],
        columns: columns.map(column).to_vec(),
        series: vec![(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)],
        ended: Vec::new(),
    };
    let second = SchemaChange { version: 2, series: vec![(0, 0), (0, 4)], ..SchemaChange::default() };
    for change in [first, second] {
        schema.apply(&change).unwrap_or_default();
    }
    schema
}

/// One file of a host, given to the parsers of all of them: the kernel's, cgroups', Docker's, a command line.
pub fn procfs(bytes: &[u8]) {
    collect::parse_anything(bytes);
    identify::parse_anything(bytes);
    labels::parse_anything(bytes);
}

/// What operators write: a file of rules, `alertmanager.yml`, a query. Each is given to the parsers of all.
pub fn rule_file(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    drop((rule::parse(text), NotifyConfig::parse(text, Path::new("/")), query::parse(text)));
}

/// A message of remote write, as it is and compressed, as both versions: however it repeats itself, what it takes is
/// bounded.
pub fn remote_write(bytes: &[u8]) {
    let range = TimeRange { after: Timestamp::from_millis(0), through: Timestamp::from_millis(1 << 41) };
    let terms = Terms { labels: Labels::new().with("dc", "2"), range };
    for version in [Version::One, Version::Two] {
        drop(receive::decode(bytes, version, &terms));
        let Ok(received) = receive::decode_message(bytes, version, &terms) else { continue };
        let samples: usize = received.series.iter().map(|series| series.samples.len()).sum();
        assert_eq!(samples as u64, received.samples);
        assert!(received.series.iter().all(|series| !series.labels.get(NAME).is_empty() && !series.samples.is_empty()));
    }
}

/// Text that others dumped, in pieces of the length that its first byte says: what is read does not depend on them.
pub fn openmetrics(bytes: &[u8]) {
    let Some((piece, text)) = bytes.split_first() else { return };
    let range = TimeRange { after: Timestamp::from_millis(0), through: Timestamp::from_millis(1 << 41) };
    let terms = Terms { labels: Labels::new().with("dc", "2"), range };
    for format in [Format::OpenMetrics, Format::Prometheus] {
        let [at_once, by_pieces] = [text.len(), usize::from(*piece)].map(|length| {
            let mut reader = TextReader::new(terms.clone(), format);
            let read = text.chunks(length.max(1)).try_for_each(|piece| reader.push(piece)).and_then(|()| reader.end());
            format!("{read:?} {:?}", reader.take())
        });
        assert_eq!(at_once, by_pieces);
    }
}

/// A file that the agent finds in its spool: taken in after a restart, read back, sent and acknowledged; as it is, with
/// checksums made right, because no input by chance has them, and cut meanwhile.
pub fn spool_file(bytes: &[u8]) {
    let sealed = sealed(bytes);
    replay_spool(bytes, bytes);
    replay_spool(&sealed, &sealed);
    replay_spool(&sealed, &sealed[..sealed.len() / 2]);
}

fn replay_spool(found: &[u8], read_back: &[u8]) {
    let disk = DiskLimits { bytes_max: u64::MAX, age_max: Duration::MAX };
    let spool = Spool::with_limits(RunId([255; 16]), SpoolId([255; 16]), Limits::new(disk));
    spool.adopt(7, found);
    spool.welcome(&[], CODEC);
    loop {
        while spool.next_backlog(|_| 0).is_some() {}
        let Some(job) = spool.job(Duration::ZERO) else { break };
        let read = matches!(job, Job::Read { .. }).then(|| read_back.to_vec());
        spool.done(Ok(read.unwrap_or_default()), Duration::ZERO);
    }
    for (id, _) in spool.named() {
        spool.ack(id, Seq(u64::MAX));
    }
    assert_eq!(spool.figures().depth, 0, "all is acknowledged or lost");
}

/// The file with the checksum of each record as it must be: behind the magic stand checksum, length, and a frame.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    let mut rest = sealed.get_mut(8..).unwrap_or_default();
    while let Some((checksum, behind)) = rest.split_first_chunk_mut::<4>() {
        let Some(length) = behind.first_chunk::<4>().map(|length| u32::from_le_bytes(*length)) else { break };
        let end = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(4).min(behind.len());
        let (record, next) = behind.split_at_mut(end);
        *checksum = crc32(record).to_le_bytes();
        rest = next;
    }
    sealed
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}
