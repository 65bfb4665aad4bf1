//! What the allocator keeps of memory that nobody holds.
#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "malloc_trim has no safe wrapper"))]

/// Gives the system back the pages that are free in whole. The allocator does that only where what it took last is free:
/// a head that was sealed lies between what lives on.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    // SAFETY: any thread may call it at any time: it takes each arena's lock, and touches what is free alone.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators do that by themselves.
#[cfg(not(target_env = "gnu"))]
pub(super) const fn give_back() {}

#[cfg(test)]
#[cfg(target_env = "gnu")]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const PIECE: usize = 4_096;

    /// Which of some addresses have memory behind them, as the kernel tells.
    fn resident(addresses: &[usize]) -> usize {
        let map = File::open("/proc/self/pagemap").unwrap();
        // SAFETY: it answers a number.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        let is_there = |address: &&usize| {
            let mut entry = [0; 8];
            map.read_exact_at(&mut entry, (**address / page * 8) as u64).unwrap();
            u64::from_ne_bytes(entry) >> 63 == 1
        };
        addresses.iter().filter(is_there).count()
    }

    #[test]
    fn what_lies_free_between_what_lives_goes_back() {
        let held: Vec<Box<[u8; PIECE]>> = (0..4_096).map(|_| Box::new([1; PIECE])).collect();
        let addresses: Vec<usize> = held.iter().map(|piece| piece.as_ptr().addr()).collect();
        let living: Vec<_> = held.into_iter().enumerate().filter(|(at, _)| at % 256 == 0).collect();
        assert_eq!(resident(&addresses), 4_096, "free, and kept");
        give_back();
        let left = resident(&addresses);
        assert!((living.len()..1_024).contains(&left), "{left} of 4096 are still there");
    }
}
