//! Processes of this host.

use super::*;

#[test]
fn between_two_windows_what_begins_and_what_ends_on_this_host_is_seen() {
    let mut host = Host::new(Roots::default());
    let (mut samples, cgroups) = (Samples::default(), Cgroups::default());
    let mut processes = Processes::new(Path::new("/proc"), naming(""));
    let mut second = 0;
    let mut tick = |processes: &mut Processes| {
        second += 1;
        let (stamp, now) = (Timestamp::from_seconds(1_000 + second), Duration::from_secs(second.unsigned_abs()));
        let first_in_window = second == 1;
        let moment = Moment { stamp, now, wall: stamp, window: stamp, first_in_window, patience: Duration::ZERO };
        samples.begin_tick();
        processes.tick(&mut Tick { host: &mut host, samples: &mut samples, moment }, &cgroups).unwrap();
    };
    tick(&mut processes);
    tick(&mut processes);
    for _ in 0..3 {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        tick(&mut processes);
        assert!(processes.known.contains_key(&child.id()));
        tick(&mut processes);
        assert!(processes.known.contains_key(&child.id()));
        child.kill().unwrap();
        tick(&mut processes);
        assert!(processes.known.contains_key(&child.id()), "nobody has waited for it yet");
        child.wait().unwrap();
        tick(&mut processes);
        assert!(!processes.known.contains_key(&child.id()));
    }
}

#[test]
fn living_processes_are_read_as_the_kernel_shows_them() {
    let mut machine = Machine::new();
    let roots = Roots { rootfs: machine.base.path().join("root"), ..Roots::default() };
    machine.processes = Processes::new(&roots.procfs, naming(""));
    machine.host = Host::new(roots);
    machine.tick();
    let ours = machine.processes.known.get(&std::process::id()).unwrap();
    let theirs = procfs::process::Process::myself().unwrap().stat().unwrap();
    assert_eq!(ours.level.start_ticks, theirs.starttime);
    assert_eq!(String::from_utf8_lossy(&ours.comm), theirs.comm);
    let table = machine.window();
    assert!(!table.is_empty());
}
