//! Who may begin a handshake. Anybody can claim an address, so half of the places are for those who have shown that they
//! are where they say, and of these no address gets more than a few.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Handshakes at once: each takes half a millisecond of a core, so this many add little delay to those in session.
pub(super) const HANDSHAKES_MAX: usize = 64;

/// Of these, those with one address that was shown to be theirs: many agents may stand behind one.
const HANDSHAKES_PER_ADDRESS_MAX: usize = 8;

/// The places, taken and free.
#[derive(Clone, Debug, Default)]
pub(super) struct Door(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    claimed: usize,
    shown: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// What to say to whoever knocks.
#[derive(Debug)]
pub(super) enum Answer {
    /// Come in; the place is free again when this is dropped.
    Enter(Place),
    /// Show first that the address is yours, and knock again.
    Show,
    /// There is no room.
    Leave,
}

/// A place that is taken.
#[derive(Debug)]
pub(super) struct Place {
    door: Door,
    /// None for an address that is only claimed.
    shown: Option<IpAddr>,
}

impl Door {
    /// Judges somebody who knocks from an address that is `shown` to be theirs or only claimed.
    pub(super) fn knock(&self, address: IpAddr, shown: bool) -> Answer {
        let mut taken = self.taken();
        if !shown {
            if HANDSHAKES_MAX / 2 <= taken.claimed {
                return Answer::Show;
            }
            taken.claimed += 1;
            return Answer::Enter(Place { door: self.clone(), shown: None });
        }
        let address = network(address);
        let of_address = taken.by_address.get(&address).copied().unwrap_or(0);
        if HANDSHAKES_MAX / 2 <= taken.shown || HANDSHAKES_PER_ADDRESS_MAX <= of_address {
            return Answer::Leave;
        }
        taken.shown += 1;
        taken.by_address.insert(address, of_address + 1);
        Answer::Enter(Place { door: self.clone(), shown: Some(address) })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing between two changes of it can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.door.taken();
        let Some(address) = self.shown else {
            taken.claimed -= 1;
            return;
        };
        taken.shown -= 1;
        match taken.by_address.get_mut(&address) {
            Some(count) if 1 < *count => *count -= 1,
            _ => drop(taken.by_address.remove(&address)),
        }
    }
}

/// The part of an address that one party has: all of IPv4, the first 64 bits of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each who knocks hears while all before stay: `e`nter, `s`how or `l`eave.
    fn check(door: &Door, address: &str, shown: bool, expect: &str) -> Vec<Answer> {
        let answers: Vec<Answer> = expect.chars().map(|_| door.knock(address.parse().unwrap(), shown)).collect();
        let heard = answers.iter().map(|answer| match answer {
            Answer::Enter(_) => 'e',
            Answer::Show => 's',
            Answer::Leave => 'l',
        });
        assert_eq!(heard.collect::<String>(), expect, "{address}");
        answers
    }

    #[test]
    fn who_only_claims_an_address_takes_no_place_of_those_who_show_it() {
        let door = Door::default();
        let claimed = check(&door, "192.0.2.1", false, &format!("{}ss", "e".repeat(HANDSHAKES_MAX / 2)));
        let shown = check(&door, "192.0.2.1", true, "eeeeeeeell");
        drop(check(&door, "192.0.2.2", true, "eeeeeeeel"));
        drop((claimed, shown));
        drop(check(&door, "192.0.2.1", false, "e"));
        drop(check(&door, "192.0.2.1", true, "e"));
        let taken = door.taken();
        assert_eq!((taken.claimed, taken.shown, taken.by_address.len()), (0, 0, 0));
    }

    #[test]
    fn an_address_is_what_one_party_has() {
        let door = Door::default();
        let first = check(&door, "2001:db8::1", true, "eeeeeeee");
        drop(check(&door, "2001:db8::2", true, "l"));
        let other = check(&door, "2001:db8:0:1::1", true, "eeeeeeee");
        let mapped = check(&door, "::ffff:192.0.2.1", true, "eeeeeeee");
        drop(check(&door, "192.0.2.1", true, "l"));
        let last = check(&door, "192.0.2.2", true, "eeeeeeee");
        drop(check(&door, "192.0.2.3", true, "l"));
        drop((first, other, mapped, last));
    }
}
