//! What is to be said beside an answer, in the words of Prometheus.

use std::collections::BTreeMap;

use crate::query::place::Place;

/// Most warnings, and most infos, that a reply shows, as in Prometheus.
pub const ANNOTATIONS_MAX: usize = 10;

/// Warnings: the answer may be wrong. Infos: the question may be. Each is said once, of the place where it was found last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    warnings: BTreeMap<String, Option<Place>>,
    infos: BTreeMap<String, Option<Place>>,
}

impl Annotations {
    pub(super) fn warn(&mut self, what: &str, place: Option<Place>) {
        self.warnings.insert(format!("PromQL warning: {what}"), place);
    }

    pub(super) fn inform(&mut self, what: &str, place: Option<Place>) {
        self.infos.insert(format!("PromQL info: {what}"), place);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.warnings.is_empty() && self.infos.is_empty()
    }

    /// The warnings, at most [`ANNOTATIONS_MAX`], then how many more there are.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        shown(&self.warnings, "warning")
    }

    /// The infos, in the same way.
    #[must_use]
    pub fn infos(&self) -> Vec<String> {
        shown(&self.infos, "info")
    }
}

fn shown(said: &BTreeMap<String, Option<Place>>, kind: &str) -> Vec<String> {
    let whole = |(what, place): (&String, &Option<Place>)| match place {
        Some(place) => format!("{what} ({place})"),
        None => what.clone(),
    };
    let mut shown: Vec<_> = said.iter().take(ANNOTATIONS_MAX).map(whole).collect();
    if let Some(more) = said.len().checked_sub(ANNOTATIONS_MAX).filter(|more| 0 < *more) {
        shown.push(format!("{more} more {kind} annotations omitted"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted() {
        let mut annotations = Annotations::default();
        (0..12).for_each(|at| annotations.warn(&format!("{at:02}"), None));
        annotations.warn("11", None);
        let warnings = annotations.warnings();
        assert_eq!((warnings.len(), warnings[0].as_str()), (11, "PromQL warning: 00"));
        assert_eq!(warnings[10], "2 more warning annotations omitted");
        assert_eq!(annotations.infos(), Vec::<String>::new());
    }
}
