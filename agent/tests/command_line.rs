//! What the program answers to what is typed: exit code, and what stands on standard output and standard error.
#![expect(clippy::unwrap_used, reason = "a test that cannot start the program should fail")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

fn lapwing_agent(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lapwing-agent"));
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn check(arguments: &[&str], environment: &[(&str, &str)], code: i32, says: &str) {
    let Output { status, stdout, stderr } = lapwing_agent(arguments, environment);
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{arguments:?} said {said}");
    assert!(said.contains(says), "{arguments:?} said {said}");
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.toml");
    fs::write(&file, "[host]\nlables = {}\n").unwrap();
    let file = file.to_str().unwrap();
    let slip = format!("{file}, line 2: unknown key `lables`, did you mean `labels`?");
    check(&["check-config", "--config", file], &[], 64, &slip);
    check(&["run", "--config", file], &[], 64, &slip);
    let variable = [("LAPWING__PROCESSES__COMMAND_LINE", "none")];
    check(&["check-config"], &[], 0, "the configuration is right\n");
    check(&["check-config"], &variable, 64, "LAPWING__PROCESSES__COMMAND_LINE: unknown value `none`");
    check(&["run", "--aggregator", "nowhere"], &[], 64, "command line, uplink.aggregator");
    let page = "is `http://a:4640/`, which is the address of a page: write `a:4641`, with the port of the aggregator's";
    check(&["run", "--aggregator", "http://a:4640/"], &[], 64, page);
    check(&["run", "--aggregator", "a:1, https://a:1"], &[], 64, "write `a:1`");
    check(&["run", "--join", "-N0", "--aggregator", "nowhere"], &[], 64, "command line, uplink.aggregator");
    let state = directory.path().to_str().unwrap();
    check(&["run", "--state-dir", state], &[], 64, "no aggregator: give");
    check(&["run", "--state-dir", state, "--aggregator", "127.0.0.1:9"], &[], 64, "this host has not joined");
    check(&["check-config", "--config", "/no/such/file"], &[], 1, "read /no/such/file");
    check(&["once", "--frmat", "json"], &[], 2, "--frmat");
    check(&[], &[], 2, "Usage");
    check(&["--version"], &[], 0, concat!("lapwing-agent ", env!("CARGO_PKG_VERSION")));
    check(&["version"], &[], 0, concat!("lapwing-agent ", env!("CARGO_PKG_VERSION")));
    check(&["once", "--procfs", "/no/such/proc"], &[], 0, "node_scrape_collector_success{collector=\"stat\"} 0");
}

#[test]
fn who_stops_listening_breaks_nothing() {
    let run = |script: &str| {
        let agent = env!("CARGO_BIN_EXE_lapwing-agent");
        let shell = Command::new("sh").args(["-c", &script.replace("AGENT", agent)]).output().unwrap();
        String::from_utf8_lossy(&shell.stdout).into_owned() + &String::from_utf8_lossy(&shell.stderr)
    };
    assert_eq!(
        run("{ AGENT once --procfs /nowhere 2>/dev/full; echo ended $? >&2; } | head -c 1 >/dev/null"),
        "ended 0\n"
    );
    assert_eq!(run("AGENT once --procfs /nowhere 2>/dev/full >/dev/null; echo ended $?"), "ended 0\n");
}

#[test]
fn the_packaged_configuration_is_the_default() {
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/agent.toml");
    let print = |path: &Path| lapwing_agent(&["print-config", "--config", path.to_str().unwrap()], &[]).stdout;
    let directory = tempfile::tempdir().unwrap();
    let (empty, shown) = (directory.path().join("empty.toml"), directory.path().join("shown.toml"));
    fs::write(&empty, "").unwrap();
    assert_eq!(print(&packaged), print(&empty));
    // Each default that it shows is the default; what has none is an example.
    let examples = [
        "instance",
        "env",
        "team",
        "aggregator",
        "proxy",
        "join",
        "labels",
        "interval_seconds",
        "name",
        "comm",
        "exe",
        "cmdline",
    ];
    let is_example = |line: &str| examples.iter().any(|key| line.starts_with(&format!("{key} = ")));
    let text = fs::read_to_string(&packaged).unwrap();
    let uncomment = |line: &str| line.strip_prefix("# ").filter(|line| line.contains(" = ")).unwrap_or(line).to_owned();
    let uncommented: Vec<String> = text.lines().map(uncomment).filter(|line| !is_example(line)).collect();
    fs::write(&shown, uncommented.join("\n")).unwrap();
    assert_eq!(print(&shown), print(&empty));
    assert!(uncommented.iter().any(|line| line.starts_with("state_dir = ")));
}
