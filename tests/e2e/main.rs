//! End to end: the real aggregator and the real agent, in one process, on a clock that the test moves.

mod webhook;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use agent::config::Roots;
use anyhow::Context as _;
use anyhow::ensure;
use common::schema::SERIES_PER_HOST_MAX;
use harness::Cluster;
use serde_json::Value;
use serde_json::json;
use tokio::time::timeout;

use crate::webhook::Listener;

fn some(answer: &[(Value, f64)]) -> bool {
    !answer.is_empty()
}

/// A cluster with this host's agent joined, and its first window stored.
async fn joined() -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::start().await?;
    let token = cluster.token().await?;
    cluster.join("web-1", Some(&token)).await?;
    cluster.pass(25).await?;
    cluster.until("node_load1", some).await?;
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_becomes_an_answer() -> anyhow::Result<()> {
    let mut cluster = joined().await?;
    cluster.pass(60).await?;
    for expr in [
        r#"node_load1{instance="web-1", job="node"}"#,
        r#"sum(rate(node_cpu_seconds_total{mode="idle"}[1m]))"#,
        r#"namedprocess_namegroup_num_procs{job="process"}"#,
        r#"up{instance="web-1", job="node"} == 1"#,
        "lapwing_agent_resident_memory_bytes > 0",
    ] {
        cluster.until(expr, some).await?;
    }
    let hosts = cluster.get("/api/v1/hosts").await?;
    let host = &hosts["hosts"][0];
    ensure!(host["instance"] == "web-1" && host["state"] == "up", "{hosts}");
    if let (Some(ratio), Some(mountpoint)) = (host["disk_ratio"].as_f64(), host["disk_mountpoint"].as_str()) {
        let df = Command::new("df").args(["--output=pcent,fstype", mountpoint]).output()?.stdout;
        let row = String::from_utf8(df)?.lines().last().context("df is silent")?.to_owned();
        let (percent, fstype) = row.trim().split_once("% ").context("df")?;
        // df rounds up; the disk may fill by a percent meanwhile.
        ensure!(
            (percent.parse::<f64>()? - 0.5 - 100.0 * ratio).abs() < 1.5,
            "{ratio} of {mountpoint}, but df says {row}"
        );
        ensure!(fstype != "tmpfs" && fstype != "overlay", "{fstype} is no disk");
    }
    let processes = cluster.get("/api/v1/hosts/1/processes?at=now").await?;
    let names = processes["processes"].as_array().context("no processes")?;
    ensure!(names.iter().any(|process| process["pid"] == std::process::id()), "this very test is missing: {processes}");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_records_each_second_is_given_out_to_who_asks() -> anyhow::Result<()> {
    let mut cluster = joined().await?;
    cluster.pass(20).await?;
    let recording = cluster.get("/api/v1/hosts/1/recording?metrics=node_load1,node_cpu_seconds_total").await?;
    let series = recording["series"].as_array().context("no series")?;
    let load = series.iter().find(|series| series["labels"]["__name__"] == "node_load1").context("no load")?;
    ensure!(load["labels"]["instance"] == "web-1" && load["labels"]["job"] == "node", "{load}");
    let stamps: Vec<i64> =
        load["samples"].as_array().into_iter().flatten().filter_map(|pair| pair[0].as_i64()).collect();
    ensure!(40 <= stamps.len(), "{load}");
    ensure!(stamps.windows(2).all(|pair| pair[1] - pair[0] == 1_000), "{stamps:?}");
    ensure!(series.iter().all(|series| series["labels"]["__name__"] != "node_memory_MemTotal_bytes"), "{recording}");

    let path = format!("/api/v1/hosts/1/recording?metrics=node_load1&from={}&to={}", stamps[0] - 1, stamps[29]);
    let expect = json!({"from_ms": stamps[0] - 1, "to_ms": stamps[29], "series": 1, "samples": 30, "refused": 0});
    for _ in 0..2 {
        // Answers are paced.
        cluster.pass(1).await?;
        let kept = cluster.post(&path, &Value::Null).await?;
        ensure!(kept == expect, "{kept}");
        let stored = cluster.samples(r#"{__name__="recorded:node_load1", instance="web-1", job="node"}[5m]"#).await?;
        ensure!(stored.len() == 30, "{stored:?}");
        for ((at, value), recorded) in stored.iter().zip(load["samples"].as_array().into_iter().flatten()) {
            ensure!(
                recorded[0].as_f64() == Some((at * 1_000.0).round()) && recorded[1].as_f64() == Some(*value),
                "{recorded}"
            );
        }
    }

    let mut live = cluster.stream("/api/v1/hosts/1/live?metrics=node_load1").await?;
    let mut told = String::new();
    while told.matches("event: tick").count() < 5 {
        cluster.pass(1).await?;
        while let Ok(chunk) = timeout(Duration::from_millis(200), live.chunk()).await {
            told.push_str(str::from_utf8(&chunk?.context("the stream ended")?)?);
        }
    }
    ensure!(told.starts_with("event: series") && told.matches("event: series").count() == 1, "{told}");
    ensure!(told.contains("\"__name__\":\"node_load1\""), "{told}");

    for (path, status) in [("hosts/7/recording", "404"), ("hosts/1/recording?from=2&to=1", "400")] {
        let refused = cluster.get(&format!("/api/v1/{path}")).await.err().context("it is answered")?.to_string();
        ensure!(refused.starts_with(status), "{refused}");
    }
    drop(live);
    cluster.announce("session");
    cluster.stop_agent().await?;
    let away = cluster.get("/api/v1/hosts/1/recording").await.err().context("it is answered")?.to_string();
    ensure!(away.starts_with("503"), "{away}");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_again_on_a_wrong_clock_goes_on_in_the_aggregators_time() -> anyhow::Result<()> {
    let mut cluster = joined().await?;
    cluster.announce("session");
    cluster.announce("clock");
    let began = cluster.clock.wall();
    cluster.stop_agent().await?;
    cluster.stop_aggregator().await?;
    let behind = Duration::from_secs(300);
    cluster.clock.step_wall(cluster.clock.wall().before(behind));
    cluster.start_agent("web-1", None)?;
    cluster.pass(35).await?;
    cluster.clock.step_wall(cluster.clock.wall().after(behind));
    cluster.start_aggregator().await?;
    cluster.until(r#"up{instance="web-1", job="node"} == 1"#, some).await?;
    cluster.pass(20).await?;
    let stamps = cluster.samples(r#"node_load1{instance="web-1"}[20m]"#).await?;
    let early = stamps.iter().filter(|(at, _)| *at < began.as_seconds() - 40.0).count();
    ensure!(early == 0, "{stamps:?}, and it was {began} when the agent stopped");
    let away = stamps.iter().filter(|(at, _)| (10.0..=40.0).contains(&(at - began.as_seconds()))).count();
    ensure!(away == 3, "{stamps:?}, and it was {began} when the agent stopped");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_holds_becomes_a_webhook() -> anyhow::Result<()> {
    let mut listener = Listener::start().await?;
    let mut cluster = joined().await?;
    fs::create_dir_all(cluster.data_dir().join("rules"))?;
    fs::write(
        cluster.data_dir().join("rules/host.yml"),
        r#"groups: [{name: host, rules: [{alert: Loaded, expr: node_load1 >= 0, labels: {severity: page},
           annotations: {summary: "{{ $labels.instance }} is loaded"}}]}]"#,
    )?;
    // What the aggregator notices about itself, such as a machine short of disk, is not for the team.
    fs::write(
        cluster.data_dir().join("alertmanager.yml"),
        format!(
            "route: {{receiver: nobody, routes: [{{matchers: ['severity = page'], receiver: team, group_wait: 0s}}]}}\n\
             receivers: [{{name: nobody}}, {{name: team, webhook_configs: [{{url: '{}'}}]}}]\n",
            listener.url()
        ),
    )?;
    cluster.pass_until(30, r#"ALERTS{alertname="Loaded", alertstate="firing"}"#, some).await?;
    let message = listener.next().await?;
    ensure!(message["version"] == "4" && message["status"] == "firing", "{message}");
    let alert = &message["alerts"][0];
    ensure!(alert["labels"]["instance"] == "web-1" && alert["labels"]["severity"] == "page", "{message}");
    ensure!(alert["annotations"]["summary"] == "web-1 is loaded", "{message}");
    cluster.pass(60).await?;
    let again = listener.waiting();
    ensure!(again.is_empty(), "told more than once: {again:?}");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregator_that_was_away_misses_no_window() -> anyhow::Result<()> {
    let mut cluster = joined().await?;
    cluster.announce("session");
    cluster.pass(60).await?;
    cluster.stop_aggregator().await?;
    cluster.pass(60).await?;
    cluster.start_aggregator().await?;
    cluster.pass(30).await?;
    let after = cluster.clock.wall().as_seconds();
    cluster.pass_until(90, &format!("timestamp(node_load1) > {after}"), some).await?;
    let arrived = format!("node_load1[5m] @ {after}");
    let samples = cluster.samples(&arrived).await?;
    ensure!(12 <= samples.len(), "{samples:?}");
    let gaps: Vec<f64> = samples.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    ensure!(gaps.iter().all(|gap| *gap == 10.0), "windows are {gaps:?} apart");
    let partial = 10.0;
    let counted = cluster.query(&format!("count_over_time({arrived})")).await?[0].1;
    let windows = f64::from(u32::try_from(samples.len())?);
    ensure!(10.0 * windows - partial < counted && counted <= 10.0 * windows, "{counted} ticks in {windows} windows");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_away_is_the_same_host() -> anyhow::Result<()> {
    let mut cluster = joined().await?;
    cluster.stop_agent().await?;
    cluster.pass(30).await?;
    let before = cluster.clock.wall().as_seconds();
    cluster.join("web-1", None).await?;
    cluster.pass_until(60, &format!("timestamp(node_load1) > {before}"), some).await?;
    let hosts = cluster.get("/api/v1/hosts").await?;
    ensure!(hosts["hosts"].as_array().is_some_and(|hosts| hosts.len() == 1), "{hosts}");
    cluster.pass(20).await?;
    let told = cluster.get("/api/v1/hosts/1/events").await?;
    let mut obituaries = told["events"].as_array().into_iter().flatten().filter(|event| event["kind"] == "obituary");
    let text = obituaries.next().and_then(|event| event["text"].as_str()).context("no obituary")?;
    ensure!(text.starts_with("web-1 is back: its agent had been stopped. Between its windows lie "), "{text}");
    ensure!(text.contains("In its last minute the load was ") && text.contains("memory available"), "{text}");
    ensure!(obituaries.next().is_none(), "told twice: {told}");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_state_directory_was_removed_is_the_same_host_at_its_next_start() -> anyhow::Result<()> {
    let mut cluster = joined().await?;
    fs::remove_dir_all(cluster.state_dir("web-1"))?;
    cluster.announce("the identity of this host was removed");
    cluster.pass(70).await?;
    cluster.stop_agent().await?;
    cluster.join("web-1", None).await?;
    let hosts = cluster.get("/api/v1/hosts").await?;
    ensure!(hosts["hosts"].as_array().is_some_and(|hosts| hosts.len() == 1), "{hosts}");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_a_container_and_a_service_is_none() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().await?;
    let host = tempfile::tempdir()?;
    let write = |path: &str, text: &str| {
        let path = host.path().join(path);
        fs::create_dir_all(path.parent().context("no parent")?)?;
        anyhow::Ok(fs::write(path, text)?)
    };
    write("cgroup/cgroup.controllers", "cpu memory pids\n")?;
    for unit in ["system.slice/ssh.service", r"machine.slice/machine-qemu\x2d1\x2dguest.scope"] {
        for (file, text) in [
            ("cpu.stat", "usage_usec 7\nuser_usec 4\nsystem_usec 3\n"),
            ("memory.current", "4096\n"),
            ("memory.stat", "anon 4096\nfile 0\ninactive_file 0\n"),
            ("cgroup.procs", "1\n"),
            ("cgroup.events", "populated 1\nfrozen 0\n"),
        ] {
            write(&format!("cgroup/{unit}/{file}"), text)?;
        }
    }
    fs::create_dir_all(host.path().join("proc"))?;
    let nowhere = PathBuf::from("/nowhere");
    let (procfs, cgroupfs) = (host.path().join("proc"), host.path().join("cgroup"));
    let roots = Roots { procfs, sysfs: nowhere.clone(), rootfs: nowhere, cgroupfs };
    cluster.announce("collector cannot read all it should");
    let token = cluster.token().await?;
    cluster.start_agent_at("keeper", Some(&token), &roots)?;
    cluster.pass_until(60, "count(container_memory_working_set_bytes) == 2", some).await?;
    let containers = cluster.get("/api/v1/hosts/1/containers").await?;
    let shown: Vec<_> = containers["containers"].as_array().context("no containers")?.iter().collect();
    let of = |kind: &str| shown.iter().filter(|one| one["kind"] == kind).map(|one| &one["name"]).collect::<Vec<_>>();
    ensure!(of("service") == ["ssh.service"] && of("container").len() == 1, "{containers}");
    ensure!(cluster.get("/api/v1/hosts/1").await?["containers"] == 1, "the service is counted");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_used_up_its_series_is_followed_by_another() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().await?;
    let host = tempfile::tempdir()?;
    fs::create_dir_all(host.path().join("net"))?;
    let interfaces = |names: &[String]| {
        let rows: String = names.iter().map(|name| format!("{name}: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n")).collect();
        fs::write(host.path().join("net/dev"), format!("Inter-|\n face |\n{rows}"))
    };
    let gone: Vec<String> = (0..SERIES_PER_HOST_MAX / 16).map(|number| format!("veth{number}")).collect();
    interfaces(&gone)?;
    let nowhere = PathBuf::from("/nowhere");
    let roots =
        Roots { procfs: host.path().to_owned(), sysfs: nowhere.clone(), rootfs: nowhere.clone(), cgroupfs: nowhere };
    cluster.announce("collector cannot read all it should");
    cluster.announce("new ones are left out");
    let token = cluster.token().await?;
    cluster.start_agent_at("churner", Some(&token), &roots)?;
    cluster.pass_until(60, "count(node_network_receive_bytes_total) > 10000", some).await?;
    cluster.pass_until(60, "lapwing_agent_refused_series_total > 0", some).await?;
    interfaces(&["eth0".to_owned()])?;
    cluster.drift_until(600, r#"node_network_receive_bytes_total{device="eth0"} == 1"#, some).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_with_a_reason() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().await?;
    cluster.announce("token");
    let token = cluster.token().await?;
    cluster.join("web-1", Some(&token)).await?;
    cluster.start_agent("web-2", Some(&token))?;
    let refused = cluster.agent_ends().await.err().context("a spent token let an agent in")?;
    ensure!(format!("{refused:#}").contains("token"), "{refused:#}");
    let hosts = cluster.get("/api/v1/hosts").await?;
    ensure!(hosts["hosts"].as_array().is_some_and(|hosts| hosts.len() == 1), "{hosts}");
    cluster.finish().await
}
