//! What processes did that nobody saw.

use super::*;

#[test]
fn groups_and_the_exited_sum_to_their_container() {
    let mut machine = Machine::new();
    machine.tick();
    machine.container(1_000_000);
    machine.run(Fake { container: true, start: 60_000, cpu: 10, ..BASH });
    machine.window();
    machine.check("cpu_seconds_total", "bash@web", &[0.1, 0.1]);
    machine.check("cpu_seconds_total", "(exited)@web", &[0.2, 0.6]);
    machine.container(3_000_000);
    machine.run(Fake { container: true, start: 60_000, cpu: 110, ..BASH });
    machine.tick();
    machine.check("cpu_seconds_total", "bash@web", &[1.1, 1.1]);
    machine.check("cpu_seconds_total", "(exited)@web", &[0.2, 0.6]);
    // One that is never seen uses four seconds.
    machine.container(7_000_000);
    machine.tick();
    machine.check("cpu_seconds_total", "(exited)@web", &[1.2, 3.6]);
    // Processes are read after their cgroup and may be ahead of it.
    machine.run(Fake { container: true, start: 60_000, cpu: 120, ..BASH });
    machine.container(7_100_000);
    machine.tick();
    machine.check("cpu_seconds_total", "(exited)@web", &[1.2, 3.6]);
    machine.kill(17);
    machine.container(8_080_000);
    machine.tick();
    machine.check("cpu_seconds_total", "bash@web", &[1.2, 1.2]);
    machine.check("cpu_seconds_total", "(exited)@web", &[1.42, 4.26]);
    machine.check("num_procs", "(exited)@web", &[]);
}

#[test]
fn a_command_that_calls_itself_so_is_not_the_exited() {
    let mut machine = Machine::new();
    machine.tick();
    machine.container(1_000_000);
    machine.run(Fake { container: true, start: 60_000, cpu: 10, comm: "(exited)", ..BASH });
    machine.window();
    machine.check("num_procs", "(exited)@web", &[]);
    machine.check("num_procs", "exited@web", &[1.0]);
    machine.check("cpu_seconds_total", "exited@web", &[0.1, 0.1]);
    machine.check("cpu_seconds_total", "(exited)@web", &[0.2, 0.6]);
}

#[test]
fn what_a_container_used_before_the_agent_began_is_not_that_of_the_exited() {
    let mut machine = Machine::new();
    machine.container(900_000_000);
    machine.run(Fake { container: true, ..BASH });
    machine.window();
    machine.container(900_050_000);
    machine.window();
    machine.check("cpu_seconds_total", "(exited)@web", &[]);
    machine.container(901_000_000);
    machine.window();
    machine.check("cpu_seconds_total", "(exited)@web", &[0.25, 0.75]);
    fs::remove_dir_all(machine.base.path().join("cgroup/docker")).unwrap();
    machine.kill(17);
    machine.window();
    machine.check("cpu_seconds_total", "(exited)@web", &[0.25, 0.75]);
    for _ in 0..7 {
        machine.window();
    }
    machine.check("cpu_seconds_total", "(exited)@web", &[]);
}

#[test]
fn what_containers_inside_used_is_not_that_of_the_exited_around_them() {
    let mut machine = Machine::new();
    let around = |machine: &Machine, used_us: u64| {
        let cpu = format!("usage_usec {used_us}\nuser_usec 0\nsystem_usec 0\n");
        machine.write("cgroup/system.slice/dind.service/cpu.stat", cpu);
        let cpu = format!("usage_usec {}\nuser_usec 0\nsystem_usec 0\n", used_us - 400_000);
        machine.write("cgroup/system.slice/dind.service/docker/@/cpu.stat", cpu);
    };
    machine.write("root/var/lib/docker/containers/@/config.v2.json", r#"{"Name":"/web","Config":{"Image":"x"}}"#);
    around(&machine, 500_000);
    machine.window();
    around(&machine, 9_500_000);
    machine.window();
    machine.check("cpu_seconds_total", "(exited)@web", &[9.0, 0.0]);
    machine.check("cpu_seconds_total", "(exited)", &[]);
}

#[test]
fn hidden_processes_are_an_error_and_not_among_the_exited() {
    let mut machine = Machine::new();
    machine.container(1_000_000);
    machine.tick();
    machine.kill(1);
    machine.run(BASH);
    machine.container(9_000_000);
    assert!(matches!(machine.try_tick(), Err(CollectError::Hidden)));
    machine.run(INIT);
    machine.container(9_300_000);
    machine.window();
    machine.check("num_procs", "bash", &[1.0]);
    machine.check("cpu_seconds_total", "(exited)@web", &[]);
    machine.container(10_300_000);
    machine.window();
    machine.check("cpu_seconds_total", "(exited)@web", &[0.25, 0.75]);
}

#[test]
fn looks_may_be_seldom() {
    let mut machine = Machine::new();
    machine.container(1);
    machine.run(Fake { container: true, ..BASH });
    machine.tick();
    let started_late = Fake { pid: 18, container: true, start: 60_300, cpu: 50, ..BASH };
    machine.run(started_late);
    machine.run(Fake { container: true, cpu: 200, ..BASH });
    machine.container(3_000_001);
    for _ in 0..8 {
        machine.skip();
    }
    machine.tick();
    machine.check("cpu_seconds_total", "bash@web", &[1.5, 1.5]);
    machine.window();
    machine.check("cpu_seconds_total", "(exited)@web", &[]);
}
