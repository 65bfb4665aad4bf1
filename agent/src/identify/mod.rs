//! From a cgroup path to the name of what runs in it.
//!
//! Runtimes' own files answer, never their sockets: that costs their daemons nothing and needs no client.

mod docker;
mod path;
mod user;

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

use crate::host::Host;

pub use docker::CONTAINER_LABEL_BYTES_MAX;
pub use docker::CONTAINER_LABELS_MAX;
pub use docker::Description;
pub use path::Identity;
pub use path::Runtime;
pub use path::identify;
pub use path::unescape;

/// What could be found out about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Described {
    /// All that its runtime wrote down.
    Known(Description),
    /// Nothing yet: a cgroup appears before its runtime has written its files.
    Missing,
    /// Nothing ever: there is no file to look into, or we may not.
    Never,
}

/// Reads the files that describe containers.
#[derive(Debug, Default)]
pub struct Directory {
    docker: Option<PathBuf>,
    refusal_said: bool,
}

impl Directory {
    /// Describes the container that a runtime calls `id`. Read anew at each call: the caller keeps what it learns.
    pub fn describe(&mut self, host: &mut Host, runtime: Runtime, id: &str) -> Described {
        if runtime != Runtime::Docker {
            return Described::Never;
        }
        let root = self.docker.get_or_insert_with(|| docker_root(host));
        let file = root.join("containers").join(id).join("config.v2.json");
        match host.read_once(&file) {
            Ok(json) => docker::parse(json).map_or(Described::Missing, Described::Known),
            Err(error) if error.is_denied() => {
                if !self.refusal_said {
                    tracing::warn!(%error, "containers are shown by id: only root may read their names");
                }
                self.refusal_said = true;
                Described::Never
            }
            Err(_) => Described::Missing,
        }
    }
}

/// Names of the host's users.
#[derive(Debug, Default)]
pub struct Users(Option<HashMap<u32, String>>);

impl Users {
    /// Name of a user, or the number where there is no name. `/etc/passwd` is read at the first question after
    /// [`Self::forget`].
    pub fn name(&mut self, host: &mut Host, number: u32) -> String {
        let users = self.0.get_or_insert_with(|| {
            let passwd = host.roots().on_rootfs(Path::new("/etc/passwd"));
            host.read_once(&passwd).map(user::parse).unwrap_or_default()
        });
        users.get(&number).cloned().unwrap_or_else(|| number.to_string())
    }

    /// Lets the next question read `/etc/passwd` again.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

/// Gives any bytes to all parsers of this room, for fuzzing: none may panic.
pub fn parse_anything(bytes: &[u8]) {
    let path = String::from_utf8_lossy(bytes);
    drop((docker::parse(bytes), docker::data_root(bytes), user::parse(bytes)));
    drop(identify(&path).map(|identity| unescape(identity.id)));
}

/// Where Docker keeps its data: where its configuration says, or where it does without one.
fn docker_root(host: &mut Host) -> PathBuf {
    let configuration = host.roots().on_rootfs(Path::new("/etc/docker/daemon.json"));
    let told = host.read_once(&configuration).ok().and_then(docker::data_root);
    host.roots().on_rootfs(Path::new(told.as_deref().unwrap_or("/var/lib/docker")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Roots;

    #[test]
    fn files_below_the_root_file_system_answer() {
        let root = tempfile::tempdir().unwrap();
        let containers = root.path().join("srv/docker/containers/abc");
        fs::create_dir_all(&containers).unwrap();
        fs::create_dir_all(root.path().join("etc/docker")).unwrap();
        fs::write(root.path().join("etc/docker/daemon.json"), r#"{"data-root":"/srv/docker"}"#).unwrap();
        fs::write(root.path().join("etc/passwd"), "web:x:33:33").unwrap();
        let mut host = Host::new(Roots { rootfs: root.path().to_owned(), ..Roots::default() });
        let mut directory = Directory::default();
        assert_eq!(directory.describe(&mut host, Runtime::Docker, "abc"), Described::Missing);
        fs::write(containers.join("config.v2.json"), r#"{"Name":"/web","Config":{"Image":"nginx:1"}}"#).unwrap();
        let Described::Known(found) = directory.describe(&mut host, Runtime::Docker, "abc") else { panic!() };
        assert_eq!((found.name.as_str(), found.image.as_str()), ("web", "nginx:1"));
        assert_eq!(directory.describe(&mut host, Runtime::Podman, "abc"), Described::Never);
        let mut users = Users::default();
        assert_eq!([33, 34].map(|number| users.name(&mut host, number)), ["web", "34"]);
    }
}
