//! Beginnings and ends, kills, health.

use super::*;

#[test]
fn a_cgroup_that_nobody_lives_in_is_no_container() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe_as("web", r#""State":{"Running":false,"ExitCode":137}"#);
    let file = |machine: &Machine, name: &str, text: &str| {
        machine.write(&format!("cgroup/system.slice/docker-@.scope/{name}"), text);
    };
    file(&machine, "pids.current", "0\n");
    machine.ticks(20);
    machine.check("container_last_seen", &[]);
    machine.check("container_cpu_usage_seconds_total", &[]);
    // Somebody moves in, and dies with the engine.
    machine.v2_container("11", "0");
    machine.describe("web", 0);
    machine.tick();
    machine.check("container_cpu_usage_seconds_total", &[11.0]);
    file(&machine, "pids.current", "0\n");
    file(&machine, "cpu.stat", "usage_usec 12000000\nuser_usec 0\nsystem_usec 0\n");
    machine.tick();
    machine.check("container_cpu_usage_seconds_total", &[]);
    machine.ticks(5);
    assert_eq!(machine.events(), ["container_exited"]);
    // Without a pids controller the cgroup itself says it, and without that the runtime.
    for name in ["pids.current", "pids.max"] {
        fs::remove_file(machine.base.path().join(format!("cgroup/system.slice/docker-{ID}.scope/{name}"))).unwrap();
    }
    let check = |machine: &Machine, shown: usize| {
        let mut fresh = Machine { samples: Samples::default(), cgroups: Cgroups::default(), ..machine.again() };
        fresh.tick();
        assert_eq!(fresh.values("container_memory_usage_bytes", "name").len(), shown);
    };
    file(&machine, "cgroup.events", "populated 0\nfrozen 0\n");
    check(&machine, 0);
    file(&machine, "cgroup.events", "populated 1\nfrozen 0\n");
    check(&machine, 1);
    fs::remove_file(machine.base.path().join(format!("cgroup/system.slice/docker-{ID}.scope/cgroup.events"))).unwrap();
    check(&machine, 1);
    machine.describe_as("web", r#""State":{"Running":false}"#);
    check(&machine, 0);
}

#[test]
fn an_end_is_told_with_its_reason_once_the_runtime_wrote_it() {
    let check = |state: &str, expect: &[(&str, &str)]| {
        let mut machine = Machine::new();
        machine.v2();
        machine.describe("web", 0);
        machine.ticks(2);
        machine.remove("cgroup/system.slice/docker-@.scope");
        machine.ticks(2);
        assert_eq!(machine.events(), Vec::<String>::new(), "the runtime still has it running");
        machine.describe_as("web", state);
        machine.ticks(5);
        let told = machine.samples.take_events();
        let told: Vec<_> = told.iter().map(|event| (event.kind.as_str(), event.text.as_str())).collect();
        assert_eq!(told, expect, "{state}");
    };
    let exited = "container_exited";
    check(r#""State":{"Running":false,"ExitCode":3}"#, &[(exited, "container web ended with exit code 3")]);
    check(r#""State":{"Running":true}"#, &[(exited, "container web ended")]);
    let killed = ("oom_kill", "the kernel killed a task of web for want of memory");
    let ended = (exited, "container web ended with exit code 137");
    check(r#""State":{"Running":false,"ExitCode":137,"OOMKilled":true}"#, &[killed, ended]);
}

#[test]
fn kills_are_counted_on_through_restarts() {
    let mut machine = Machine::new();
    machine.v2();
    machine.v2_container("10", "2");
    machine.describe("web", 0);
    machine.ticks(2);
    machine.remove("cgroup/system.slice/docker-@.scope");
    machine.describe_as("web", r#""State":{"Running":false,"ExitCode":137,"OOMKilled":true}"#);
    machine.ticks(2);
    machine.describe("web", 1);
    machine.v2_container("1", "0");
    machine.ticks(2);
    machine.check("container_oom_events_total", &[2.0]);
    assert_eq!(machine.events(), ["container_exited", "container_restarted"]);
}

#[test]
fn each_kill_that_only_the_runtime_saw_is_counted() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.ticks(2);
    for kills in [1.0, 2.0] {
        machine.remove("cgroup/system.slice/docker-@.scope");
        machine.describe_as("web", r#""State":{"Running":false,"ExitCode":137,"OOMKilled":true}"#);
        machine.ticks(2);
        machine.describe("web", 1);
        machine.v2_container("1", "0");
        machine.ticks(2);
        machine.check("container_oom_events_total", &[kills]);
        assert_eq!(machine.events(), ["oom_kill", "container_exited", "container_restarted"]);
    }
}

#[test]
fn how_a_container_ended_last_is_kept_through_its_restart_and_for_five_minutes() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.window();
    machine.check("lapwing_container_exit_code", &[]);
    machine.remove("cgroup/system.slice/docker-@.scope");
    machine.describe_as("web", r#""State":{"Running":false,"ExitCode":3}"#);
    machine.window();
    machine.check("lapwing_container_exit_code", &[3.0]);
    machine.v2_container("1", "0");
    machine.describe("web", 1);
    machine.window();
    machine.check("lapwing_container_exit_code", &[3.0]);
    machine.remove("cgroup/system.slice/docker-@.scope");
    machine.describe_as("web", r#""State":{"Running":false,"ExitCode":0}"#);
    machine.window();
    machine.check("lapwing_container_exit_code", &[0.0]);
    machine.ticks(310);
    machine.check("lapwing_container_exit_code", &[]);
    let schema = machine.samples.schema();
    let left = schema.living(schema.version()).filter_map(|(series, _)| schema.labels(series));
    assert_eq!(left.filter(|labels| labels.get("name") == "web").count(), 0);
}

#[test]
fn ports() {
    let mut machine = Machine::new();
    machine.v2();
    let listen = |machine: &Machine, ports: &str| {
        machine.describe_as("web", &format!(r#""State":{{"Running":true}},"NetworkSettings":{{"Ports":{ports}}}"#));
    };
    listen(&machine, r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"53/udp":[{"HostPort":"53"}]}"#);
    machine.window();
    let ports = |machine: &Machine, label: &str| {
        let found = machine.values("lapwing_container_port_info", label);
        found.into_iter().map(|(port, _)| port).collect::<Vec<_>>()
    };
    assert_eq!(ports(&machine, "port"), ["53/udp", "80/tcp"]);
    assert_eq!(ports(&machine, "published"), [":53", "0.0.0.0:8080"]);
    listen(&machine, r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8081"}]}"#);
    machine.window();
    machine.window();
    assert_eq!(ports(&machine, "published"), ["0.0.0.0:8081"]);
    let schema = machine.samples.schema();
    let living = schema.living(schema.version()).filter_map(|(series, _)| schema.labels(series));
    assert_eq!(living.filter(|labels| labels.get(NAME) == "lapwing_container_port_info").count(), 1);
}

#[test]
fn a_kill_in_a_container_inside_is_its_own() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    let inner = format!("cgroup/system.slice/docker-@.scope/docker/{}", ID.replace('9', "8"));
    let file = |machine: &Machine, place: &str, name: &str, kills: u32| {
        machine.write(&format!("{place}/{name}"), &format!("max 0\noom_kill {kills}\n"));
    };
    machine.write(&format!("{inner}/cpu.stat"), "usage_usec 1\nuser_usec 1\nsystem_usec 0\n");
    machine.write(&format!("{inner}/pids.current"), "1\n");
    let outer = "cgroup/system.slice/docker-@.scope";
    let write = |machine: &Machine, own: u32, inside: u32| {
        file(machine, outer, "memory.events", own + inside);
        file(machine, outer, "memory.events.local", own);
        file(machine, &inner, "memory.events", inside);
        file(machine, &inner, "memory.events.local", inside);
    };
    write(&machine, 1, 4);
    machine.ticks(5);
    write(&machine, 2, 6);
    machine.window();
    machine.check("container_oom_events_total", &[2.0, 6.0]);
    let parents = machine.values("container_oom_events_total", "parent").into_iter().map(|(parent, _)| parent);
    assert_eq!(parents.collect::<Vec<_>>(), ["", "web"]);
    let told: Vec<_> = machine.samples.take_events().into_iter().map(|event| event.text).collect();
    let killed =
        |count: u32, name: &str| format!("the kernel killed {count} of the tasks of {name} for want of memory");
    assert_eq!(told, [killed(1, "web"), killed(2, &ID.replace('9', "8")[..SHORT_ID])]);
}

#[test]
fn health_checks() {
    let mut machine = Machine::new();
    machine.v2();
    let health = |machine: &Machine, status: &str| {
        machine.describe_as("web", &format!(r#""State":{{"Running":true,"Health":{{"Status":"{status}"}}}}"#));
    };
    health(&machine, "starting");
    machine.tick();
    machine.check("container_health_state", &[0.0]);
    for (status, value, told) in [
        ("healthy", 1.0, &[][..]),
        ("unhealthy", 0.0, &["container_unhealthy"]),
        ("unhealthy ", 0.0, &[]),
        ("healthy", 1.0, &[]),
        ("unhealthy", 0.0, &["container_unhealthy"]),
        ("healthy", 1.0, &["container_healthy"]),
    ] {
        health(&machine, status);
        machine.window();
        machine.check("container_health_state", &[value]);
        assert_eq!(machine.events(), told, "{status}");
    }
}

#[test]
fn an_oom_kill_is_counted_and_told() {
    let mut machine = Machine::new();
    machine.v2();
    machine.v2_container("10", "4");
    machine.describe("web", 0);
    machine.tick();
    assert_eq!(machine.events(), Vec::<String>::new());
    machine.v2_container("11", "6");
    machine.tick();
    machine.check("container_oom_events_total", &[6.0]);
    let told = machine.samples.take_events();
    let told: Vec<_> =
        told.iter().map(|event| (event.kind.as_str(), event.entity.get("name"), event.text.as_str())).collect();
    assert_eq!(told, [("oom_kill", "web", "the kernel killed 2 of the tasks of web for want of memory")]);
}

#[test]
fn a_container_that_ends_leaves_when_it_was_seen_last_for_five_minutes() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.ticks(2);
    machine.remove("cgroup/system.slice/docker-@.scope");
    machine.describe_as("web", r#""State":{"Running":false}"#);
    machine.tick();
    assert_eq!(machine.events(), ["container_exited"]);
    machine.check("container_cpu_usage_seconds_total", &[]);
    machine.window();
    machine.check("container_last_seen", &[1_003.0]);
    machine.check("container_memory_rss", &[]);
    machine.ticks(280);
    machine.check("container_last_seen", &[1_003.0]);
    machine.ticks(10);
    machine.check("container_last_seen", &[1_003.0]);
    machine.ticks(10);
    machine.check("container_last_seen", &[]);
    assert!(machine.cgroups.departures.is_empty());
}

#[test]
fn a_restarted_container_is_a_new_instance_with_the_same_labels() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.ticks(2);
    let before = machine.cgroups.find(&format!("/system.slice/docker-{ID}.scope")).unwrap();
    machine.remove("cgroup/system.slice/docker-@.scope");
    machine.write("cgroup/between/cpu.stat", "");
    machine.describe("web", 1);
    machine.v2_container("1", "0");
    machine.tick();
    machine.check("container_cpu_usage_seconds_total", &[1.0]);
    assert_eq!(machine.events(), ["container_exited", "container_restarted"]);
    let after = machine.cgroups.find(&format!("/system.slice/docker-{ID}.scope")).unwrap();
    assert_ne!(before, after);
    assert_eq!([before, after].map(|handle| machine.cgroups.is_living(handle)), [false, true]);
    machine.window();
    machine.check("container_last_seen", &[1_011.0]);
    machine.check("lapwing_container_restarts_total", &[1.0]);
    machine.ticks(400);
    machine.check("container_last_seen", &[1_411.0]);
}
