//! How a container fares, as its runtime says: restarts, health, how it ended last, ports.

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::time::Timestamp;

use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::cgroup::event;
use crate::collect::cgroup::parse;
use crate::identify::Description;
use crate::identify::Directory;
use crate::identify::Exit;
use crate::identify::Port;

const ENGINE_UP: &Metric = metric("lapwing_agent_container_engine_up");
const HEALTH: &Metric = metric("container_health_state");
const PORT: &Metric = metric("lapwing_container_port_info");
const RESTARTS: &Metric = metric("lapwing_container_restarts_total");

pub(super) const EXIT_CODE: &Metric = metric("lapwing_container_exit_code");

/// What Docker says of a health check.
const HEALTHY: &str = "healthy";
const UNHEALTHY: &str = "unhealthy";

/// What was put of one container.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// How it ended last, as far as that was seen.
    pub exit: Option<Exit>,
    ports: Vec<(Port, SeriesKey)>,
}

impl Condition {
    /// Puts what is due.
    pub(super) fn put(&mut self, tick: &mut Tick<'_>, entity: u32, description: Option<&Description>) {
        let state = description.and_then(|description| description.state.as_ref());
        let health = state.filter(|state| !state.health.is_empty());
        let values = [
            (RESTARTS, state.map(|state| parse::scaled(state.restarts, 1.0))),
            (HEALTH, health.map(|state| f64::from(u8::from(state.health == HEALTHY)))),
            (EXIT_CODE, self.exit.map(exit_code)),
        ];
        for (metric, value) in values.into_iter().filter(|(metric, _)| tick.moment.due(metric.tier)) {
            if let Some(value) = value {
                let series = tick.samples.series(entity, metric, &Labels::new());
                tick.samples.put(series, value);
            }
        }
        if tick.moment.due(PORT.tier) {
            self.put_ports(tick.samples, entity, description.map_or(&[][..], |description| &description.ports));
        }
    }

    /// Lets the next [`Self::put`] make new series.
    pub(super) fn forget_series(&mut self) {
        self.ports.clear();
    }

    fn put_ports(&mut self, samples: &mut Samples, entity: u32, ports: &[Port]) {
        if !self.ports.iter().map(|(port, _)| port).eq(ports) {
            self.ports.drain(..).for_each(|(_, series)| samples.end(series));
            let labels = |port: &Port| Labels::new().with("port", &*port.inside).with("published", &*port.outside);
            let series = |port: &Port| (port.clone(), samples.series(entity, PORT, &labels(port)));
            self.ports = ports.iter().map(series).collect();
        }
        self.ports.iter().for_each(|(_, series)| samples.put(*series, 1.0));
    }
}

/// The code of an exit as a value.
pub(super) fn exit_code(exit: Exit) -> f64 {
    // The kernel gives eight bits of it; Docker tells of others by numbers of its own, not much larger.
    f64::from(i32::try_from(exit.code).unwrap_or(i32::MAX))
}

/// Tells when a health check begins to fail, and when it holds again.
pub(super) fn tell_health(samples: &mut Samples, at: Timestamp, of: (&str, &Labels), states: [Option<&str>; 2]) {
    let (name, labels) = of;
    let told = match states {
        [Some(before), Some(UNHEALTHY)] if before != UNHEALTHY => Some(("container_unhealthy", "fails")),
        [Some(UNHEALTHY), Some(HEALTHY)] => Some(("container_healthy", "holds again")),
        _ => None,
    };
    if let Some((kind, what)) = told {
        event(samples, at, kind, labels, format!("the health check of {name} {what}"));
    }
}

/// Puts which engines answer that may be asked.
pub(super) fn put_engines(tick: &mut Tick<'_>, directory: &Directory) {
    for (socket, is_up) in directory.engines() {
        let labels = Labels::new().with("socket", socket.to_string_lossy());
        let series = tick.samples.series(HOST, ENGINE_UP, &labels);
        tick.samples.put(series, f64::from(u8::from(is_up)));
    }
}
