//! What is found by labels is what matches, whatever the index looks at; and so are label names and values.

use std::collections::BTreeSet;

use super::*;
use crate::store::commit::Written;

/// Series with one sample, some with labels that their host has too.
const SERIES: &[&[(&str, &str)]] = &[
    &[(NAME, "a"), ("device", "sda"), ("env", "test")],
    &[(NAME, "a"), ("device", "sdb")],
    &[(NAME, "a"), ("device", "sdb"), ("env", "live")],
    &[(NAME, "b"), ("device", "sda")],
    &[(NAME, "b"), ("instance", "other")],
    &[(NAME, "c")],
];

fn matcher(name: &str, is: Is) -> Matcher {
    Matcher { name: name.to_owned(), is }
}

fn matchers() -> Vec<Matcher> {
    let regex = |pattern: &str| regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
    let values = ["", "a", "b", "sda", "sdb", "test", "live", "web-1", "other"];
    let names = [NAME, "device", "env", "instance", "nothing"];
    let of = |name: &'static str, value: &str| {
        [Is::Equal(value.to_owned()), Is::NotEqual(value.to_owned()), Is::Match(regex(&format!("{value}|c")))]
            .map(|is| matcher(name, is))
    };
    names.iter().flat_map(|name| values.iter().flat_map(|value| of(name, value))).collect()
}

#[tokio::test]
async fn what_is_found_by_labels_is_what_matches() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let store = &running.store;
    store.set_host_labels(HOST, Labels::new().with("instance", "web-1").with("env", "test")).await.unwrap();
    let written = |labels: &&[(&str, &str)]| Written {
        labels: labels.iter().copied().collect(),
        samples: vec![(stamp(1), Some(1.0))],
    };
    let series = SERIES.iter().map(written).collect();
    let append = Append::Written { origin: HOST, series };
    store.commit(Commit { appends: vec![append], records: Vec::new() }).await.unwrap();

    check(store);
    // Sealed, and in block files alone; and after a restart, too.
    let mut settler = running.settler();
    [1_000, 2_000].into_iter().for_each(|window| while settler.step(stamp(window)) {});
    assert_eq!(store.stats().series, 0);
    check(store);
    drop(settler);
    running.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(again.store.stats().series, 0);
    check(&again.store);
    again.stop();
}

fn check(store: &Store) {
    let labels = |matchers: &[Matcher]| -> BTreeSet<Labels> {
        select(store, matchers, &FIELDS).unwrap().into_iter().map(|(labels, _)| labels).collect()
    };
    let all = labels(&[]);
    assert_eq!(all.len(), SERIES.len());
    let matchers = matchers();
    for first in &matchers {
        for second in &matchers {
            let asked = [first.clone(), second.clone()];
            let is_meant = |labels: &&Labels| asked.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)));
            let meant: BTreeSet<Labels> = all.iter().filter(is_meant).cloned().collect();
            assert_eq!(labels(&asked), meant, "{asked:?}");
        }
        let asked = [first.clone()];
        let found = labels(&asked);
        let spend: Spend<'_, SelectError> = &|_| Ok(());
        let names = store.label_names(&asked, ALL, (usize::MAX, spend)).unwrap();
        let expect: BTreeSet<&str> = found.iter().flat_map(Labels::iter).map(|(name, _)| name).collect();
        assert_eq!(names.iter().map(AsRef::as_ref).collect::<BTreeSet<&str>>(), expect, "{asked:?}");
        for name in [NAME, "device", "env", "instance", "nothing"] {
            let values = store.label_values(name, &asked, ALL, (usize::MAX, spend)).unwrap();
            let expect: BTreeSet<&str> =
                found.iter().map(|labels| labels.get(name)).filter(|value| !value.is_empty()).collect();
            assert_eq!(values.iter().map(AsRef::as_ref).collect::<BTreeSet<&str>>(), expect, "{name} of {asked:?}");
            let first = store.label_values(name, &asked, ALL, (1, spend)).unwrap();
            assert_eq!(first.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), Vec::from_iter(expect.first().copied()));
        }
    }
}

/// The clock's beginning lies 13 minutes before an hour ends.
#[tokio::test]
async fn a_series_is_found_where_its_last_coarse_window_is_stamped() {
    let dir = tempfile::tempdir().unwrap();
    let days = |days: u64| Duration::from_secs(days * 24 * 3_600);
    let retention = Retention { raw: days(1), five_minutes: days(1), one_hour: days(30), bytes: None };
    let clock = clock();
    let running = Running::start_with(dir.path(), StoreConfig { retention, ..config() }, &clock);
    let (store, mut settler) = (&running.store, running.settler());
    for (window, name) in [(1, "short"), (1, "long"), (800, "long"), (25_000, "long")] {
        let labels = Labels::new().with(NAME, name).with("of", name);
        let append = Append::Written {
            origin: HOST,
            series: vec![Written { labels, samples: vec![(stamp(window), Some(1.0))] }],
        };
        store.commit(Commit { appends: vec![append], records: Vec::new() }).await.unwrap();
        clock.advance(stamp(window + 400).since(clock.wall()));
        while settler.step(clock.wall()) {}
    }
    let range = TimeRange { after: Timestamp::from_seconds(1_000_500), through: Timestamp::from_seconds(1_000_900) };
    let question = Question {
        matchers: &[equal(NAME, "short")],
        range,
        fields: &FIELDS,
        latest: false,
        grains: Grains::default(),
    };
    let hour_ends = Timestamp::from_seconds(1_000_800);
    assert_eq!(answer(store, question).unwrap()[0].1.stamps, [hour_ends]);
    let spend: Spend<'_, SelectError> = &|_| Ok(());
    let texts = |texts: Vec<Arc<str>>| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(store.series(question.matchers, range, (9, spend)).unwrap().len(), 1);
    assert_eq!(texts(store.label_values("of", &[], range, (9, spend)).unwrap()), ["long", "short"]);
    assert_eq!(texts(store.label_names(question.matchers, range, (9, spend)).unwrap()), [NAME, "of"]);
    running.stop();
}
