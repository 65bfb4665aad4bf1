//! The doors through which a query is asked: the engine in this process, and (`over_http`) the API of an aggregator.

use std::sync::Arc;

use aggregator::query::Engine;
use aggregator::query::EngineConfig;
use aggregator::query::Moments;
use aggregator::query::Turn;
use aggregator::query::Value;
use aggregator::query::parse;
use common::time::Clock;
use common::time::Timestamp;

use crate::series::Loaded;

/// What is answered.
pub(crate) struct Reply {
    /// The answer.
    pub(crate) value: Value,
    /// What is said beside it.
    pub(crate) warnings: Vec<String>,
    /// And what in addition.
    pub(crate) infos: Vec<String>,
}

/// Asks a query; an error is its words.
pub(crate) trait Door {
    /// Asks.
    fn ask(&self, query: &str, moments: Moments) -> Result<Reply, String>;
}

/// The engine over what is loaded.
pub(crate) struct InProcess(Engine);

impl InProcess {
    pub(crate) fn over(loaded: &Arc<Loaded>) -> Self {
        let source: Arc<Loaded> = Arc::clone(loaded);
        Self(Engine::new(source, Clock::moved(Timestamp::default()), EngineConfig::default()))
    }
}

impl Door for InProcess {
    fn ask(&self, query: &str, moments: Moments) -> Result<Reply, String> {
        let query = parse(query).map_err(|error| error.to_string())?;
        let reply = self.0.reply(&query, moments, &Turn::default()).map_err(|error| error.to_string())?;
        Ok(Reply { value: reply.value, warnings: reply.annotations.warnings(), infos: reply.annotations.infos() })
    }
}
