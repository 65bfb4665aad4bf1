//! Which processes there are.
//!
//! To list all of them is what costs most on a host of many that sleep. The kernel gives ids in turn and tells the latest
//! that it gave, so that between two listings of all only those behind it are listed. All are listed where the turn began
//! anew, at each window, and wherever the kernel does not tell.

use std::path::Path;

use crate::collect::process::number;
use crate::collect::text;
use crate::host::Host;
use crate::host::KeptDirectory;
use crate::host::KeptFile;
use crate::host::ReadError;

/// Which of the processes were listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// All.
    All,
    /// Those that began since the last look, and perhaps some that were there before.
    Newcomers,
}

/// The directory of processes.
#[derive(Debug)]
pub(super) struct Listing {
    directory: KeptDirectory,
    loads: KeptFile,
    /// Places in the directory are ids and this, if that holds for all.
    behind: Option<u64>,
    /// The latest id that was given by the last look, and by the one before it: a process may be listed a moment after
    /// it was given its id.
    given: [Option<u32>; 2],
    /// Those that were listed.
    pub pids: Vec<u32>,
}

impl Listing {
    pub(super) fn new(procfs: &Path) -> Self {
        Self {
            directory: KeptDirectory::new(procfs),
            loads: KeptFile::in_one_piece(procfs.join("loadavg")),
            behind: None,
            given: [None; 2],
            pids: Vec::new(),
        }
    }

    /// Lists the processes: `all`, or those that may be new.
    pub(super) fn look(&mut self, host: &mut Host, all: bool) -> Result<Listed, ReadError> {
        self.pids.clear();
        // Asked before the listing: what begins meanwhile is listed twice, not never.
        let given = self.latest_given(host);
        let [last, before] = self.given;
        self.given = [given, last];
        let newcomers = self.behind.zip(given).zip(last.zip(before)).filter(|(_, (last, before))| before <= last);
        match newcomers {
            Some(((behind, given), (last, before))) if !all && last <= given => {
                if before < given {
                    self.list_behind(host, behind + u64::from(before))?;
                }
                Ok(Listed::Newcomers)
            }
            _ => self.list_all(host).map(|()| Listed::All),
        }
    }

    /// The latest id that the kernel gave to a process or a thread, where its ids are those of the directory.
    fn latest_given(&mut self, host: &mut Host) -> Option<u32> {
        host.is_process(1)?;
        let loads = host.read(&mut self.loads).ok()?;
        let given = text::words(text::lines(loads).next()?).nth(4)?;
        u32::try_from(text::number(given)?).ok()
    }

    fn list_behind(&mut self, host: &mut Host, place: u64) -> Result<(), ReadError> {
        let Self { directory, pids, .. } = self;
        host.list_from(directory, place + 1, |entry| pids.extend(number(entry.name)))
    }

    fn list_all(&mut self, host: &mut Host) -> Result<(), ReadError> {
        let Self { directory, behind, pids, .. } = self;
        let (mut place, mut apart, mut all_alike) = (None, None, true);
        host.list(directory, |entry| {
            let pid = number(entry.name);
            if let (Some(place), Some(pid)) = (place, pid) {
                let found = u64::checked_sub(place, pid.into());
                all_alike &= found.is_some() && found == *apart.get_or_insert(found);
            }
            place = pid.map(|_| entry.place_behind);
            pids.extend(pid);
        })?;
        *behind = apart.flatten().filter(|_| all_alike);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Child;
    use std::process::Command;

    use super::*;
    use crate::config::Roots;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_begins_is_among_the_newcomers() {
        let mut host = Host::new(Roots::default());
        let mut listing = Listing::new(Path::new("/proc"));
        let early = sleeper();
        let mut looks = Vec::new();
        for _ in 0..3 {
            looks.push(listing.look(&mut host, false).unwrap());
            assert!(looks != [Listed::All] || listing.pids.contains(&early.id()));
        }
        let late = [sleeper(), sleeper()];
        let listed = listing.look(&mut host, false).unwrap();
        assert!(late.iter().all(|late| listing.pids.contains(&late.id())), "{listed:?} {:?}", listing.pids);
        // Ids of another namespace are not those that the kernel tells, and they may begin anew at any time.
        if host.is_process(1).is_some() && listed == Listed::Newcomers {
            assert!(!listing.pids.contains(&1));
        }
        assert_eq!(listing.look(&mut host, true).unwrap(), Listed::All);
        assert!(listing.pids.contains(&early.id()) && listing.pids.contains(&1));
        [early].into_iter().chain(late).for_each(end);
    }

    #[test]
    fn where_nothing_began_nothing_is_listed_and_a_new_turn_lists_all() {
        let mut host = Host::new(Roots::default());
        let check = |host: &mut Host, given: [u32; 2], expect: Listed| {
            let mut listing = Listing::new(Path::new("/proc"));
            listing.list_all(host).unwrap();
            listing.given = given.map(Some);
            assert_eq!(listing.look(host, false).unwrap(), expect, "{given:?}");
            listing.pids.len()
        };
        if host.is_process(1).is_none() {
            return;
        }
        check(&mut host, [u32::MAX, 1], Listed::All);
        check(&mut host, [1, u32::MAX], Listed::All);
        assert!(1 < check(&mut host, [1, 1], Listed::Newcomers));
    }

    #[test]
    fn a_copy_is_listed_whole() {
        let copy = tempfile::tempdir().unwrap();
        for name in ["1", "7", "300", "self", "9x"] {
            std::fs::create_dir(copy.path().join(name)).unwrap();
        }
        std::fs::write(copy.path().join("loadavg"), "0.00 0.00 0.00 1/3 300\n").unwrap();
        let mut host = Host::new(Roots { procfs: copy.path().to_owned(), ..Roots::default() });
        let mut listing = Listing::new(copy.path());
        for _ in 0..4 {
            assert_eq!(listing.look(&mut host, false).unwrap(), Listed::All);
            listing.pids.sort_unstable();
            assert_eq!(listing.pids, [1, 7, 300]);
        }
    }
}
