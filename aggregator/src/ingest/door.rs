//! Who may begin a handshake. Anybody can claim an address, so most of the places are for those who have shown that they
//! are where they say, and of these no address gets more than a few.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Handshakes at once with addresses that are only claimed: whoever comes behind them shows its address first, for one round
/// trip more.
pub const HANDSHAKES_CLAIMED_MAX: usize = 32;

/// Handshakes at once with addresses that were shown to be theirs. A place is taken for a round trip or two, of which the
/// aggregator works half a millisecond: a fleet of 10,000 that comes back at 1,250 a second from far away, or from machines
/// that are busy, takes many of them. All at once add half a second of delay to those in session, and take 90 MB.
pub const HANDSHAKES_SHOWN_MAX: usize = 2_048;

/// Of these, those with one address: many agents may stand behind one.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 8;

/// The places, taken and free.
#[derive(Clone, Debug, Default)]
pub struct Door(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    claimed: usize,
    shown: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// What to say to whoever knocks.
#[derive(Debug)]
pub enum Answer {
    /// Come in; the place is free again when this is dropped.
    Enter(Place),
    /// Show first that the address is yours, and knock again.
    Show,
    /// There is no room.
    Leave,
}

/// A place that is taken.
#[derive(Debug)]
pub struct Place {
    door: Door,
    /// None for an address that is only claimed.
    shown: Option<IpAddr>,
}

impl Door {
    /// Judges somebody who knocks from an address that is `shown` to be theirs or only claimed.
    #[must_use]
    pub fn knock(&self, address: IpAddr, shown: bool) -> Answer {
        let mut taken = self.taken();
        if !shown {
            if HANDSHAKES_CLAIMED_MAX <= taken.claimed {
                return Answer::Show;
            }
            taken.claimed += 1;
            return Answer::Enter(Place { door: self.clone(), shown: None });
        }
        let address = network(address);
        let of_address = taken.by_address.get(&address).copied().unwrap_or(0);
        if HANDSHAKES_SHOWN_MAX <= taken.shown || HANDSHAKES_PER_ADDRESS_MAX <= of_address {
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
        let claimed = check(&door, "192.0.2.1", false, &format!("{}ss", "e".repeat(HANDSHAKES_CLAIMED_MAX)));
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
        drop((first, other, mapped));
    }

    #[test]
    fn all_addresses_together_get_no_more_than_there_is() {
        let door = Door::default();
        let networks = HANDSHAKES_SHOWN_MAX / HANDSHAKES_PER_ADDRESS_MAX;
        let taken: Vec<_> = (0..networks).map(|n| check(&door, &format!("198.51.{n}.1"), true, "eeeeeeee")).collect();
        drop(check(&door, "192.0.2.3", true, "l"));
        drop(taken);
        drop(check(&door, "192.0.2.3", true, "e"));
    }
}
