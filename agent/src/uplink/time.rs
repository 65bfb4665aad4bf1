//! The aggregator's time, kept over a restart of the agent: stamps go on where those of the process before ended, and what
//! the host's wall clock says meanwhile moves none of them.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use common::time::Clock;
use common::time::Timestamp;

use crate::host;
use crate::uplink::identity::StateDir;
use crate::uplink::identity::StateError;
use crate::window::Stamps;

/// The file in the state directory.
const FILE: &str = "time";

/// What it has at most: 32 digits of a boot id, twice 20 of a number, 8 of a checksum.
const BYTES_MAX: usize = 128;

/// The stamps of an agent that starts: those that an earlier process of this boot kept, or else the host's wall clock. A
/// boot clock that stands before the moment that was kept is another one.
#[must_use]
pub fn stamps(state_dir: &Path, boot_id: [u8; 16], clock: &Clock) -> Stamps {
    let now = clock.boot();
    let kept = kept(state_dir, boot_id).filter(|(_, boot)| *boot <= now);
    let (time, boot) = kept.unwrap_or_else(|| (clock.wall(), now));
    Stamps::new(time, boot)
}

/// Keeps how stamps stand, unless that is what is kept. A host without a boot id keeps nothing.
///
/// # Errors
/// When it cannot be written.
pub(super) fn keep(stamps: &Stamps, state_dir: &Path, (boot_id, boot): ([u8; 16], Duration)) -> Result<(), StateError> {
    let stands = kept(state_dir, boot_id).is_some_and(|(time, boot)| stamps.at(boot) == time);
    if stands || boot_id == [0; 16] {
        return Ok(());
    }
    let said = said(boot_id, boot, stamps.at(boot));
    StateDir::new(state_dir.to_owned()).write(FILE, &format!("{said} {:08x}\n", crc32fast::hash(said.as_bytes())))
}

/// Forgets how stamps stood: a machine that is there twice has the time of before it was copied.
pub(super) fn forget(state_dir: &Path) {
    match fs::remove_file(state_dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the aggregator's time of before is not forgotten");
        }
        Ok(()) | Err(_) => {}
    }
}

/// A moment of the aggregator's time and of this boot's clock. What is not what was written counts for nothing.
fn kept(state_dir: &Path, boot_id: [u8; 16]) -> Option<(Timestamp, Duration)> {
    let file = host::read_bounded(&state_dir.join(FILE), BYTES_MAX).ok()??;
    let text = String::from_utf8(file).ok()?;
    let (said, checksum) = text.strip_suffix('\n')?.rsplit_once(' ')?;
    let whole = u32::from_str_radix(checksum, 16) == Ok(crc32fast::hash(said.as_bytes()));
    let mut words = whole.then_some(said)?.split(' ').skip(1);
    let boot = Duration::from_millis(words.next()?.parse().ok()?);
    let time = Timestamp::from_millis(words.next()?.parse().ok()?);
    (said == self::said(boot_id, boot, time)).then_some((time, boot))
}

fn said(boot_id: [u8; 16], boot: Duration, time: Timestamp) -> String {
    format!("{:032x} {} {}", u128::from_be_bytes(boot_id), boot.as_millis(), time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT_ID: [u8; 16] = [1; 16];
    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn what_is_kept_counts_for_this_boot_alone_and_only_whole() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::moved(Timestamp::from_millis(1_000_000_123));
        let right = Stamps::new(clock.wall().after(HOUR), clock.boot());
        let check = |boot_id, clock: &Clock, is_right: bool| {
            let expect = if is_right { right.at(clock.boot()) } else { clock.wall() };
            assert_eq!(stamps(directory.path(), boot_id, clock).at(clock.boot()), expect);
        };
        check(BOOT_ID, &clock, false);
        keep(&right, directory.path(), ([0; 16], clock.boot())).unwrap();
        check([0; 16], &clock, false);
        keep(&right, directory.path(), (BOOT_ID, clock.boot())).unwrap();
        check(BOOT_ID, &clock, true);
        check([2; 16], &clock, false);
        check(BOOT_ID, &Clock::moved(clock.wall().before(HOUR)), false);
        clock.advance(HOUR);
        clock.step_wall(Timestamp::from_seconds(3));
        check(BOOT_ID, &clock, true);

        let file = directory.path().join(FILE);
        let whole = fs::read(&file).unwrap();
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            check(BOOT_ID, &clock, false);
        }
        for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut other = whole.clone();
            other[at] ^= 1 << bit;
            // Digits of the checksum mean the same in either case.
            if !other.eq_ignore_ascii_case(&whole) {
                fs::write(&file, &other).unwrap();
                check(BOOT_ID, &clock, false);
            }
        }
        fs::write(&file, whole.repeat(2)).unwrap();
        check(BOOT_ID, &clock, false);
        fs::write(&file, &whole).unwrap();
        check(BOOT_ID, &clock, true);
        (0..2).for_each(|_| forget(directory.path()));
        check(BOOT_ID, &clock, false);
    }

    #[test]
    fn what_is_kept_already_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::moved(Timestamp::from_seconds(1_000_000));
        let stamps = Stamps::new(clock.wall(), clock.boot());
        let written = |stamps: &Stamps| {
            keep(stamps, directory.path(), (BOOT_ID, clock.boot())).unwrap();
            fs::read(directory.path().join(FILE)).unwrap()
        };
        let first = written(&stamps);
        clock.advance(HOUR);
        assert_eq!(written(&stamps), first);
        stamps.set(clock.wall().after(HOUR), clock.boot(), clock.boot());
        assert_ne!(written(&stamps), first);
    }
}
