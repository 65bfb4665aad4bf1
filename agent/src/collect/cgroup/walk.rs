//! Which cgroups there are: all trees, from their roots down.
//!
//! A directory is listed when the kernel says that something came or went in it, and once a minute. Inside a container or
//! service the kernel's word is enough. One that it has no room to watch is listed each second, or, inside, each second
//! while it is young and once a minute.

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::str;

use crate::host::Host;
use crate::host::KeptDirectory;
use crate::host::ReadError;
use crate::host::WatchId;
use crate::host::Watcher;
use crate::identify::identify;

/// Cgroups that are followed: ten thousand are more than any kernel serves well.
pub(super) const CGROUPS_MAX: usize = 10_000;

/// How often what lies inside a container or service is looked for each second where it is not watched: a manager in it
/// makes the cgroups of its own containers when it begins.
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
    watcher: Watcher,
    round: u64,
    path: String,
}

#[derive(Debug)]
struct Node {
    /// In which of the trees it is, one bit each, and in which of them it was seen in the round.
    trees: u32,
    seen: u32,
    round: u64,
    /// A tree in which it is, and its inode there: what tells it from a later one of the same path.
    instance: Option<(usize, u64)>,
}

#[derive(Debug)]
struct Directory {
    tree: usize,
    path: String,
    listing: KeptDirectory,
    watch: Option<WatchId>,
    /// Whether something came or went in it.
    stirred: bool,
    /// Whether it lies inside a container or service.
    inside: bool,
    listings: u32,
    round: u64,
}

impl Walk {
    /// Looks below `roots`, everywhere or only where something may have come or gone, and returns what changed, ends
    /// before beginnings.
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
            let Self { watcher, .. } = self;
            self.directories = (0..).zip(roots).map(|(tree, root)| Directory::new(watcher, tree, root, "")).collect();
        }
        self.round += 1;
        let lost = self.note_stirred(host);
        let (mut changes, mut outcome) = (Vec::new(), Ok(()));
        let (mut at, mut listings) = (0, 0);
        while at < self.directories.len() {
            if lost || self.directories[at].is_due(everywhere) {
                let listed = self.list(host, roots, at, &mut changes);
                if self.directories[at].path.is_empty() {
                    outcome = outcome.and(listed);
                }
                listings += 1;
            }
            at += 1;
        }
        if 0 < listings {
            self.drop_unseen(&mut changes);
        }
        changes.sort();
        outcome.map(|()| changes)
    }

    /// Whether there are more cgroups than are followed.
    pub(super) fn is_full(&self) -> bool {
        CGROUPS_MAX <= self.nodes.len()
    }

    /// Returns whether more happened than the kernel remembers.
    fn note_stirred(&mut self, host: &mut Host) -> bool {
        let stirred = host.stirred(&mut self.watcher);
        for watch in stirred.directories {
            for directory in self.directories.iter_mut().filter(|directory| directory.watch == Some(watch)) {
                directory.stirred = true;
            }
        }
        stirred.lost
    }

    fn list(
        &mut self,
        host: &mut Host,
        roots: &[PathBuf],
        at: usize,
        changes: &mut Vec<Change>,
    ) -> Result<(), ReadError> {
        let Self { nodes, directories, watcher, round, path } = self;
        let round = *round;
        let directory = &mut directories[at];
        directory.begin_listing(round);
        let Directory { tree, path: parent, listing, .. } = directory;
        let (tree, bit) = (*tree, 1 << *tree);
        let (mut found, mut replaced) = (Vec::new(), Vec::new());
        let outcome = host.list(listing, |entry| {
            let (true, Ok(name)) = (entry.is_directory, str::from_utf8(entry.name)) else { return };
            path.clear();
            path.push_str(parent);
            path.push('/');
            path.push_str(name);
            let Some(node) = nodes.get_mut(path.as_str()) else {
                if nodes.len() < CGROUPS_MAX {
                    let node = Node { trees: bit, seen: bit, round, instance: Some((tree, entry.inode)) };
                    nodes.insert(path.clone(), node);
                    changes.push(Change::Appeared(path.clone()));
                    found.push(path.clone());
                }
                return;
            };
            node.see(bit, round);
            let instance = node.instance.get_or_insert((tree, entry.inode));
            if instance.0 == tree && instance.1 != entry.inode {
                instance.1 = entry.inode;
                replaced.push(path.clone());
                changes.push(Change::Ended(path.clone()));
                changes.push(Change::Appeared(path.clone()));
            }
            if node.trees & bit == 0 {
                node.trees |= bit;
                found.push(path.clone());
            }
        });
        if directory.watch.is_some() {
            directory.listing.close();
        }
        directories.extend(found.iter().map(|path| Directory::new(watcher, tree, &roots[tree], path)));
        // A descriptor of the directory before would show an empty one for ever.
        for directory in directories.iter_mut().filter(|it| replaced.iter().any(|path| it.path.starts_with(path))) {
            *directory = Directory::new(watcher, directory.tree, &roots[directory.tree], &directory.path);
        }
        outcome
    }

    /// Drops what a listing of this round should have shown and did not, and all below it.
    fn drop_unseen(&mut self, changes: &mut Vec<Change>) {
        let Self { nodes, directories, round, .. } = self;
        let listed = directories.iter().filter(|directory| directory.round == *round);
        let listed: HashSet<_> = listed.map(|directory| (directory.tree, directory.path.as_str())).collect();
        let (mut ended, mut left) = (HashSet::new(), false);
        for (path, node) in nodes.iter_mut() {
            let unseen = node.trees & if node.round == *round { !node.seen } else { u32::MAX };
            for tree in (0..u32::BITS as usize).filter(|tree| unseen >> tree & 1 == 1) {
                if listed.contains(&(tree, above(path))) {
                    node.trees &= !(1 << tree);
                    left = true;
                }
            }
            if node.trees == 0 {
                ended.insert(path.clone());
            }
            // Which it is in another tree shows when it is seen there next.
            node.instance.take_if(|(tree, _)| node.trees >> *tree & 1 == 0);
        }
        if !left {
            return;
        }
        nodes.retain(|path, _| {
            let there = !lineage(path).any(|path| ended.contains(path));
            if !there {
                changes.push(Change::Ended(path.clone()));
            }
            there
        });
        directories.retain(|directory| {
            let node = nodes.get(&directory.path);
            directory.path.is_empty() || node.is_some_and(|node| node.trees >> directory.tree & 1 == 1)
        });
    }
}

impl Node {
    fn see(&mut self, bit: u32, round: u64) {
        self.seen = bit | if self.round == round { self.seen } else { 0 };
        self.round = round;
    }
}

impl Directory {
    fn new(watcher: &mut Watcher, tree: usize, root: &Path, path: &str) -> Self {
        let place = root.join(path.trim_start_matches('/'));
        Self {
            tree,
            path: path.to_owned(),
            // Watched before it is listed, so that nothing comes in between.
            watch: watcher.watch(&place),
            listing: KeptDirectory::new(place),
            stirred: false,
            inside: identify(path).is_some_and(|identity| !identity.is_open()),
            listings: 0,
            round: 0,
        }
    }

    /// Whether something may have come or gone in it; `everywhere` asks for those of which that is likely to be known, too.
    fn is_due(&self, everywhere: bool) -> bool {
        match (self.watch, self.inside) {
            (Some(_), true) => self.stirred || self.listings == 0,
            (Some(_), false) => self.stirred || self.listings == 0 || everywhere,
            (None, true) => self.listings < YOUNG_LISTINGS || everywhere,
            (None, false) => true,
        }
    }

    fn begin_listing(&mut self, round: u64) {
        (self.stirred, self.round) = (false, round);
        self.listings = self.listings.saturating_add(1);
    }
}

/// The path of the cgroup around one.
fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

/// A path and those of all cgroups around it.
fn lineage(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| Some(above(path))).take_while(|path| !path.is_empty())
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
        /// Once with a kernel that tells what came and went, once with one that has no room for it.
        fn both() -> [Self; 2] {
            [Watcher::default(), Watcher::blind()].map(Self::new)
        }

        fn new(watcher: Watcher) -> Self {
            let base = tempfile::tempdir().unwrap();
            let roots: Vec<_> = ["memory", "unified"].iter().map(|tree| base.path().join(tree)).collect();
            for root in &roots {
                fs::create_dir(root).unwrap();
            }
            Self { base, roots, host: Host::new(Roots::default()), walk: Walk { watcher, ..Walk::default() } }
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
        for mut trees in Trees::both() {
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
    }

    #[test]
    fn inside_a_container_one_looks_seldom_where_the_kernel_does_not_tell() {
        let mut trees = Trees::new(Watcher::blind());
        trees.make("memory/docker/@/young");
        trees.check(false, &["+/docker", "+/docker/@", "+/docker/@/young"]);
        for _ in 1..YOUNG_LISTINGS {
            trees.check(false, &[]);
        }
        trees.make("memory/docker/@/docker/@");
        trees.check(false, &[]);
        trees.check(true, &["+/docker/@/docker", "+/docker/@/docker/@"]);
        trees.remove("memory/docker/@/docker");
        trees.check(false, &["-/docker/@/docker/@"]);
        trees.check(true, &["-/docker/@/docker"]);
    }

    #[test]
    fn what_the_kernel_tells_is_seen_at_once_and_nothing_else_is_looked_at() {
        let mut trees = Trees::new(Watcher::default());
        trees.make("memory/docker/@/young");
        trees.check(false, &["+/docker", "+/docker/@", "+/docker/@/young"]);
        let listings = |trees: &Trees| trees.walk.directories.iter().map(|directory| directory.listings).sum::<u32>();
        let before = listings(&trees);
        for _ in 0..100 {
            trees.check(false, &[]);
        }
        assert_eq!(listings(&trees), before);
        trees.check(true, &[]);
        // The two roots and the directory of containers: inside of one the kernel's word is enough.
        assert_eq!(listings(&trees), before + 3);
        trees.make("memory/docker/@/docker/@");
        trees.check(false, &["+/docker/@/docker", "+/docker/@/docker/@"]);
        trees.remove("memory/docker/@/docker/@");
        trees.check(false, &["-/docker/@/docker/@"]);
        trees.make("unified/docker/@");
        trees.remove("memory/docker");
        trees.check(false, &["-/docker/@/docker", "-/docker/@/young"]);
        trees.remove("unified/docker");
        trees.check(false, &["-/docker", "-/docker/@"]);
    }

    #[test]
    fn what_a_container_begins_with_and_what_users_run_is_seen_at_once() {
        for mut trees in Trees::both() {
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
    }

    #[test]
    fn another_cgroup_of_the_same_path_is_another_instance() {
        for mut trees in Trees::both() {
            trees.make("memory/docker/@");
            trees.check(false, &["+/docker", "+/docker/@"]);
            // The kernel gives no cgroup the inode of an earlier one; here a descriptor keeps it from being given again.
            let _held = fs::File::open(trees.base.path().join("memory/docker").join(ID)).unwrap();
            trees.remove("memory/docker/@");
            trees.make("memory/docker/@");
            trees.check(false, &["-/docker/@", "+/docker/@"]);
            trees.check(false, &[]);
            trees.make("memory/docker/@/inside");
            trees.check(false, &["+/docker/@/inside"]);
        }
    }

    #[test]
    fn a_root_that_cannot_be_listed_is_an_error_and_the_rest_goes_on() {
        for mut trees in Trees::both() {
            trees.make("unified/docker/@");
            trees.remove("memory");
            assert!(trees.walk.look(&mut trees.host, &trees.roots, true).is_err());
            assert_eq!(trees.walk.nodes.len(), 2);
        }
    }
}
