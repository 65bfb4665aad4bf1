//! What the program answers to what is typed: exit code, and what stands on standard output and standard error.
#![expect(clippy::unwrap_used, reason = "a test that cannot start the program should fail")]

use std::fs;
use std::process::Command;
use std::process::Output;

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
