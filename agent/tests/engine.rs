//! What the agent tells of containers of a real Docker engine. `tests/docker/run` starts one and names the place of its
//! files in `LAPWING_ENGINE_ROOT`; without it there is nothing to look at.
#![expect(clippy::unwrap_used, reason = "a test that cannot reach its engine should fail")]

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use agent::config::Config;
use agent::sampler::Sampler;
use agent::spool::Outgoing;
use agent::spool::Spool;
use agent::window::Stamps;
use common::batch::RunId;
use common::batch::SpoolId;
use common::config::Layers;
use common::schema::Schema;
use common::time::Clock;
use common::time::Timestamp;
use common::wire::codec;
use common::wire::codec::Against;
use common::wire::codec::CODEC;
use common::wire::codec::State;

const IMAGE: &str = "lapwing-test:1";

/// Runs a command of the engine to its end. Returns what it printed.
fn docker(arguments: &str) -> String {
    let output = Command::new("docker").args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Starts a container of the test's image.
fn run(name: &str, options: &str, script: &str) {
    let arguments = format!("run -d --name {name} --network none --memory 16m --memory-swap 16m {options}{IMAGE}");
    let shell = ["/bin/busybox", "sh", "-c", script];
    let started = Command::new("docker").args(arguments.split(' ')).args(shell).output().unwrap();
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
}

/// An agent whose clock only the test moves.
struct Watch {
    clock: Clock,
    spool: Spool,
    sampler: Sampler,
    schema: Schema,
    state: State,
}

impl Watch {
    fn new(rootfs: &str) -> Self {
        let mut config = Config::read(&Layers::default()).unwrap();
        config.roots.rootfs = rootfs.into();
        let clock = Clock::moved(Timestamp::from_millis(1_000_000_100));
        let stamps = Stamps::new(clock.wall(), clock.boot());
        let spool = Spool::new(RunId([1; 16]), SpoolId([2; 16]));
        let sampler = Sampler::new(&config, clock.clone(), stamps, spool.clone());
        spool.welcome(&[], CODEC);
        Self { clock, spool, sampler, schema: Schema::default(), state: State::default() }
    }

    /// What it tells of one container in the next twenty seconds of its own.
    fn told(&mut self, name: &str) -> Vec<(String, String)> {
        for _ in 0..20 {
            self.sampler.tick();
            self.clock.advance(Duration::from_secs(1));
        }
        let mut told = Vec::new();
        while let Some(Outgoing { changes, batch: encoded }) = self.spool.next_live(|_| self.schema.version()) {
            changes.iter().for_each(|change| self.schema.apply(change).unwrap());
            let against = Against { schema: &self.schema, version: encoded.schema_version, stamp: encoded.stamp };
            let batch = codec::decode(encoded.codec, &encoded.payload, against, &mut self.state).unwrap();
            let of_container = batch.events.into_iter().filter(|event| event.entity.get("name") == name);
            told.extend(of_container.map(|event| (event.kind, without_pid(event.text))));
        }
        told
    }

    #[track_caller]
    fn check(&mut self, name: &str, expect: &[(&str, &str)]) {
        let told = self.told(name);
        assert_eq!(told.iter().map(|(kind, text)| (kind.as_str(), text.as_str())).collect::<Vec<_>>(), expect);
    }
}

/// A text with its process id replaced by `N`: the engine has forgotten which it was.
fn without_pid(text: String) -> String {
    let Some((before, id)) = text.split_once("(pid ") else { return text };
    assert!(id.strip_suffix(')').is_some_and(|id| id.parse::<u32>().is_ok()), "{text}");
    format!("{before}(pid N)")
}

#[test]
#[expect(clippy::print_stderr, reason = "says that it was left out")]
fn the_life_of_a_container_is_told() {
    let Some(root) = std::env::var_os("LAPWING_ENGINE_ROOT") else {
        eprintln!("LEFT OUT: containers of a real engine; tests/docker/run starts one");
        return;
    };
    let mut watch = Watch::new(root.to_str().unwrap());
    watch.told("");
    run("told", "", "exec /bin/busybox sleep 600");
    watch.check("told", &[("container_started", "container told began")]);
    docker("restart -t 0 told");
    let again = ("container_restarted", "container told began again");
    watch.check("told", &[("container_exited", "container told ended"), again]);
    docker("exec told /bin/busybox tail /dev/zero");
    // In a container that has no log of the kernel nobody knows which.
    let named = if File::open("/dev/kmsg").is_ok() { ": busybox (pid N)" } else { "" };
    let killed = format!("the kernel killed 1 of the tasks of told for want of memory{named}");
    watch.check("told", &[("oom_kill", &killed)]);
    docker("rename told renamed");
    watch.check("renamed", &[]);
    docker("kill renamed");
    docker("wait renamed");
    watch.check("renamed", &[("container_exited", "container renamed ended with exit code 137")]);

    // What is killed is its first process: its cgroup is gone before anybody can read the count.
    run("greedy", "", "while [ ! -e /go ]; do /bin/busybox sleep 0.1; done; exec /bin/busybox tail /dev/zero");
    watch.check("greedy", &[("container_started", "container greedy began")]);
    docker("exec greedy /bin/busybox touch /go");
    docker("wait greedy");
    let ended = ("container_exited", "container greedy ended with exit code 137");
    let killed = format!("the kernel killed a task of greedy for want of memory{named}");
    watch.check("greedy", &[("oom_kill", &killed), ended]);

    let failing = "--health-cmd false --health-interval 1s --health-retries 1 ";
    run("sick", failing, "exec /bin/busybox sleep 600");
    let began = ("container_started", "container sick began");
    let fails = ("container_unhealthy", "the health check of sick fails");
    let mut told = watch.told("sick");
    let status = || docker("inspect -f {{.State.Health.Status}} sick");
    assert!((0..300).any(|_| status() == "unhealthy"), "the engine has it {}", status());
    told.extend(watch.told("sick"));
    assert_eq!(told.iter().map(|(kind, text)| (kind.as_str(), text.as_str())).collect::<Vec<_>>(), [began, fails]);
    docker("rm -f sick");
    let told = watch.told("sick");
    assert_eq!(told.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["container_exited"]);
}
