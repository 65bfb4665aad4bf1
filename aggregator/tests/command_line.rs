//! What the program answers to what is typed: exit code, and what stands on standard output and standard error.
#![expect(clippy::unwrap_used, reason = "a test that cannot start the program should fail")]

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::ChildStderr;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

fn check(arguments: &[&str], environment: &[(&str, &str)], code: i32, says: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lapwing-aggregator"));
    let Output { status, stdout, stderr } = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{arguments:?} said {said}");
    assert!(said.contains(says), "{arguments:?} said {said}");
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let [file, rules] = ["aggregator.toml", "rules/a.yml"].map(|name| directory.path().join(name));
    fs::write(&file, "[http]\nlissten = 1\n").unwrap();
    let config = file.to_str().unwrap();
    let slip = format!("{config}, line 2: unknown key `lissten`, did you mean `listen`?");
    for command in ["check-config", "print-config", "run"] {
        check(&[command, "--config", config], &[], 64, &slip);
    }
    fs::write(&file, "").unwrap();
    check(&["check-config", "--config", config], &[], 0, "the configuration is right\n");
    let variable = ("LAPWING__RETENTION__RAW", "36h");
    check(&["print-config", "--config", config, "--data-dir", "/elsewhere"], &[variable], 0, "raw = \"36h\"");
    check(&["print-config", "--config", config, "--data-dir", "/elsewhere"], &[], 0, "data_dir = \"/elsewhere\"");
    fs::create_dir(rules.parent().unwrap()).unwrap();
    fs::write(&rules, "groups:\n- rules: []\n").unwrap();
    check(&["check-config", "--config", config], &[], 64, "rules/a.yml: line 2: group 1: a group needs a name\n");
    check(&["rules", "check", rules.to_str().unwrap()], &[], 1, "line 2: group 1: a group needs a name\n");
    check(&["check-config", "--config", "/no/such/file"], &[], 64, "read /no/such/file");
    let data = directory.path().join("data");
    let data = ["--data-dir", data.to_str().unwrap(), "--listen-http", "127.0.0.1:0", "--listen-quic", "127.0.0.1:0"];
    let run = |text: &str, says: &str| {
        fs::write(&file, text).unwrap();
        check(&[["run", "--config", config].as_slice(), &data].concat(), &[], 64, says);
    };
    run(
        "http.tls = { certificate = '/no/cert', key = '/no/key' }",
        "bad configuration: http.tls: cannot use /no/cert: ",
    );
    let forward = "[[forward]]\nname = 'f'\nurl = 'http://a'\nrelabel = [{ action = 'kep' }]";
    run(forward, "aggregator.toml, line 4: `forward.0.relabel.0.action` is \"kep\"");
    check(
        &["run", "--listen-http", "127.0.0.1"],
        &[],
        64,
        "command line, http.listen: \"127.0.0.1\" is not an IP address",
    );
}

/// An aggregator that has started, and its log, which is read for as long as it runs.
fn run(data: &Path) -> (Child, BufReader<ChildStderr>) {
    let (child, mut log) = begin(data);
    until(&mut log, "aggregator started");
    (child, log)
}

fn begin(data: &Path) -> (Child, BufReader<ChildStderr>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lapwing-aggregator"));
    command.args(["run", "--listen-http", "127.0.0.1:0", "--listen-quic", "127.0.0.1:0", "--data-dir"]).arg(data);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    (child, log)
}

fn terminate(child: &Child) {
    assert!(Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap().success());
}

fn until(log: &mut BufReader<ChildStderr>, says: &str) {
    let mut line = String::new();
    while !line.contains(says) {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
    }
}

#[test]
fn an_aggregator_waits_for_who_reads_its_directory_and_starts_then() {
    let data = tempfile::tempdir().unwrap();
    let reader = fs::File::create(data.path().join("lock")).unwrap();
    reader.lock_shared().unwrap();
    let (mut child, mut log) = begin(data.path());
    until(&mut log, "is being read by");
    // Whoever does not want to wait for that any longer need not.
    terminate(&child);
    assert!(child.wait().unwrap().success());
    let (mut child, mut log) = begin(data.path());
    until(&mut log, "is being read by");
    drop(reader);
    until(&mut log, "aggregator started");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_running_aggregator_is_backed_up_and_looked_through() {
    let directory = tempfile::tempdir().unwrap();
    let [data, backup, other] = ["data", "backup", "other"].map(|name| directory.path().join(name));
    let [data_dir, to, restored] = [&data, &backup, &other].map(|path| path.to_str().unwrap());
    let good = "all is as it was written\n";
    let snapshots = || fs::read_dir(data.join("snapshots")).map_or(0, Iterator::count);
    let commands = || {
        check(&["backup", to, "--data-dir", data_dir], &[], 0, "backup: ");
        check(&["verify", to], &[], 0, good);
        check(&["verify", "--data-dir", data_dir], &[], 0, good);
        check(&["verify", data_dir], &[], 0, good);
        assert_eq!(snapshots(), 0);
    };
    let (mut child, log) = run(&data);
    commands();
    assert!(data.join("snapshots").exists(), "the aggregator was asked");
    check(&["restore", data_dir, "--data-dir", restored], &[], 1, "make a backup of it, and restore that");
    assert!(!data.join("lapwing.db-shm").exists());
    // Nothing is closed: what was committed is in the log beside the database.
    child.kill().unwrap();
    child.wait().unwrap();
    drop(log);
    assert!(data.join("lapwing.db-wal").exists());
    fs::write(data.join("snapshots/5.db"), "half of it").unwrap();
    check(&["verify", "--data-dir", data_dir], &[], 0, good);
    check(&["backup", to, "--data-dir", data_dir], &[], 0, "backup: ");
    check(&["restore", to, "--data-dir", restored], &[], 0, "other: ");
    let (mut child, _log) = run(&data);
    assert_eq!(snapshots(), 0, "what was left is removed");
    assert!(!data.join("lapwing.db-shm").exists(), "that of a command that read beside nobody");
    commands();
    child.kill().unwrap();
    child.wait().unwrap();
}
