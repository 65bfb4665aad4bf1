//! A program that runs beside this one, and what the kernel tells of it.

use std::fs;
use std::io;
use std::process::Child;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

/// A running program. It ends when this is dropped.
pub struct Process(Child);

impl Process {
    /// Starts a program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// When that cannot be asked.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        self.0.try_wait().map(|status| status.is_some())
    }

    /// Kills it where it stands.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }

    /// Processor time that it has used.
    ///
    /// # Errors
    /// When it has ended, as for those below.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu(self.id())
    }

    /// Bytes of memory that it holds.
    ///
    /// # Errors
    /// As there.
    pub fn resident(&self) -> anyhow::Result<u64> {
        resident(self.id())
    }

    /// Bytes of memory that it held at most.
    ///
    /// # Errors
    /// As there.
    pub fn resident_peak(&self) -> anyhow::Result<u64> {
        resident_peak(self.id())
    }

    /// Bytes that it gave to the disk.
    ///
    /// # Errors
    /// As there.
    pub fn written(&self) -> anyhow::Result<u64> {
        written(self.id())
    }
}

/// Processor time that a process has used, to the tick.
///
/// # Errors
/// When it has ended.
pub fn cpu(process: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let behind_name = stat.rsplit(')').next().context("no stat")?;
    let ticks = behind_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}

/// Bytes of memory that a process holds.
///
/// # Errors
/// When it has ended.
pub fn resident(process: u32) -> anyhow::Result<u64> {
    Ok(1_024 * told(process, "status", "VmRSS:")?)
}

/// Bytes of memory that a process held at most.
///
/// # Errors
/// When it has ended.
pub fn resident_peak(process: u32) -> anyhow::Result<u64> {
    Ok(1_024 * told(process, "status", "VmHWM:")?)
}

/// Bytes that a process gave to the disk.
///
/// # Errors
/// When it has ended.
pub fn written(process: u32) -> anyhow::Result<u64> {
    told(process, "io", "write_bytes:")
}

/// A number that the kernel tells of a process.
fn told(process: u32, file: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(line.split_whitespace().next().context("no number")?.parse()?)
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.kill().unwrap_or_default();
    }
}
