//! How right the kernel believes its clock to be.
#![expect(unsafe_code, reason = "adjtimex has no safe wrapper: rustix leaves it out")]

use std::io;
use std::mem::MaybeUninit;

/// What steers the host's clock, as adjtimex(2) tells it. Times are in seconds, whatever unit the kernel counts in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Discipline {
    /// Whether something keeps the clock right.
    pub is_synchronized: bool,
    /// How far the clock is from the reference.
    pub offset_seconds: f64,
    /// How fast the clock is made to run; 1 is its own pace.
    pub frequency_ratio: f64,
    /// The largest error that may be.
    pub max_error_seconds: f64,
    /// The error that is likely.
    pub estimated_error_seconds: f64,
    /// The kernel's status bits.
    pub status: f64,
    /// Time constant of the loop.
    pub loop_constant: f64,
    /// Length of a clock tick.
    pub tick_seconds: f64,
    /// Frequency of the pulse per second.
    pub pps_frequency_hertz: f64,
    /// Jitter of the pulse per second.
    pub pps_jitter_seconds: f64,
    /// Length of its interval.
    pub pps_shift_seconds: f64,
    /// How stable it is.
    pub pps_stability_hertz: f64,
    /// How often its jitter was too large.
    pub pps_jitters: f64,
    /// Intervals in which it was calibrated.
    pub pps_calibrations: f64,
    /// How often calibration failed.
    pub pps_errors: f64,
    /// How often it was not stable enough.
    pub pps_instabilities: f64,
    /// How far atomic time is ahead.
    pub tai_offset_seconds: f64,
}

/// Asks the kernel, and changes nothing.
///
/// # Errors
/// Where a sandbox forbids the call.
#[expect(clippy::cast_precision_loss, reason = "the kernel keeps all of these far below 2^53")]
pub fn discipline() -> io::Result<Discipline> {
    const MICRO: f64 = 1e-6;
    const NANO: f64 = 1e-9;
    /// Parts per million with 16 bits behind the point.
    const SCALED_PPM: f64 = 65_536.0;
    let mut timex = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all fields are integers, for which zero is a value; no mode bit asks the kernel to change anything, and it
    // writes into this structure alone.
    let (state, timex) = unsafe {
        let state = libc::adjtimex(timex.as_mut_ptr());
        (state, timex.assume_init())
    };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    let unit = if timex.status & libc::STA_NANO == 0 { MICRO } else { NANO };
    Ok(Discipline {
        is_synchronized: state != libc::TIME_ERROR,
        offset_seconds: timex.offset as f64 * unit,
        frequency_ratio: 1.0 + timex.freq as f64 / SCALED_PPM * MICRO,
        max_error_seconds: timex.maxerror as f64 * MICRO,
        estimated_error_seconds: timex.esterror as f64 * MICRO,
        status: timex.status.into(),
        loop_constant: timex.constant as f64,
        tick_seconds: timex.tick as f64 * MICRO,
        pps_frequency_hertz: timex.ppsfreq as f64 / SCALED_PPM * MICRO,
        pps_jitter_seconds: timex.jitter as f64 * unit,
        pps_shift_seconds: timex.shift.into(),
        pps_stability_hertz: timex.stabil as f64 / SCALED_PPM * MICRO,
        pps_jitters: timex.jitcnt as f64,
        pps_calibrations: timex.calcnt as f64,
        pps_errors: timex.errcnt as f64,
        pps_instabilities: timex.stbcnt as f64,
        tai_offset_seconds: timex.tai.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_clock_runs_at_about_its_own_pace() {
        let told = discipline().unwrap();
        assert!((told.frequency_ratio - 1.0).abs() < 0.000_6, "{told:?}");
        assert!((0.009..0.011).contains(&told.tick_seconds), "{told:?}");
        assert!(told.offset_seconds.abs() < 1.0 && 0.0 <= told.max_error_seconds, "{told:?}");
    }
}
