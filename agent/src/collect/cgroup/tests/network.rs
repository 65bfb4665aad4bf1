//! Networks: whose they are.

use super::*;

const DEV: &str = "Inter-|   Receive |  Transmit\n face |bytes |bytes\n\
    lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n  eth0: 10 11 12 13 0 0 0 0 20 21 22 23 0 0 0 0\n";

impl Machine {
    /// A process in a cgroup, in a network namespace of its own or that of another process.
    fn process(&self, cgroup: &str, pid: u32, namespace_of: Option<u32>) {
        self.write(&format!("cgroup{cgroup}/cgroup.procs"), &format!("{pid}\n"));
        self.write(&format!("proc/{pid}/comm"), "pause\n");
        self.write(&format!("proc/{pid}/stat"), &format!("{pid} (x) S{} {pid}00 0 0\n", " 0".repeat(18)));
        let file = |pid: u32| self.base.path().join(format!("proc/{pid}/net/dev"));
        match namespace_of {
            None => self.write(&format!("proc/{pid}/net/dev"), DEV),
            Some(other) => {
                fs::create_dir_all(file(pid).parent().unwrap()).unwrap();
                fs::hard_link(file(other), file(pid)).unwrap();
            }
        }
    }
}

#[test]
fn a_container_has_the_network_that_its_processes_see() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.write("proc/1/net/dev", DEV);
    machine.process("/system.slice/docker-@.scope/init.scope", 40, None);
    machine.tick();
    for (what, expect) in [("receive", 10.0), ("transmit", 20.0)] {
        let metric = |name: &str| format!("container_network_{what}_{name}_total");
        assert_eq!(machine.values(&metric("bytes"), "interface"), [("eth0".to_owned(), expect)]);
        machine.check(&metric("packets"), &[expect + 1.0]);
        machine.check(&metric("errors"), &[expect + 2.0]);
        machine.check(&metric("packets_dropped"), &[expect + 3.0]);
    }
    machine.tick();
    machine.check("container_network_receive_bytes_total", &[]);
    machine.write("proc/40/net/dev", &DEV.replace("eth0", "eth1"));
    machine.window();
    assert_eq!(machine.values("container_network_receive_bytes_total", "interface"), [("eth1".to_owned(), 10.0)]);
    machine.write("proc/40/net/dev", "garbage");
    machine.window();
    machine.check("container_network_receive_bytes_total", &[]);
}

#[test]
fn the_network_of_the_host_is_no_containers() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.write("proc/1/net/dev", DEV);
    machine.process("/system.slice/docker-@.scope", 40, Some(1));
    machine.tick();
    machine.check("container_network_receive_bytes_total", &[]);
    machine.check("container_threads", &[3.0]);
}

#[test]
fn a_container_whose_process_gave_way_to_another_has_the_network_of_that_one() {
    let mut machine = Machine::new();
    machine.v2();
    machine.describe("web", 0);
    machine.write("proc/1/net/dev", DEV);
    machine.process("/system.slice/docker-@.scope", 40, None);
    machine.window();
    fs::remove_dir_all(machine.base.path().join("proc/40")).unwrap();
    machine.process("/system.slice/docker-@.scope", 41, None);
    machine.write("proc/41/net/dev", &DEV.replace("eth0", "eth1"));
    machine.v2_container("11", "0");
    machine.window();
    assert_eq!(machine.values("container_network_receive_bytes_total", "interface"), [("eth1".to_owned(), 10.0)]);
}

#[test]
fn a_pod_has_one_network_and_its_sandbox_is_not_listed() {
    let mut machine = Machine::new();
    machine.write("proc/1/net/dev", DEV);
    machine.write("cgroup/cgroup.controllers", "cpu io memory pids\n");
    let pod = "/kubepods.slice/kubepods-pod6b.slice";
    let [sandbox, app] = ['1', '2'].map(|digit| digit.to_string().repeat(64));
    let bundle = |machine: &Machine, id: &str, kind: &str, name: &str| {
        let json = format!(
            r#"{{"annotations":{{"io.kubernetes.cri.container-type":"{kind}",{name}
                "io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop"}}}}"#
        );
        machine.write(&format!("root/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}/config.json"), &json);
    };
    // The sandbox comes second and is no older.
    for (id, pid, of) in [(&app, 50, None), (&sandbox, 60, Some(50))] {
        machine.write(
            &format!("cgroup{pod}/cri-containerd-{id}.scope/cpu.stat"),
            "usage_usec 1\nuser_usec 1\nsystem_usec 0\n",
        );
        machine.process(&format!("{pod}/cri-containerd-{id}.scope"), pid, of);
    }
    bundle(&machine, &sandbox, "sandbox", "");
    bundle(&machine, &app, "container", r#""io.kubernetes.cri.container-name":"app","#);
    machine.tick();
    let network = machine.values("container_network_receive_bytes_total", "id");
    assert_eq!(network, [(format!("{pod}/cri-containerd-{sandbox}.scope"), 10.0)]);
    assert_eq!(machine.values("container_network_receive_bytes_total", "pod"), [("web-0".to_owned(), 10.0)]);
    let listed = |label: &str| {
        let values = machine.values("container_last_seen", label).into_iter();
        values.map(|(value, _)| value).collect::<Vec<_>>()
    };
    assert_eq!(listed("id"), [format!("{pod}/cri-containerd-{app}.scope")]);
    assert_eq!([listed("container"), listed("pod"), listed("namespace")], [["app"], ["web-0"], ["shop"]]);
    assert_eq!(listed("name"), ["shop/web-0/app"]);
    let sandbox = machine.cgroups.find(&format!("{pod}/cri-containerd-{sandbox}.scope")).unwrap();
    assert_eq!(machine.cgroups.name(sandbox), Some(""), "its process belongs to no container");
}

#[test]
fn a_sandbox_that_nobody_describes_is_known_by_its_command() {
    let mut machine = Machine::new();
    machine.write("cgroup/cgroup.controllers", "cpu\n");
    let scope = "/kubepods.slice/kubepods-pod6b.slice/cri-containerd-@.scope";
    machine.write(&format!("cgroup{scope}/cpu.stat"), "usage_usec 1\nuser_usec 1\nsystem_usec 0\n");
    machine.process(scope, 60, None);
    machine.ticks(15);
    assert_eq!(machine.values("container_last_seen", "id"), []);
}
