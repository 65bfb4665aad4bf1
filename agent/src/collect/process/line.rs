//! Command lines: they name groups, where there are rules, and stand in the table.
//!
//! The kernel reads one from the memory of its process. That waits while another holds the memory's map, and for ever
//! where the memory lies on a file system that hangs. So it is asked aside, and waited for only a moment.

use std::path::Path;
use std::time::Duration;

use crate::collect::CollectError;
use crate::collect::Moment;
use crate::collect::process::pid_of;
use crate::host::Aside;
use crate::host::Host;
use crate::host::Inquiry;
use crate::host::read_beginning;
use crate::mask::LOOKED_AT_BYTES;

/// How long a tick waits for the lines that it asks for: one takes some ten microseconds, and new processes are few.
const ANSWERED_WITHIN: Duration = Duration::from_millis(20);

/// The same when the agent begins: all processes are new.
const ANSWERED_AT_FIRST_WITHIN: Duration = Duration::from_secs(1);

/// Lines asked for in one round; a thread aside takes twice as many.
const ROUND_MAX: usize = 1_024;

/// Processes that wait for their line: as many as are followed. Further ones have none.
const WANTED_MAX: usize = 20_000;

/// What is asked.
#[derive(Debug, Default)]
pub(super) struct Lines {
    aside: Aside,
    inquiry: Inquiry<Option<Vec<u8>>>,
    wanted: Vec<u32>,
    now: Duration,
    patience: Duration,
}

impl Lines {
    /// Begins a tick; `beginning` says that it is the first.
    pub(super) fn begin_tick(&mut self, moment: Moment, beginning: bool) {
        self.now = moment.now;
        self.patience = moment.patience.max(if beginning { ANSWERED_AT_FIRST_WITHIN } else { ANSWERED_WITHIN });
    }

    /// Asks for a process' line when [`Self::look`] is called next.
    pub(super) fn want(&mut self, pid: u32) {
        if self.wanted.len() < WANTED_MAX {
            self.wanted.push(pid);
        }
    }

    /// Asks for what is wanted, and hands out what is answered: the line, if there is one.
    pub(super) fn look(&mut self, host: &mut Host, mut take: impl FnMut(&mut Host, u32, Option<&[u8]>)) {
        let mut patience = self.patience;
        loop {
            if self.inquiry.is_over() && !self.wanted.is_empty() {
                let procfs = host.roots().procfs.clone();
                let round = self.wanted.drain(..self.wanted.len().min(ROUND_MAX));
                let lines = round.map(|pid| procfs.join(pid.to_string()).join("cmdline"));
                // Without a thread they wait until there is one.
                let _begun = self.inquiry.begin(&mut self.aside, lines, &read, self.now);
            }
            patience = self.inquiry.wait(patience);
            while let Ok(Some((path, line))) = self.inquiry.next(&mut self.aside, self.now, Duration::ZERO) {
                if let Some(pid) = pid_of(&path) {
                    take(host, pid, line.as_deref());
                }
            }
            if self.wanted.is_empty() || patience.is_zero() {
                return;
            }
        }
    }

    /// Fails where one does not answer.
    pub(super) fn outcome(&self) -> Result<(), CollectError> {
        let silent = self.inquiry.silent().next();
        silent.map_or(Ok(()), |path| Err(CollectError::Silent(path.display().to_string())))
    }
}

fn read(line: &Path) -> Option<Vec<u8>> {
    read_beginning(line, LOOKED_AT_BYTES).ok()
}
