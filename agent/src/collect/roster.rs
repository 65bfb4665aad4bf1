//! What a file names line by line, and what belongs to each name.

/// Names with an item each, in the order in which the file gives them. The kernel keeps that order, so a name is found
/// where it stood at the last tick, without a hash and without an allocation.
#[derive(Debug)]
pub(super) struct Roster<T> {
    entries: Vec<Entry<T>>,
    /// Where the next name of this round is expected.
    expected: usize,
    round: u64,
}

#[derive(Debug)]
struct Entry<T> {
    name: Box<[u8]>,
    round: u64,
    item: T,
}

impl<T> Default for Roster<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), expected: 0, round: 0 }
    }
}

impl<T> Roster<T> {
    /// Begins a reading of the file.
    pub(super) fn begin(&mut self) {
        self.expected = 0;
        self.round += 1;
    }

    /// The item of a name, made when the name is new.
    pub(super) fn get(&mut self, name: &[u8], make: impl FnOnce() -> T) -> &mut T {
        let stands_at = |at: &usize| self.entries.get(*at).is_some_and(|entry| *entry.name == *name);
        let known = Some(self.expected).filter(stands_at);
        let at = match known.or_else(|| self.entries.iter().position(|entry| *entry.name == *name)) {
            Some(at) => {
                self.expected = at + 1;
                at
            }
            None => {
                self.entries.push(Entry { name: name.into(), round: self.round, item: make() });
                self.entries.len() - 1
            }
        };
        self.entries[at].round = self.round;
        &mut self.entries[at].item
    }

    /// Ends a reading: what the file did not name is gone.
    pub(super) fn end(&mut self, mut gone: impl FnMut(T)) {
        if self.entries.iter().all(|entry| entry.round == self.round) {
            return;
        }
        let (kept, left): (Vec<_>, Vec<_>) = self.entries.drain(..).partition(|entry| entry.round == self.round);
        self.entries = kept;
        left.into_iter().for_each(|entry| gone(entry.item));
    }

    /// All items, in order.
    pub(super) fn items(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|entry| &mut entry.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_items_through_every_order() {
        let mut roster = Roster::default();
        let mut made = 0;
        let mut check = |names: &str, expect: &[u32], gone: &[u32]| {
            roster.begin();
            let mut found = Vec::new();
            for name in names.as_bytes().chunks(1) {
                found.push(*roster.get(name, || {
                    made += 1;
                    made
                }));
            }
            let mut left = Vec::new();
            roster.end(|item| left.push(item));
            assert_eq!((found.as_slice(), left.as_slice()), (expect, gone), "{names}");
        };
        check("ab", &[1, 2], &[]);
        check("axb", &[1, 3, 2], &[]);
        check("bxa", &[2, 3, 1], &[]);
        check("aa", &[1, 1], &[2, 3]);
        check("", &[], &[1]);
        check("a", &[4], &[]);
    }
}
