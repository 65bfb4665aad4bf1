//! What decides everything: xorshift.

use common::batch::RunId;
use common::batch::SpoolId;
use common::metric::Kind;
use common::window::Counter;
use common::window::Gauge;
use common::window::Window;

pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub(crate) const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True once in so many times.
    pub(crate) const fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn run(&mut self) -> RunId {
        RunId(self.id())
    }

    pub(crate) fn spool(&mut self) -> SpoolId {
        SpoolId(self.id())
    }

    fn id(&mut self) -> [u8; 16] {
        (u128::from(self.below(u64::MAX)) << 64 | u128::from(self.below(u64::MAX))).to_be_bytes()
    }

    pub(crate) fn window(&mut self, kind: Kind) -> Window {
        let value = f64::from(u32::try_from(self.below(1_000)).unwrap());
        match kind {
            Kind::Gauge => Window::Gauge(Gauge::of(value)),
            Kind::Counter => Window::Counter(Counter { count: 10, last: value, increase: value, peak: 0.0 }),
        }
    }
}
