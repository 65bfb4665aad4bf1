//! How far those who are written to were read for: what comes of that time is noted by the commit that brings it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::batch::HostId;
use common::time::Timestamp;
use rusqlite::Connection;

use crate::store::ReadError;
use crate::store::Store;
use crate::store::record::forwards;
use crate::store::select::Question;
use crate::store::select::SelectError;
use crate::store::select::Selected;

/// By their names.
#[derive(Debug, Default)]
pub(super) struct Forwarding(Mutex<BTreeMap<String, Timestamp>>);

impl Forwarding {
    pub(super) fn new(targets: Vec<(String, Timestamp)>) -> Self {
        Self(Mutex::new(targets.into_iter().collect()))
    }

    /// Notes what came between two stamps for those who were told of that time before.
    pub(super) fn note(
        &self,
        connection: &Connection,
        (host, first, last): (HostId, Timestamp, Timestamp),
    ) -> rusqlite::Result<()> {
        let targets = self.lock();
        let told = targets.iter().filter(|(_, through)| first <= **through);
        told.into_iter().try_for_each(|(target, through)| {
            forwards::insert_late(connection, target, (host, first, last.min(*through)))
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// What comes late is noted for these alone, as far as they were told.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn forward_to(&self, names: Vec<String>) -> Result<(), ReadError> {
        let known = self.read(forwards::all).await?;
        let mut targets = self.shared.forwarding.lock();
        targets.retain(|name, _| names.contains(name));
        for (name, through) in known {
            targets.entry(name).or_insert(through);
        }
        Ok(())
    }

    /// From here on what comes of the time through a stamp is late for a target.
    pub fn forward_through(&self, target: &str, through: Timestamp) {
        let mut targets = self.shared.forwarding.lock();
        if let Some(before) = targets.get_mut(target) {
            *before = through.max(*before);
        }
    }

    /// As [`Self::select`], of one host or origin or of all.
    ///
    /// # Errors
    /// As there.
    pub fn select_of<E: From<SelectError>>(
        &self,
        host: Option<HostId>,
        question: Question<'_>,
        give: &mut dyn FnMut(Selected<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.shared.progress.answers(question.range)?;
        let hosts = host.map_or_else(|| self.shared.head.ids(), |host| vec![host]);
        self.union(self.tiers(question.range, Duration::ZERO), None).select_of(&hosts, question, give)
    }
}
