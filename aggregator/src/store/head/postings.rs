//! Which entities of a host have a label: what a question that names one looks at.

use std::collections::HashMap;
use std::sync::Arc;

use common::metric::Labels;

/// For each label that entities have, for each of its values, who has it: ascending.
#[derive(Debug, Default)]
pub(super) struct Postings(HashMap<Arc<str>, HashMap<Arc<str>, Vec<u32>>>);

impl Postings {
    /// Takes an entity in, which has a higher number than all before.
    pub(super) fn insert(&mut self, entity: u32, labels: &Labels) {
        for (name, value) in labels.iter() {
            let values = match self.0.get_mut(name) {
                Some(values) => values,
                None => self.0.entry(name.into()).or_default(),
            };
            match values.get_mut(value) {
                Some(entities) => entities.push(entity),
                None => drop(values.insert(value.into(), vec![entity])),
            }
        }
    }

    /// Whether any entity has a label of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names of all labels.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }

    /// The values of the label of this name.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flat_map(|values| values.keys().map(AsRef::as_ref))
    }

    /// Who has it with this value.
    pub(super) fn with(&self, name: &str, value: &str) -> &[u32] {
        self.0.get(name).and_then(|values| values.get(value)).map_or(&[], Vec::as_slice)
    }

    /// Takes all out.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
