//! From a cgroup path to the name of what runs in it.
//!
//! Runtimes' own files answer first: that costs their daemons nothing. Their sockets are asked where an operator allows it.

mod description;
mod docker;
mod engine;
mod oci;
mod path;
mod user;

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::host::FileVersion;
use crate::host::Host;
use crate::host::KeptDirectory;
use crate::host::ReadError;
use crate::identify::engine::Engine;
use crate::identify::user::User;

pub use description::CONTAINER_LABEL_BYTES_MAX;
pub use description::CONTAINER_LABELS_MAX;
pub use description::CONTAINER_PORTS_MAX;
pub use description::Description;
pub use description::Exit;
pub use description::LabelFilter;
pub use description::Port;
pub use description::State;
pub use path::Identity;
pub use path::Runtime;
pub use path::SHORT_ID;
pub use path::identify;
pub use path::unescape;

/// What could be found out about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Described {
    /// All that its runtime wrote down, and where.
    Known(Box<Description>, Written),
    /// Nothing yet: a cgroup appears before its runtime has written its files.
    Missing,
    /// Nothing ever: there is no file to look into, or we may not.
    Never,
}

/// What is known of the end of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its runtime has not noticed yet.
    Unnoticed,
    /// How it ended.
    Known(Exit),
    /// That it ended, and no more.
    Unknown,
}

/// Where a description stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    file: PathBuf,
    version: Option<FileVersion>,
}

impl Written {
    /// Whether the file still says the same.
    #[must_use]
    pub fn is_current(&self, host: &Host) -> bool {
        host.version(&self.file) == self.version
    }
}

/// Describes containers: by the files of their runtimes, and by what engines say that may be asked.
#[derive(Debug, Default)]
pub struct Directory {
    filter: LabelFilter,
    users: Users,
    refusal_said: bool,
    engines: Vec<Engine>,
    /// Containers of which an engine told something since the tick before.
    news: HashSet<String>,
}

/// How often who waits looks whether an engine has told of its containers.
const STEP: Duration = Duration::from_millis(2);

/// Who writes files that describe containers.
#[derive(Clone, Copy)]
enum Source {
    Docker,
    Containerd,
    /// CRI-O and Podman.
    Storage,
    /// The kubelet, in the names of logs: readable by anyone.
    Logs,
    Proxmox,
}

/// Where containerd keeps the bundles of running containers, on its own and inside a distribution of Kubernetes.
const BUNDLES: &[&str] = &[
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/k3s/containerd/io.containerd.runtime.v2.task",
    "/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
];

/// What containers-storage calls its directory of containers, by driver.
const STORAGES: &[&str] = &["overlay-containers", "vfs-containers", "btrfs-containers", "zfs-containers"];

impl Source {
    /// Those that may know containers of a runtime, the likely before the others.
    fn of(runtime: Runtime) -> &'static [Self] {
        match runtime {
            Runtime::Docker => &[Self::Docker],
            Runtime::Containerd => &[Self::Containerd, Self::Logs],
            Runtime::Crio => &[Self::Storage, Self::Logs],
            Runtime::Podman => &[Self::Storage],
            Runtime::Other => &[Self::Docker, Self::Containerd, Self::Storage, Self::Logs],
            Runtime::Lxc | Runtime::Qemu => &[Self::Proxmox],
            Runtime::Buildkit | Runtime::Nspawn | Runtime::Systemd => &[],
        }
    }
}

/// One search: what is read through, and whether anything was not for us.
struct Search<'a> {
    host: &'a mut Host,
    refused: Option<ReadError>,
}

type Found = Option<(Description, Written)>;

impl Directory {
    /// Keeps those labels of containers, and asks the engines behind these sockets.
    #[must_use]
    pub fn new(filter: LabelFilter, sockets: impl IntoIterator<Item = PathBuf>) -> Self {
        let engines = sockets.into_iter().map(|socket| Engine::new(socket, filter.clone())).collect();
        Self { filter, engines, ..Self::default() }
    }

    /// Takes what engines told since the last call. Waits up to `patience` for one that has told nothing yet.
    pub fn refresh(&mut self, patience: Duration) {
        self.news.clear();
        let mut left = patience;
        for engine in &self.engines {
            while engine.told().is_up.is_none() && !left.is_zero() {
                thread::sleep(left.min(STEP));
                left = left.saturating_sub(STEP);
            }
            engine.told().take_news(&mut self.news);
        }
    }

    /// Whether an engine told something of the container of a cgroup.
    #[must_use]
    pub fn has_news(&self, cgroup: &str) -> bool {
        !self.news.is_empty() && identify(cgroup).is_some_and(|identity| self.news.contains(identity.id))
    }

    /// The sockets of engines, and whether they answer.
    pub fn engines(&self) -> impl Iterator<Item = (&Path, bool)> {
        self.engines.iter().map(|engine| (engine.socket.as_path(), engine.told().is_up == Some(true)))
    }

    /// Describes a container. Read anew at each call: the caller keeps what it learns.
    pub fn describe(&mut self, host: &mut Host, identity: &Identity<'_>) -> Described {
        let written = self.read(host, identity);
        let told = self.engines.iter().find_map(|engine| engine.told().find(identity.id).cloned());
        match (written, told) {
            (Described::Known(description, written), Some(Description { state, ports, .. })) => {
                Described::Known(Box::new(Description { state, ports, ..*description }), written)
            }
            (_, Some(told)) => Described::Known(Box::new(told), Written::default()),
            (written, None) => written,
        }
    }

    /// How a container ended whose cgroup is gone.
    pub fn ending(&mut self, host: &mut Host, identity: &Identity<'_>) -> Ending {
        let told = self.take_exit(identity);
        let known = || match self.describe(host, identity) {
            Described::Known(description, _) => description.state,
            Described::Missing | Described::Never => None,
        };
        match told.map_or_else(known, |exit| Some(State { exit, ..State::default() })) {
            Some(state) if state.is_running => Ending::Unnoticed,
            Some(state) => Ending::Known(state.exit),
            None => Ending::Unknown,
        }
    }

    /// Forgets how the container of a cgroup ended before it was there: nobody saw it, and nobody will ask.
    pub fn forget_exit(&self, cgroup: &str) {
        if let Some(identity) = identify(cgroup) {
            self.take_exit(&identity);
        }
    }

    fn take_exit(&self, identity: &Identity<'_>) -> Option<Exit> {
        self.engines.iter().find_map(|engine| engine.told().take_exit(identity.id))
    }

    /// What the files of its runtime say.
    fn read(&mut self, host: &mut Host, identity: &Identity<'_>) -> Described {
        let sources = Source::of(identity.runtime);
        let guest = identity.id.bytes().all(|byte| byte.is_ascii_digit());
        if sources.is_empty() || (matches!(sources, [Source::Proxmox]) && !guest) {
            return Described::Never;
        }
        let mut search = Search { host, refused: None };
        let found = sources.iter().find_map(|source| self.ask(&mut search, identity, *source));
        match (found, search.refused) {
            (Some((description, written)), _) => Described::Known(Box::new(description), written),
            (None, None) => Described::Missing,
            // An engine may still tell.
            (None, Some(_)) if !self.engines.is_empty() => Described::Missing,
            (None, Some(error)) => {
                if !self.refusal_said {
                    tracing::warn!(%error, "containers are shown by id: only root may read their names");
                }
                self.refusal_said = true;
                Described::Never
            }
        }
    }

    fn ask(&mut self, search: &mut Search<'_>, identity: &Identity<'_>, source: Source) -> Found {
        match source {
            Source::Docker => {
                let root =
                    self.home(search.host, identity, ".local/share/docker").unwrap_or_else(|| search.docker_root());
                let file = root.join("containers").join(identity.id).join("config.v2.json");
                search.read(file, |json| docker::parse(json, &self.filter))
            }
            Source::Containerd => BUNDLES.iter().find_map(|bundles| search.bundle(Path::new(bundles), identity.id)),
            Source::Storage => {
                let of_user = self.home(search.host, identity, ".local/share/containers/storage");
                let root = of_user.unwrap_or_else(|| search.storage_root());
                STORAGES.iter().find_map(|storage| search.stored(&root, storage, identity.id))
            }
            Source::Logs => search.log(identity.id),
            Source::Proxmox => {
                let kind = if identity.runtime == Runtime::Qemu { "qemu-server" } else { "lxc" };
                let file = search.place("/etc/pve").join(kind).join(format!("{}.conf", identity.id));
                search.read(file, oci::parse_guest)
            }
        }
    }

    /// A place in the home of the user whose rootless runtime made a container.
    fn home(&mut self, host: &mut Host, identity: &Identity<'_>, place: &str) -> Option<PathBuf> {
        let home = self.users.find(host, identity.user()?)?.home.clone();
        (!home.is_empty()).then(|| host.roots().on_rootfs(Path::new(&home)).join(place))
    }
}

impl Search<'_> {
    /// The place of an absolute path of the host.
    fn place(&self, absolute: &str) -> PathBuf {
        self.host.roots().on_rootfs(Path::new(absolute))
    }

    fn read(&mut self, file: PathBuf, parse: impl FnOnce(&[u8]) -> Option<Description>) -> Found {
        // Before it is read: what is written in between is read again.
        let version = self.host.version(&file);
        match self.host.read_once(&file) {
            Ok(bytes) => parse(bytes).map(|description| (description, Written { file, version })),
            Err(error) => {
                self.note(error);
                None
            }
        }
    }

    fn note(&mut self, error: ReadError) {
        if error.is_denied() {
            self.refused.get_or_insert(error);
        }
    }

    /// Names of what is in a directory.
    fn list(&mut self, directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut names = Vec::new();
        let listed = self.host.list(&mut KeptDirectory::new(directory), |entry| {
            let name = std::str::from_utf8(entry.name).ok().filter(|name| wanted(name));
            names.extend(name.map(str::to_owned));
        });
        if let Err(error) = listed {
            self.note(error);
        }
        names
    }

    /// A container of containerd, in whichever of its namespaces.
    fn bundle(&mut self, bundles: &Path, id: &str) -> Found {
        let bundles = self.host.roots().on_rootfs(bundles);
        let namespaces = self.list(&bundles, |_| true);
        let mut files = namespaces.into_iter().map(|namespace| bundles.join(namespace).join(id).join("config.json"));
        files.find_map(|file| self.read(file, oci::parse_config))
    }

    /// A container of CRI-O or Podman: its names are in one file, what it is for in another.
    fn stored(&mut self, root: &Path, storage: &str, id: &str) -> Found {
        let places = [root.join(storage), self.place("/run/containers/storage").join(storage)];
        let config = |place: &PathBuf| place.join(id).join("userdata/config.json");
        let annotated = places.iter().map(config).find_map(|file| self.read(file, oci::parse_config));
        let files = ["containers.json", "volatile-containers.json"];
        let mut named =
            || files.iter().find_map(|file| self.read(places[0].join(file), |json| oci::parse_storage(json, id)));
        match annotated {
            Some((annotated, written)) if !annotated.pod.is_empty() => Some((annotated, written)),
            Some((annotated, written)) => {
                let (description, written) = named().unwrap_or((Description::default(), written));
                Some((Description { is_sandbox: annotated.is_sandbox, ..description }, written))
            }
            None => named(),
        }
    }

    /// A container of Kubernetes that has a log.
    fn log(&mut self, id: &str) -> Found {
        let logs = self.place("/var/log/containers");
        let named = self.list(&logs, |name| name.len() < 1_024 && name.contains(id));
        let description = named.iter().find_map(|name| oci::parse_log_name(name, id))?;
        Some((description, Written { file: PathBuf::new(), version: None }))
    }

    /// Where Docker keeps its data: where its configuration says, or where it does without one.
    fn docker_root(&mut self) -> PathBuf {
        let configuration = self.place("/etc/docker/daemon.json");
        let told = self.host.read_once(&configuration).ok().and_then(docker::data_root);
        self.place(told.as_deref().unwrap_or("/var/lib/docker"))
    }

    /// Where containers-storage keeps its data, likewise.
    fn storage_root(&mut self) -> PathBuf {
        let configuration = self.place("/etc/containers/storage.conf");
        let told = self.host.read_once(&configuration).ok().and_then(oci::storage_root);
        self.place(told.as_deref().unwrap_or("/var/lib/containers/storage"))
    }
}

/// The host's users.
#[derive(Debug, Default)]
pub struct Users(Option<HashMap<u32, User>>);

impl Users {
    /// Name of a user, or the number where there is no name. `/etc/passwd` is read at the first question after
    /// [`Self::forget`].
    pub fn name(&mut self, host: &mut Host, number: u32) -> String {
        self.find(host, number).map_or_else(|| number.to_string(), |user| user.name.clone())
    }

    /// Lets the next question read `/etc/passwd` again.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    fn find(&mut self, host: &mut Host, number: u32) -> Option<&User> {
        let users = self.0.get_or_insert_with(|| {
            let passwd = host.roots().on_rootfs(Path::new("/etc/passwd"));
            host.read_once(&passwd).map(user::parse).unwrap_or_default()
        });
        users.get(&number)
    }
}

/// Gives any bytes to all parsers of this room, for fuzzing: none may panic.
pub fn parse_anything(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    drop((docker::parse(bytes, &LabelFilter::default()), docker::data_root(bytes), user::parse(bytes)));
    drop((oci::parse_config(bytes), oci::parse_storage(bytes, "id"), oci::storage_root(bytes)));
    drop((oci::parse_log_name(&text, "id"), oci::parse_guest(bytes)));
    drop(identify(&text).map(|identity| (identity.name(), identity.podman_pod(), identity.user())));
    drop(unescape(&text));
    engine::parse_anything(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Roots;

    const ID: &str = "91a1a1f01a5ed31b6460eda81aa65ce36f7aa3901f29321666ee6323fa42f546";

    struct Machine {
        root: tempfile::TempDir,
        host: Host,
        directory: Directory,
    }

    impl Machine {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let host = Host::new(Roots { rootfs: root.path().to_owned(), ..Roots::default() });
            Self { root, host, directory: Directory::default() }
        }

        fn write(&self, path: &str, text: &str) -> &Self {
            let path = self.root.path().join(path.replace('@', ID));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn describe(&mut self, cgroup: &str) -> Described {
            let cgroup = cgroup.replace('@', ID).replace('#', "@");
            self.directory.describe(&mut self.host, &identify(&cgroup).unwrap())
        }

        #[track_caller]
        fn check(&mut self, cgroup: &str, name: &str, image: &str) {
            let Described::Known(found, _) = self.describe(cgroup) else { panic!("{cgroup} is not known") };
            assert_eq!((found.name.as_str(), found.image.as_str()), (name, image), "{cgroup}");
        }
    }

    const DOCKER: &str = r#"{"Name":"/web","Config":{"Image":"nginx:1"}}"#;
    const KUBERNETES: &str = r#"{"annotations":{"io.kubernetes.cri.container-name":"app",
        "io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop",
        "io.kubernetes.cri.image-name":"nginx:1"}}"#;
    const STORED: &str = r#"[{"id":"@","names":["web"],"metadata":"{\"image-name\":\"nginx:1\"}"}]"#;

    #[test]
    fn docker_where_its_configuration_says_and_where_a_user_runs_it() {
        let mut machine = Machine::new();
        machine.write("etc/docker/daemon.json", r#"{"data-root":"/srv/docker"}"#);
        machine.write("etc/passwd", "web:x:33:33\nann:x:1000:1000::/users/ann:/bin/sh\n");
        assert_eq!(machine.describe("/docker/@"), Described::Missing);
        machine.write("srv/docker/containers/@/config.v2.json", DOCKER);
        machine.check("/docker/@", "web", "nginx:1");
        let rootless = "/user.slice/user-1000.slice/user#1000.service/user.slice/docker-@.scope";
        assert_eq!(machine.describe(rootless), Described::Missing);
        machine.write("users/ann/.local/share/docker/containers/@/config.v2.json", &DOCKER.replace("web", "own"));
        machine.check(rootless, "own", "nginx:1");
        let mut users = Users::default();
        assert_eq!([33, 34].map(|number| users.name(&mut machine.host, number)), ["web", "34"]);
    }

    #[test]
    fn kubernetes_by_bundle_and_by_log() {
        let mut machine = Machine::new();
        let scope = "/kubepods.slice/kubepods-pod6b.slice/cri-containerd-@.scope";
        assert_eq!(machine.describe(scope), Described::Missing);
        machine.write("var/log/containers/web-0_shop_app-@.log", "");
        machine.check(scope, "shop/web-0/app", "");
        machine.check("/kubepods/burstable/pod6b/@", "shop/web-0/app", "");
        machine.write("run/containerd/io.containerd.runtime.v2.task/moby/other/config.json", "{}");
        machine.write("run/containerd/io.containerd.runtime.v2.task/k8s.io/@/config.json", KUBERNETES);
        machine.check(scope, "shop/web-0/app", "nginx:1");
        machine.check("/kubepods/burstable/pod6b/@", "shop/web-0/app", "nginx:1");
    }

    #[test]
    fn containers_of_k3s_and_nerdctl() {
        let mut machine = Machine::new();
        machine.write("run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/@/config.json", KUBERNETES);
        machine.check("/kubepods/besteffort/pod6b/@", "shop/web-0/app", "nginx:1");
        let mut machine = Machine::new();
        let json = r#"{"annotations":{"nerdctl/name":"web"}}"#;
        machine.write("run/containerd/io.containerd.runtime.v2.task/default/@/config.json", json);
        machine.check("/default/@", "web", "");
        machine.check("/system.slice/nerdctl-@.scope", "web", "");
    }

    #[test]
    fn podman_and_its_pods() {
        let mut machine = Machine::new();
        let stored = STORED.replace('@', ID);
        machine.write("var/lib/containers/storage/overlay-containers/containers.json", &stored);
        machine.check("/machine.slice/libpod-@.scope/container", "web", "nginx:1");
        machine.check("/system.slice/web.service/libpod-payload-@", "web", "nginx:1");
        let infra = r#"{"annotations":{"io.kubernetes.cri-o.ContainerType":"sandbox"}}"#;
        machine.write("var/lib/containers/storage/overlay-containers/@/userdata/config.json", infra);
        let Described::Known(found, _) = machine.describe("/machine.slice/libpod-@.scope") else { panic!() };
        assert!(found.is_sandbox);
        machine.write("etc/passwd", "ann:x:1000:1000::/users/ann:/bin/sh\n");
        let rootless = "/user.slice/user-1000.slice/user#1000.service/user.slice/libpod-@.scope/container";
        assert_eq!(machine.describe(rootless), Described::Missing);
        let place = "users/ann/.local/share/containers/storage/vfs-containers/containers.json";
        machine.write(place, &stored.replace("web", "own"));
        machine.check(rootless, "own", "nginx:1");
    }

    #[test]
    fn cri_o() {
        let mut machine = Machine::new();
        let annotated = r#"{"annotations":{"io.kubernetes.container.name":"app","io.kubernetes.pod.name":"web-0",
            "io.kubernetes.pod.namespace":"shop","io.kubernetes.cri-o.ImageName":"nginx:1"}}"#;
        machine.write("run/containers/storage/overlay-containers/@/userdata/config.json", annotated);
        machine.check("/kubepods.slice/kubepods-pod6b.slice/crio-@.scope", "shop/web-0/app", "nginx:1");
    }

    #[test]
    fn guests_and_what_nobody_describes() {
        let mut machine = Machine::new();
        machine.write("etc/pve/qemu-server/104.conf", "name: web\n").write("etc/pve/lxc/105.conf", "hostname: box\n");
        machine.check("/qemu.slice/104.scope", "web", "");
        machine.check("/lxc/105", "box", "");
        for cgroup in ["/lxc.payload.web", "/machine.slice/machine-web.scope", "/system.slice/a.service"] {
            assert_eq!(machine.describe(cgroup), Described::Never, "{cgroup}");
        }
    }

    #[test]
    fn a_description_is_current_until_its_file_is_written_anew() {
        let mut machine = Machine::new();
        machine.write("var/lib/docker/containers/@/config.v2.json", DOCKER);
        let Described::Known(_, written) = machine.describe("/docker/@") else { panic!() };
        assert!(written.is_current(&machine.host));
        machine.write("var/lib/docker/containers/@/config.v2.json", &DOCKER.replace("web", "renamed"));
        assert!(!written.is_current(&machine.host));
        machine.check("/docker/@", "renamed", "nginx:1");
    }
}
