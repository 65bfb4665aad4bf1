//! The first of what a lookup finds, sorted, however much that is.

use std::borrow::Borrow;
use std::collections::BTreeSet;

/// At most `limit` of what was pushed.
#[derive(Debug)]
pub(super) struct First<T> {
    found: BTreeSet<T>,
    limit: usize,
}

impl<T: Ord> First<T> {
    pub(super) const fn new(limit: usize) -> Self {
        Self { found: BTreeSet::new(), limit }
    }

    /// Whether it was taken in.
    pub(super) fn has<Q>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.found.contains(item)
    }

    /// Whether it would be one more, or one instead of another.
    pub(super) fn wants<Q>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let is_early = || self.found.last().is_some_and(|last| item < last.borrow());
        !self.has(item) && (self.found.len() < self.limit || is_early())
    }

    /// Takes one in, made only if it is new. Returns how many more are held.
    pub(super) fn push<Q>(&mut self, item: &Q) -> usize
    where
        T: Borrow<Q> + for<'a> From<&'a Q>,
        Q: Ord + ?Sized,
    {
        if self.has(item) { 0 } else { self.push_new(item.into()) }
    }

    /// Takes one in. Returns how many more are held.
    pub(super) fn push_new(&mut self, item: T) -> usize {
        let new = self.found.insert(item);
        if self.limit < self.found.len() {
            self.found.pop_last();
            return 0;
        }
        usize::from(new)
    }

    pub(super) fn into_sorted(self) -> Vec<T> {
        self.found.into_iter().collect()
    }
}
