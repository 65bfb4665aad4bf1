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
    /// containerd, by Kubernetes or nerdctl.
    Containerd,
    /// CRI-O.
    Crio,
    /// Podman, rootless or not.
    Podman,
    /// LXC, LXD and Incus.
    Lxc,
    /// systemd-nspawn.
    Nspawn,
    /// Something that names cgroups by 64 hexadecimal digits.
    Other,
    /// systemd: a service, not a container.
    Systemd,
}

impl Runtime {
    /// Whether what it makes are containers.
    #[must_use]
    pub fn is_container(self) -> bool {
        self != Self::Systemd
    }
}

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
    /// Any name.
    Name,
}

/// One row a runtime and cgroup driver, the particular before the general.
const RULES: &[Rule] = &[
    rule("crio-", ".scope", Shape::Digest, Runtime::Crio),
    rule("cri-containerd-", ".scope", Shape::Digest, Runtime::Containerd),
    rule("nerdctl-", ".scope", Shape::Digest, Runtime::Containerd),
    rule("docker-", ".scope", Shape::Digest, Runtime::Docker),
    rule("libpod-", ".scope", Shape::Digest, Runtime::Podman),
    rule("libpod-payload-", "", Shape::Digest, Runtime::Podman),
    rule("libpod-", "", Shape::Digest, Runtime::Podman),
    rule("crio-", "", Shape::Digest, Runtime::Crio),
    rule("lxc.payload.", "", Shape::Name, Runtime::Lxc),
    rule("systemd-nspawn@", ".service", Shape::Name, Runtime::Nspawn),
];

/// Bare ids: the directory that holds them tells the runtime.
const PARENTS: &[(&str, Shape, Runtime)] =
    &[("docker", Shape::Digest, Runtime::Docker), ("lxc", Shape::Name, Runtime::Lxc)];

const fn rule(before: &'static str, behind: &'static str, id: Shape, runtime: Runtime) -> Rule {
    Rule { before, behind, id, runtime }
}

impl Shape {
    fn fits(self, id: &str) -> bool {
        match self {
            Self::Digest => id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
            Self::Name => !id.is_empty(),
        }
    }
}

fn innermost<'a>(path: &'a str, judge: fn(&'a str, &'a str) -> Option<(Runtime, &'a str)>) -> Option<Identity<'a>> {
    let mut root = path.trim_end_matches('/');
    while let Some((above, component)) = root.rsplit_once('/') {
        let parent = above.rsplit('/').next().unwrap_or_default();
        if let Some((runtime, id)) = judge(component, parent) {
            return Some(Identity { runtime, id, root });
        }
        root = above;
    }
    None
}

fn container<'a>(component: &'a str, parent: &'a str) -> Option<(Runtime, &'a str)> {
    let by_rule = RULES.iter().find_map(|rule| {
        let id = component.strip_prefix(rule.before)?.strip_suffix(rule.behind)?;
        rule.id.fits(id).then_some((rule.runtime, id))
    });
    by_rule.or_else(|| bare(component, parent))
}

fn bare<'a>(component: &'a str, parent: &str) -> Option<(Runtime, &'a str)> {
    let by_parent = PARENTS.iter().find(|(directory, shape, _)| *directory == parent && shape.fits(component));
    if let Some((_, _, runtime)) = by_parent {
        return Some((*runtime, component));
    }
    // `kubepods-burstable-pod….slice:cri-containerd:<id>`: containerd that was told of a systemd driver it does not use.
    if let Some((_, id)) = component.split_once(":cri-containerd:") {
        return Shape::Digest.fits(id).then_some((Runtime::Containerd, id));
    }
    let kubernetes = parent.starts_with("pod");
    let runtime = if kubernetes { Runtime::Containerd } else { Runtime::Other };
    Shape::Digest.fits(component).then_some((runtime, component))
}

fn service<'a>(component: &'a str, _parent: &'a str) -> Option<(Runtime, &'a str)> {
    component.ends_with(".service").then_some((Runtime::Systemd, component))
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
        check("/docker/buildkit/w1x2", None);
        check("/docker", None);
        check("/system.slice/docker.service", Some((Runtime::Systemd, "docker.service")));
        check("/system.slice/docker-91a1.scope", None);
    }

    #[test]
    fn kubernetes() {
        check("/kubepods/burstable/pod6b3c/@", Some((Runtime::Containerd, "@")));
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
        let nspawn = identify("/machine.slice/systemd-nspawn@web.service/payload").unwrap();
        assert_eq!((nspawn.runtime, nspawn.id), (Runtime::Nspawn, "web"));
        check("/actions_job/@", Some((Runtime::Other, "@")));
    }

    #[test]
    fn the_innermost_container_wins() {
        check("/docker/O/docker/@", Some((Runtime::Docker, "@")));
        check("/docker/O/kubepods/pod1/@", Some((Runtime::Containerd, "@")));
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
