//! From a cgroup path to what runs in it. Pure.
//!
//! The innermost container wins: in a cluster that runs inside containers, a path names several.

/// What a cgroup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Who made it.
    pub runtime: Runtime,
    /// The runtime's id of a container, or the name of a unit, escapes included.
    pub id: &'a str,
    /// The path of the cgroup that is the container or service; shorter than the path asked for when that lies inside.
    pub root: &'a str,
}

/// Who makes cgroups that are containers or services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// Docker, rootless or not, with either cgroup driver.
    Docker,
    /// A build of Docker's.
    Buildkit,
    /// containerd, by Kubernetes or nerdctl.
    Containerd,
    /// CRI-O.
    Crio,
    /// Podman, rootless or not.
    Podman,
    /// LXC, LXD and Incus.
    Lxc,
    /// systemd-nspawn, and whatever else registers with systemd-machined.
    Nspawn,
    /// A virtual machine of libvirt or Proxmox.
    Qemu,
    /// Something that names cgroups by 64 hexadecimal digits: Docker or containerd below a pod, say.
    Other,
    /// systemd: a service, a scope or a user's slice, not a container.
    Systemd,
}

impl Runtime {
    /// Whether what it makes are containers.
    #[must_use]
    pub fn is_container(self) -> bool {
        self != Self::Systemd
    }
}

impl<'a> Identity<'a> {
    /// The container or service that it lies in, if it lies in one.
    #[must_use]
    pub fn outer(&self) -> Option<Self> {
        identify(above(self.root))
    }

    /// Whether containers and services come and go inside as they do outside: in what systemd runs for a user.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.runtime == Runtime::Systemd && (self.root.ends_with(".slice") || self.id.starts_with("user@"))
    }

    /// Whether its path alone says that it only holds the network of a pod: CRI-O makes scopes of all others.
    #[must_use]
    pub fn is_sandbox(&self) -> bool {
        self.runtime == Runtime::Crio && !self.root.ends_with(".scope") && above(self.root).ends_with(".slice")
    }

    /// Whether it belongs to a pod.
    #[must_use]
    pub fn is_in_pod(&self) -> bool {
        self.root.contains("/kubepods") || self.podman_pod().is_some()
    }

    /// The id of the Podman pod that it belongs to.
    #[must_use]
    pub fn podman_pod(&self) -> Option<&'a str> {
        let (_, pod) = self.root.rsplit_once("libpod_pod_")?;
        pod.split(['.', '/']).next().filter(|id| Shape::Digest.fits(id))
    }

    /// The user whose rootless runtime made it.
    #[must_use]
    pub fn user(&self) -> Option<u32> {
        self.root.split('/').find_map(|it| it.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok())
    }

    /// What people call it, as far as its path says.
    #[must_use]
    pub fn name(&self) -> String {
        match self.runtime {
            Runtime::Qemu | Runtime::Lxc if self.root.ends_with(".scope") || self.root.contains(".libvirt-") => {
                // `3-web`: libvirt counts what it started.
                let name = unescape(self.id);
                let counted = name.split_once('-').filter(|(count, _)| count.bytes().all(|byte| byte.is_ascii_digit()));
                counted.map_or(name.as_str(), |(_, name)| name).to_owned()
            }
            Runtime::Lxc | Runtime::Nspawn | Runtime::Qemu | Runtime::Systemd => unescape(self.id),
            Runtime::Docker
            | Runtime::Buildkit
            | Runtime::Containerd
            | Runtime::Crio
            | Runtime::Podman
            | Runtime::Other => self.id.chars().take(SHORT_ID).collect(),
        }
    }
}

/// Digits of an id that stand for a name, as Docker shows them.
pub const SHORT_ID: usize = 12;

/// Names the container or service that a cgroup is or lies in.
#[must_use]
pub fn identify(path: &str) -> Option<Identity<'_>> {
    if path.ends_with(".mount") {
        return None;
    }
    innermost(path, container).or_else(|| innermost(path, service))
}

/// Replaces systemd's `\x2d` by the byte it stands for.
#[must_use]
pub fn unescape(unit: &str) -> String {
    let mut bytes = Vec::with_capacity(unit.len());
    let mut rest = unit.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.strip_prefix(b"x").and_then(|digits| digits.get(..2)).filter(|_| first == b'\\');
        let escaped = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How a runtime names a cgroup: what stands before and behind the id, and how the id looks.
struct Rule {
    before: &'static str,
    behind: &'static str,
    id: Shape,
    runtime: Runtime,
}

#[derive(Clone, Copy)]
enum Shape {
    /// 64 hexadecimal digits.
    Digest,
    /// 25 digits and letters.
    Build,
    /// A task's id and a number.
    Task,
    /// Any name.
    Name,
}

/// One row a runtime and cgroup driver, the particular before the general.
const RULES: &[Rule] = &[
    rule("crio-", ".scope", Shape::Digest, Runtime::Crio),
    rule("cri-containerd-", ".scope", Shape::Digest, Runtime::Containerd),
    rule("nerdctl-", ".scope", Shape::Digest, Runtime::Containerd),
    rule("docker-", ".scope", Shape::Digest, Runtime::Docker),
    rule("docker-", ".scope", Shape::Build, Runtime::Buildkit),
    rule("libpod-", ".scope", Shape::Digest, Runtime::Podman),
    rule("libpod-payload-", "", Shape::Digest, Runtime::Podman),
    rule("libpod-", "", Shape::Digest, Runtime::Podman),
    rule("crio-", "", Shape::Digest, Runtime::Crio),
    rule("lxc.payload.", "", Shape::Name, Runtime::Lxc),
    rule("systemd-nspawn@", ".service", Shape::Name, Runtime::Nspawn),
    rule(r"machine-qemu\x2d", ".scope", Shape::Name, Runtime::Qemu),
    rule(r"machine-lxc\x2d", ".scope", Shape::Name, Runtime::Lxc),
    rule("machine-", ".scope", Shape::Name, Runtime::Nspawn),
    rule("qemu-", ".libvirt-qemu", Shape::Name, Runtime::Qemu),
    rule("lxc-", ".libvirt-lxc", Shape::Name, Runtime::Lxc),
];

/// Bare ids: the directory that holds them tells the runtime.
const PARENTS: &[(&str, Shape, Runtime)] = &[
    ("docker", Shape::Digest, Runtime::Docker),
    ("buildkit", Shape::Build, Runtime::Buildkit),
    ("lxc", Shape::Name, Runtime::Lxc),
    // LXC 3.1; since 4.0 it is one name.
    ("lxc.payload", Shape::Name, Runtime::Lxc),
    ("qemu.slice", Shape::Name, Runtime::Qemu),
];

const fn rule(before: &'static str, behind: &'static str, id: Shape, runtime: Runtime) -> Rule {
    Rule { before, behind, id, runtime }
}

impl Shape {
    fn fits(self, id: &str) -> bool {
        let hexadecimal = |id: &str| id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match self {
            Self::Digest => id.len() == 64 && hexadecimal(id),
            Self::Build => id.len() == 25 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z')),
            Self::Task => id.split_once('-').is_some_and(|(task, number)| {
                task.len() == 32
                    && hexadecimal(task)
                    && !number.is_empty()
                    && number.bytes().all(|b| b.is_ascii_digit())
            }),
            Self::Name => !id.is_empty(),
        }
    }
}

type Judge<'a> = fn(&'a str, &'a str) -> Option<(Runtime, &'a str)>;

fn innermost<'a>(path: &'a str, judge: Judge<'a>) -> Option<Identity<'a>> {
    let mut root = path.trim_end_matches('/');
    while let Some((above, component)) = root.rsplit_once('/') {
        if let Some((runtime, id)) = judge(component, above) {
            return Some(Identity { runtime, id, root });
        }
        root = above;
    }
    None
}

fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

fn container<'a>(component: &'a str, above: &'a str) -> Option<(Runtime, &'a str)> {
    let by_rule = RULES.iter().find_map(|rule| {
        let id = component.strip_prefix(rule.before)?.strip_suffix(rule.behind)?;
        rule.id.fits(id).then_some((rule.runtime, id))
    });
    by_rule.or_else(|| bare(component, above))
}

fn bare<'a>(component: &'a str, above: &str) -> Option<(Runtime, &'a str)> {
    let parent = above.rsplit('/').next().unwrap_or_default();
    let name = if parent.ends_with(".slice") { component.strip_suffix(".scope")? } else { component };
    let by_parent = PARENTS.iter().find(|(directory, shape, _)| *directory == parent && shape.fits(name));
    if let Some((_, _, runtime)) = by_parent {
        return Some((*runtime, name));
    }
    // `kubepods-burstable-pod….slice:cri-containerd:<id>`: containerd that was told of a systemd driver it does not use.
    if let Some((_, id)) = component.split_once(":cri-containerd:") {
        return Shape::Digest.fits(id).then_some((Runtime::Containerd, id));
    }
    let of_ecs = above.split('/').any(|directory| directory == "ecs");
    match () {
        () if of_ecs && Shape::Task.fits(component) => Some((Runtime::Other, component)),
        () if !Shape::Digest.fits(component) => None,
        () if of_ecs => Some((Runtime::Docker, component)),
        () => Some((Runtime::Other, component)),
    }
}

fn service<'a>(component: &'a str, above: &'a str) -> Option<(Runtime, &'a str)> {
    let of_user = component.starts_with("user-") && above.ends_with("/user.slice");
    let stands_alone = above.ends_with("/system.slice") && !component.contains("-conmon-");
    let is_unit = component.ends_with(".service")
        || (of_user && component.ends_with(".slice"))
        || (stands_alone && component.ends_with(".scope"));
    is_unit.then_some((Runtime::Systemd, component))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "91a1a1f01a5ed31b6460eda81aa65ce36f7aa3901f29321666ee6323fa42f546";
    const OUTER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    /// `@` stands for an id, `O` for another; the path of the container is what stands before `|`.
    fn check(path: &str, expect: Option<(Runtime, &str)>) {
        let path = path.replace('@', ID).replace('O', OUTER);
        let (root, inside) = path.split_once('|').unwrap_or((&path, ""));
        let whole = format!("{root}{inside}");
        let found = identify(&whole);
        let expect = expect.map(|(runtime, id)| (runtime, id.replace('@', ID), root.to_owned()));
        assert_eq!(found.map(|found| (found.runtime, found.id.to_owned(), found.root.to_owned())), expect, "{whole}");
    }

    #[test]
    fn docker() {
        let docker = Some((Runtime::Docker, "@"));
        check("/docker/@", docker);
        check("/docker/@|/init.scope", docker);
        check("/system.slice/docker-@.scope", docker);
        check("/my.slice/my-parent.slice/docker-@.scope", docker);
        check("/user.slice/user-1000.slice/user#1000.service/user.slice/docker-@.scope", docker);
        let build = "qwertyuiopasdfghjklzx1234";
        check(&format!("/docker/buildkit/{build}"), Some((Runtime::Buildkit, build)));
        check(&format!("/system.slice/docker-{build}.scope"), Some((Runtime::Buildkit, build)));
        check("/docker/buildkit/w1x2", None);
        check("/docker", None);
        check("/system.slice/docker.service", Some((Runtime::Systemd, "docker.service")));
        check("/ecs/0f2a/@", docker);
        check(
            "/ecs/0f2a/0123456789abcdef0123456789abcdef-123",
            Some((Runtime::Other, "0123456789abcdef0123456789abcdef-123")),
        );
        check("/ecs/0f2a/0123456789abcdef0123456789abcdef-", None);
    }

    #[test]
    fn kubernetes() {
        check("/kubepods/burstable/pod6b3c/@", Some((Runtime::Other, "@")));
        check("/kubepods/pod0123456789abcdef0123456789abcdef/@", Some((Runtime::Other, "@")));
        let slices = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6b_3c.slice";
        check(&format!("{slices}/cri-containerd-@.scope"), Some((Runtime::Containerd, "@")));
        check(&format!("{slices}/crio-@.scope"), Some((Runtime::Crio, "@")));
        check(&format!("{slices}/crio-@.scope|/container"), Some((Runtime::Crio, "@")));
        check(&format!("{slices}/crio-conmon-@.scope"), None);
        check(&format!("{slices}/docker-@.scope"), Some((Runtime::Docker, "@")));
        check(
            "/system.slice/containerd.service|/kubepods-burstable-pod6b.slice",
            Some((Runtime::Systemd, "containerd.service")),
        );
        check("/kubepods-besteffort-pod6b.slice:cri-containerd:@", Some((Runtime::Containerd, "@")));
        let sandbox = |path: &str| identify(&path.replace('@', ID)).unwrap().is_sandbox();
        assert!(sandbox(&format!("{slices}/crio-@")));
        assert!(!sandbox(&format!("{slices}/crio-@.scope/container")));
        assert!(!sandbox("/kubepods/pod6b/crio-@"));
    }

    #[test]
    fn other_runtimes() {
        check("/machine.slice/libpod-@.scope|/container", Some((Runtime::Podman, "@")));
        check("/machine.slice/libpod-conmon-@.scope", None);
        check("/libpod_parent/libpod-@", Some((Runtime::Podman, "@")));
        check("/system.slice/web.service/libpod-payload-@", Some((Runtime::Podman, "@")));
        check("/lxc.payload.web|/system.slice/ssh.service", Some((Runtime::Lxc, "web")));
        check("/lxc.monitor.web", None);
        check("/lxc/web", Some((Runtime::Lxc, "web")));
        check("/lxc.payload/web|/init.scope", Some((Runtime::Lxc, "web")));
        check("/lxc.monitor/web", None);
        check("/machine/qemu-3-web.libvirt-qemu|/vcpu0", Some((Runtime::Qemu, "3-web")));
        check("/machine/lxc-12-web.libvirt-lxc", Some((Runtime::Lxc, "12-web")));
        let nspawn = identify("/machine.slice/systemd-nspawn@web.service/payload").unwrap();
        assert_eq!((nspawn.runtime, nspawn.id), (Runtime::Nspawn, "web"));
        check("/machine.slice/machine-web.scope", Some((Runtime::Nspawn, "web")));
        check(
            r"/machine.slice/machine-qemu\x2d3\x2dweb\x2d1.scope|/libvirt/emulator",
            Some((Runtime::Qemu, r"3\x2dweb\x2d1")),
        );
        check("/qemu.slice/104.scope", Some((Runtime::Qemu, "104")));
        check("/actions_job/@", Some((Runtime::Other, "@")));
        check("/default/@", Some((Runtime::Other, "@")));
        check("/system.slice/nerdctl-@.scope", Some((Runtime::Containerd, "@")));
    }

    #[test]
    fn the_innermost_container_wins() {
        check("/docker/O/docker/@", Some((Runtime::Docker, "@")));
        check("/docker/O/kubepods/pod1/@", Some((Runtime::Other, "@")));
        check("/lxc.payload.node/kubepods.slice/pod1/cri-containerd-@.scope", Some((Runtime::Containerd, "@")));
        check("/docker/@|/system.slice/ssh.service", Some((Runtime::Docker, "@")));
    }

    #[test]
    fn services() {
        check("/system.slice/ssh.service", Some((Runtime::Systemd, "ssh.service")));
        check("/system.slice/system-getty.slice/getty.service", Some((Runtime::Systemd, "getty.service")));
        check("/system.slice/a.service|/worker", Some((Runtime::Systemd, "a.service")));
        check("/system.slice/dev-hugepages.mount", None);
        check("/system.slice", None);
        check("/", None);
        check("", None);
        check("relative.service", None);
    }

    #[test]
    fn what_a_user_runs() {
        check("/user.slice/user-1000.slice", Some((Runtime::Systemd, "user-1000.slice")));
        check("/user.slice/user-1000.slice|/session-3.scope", Some((Runtime::Systemd, "user-1000.slice")));
        let manager = "/user.slice/user-1000.slice/user#1000.service".replace('#', "@");
        let identity = |path: &str| identify(path).map(|it| (it.id.to_owned(), it.is_open(), it.user())).unwrap();
        let user = Some(1_000);
        assert_eq!(identity("/user.slice/user-1000.slice/session-3.scope"), ("user-1000.slice".to_owned(), true, user));
        assert_eq!(identity(&format!("{manager}/app.slice")), ("user@1000.service".to_owned(), true, user));
        assert_eq!(identity(&format!("{manager}/app.slice/a.service")), ("a.service".to_owned(), false, user));
        assert_eq!(identity("/system.slice/a.service"), ("a.service".to_owned(), false, None));
        check("/system.slice/run-r1f.scope", Some((Runtime::Systemd, "run-r1f.scope")));
        check("/machine.slice/run-r1f.scope", None);
        check("/user.slice", None);
    }

    #[test]
    fn names_and_places() {
        let check = |path: &str, expect: &str| {
            let path = path.replace('O', OUTER).replace('@', ID);
            let identity = identify(&path).unwrap();
            let outer = identity.outer().map(|outer| format!(" in {}", outer.name())).unwrap_or_default();
            let pod = identity.podman_pod().map(|pod| format!(" of {}", &pod[..4])).unwrap_or_default();
            let of_pod = if identity.is_in_pod() { " (pod)" } else { "" };
            assert_eq!(format!("{}{outer}{pod}{of_pod}", identity.name()), expect, "{path}");
        };
        check("/docker/@", "91a1a1f01a5e");
        check("/docker/O/docker/@", "91a1a1f01a5e in 000000000000");
        check("/lxc.payload.5-node/kubepods/pod1/@", "91a1a1f01a5e in 5-node (pod)");
        check(r"/machine.slice/machine-qemu\x2d3\x2dweb\x2d1.scope/libvirt", "web-1");
        check(r"/machine.slice/machine-lxc\x2d12\x2dweb.scope", "web");
        check("/qemu.slice/104.scope", "104");
        check("/machine/qemu-3-web-1.libvirt-qemu/emulator", "web-1");
        check("/machine/lxc-12-web.libvirt-lxc", "web");
        check(r"/machine.slice/machine-my\x2dbox.scope", "my-box");
        check("/machine.slice/machine-libpod_pod_O.slice/libpod-@.scope", "91a1a1f01a5e of 0000 (pod)");
        check(
            "/user.slice/user-1000.slice/user-libpod_pod_O.slice/libpod-@.scope/container",
            "91a1a1f01a5e in user-1000.slice of 0000 (pod)",
        );
        check("/system.slice/web.service/libpod-payload-@", "91a1a1f01a5e in web.service");
    }

    #[test]
    fn unit_names_are_unescaped() {
        let check = |escaped, expect| assert_eq!(unescape(escaped), expect);
        check(r"systemd\x2dfsck.service", "systemd-fsck.service");
        check(r"a\x20b\x5cc.service", r"a b\c.service");
        check(r"odd\x", r"odd\x");
        check(r"odd\x2", r"odd\x2");
        check(r"odd\xzz", r"odd\xzz");
        check(r"bad\xff", "bad\u{fffd}");
        check("", "");
    }
}
