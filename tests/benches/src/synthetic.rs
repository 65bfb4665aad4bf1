//! Ten thousand made series of a hundred hosts, of the classes that hosts have: constants, counters, CPU seconds, memory,
//! percentages, small integers, and a few floats of full precision. The same every time.

use common::metric::Decimals;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::NAME;

/// Hosts.
pub const HOSTS: usize = 100;

/// Series.
pub const SERIES: usize = 100 * HOSTS;

/// All series, one step after the other.
pub struct Synthetic {
    random: u64,
    state: Vec<f64>,
    pace: Vec<f64>,
}

#[derive(Clone, Copy)]
enum Class {
    Constant,
    Sparse,
    Counter,
    CpuSeconds,
    Memory,
    Percent,
    Float,
    Small,
}

impl Class {
    const fn of(series: usize) -> Self {
        match series % 100 {
            0..=29 => Self::Constant,
            30..=37 => Self::Sparse,
            38..=57 => Self::Counter,
            58..=69 => Self::CpuSeconds,
            70..=81 => Self::Memory,
            82..=89 => Self::Percent,
            90..=93 => Self::Float,
            _ => Self::Small,
        }
    }
}

/// Whether a series counts, and how many digits behind the point it means.
#[must_use]
pub const fn meaning(series: usize) -> (Kind, Decimals) {
    match Class::of(series) {
        Class::Sparse | Class::Counter => (Kind::Counter, Decimals::new(0)),
        Class::CpuSeconds => (Kind::Counter, Decimals::new(2)),
        Class::Constant | Class::Memory | Class::Small => (Kind::Gauge, Decimals::new(0)),
        Class::Percent => (Kind::Gauge, Decimals::new(1)),
        Class::Float => (Kind::Gauge, Decimals::FULL),
    }
}

/// The labels of a series.
pub fn labels(series: usize) -> Labels {
    let (host, id) = (format!("host-{:02}", series / 100), format!("{:02}", series % 100));
    [(NAME, "m"), ("host", host.as_str()), ("id", id.as_str())].into_iter().collect()
}

impl Default for Synthetic {
    fn default() -> Self {
        Self::new(SERIES)
    }
}

impl Synthetic {
    /// The first series of all.
    pub fn new(count: usize) -> Self {
        let mut synthetic = Self { random: 0x9e37_79b9_7f4a_7c15, state: vec![0.0; count], pace: vec![0.0; count] };
        for series in 0..count {
            let share = synthetic.share();
            let (state, pace) = match Class::of(series) {
                Class::Constant => ((share * 100_000.0).floor(), 0.0),
                Class::Sparse => ((share * 100_000.0).floor(), 0.002 + share * 0.03),
                Class::Counter => ((share * 1e12).floor(), 10_f64.powf(1.0 + 5.0 * synthetic.share())),
                Class::CpuSeconds => ((share * 1e7).floor(), 1.0 + share * share * 400.0),
                Class::Memory => ((share * 1e6).floor(), 0.05 + 0.6 * share),
                Class::Percent => (share * 100.0, share * 100.0),
                Class::Float => (share * 50.0, share * 50.0),
                Class::Small => ((1.0 + share * 63.0).floor(), 0.02 + 0.3 * share),
            };
            (synthetic.state[series], synthetic.pace[series]) = (state, pace);
        }
        synthetic
    }

    /// The values of all series ten seconds later.
    pub fn step(&mut self) -> Vec<f64> {
        (0..self.state.len()).map(|series| self.next(series)).collect()
    }

    fn next(&mut self, series: usize) -> f64 {
        let (state, pace) = (self.state[series], self.pace[series]);
        let (share, bell) = (self.share(), self.bell());
        let (state, value) = match Class::of(series) {
            Class::Constant => (state, state),
            Class::Sparse => same(if share < pace { state + 1.0 } else { state }),
            Class::Counter => same(state + (pace * (0.35 * bell).exp()).round()),
            Class::CpuSeconds => {
                let state = state + (pace * (0.5 * bell).exp()).round();
                (state, state / 100.0)
            }
            Class::Memory => {
                let state = if share < pace { (state + (bell * 40.0).round()).max(100.0) } else { state };
                (state, state * 4_096.0)
            }
            Class::Percent => {
                let state = state + 0.1 * (pace - state) + bell * 2.0;
                (state, (state.clamp(0.0, 100.0) * 10.0).round() / 10.0)
            }
            Class::Float => same(state + 0.1 * (pace - state) + bell * 0.7),
            Class::Small => same(if share < pace { (state + bell.signum()).max(0.0) } else { state }),
        };
        self.state[series] = state;
        value
    }

    /// Evenly between 0 and 1 (xorshift).
    #[expect(clippy::cast_precision_loss, reason = "only 53 bits are looked at")]
    fn share(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal, around 0.
    fn bell(&mut self) -> f64 {
        (self.share() + self.share() + self.share() + self.share() - 2.0) * 1.732
    }
}

const fn same(state: f64) -> (f64, f64) {
    (state, state)
}
