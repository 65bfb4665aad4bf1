//! The process table section: who they are is told once, what they did in every window.

use super::CodecError;
use crate::batch::Process;
use crate::wire::bytes::Reader;
use crate::wire::bytes::put_sized;
use crate::wire::bytes::put_varint;
use crate::wire::bytes::unzigzag;
use crate::wire::bytes::zigzag;

/// Rows of one table: four rankings of 15 are at most 60; more has room for larger rankings.
pub const PROCESS_ROWS_MAX: usize = 256;

/// Bytes of one text: what the kernel gives of a command line is 4 KiB.
pub const PROCESS_TEXT_BYTES_MAX: usize = 4_096;

/// Size in which the kernel counts resident memory, on most machines.
const PAGE: i64 = 4_096;

/// Processes that later tables may refer to, the latest table first. Those that wobble around the end of a ranking are
/// found again.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known(Vec<Process>);

impl Known {
    /// Puts a table in front.
    pub(super) fn remember(&mut self, table: &[Process]) {
        let older: Vec<_> = self.0.drain(..).filter(|old| !table.iter().any(|new| is_same(new, old))).collect();
        self.0.extend(table.iter().cloned().chain(older));
        self.0.truncate(PROCESS_ROWS_MAX);
    }
}

/// Codes a table and remembers it.
pub(super) fn encode(table: &[Process], known: &mut Known) -> Vec<u8> {
    let table: Vec<Process> = table.iter().take(PROCESS_ROWS_MAX).map(shortened).collect();
    let mut out = Vec::new();
    put_varint(&mut out, table.len() as u64);
    let mut expected = 0_i64;
    for process in &table {
        let found = known.0.iter().position(|old| is_same(process, old));
        match found.and_then(|at| i64::try_from(at).ok()) {
            Some(at) => {
                put_varint(&mut out, 1 + zigzag(at - expected));
                expected = at + 1;
            }
            None => put_identity(&mut out, process, known),
        }
        put_figures(&mut out, process, found.map(|at| &known.0[at]));
    }
    known.remember(&table);
    out
}

/// What [`encode`] was given.
pub(super) fn decode(section: &[u8], known: &Known) -> Result<Vec<Process>, CodecError> {
    let mut reader = Reader::new(section);
    let count = reader.varint()?;
    if PROCESS_ROWS_MAX as u64 <= count.saturating_sub(1) {
        return Err(CodecError::Malformed("too many processes"));
    }
    let mut table = Vec::new();
    let mut expected = 0_i64;
    for _ in 0..count {
        let process = match reader.varint()? {
            0 => {
                let process = take_identity(&mut reader, known)?;
                take_figures(&mut reader, process)?
            }
            reference => {
                let at = expected.wrapping_add(unzigzag(reference - 1));
                let process = usize::try_from(at).ok().and_then(|at| known.0.get(at));
                expected = at.wrapping_add(1);
                take_figures(&mut reader, process.ok_or(CodecError::Malformed("unknown process"))?.clone())?
            }
        };
        table.push(process);
    }
    if reader.is_empty() { Ok(table) } else { Err(CodecError::Malformed("more than the processes")) }
}

/// Everything but the figures is equal.
fn is_same(left: &Process, right: &Process) -> bool {
    let numbers = |process: &Process| (process.pid, process.start_ticks);
    numbers(left) == numbers(right)
        && left.command == right.command
        && left.command_line == right.command_line
        && left.user == right.user
        && left.container == right.container
}

fn shortened(process: &Process) -> Process {
    let cut = |text: &str| {
        let end = (0..=PROCESS_TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text[..end.unwrap_or(0)].to_owned()
    };
    Process {
        user: cut(&process.user),
        command: cut(&process.command),
        command_line: cut(&process.command_line),
        container: cut(&process.container),
        ..*process
    }
}

fn put_identity(out: &mut Vec<u8>, process: &Process, known: &Known) {
    out.push(0);
    put_varint(out, process.pid.into());
    put_varint(out, process.start_ticks);
    put_text(out, &process.user, known, |old| &old.user);
    put_text(out, &process.command, known, |old| &old.command);
    put_text(out, &process.container, known, |old| &old.container);
    put_text(out, &process.command_line, known, |old| &old.command_line);
}

fn take_identity(reader: &mut Reader<'_>, known: &Known) -> Result<Process, CodecError> {
    Ok(Process {
        pid: reader.varint32()?,
        start_ticks: reader.varint()?,
        user: take_text(reader, known, |old| &old.user)?,
        command: take_text(reader, known, |old| &old.command)?,
        container: take_text(reader, known, |old| &old.container)?,
        command_line: take_text(reader, known, |old| &old.command_line)?,
        ..Process::default()
    })
}

/// A text that a known process has too is a number.
fn put_text(out: &mut Vec<u8>, text: &str, known: &Known, field: impl Fn(&Process) -> &str) {
    match known.0.iter().position(|old| field(old) == text) {
        Some(at) => put_varint(out, at as u64 + 1),
        None => {
            out.push(0);
            put_sized(out, text.as_bytes());
        }
    }
}

fn take_text(reader: &mut Reader<'_>, known: &Known, field: impl Fn(&Process) -> &str) -> Result<String, CodecError> {
    let reference = reader.varint()?;
    if reference != 0 {
        let old = usize::try_from(reference - 1).ok().and_then(|at| known.0.get(at));
        return old.map(|old| field(old).to_owned()).ok_or(CodecError::Malformed("unknown text"));
    }
    let bytes = reader.sized()?;
    if PROCESS_TEXT_BYTES_MAX < bytes.len() {
        return Err(CodecError::Malformed("text too long"));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| CodecError::Malformed("text is not UTF-8"))
}

/// A byte says which figures follow: those that are not zero, and memory and threads where they changed.
fn put_figures(out: &mut Vec<u8>, process: &Process, before: Option<&Process>) {
    let (resident, threads) = before.map_or((0, 0), |before| (before.resident_bytes, before.threads));
    let grown = process.resident_bytes.wrapping_sub(resident).cast_signed();
    let pages = grown % PAGE == 0;
    let figures = [
        process.cpu_ms,
        zigzag(if pages { grown / PAGE } else { grown }),
        process.read_bytes,
        process.written_bytes,
        process.major_faults,
        process.minor_faults,
        zigzag(i64::from(process.threads) - i64::from(threads)),
    ];
    let mask = (0..).zip(figures).fold(0_u8, |mask, (bit, figure)| mask | u8::from(figure != 0) << bit);
    out.push(mask | u8::from(pages) << 7);
    for figure in figures.into_iter().filter(|figure| *figure != 0) {
        put_varint(out, figure);
    }
}

fn take_figures(reader: &mut Reader<'_>, before: Process) -> Result<Process, CodecError> {
    let mask = reader.byte()?;
    let mut figure = |bit: u8| if mask >> bit & 1 == 1 { reader.varint() } else { Ok(0) };
    let cpu_ms = figure(0)?;
    let grown = unzigzag(figure(1)?).wrapping_mul(if mask >> 7 == 1 { PAGE } else { 1 });
    let [read_bytes, written_bytes, major_faults, minor_faults] = [figure(2)?, figure(3)?, figure(4)?, figure(5)?];
    let threads = i64::from(before.threads).saturating_add(unzigzag(figure(6)?));
    Ok(Process {
        cpu_ms,
        resident_bytes: before.resident_bytes.wrapping_add(grown.cast_unsigned()),
        read_bytes,
        written_bytes,
        major_faults,
        minor_faults,
        threads: u32::try_from(threads).map_err(|_| CodecError::Malformed("threads"))?,
        ..before
    })
}
