//! Which cgroups there are: every tree listed from its root, what holds containers each second, what lies inside them
//! once a minute.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::str;

use crate::host::Host;
use crate::host::KeptDirectory;
use crate::host::ReadError;
use crate::identify::identify;

/// Cgroups that are followed: ten thousand are more than any kernel serves well.
pub(super) const CGROUPS_MAX: usize = 10_000;

/// How often what lies inside a container or service is looked for each second: a manager in it makes the cgroups of its
/// own containers when it begins.
const YOUNG_LISTINGS: u32 = 10;

/// What a round of looking found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// It is gone, or another stands in its place.
    Ended(String),
    /// It is there.
    Appeared(String),
}

/// The cgroups that were there at the last look.
#[derive(Debug, Default)]
pub(super) struct Walk {
    nodes: HashMap<String, Node>,
    directories: Vec<Directory>,
    round: u64,
    path: String,
}

#[derive(Debug)]
struct Node {
    /// In which of the trees it is, one bit each.
    trees: u32,
    /// The tree in which it was seen first, and its inode there: what tells it from a later one of the same path.
    instance: (usize, u64),
    round: u64,
    /// Whether it lies inside a container or service, where one looks once a minute.
    inside: bool,
}

#[derive(Debug)]
struct Directory {
    tree: usize,
    path: String,
    listing: KeptDirectory,
    inside: bool,
    listings: u32,
}

impl Walk {
    /// Looks below `roots`, everywhere or only where containers and services come and go, and calls `each` with what
    /// changed, ends before beginnings.
    ///
    /// # Errors
    /// When no root can be listed.
    pub(super) fn look(
        &mut self,
        host: &mut Host,
        roots: &[PathBuf],
        everywhere: bool,
    ) -> Result<Vec<Change>, ReadError> {
        if self.directories.is_empty() {
            self.directories = (0..).zip(roots).map(|(tree, root)| Directory::new(tree, root, "")).collect();
        }
        self.round += 1;
        let mut changes = Vec::new();
        let mut outcome = Ok(());
        let mut at = 0;
        while at < self.directories.len() {
            let Directory { inside, listings, .. } = self.directories[at];
            let wanted = everywhere || !inside || listings < YOUNG_LISTINGS;
            let listed = if wanted { self.list(host, roots, at, &mut changes) } else { Ok(()) };
            if self.directories[at].path.is_empty() {
                outcome = outcome.and(listed);
            }
            at += 1;
        }
        self.drop_unseen(everywhere, &mut changes);
        changes.sort();
        outcome.map(|()| changes)
    }

    /// Whether there are more cgroups than are followed.
    pub(super) fn is_full(&self) -> bool {
        CGROUPS_MAX <= self.nodes.len()
    }

    fn list(
        &mut self,
        host: &mut Host,
        roots: &[PathBuf],
        at: usize,
        changes: &mut Vec<Change>,
    ) -> Result<(), ReadError> {
        let Self { nodes, directories, round, path, .. } = self;
        let Directory { tree, path: parent, listing, inside, listings } = &mut directories[at];
        let (tree, inside, round) = (*tree, *inside, *round);
        *listings = listings.saturating_add(1);
        let (mut found, mut replaced) = (Vec::new(), Vec::new());
        let outcome = host.list(listing, |entry| {
            let (true, Ok(name)) = (entry.is_directory, str::from_utf8(entry.name)) else { return };
            path.clear();
            path.push_str(parent);
            path.push('/');
            path.push_str(name);
            let Some(node) = nodes.get_mut(path.as_str()) else {
                if nodes.len() < CGROUPS_MAX {
                    let node = Node { trees: 1 << tree, instance: (tree, entry.inode), round, inside };
                    nodes.insert(path.clone(), node);
                    changes.push(Change::Appeared(path.clone()));
                    found.push(path.clone());
                }
                return;
            };
            node.round = round;
            if node.instance.0 == tree && node.instance.1 != entry.inode {
                node.instance.1 = entry.inode;
                replaced.push(path.clone());
                changes.push(Change::Ended(path.clone()));
                changes.push(Change::Appeared(path.clone()));
            }
            if node.trees & 1 << tree == 0 {
                node.trees |= 1 << tree;
                found.push(path.clone());
            }
        });
        directories.extend(found.iter().map(|path| Directory::new(tree, &roots[tree], path)));
        // A descriptor of the directory before would show an empty one for ever.
        for directory in directories.iter_mut().filter(|it| replaced.iter().any(|path| it.path.starts_with(path))) {
            *directory = Directory::new(directory.tree, &roots[directory.tree], &directory.path);
        }
        outcome
    }

    fn drop_unseen(&mut self, everywhere: bool, changes: &mut Vec<Change>) {
        let before = self.nodes.len();
        let round = self.round;
        self.nodes.retain(|path, node| {
            let there = node.round == round || (node.inside && !everywhere);
            if !there {
                changes.push(Change::Ended(path.clone()));
            }
            there
        });
        if self.nodes.len() < before {
            let nodes = &self.nodes;
            self.directories.retain(|directory| directory.path.is_empty() || nodes.contains_key(&directory.path));
        }
    }
}

impl Directory {
    fn new(tree: usize, root: &Path, path: &str) -> Self {
        let listing = KeptDirectory::new(root.join(path.trim_start_matches('/')));
        let inside = identify(path).is_some_and(|identity| !identity.is_open());
        Self { tree, path: path.to_owned(), listing, inside, listings: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Roots;

    const ID: &str = "91a1a1f01a5ed31b6460eda81aa65ce36f7aa3901f29321666ee6323fa42f546";

    struct Trees {
        base: tempfile::TempDir,
        roots: Vec<PathBuf>,
        host: Host,
        walk: Walk,
    }

    impl Trees {
        fn new() -> Self {
            let base = tempfile::tempdir().unwrap();
            let roots: Vec<_> = ["memory", "unified"].iter().map(|tree| base.path().join(tree)).collect();
            for root in &roots {
                fs::create_dir(root).unwrap();
            }
            Self { base, roots, host: Host::new(Roots::default()), walk: Walk::default() }
        }

        fn make(&self, path: &str) {
            fs::create_dir_all(self.base.path().join(path.replace('@', ID))).unwrap();
        }

        fn remove(&self, path: &str) {
            fs::remove_dir_all(self.base.path().join(path.replace('@', ID))).unwrap();
        }

        fn check(&mut self, everywhere: bool, expect: &[&str]) {
            let changes = self.walk.look(&mut self.host, &self.roots, everywhere).unwrap();
            let shown = changes.iter().map(|change| match change {
                Change::Ended(path) => format!("-{}", path.replace(ID, "@")),
                Change::Appeared(path) => format!("+{}", path.replace(ID, "@")),
            });
            assert_eq!(shown.collect::<Vec<_>>(), expect);
        }
    }

    #[test]
    fn cgroups_of_all_trees_are_one_set() {
        let mut trees = Trees::new();
        trees.make("memory/docker/@/deep");
        trees.make("unified/docker/@/deep");
        trees.make("unified/system.slice/ssh.service");
        trees.check(
            false,
            &["+/docker", "+/docker/@", "+/docker/@/deep", "+/system.slice", "+/system.slice/ssh.service"],
        );
        trees.check(true, &[]);
        trees.remove("memory/docker/@");
        trees.check(true, &[]);
        trees.remove("unified/docker/@");
        trees.check(true, &["-/docker/@", "-/docker/@/deep"]);
    }

    #[test]
    fn inside_a_container_one_looks_seldom() {
        let mut trees = Trees::new();
        trees.make("memory/docker/@/young");
        trees.check(false, &["+/docker", "+/docker/@", "+/docker/@/young"]);
        for _ in 1..YOUNG_LISTINGS {
            trees.check(false, &[]);
        }
        trees.make("memory/docker/@/docker/@");
        trees.check(false, &[]);
        trees.check(true, &["+/docker/@/docker", "+/docker/@/docker/@"]);
        trees.remove("memory/docker/@/docker");
        trees.check(false, &[]);
        trees.check(true, &["-/docker/@/docker", "-/docker/@/docker/@"]);
    }

    #[test]
    fn what_a_container_begins_with_and_what_users_run_is_seen_at_once() {
        let mut trees = Trees::new();
        let manager = "unified/user.slice/user-7.slice/user@7.service";
        let slices = format!("{manager}/user.slice");
        fs::create_dir_all(trees.base.path().join(&slices)).unwrap();
        trees.make("memory/docker/@");
        trees.walk.look(&mut trees.host, &trees.roots, true).unwrap();
        trees.make("memory/docker/@/docker");
        trees.check(false, &["+/docker/@/docker"]);
        for _ in 0..YOUNG_LISTINGS {
            trees.check(false, &[]);
        }
        fs::create_dir(trees.base.path().join(slices).join(format!("libpod-{ID}.scope"))).unwrap();
        let path = format!("/user.slice/user-7.slice/user@7.service/user.slice/libpod-{ID}.scope");
        let changes = trees.walk.look(&mut trees.host, &trees.roots, false).unwrap();
        assert_eq!(changes, [Change::Appeared(path.clone())]);
        fs::remove_dir_all(trees.base.path().join(manager)).unwrap();
        let changes = trees.walk.look(&mut trees.host, &trees.roots, false).unwrap();
        assert!(changes.contains(&Change::Ended(path)), "{changes:?}");
    }

    #[test]
    fn another_cgroup_of_the_same_path_is_another_instance() {
        let mut trees = Trees::new();
        trees.make("memory/docker/@");
        trees.check(false, &["+/docker", "+/docker/@"]);
        trees.make("memory/other");
        trees.remove("memory/docker/@");
        trees.make("memory/elsewhere");
        trees.make("memory/docker/@");
        trees.check(false, &["-/docker/@", "+/docker/@", "+/elsewhere", "+/other"]);
        trees.check(false, &[]);
    }

    #[test]
    fn a_root_that_cannot_be_listed_is_an_error_and_the_rest_goes_on() {
        let mut trees = Trees::new();
        trees.make("unified/docker/@");
        trees.remove("memory");
        assert!(trees.walk.look(&mut trees.host, &trees.roots, true).is_err());
        assert_eq!(trees.walk.nodes.len(), 2);
    }
}
