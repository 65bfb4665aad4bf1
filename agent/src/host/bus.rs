//! D-Bus, as much of it as asking systemd takes: connect, call a method, read its reply.

use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::getuid;

/// Where the system's bus is, below the root of the host.
pub const SYSTEM_BUS: &str = "run/dbus/system_bus_socket";

/// How long one reply may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of one message: ten thousand units of 400.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Messages between a call and its reply: the bus greets, and tells nothing else that nobody asked for.
const MESSAGES_BETWEEN_MAX: usize = 16;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// A connection to the bus.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
}

/// What is asked of whom.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Name of the service on the bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// Whose method.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// Its arguments, all of them text.
    pub arguments: &'a [&'a str],
}

impl Bus {
    /// Connects as the user that this process runs as.
    ///
    /// # Errors
    /// When there is no bus, or it refuses us.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let user: String = getuid().as_raw().to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        let mut answer = [0; 128];
        let length = stream.read(&mut answer)?;
        if !answer[..length].starts_with(b"OK ") {
            return Err(ErrorKind::PermissionDenied.into());
        }
        stream.write_all(b"BEGIN\r\n")?;
        let mut bus = Self { stream, serial: 0 };
        let bus_itself = "org.freedesktop.DBus";
        let hello = Call {
            destination: bus_itself,
            path: "/org/freedesktop/DBus",
            interface: bus_itself,
            member: "Hello",
            arguments: &[],
        };
        bus.call(hello)?;
        Ok(bus)
    }

    /// Whether there is a bus that does not speak with the user that this process runs as.
    #[must_use]
    pub fn refuses(socket: &Path) -> bool {
        Self::connect(socket).is_err_and(|error| is_refusal(&error))
    }

    /// Calls a method and waits for what it returns.
    ///
    /// # Errors
    /// When the connection breaks, the reply does not come in time or has not the form of one; [`ErrorKind::NotFound`] when
    /// whoever was asked answers with an error.
    pub fn call(&mut self, call: Call<'_>) -> io::Result<Vec<u8>> {
        self.serial += 1;
        self.stream.write_all(&encode(call, self.serial))?;
        for _ in 0..MESSAGES_BETWEEN_MAX {
            let mut head = [0; 16];
            self.stream.read_exact(&mut head)?;
            let (kind, fields, body) = parse_head(&head).ok_or(ErrorKind::InvalidData)?;
            let mut rest = vec![0; fields + body];
            self.stream.read_exact(&mut rest)?;
            let body = rest.split_off(fields);
            if reply_serial(&rest) == Some(self.serial) {
                return match kind {
                    METHOD_RETURN => Ok(body),
                    ERROR => Err(io::Error::new(ErrorKind::NotFound, said(&body))),
                    _ => Err(ErrorKind::InvalidData.into()),
                };
            }
        }
        Err(ErrorKind::InvalidData.into())
    }
}

/// Whether the bus closed the connection: it does so to users that it cannot name, such as those of `DynamicUser=`.
#[must_use]
pub fn is_refusal(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionReset, PermissionDenied, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | PermissionDenied | UnexpectedEof)
}

/// What an error says, if it says something.
fn said(body: &[u8]) -> String {
    Values::new(body).text().unwrap_or("an error without a text").to_owned()
}

/// Reads the values of a message's body in their order.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Values<'a> {
    /// From the start of a body.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Skips to the next multiple of `boundary`.
    pub fn align(&mut self, boundary: usize) -> Option<()> {
        self.take(self.at.next_multiple_of(boundary) - self.at).map(drop)
    }

    /// An unsigned number of 32 bits.
    pub fn number(&mut self) -> Option<u32> {
        self.align(4)?;
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// An unsigned number of 64 bits.
    pub fn long(&mut self) -> Option<u64> {
        self.align(8)?;
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A text, or an object's path.
    pub fn text(&mut self) -> Option<&'a str> {
        let length = self.number()? as usize;
        let text = self.take(length)?;
        self.take(1)?;
        str::from_utf8(text).ok()
    }

    /// What type a value of any type has.
    pub fn signature(&mut self) -> Option<&'a str> {
        let length = usize::from(*self.take(1)?.first()?);
        let text = self.take(length)?;
        self.take(1)?;
        str::from_utf8(text).ok()
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.len() <= self.at
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }
}

/// Kind of a message, and the lengths of its header fields, padded, and of its body.
fn parse_head(head: &[u8; 16]) -> Option<(u8, usize, usize)> {
    let length = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?) as usize);
    let (body, fields) = (length(4)?, length(12)?.next_multiple_of(8));
    let fits = body <= MESSAGE_BYTES_MAX && fields <= MESSAGE_BYTES_MAX;
    (head[0] == b'l' && head[3] == 1 && fits).then_some((head[1], fields, body))
}

/// The call that a message answers: among the header fields, each a code and a value of any type.
fn reply_serial(fields: &[u8]) -> Option<u32> {
    const REPLY_SERIAL: u8 = 5;
    let mut values = Values::new(fields);
    while !values.is_empty() {
        // The fields begin at a multiple of eight in the message, so their own boundaries are kept.
        values.align(8)?;
        let code = *values.take(1)?.first()?;
        match (code, values.signature()?) {
            (REPLY_SERIAL, "u") => return values.number(),
            (_, "u") => drop(values.number()?),
            (_, "s" | "o") => drop(values.text()?),
            (_, "g") => drop(values.signature()?),
            _ => return None,
        }
    }
    None
}

fn encode(call: Call<'_>, serial: u32) -> Vec<u8> {
    let mut body = Vec::new();
    call.arguments.iter().for_each(|argument| put_text(&mut body, argument));
    let mut fields = Vec::new();
    let named = [(1, 'o', call.path), (2, 's', call.interface), (3, 's', call.member), (6, 's', call.destination)];
    for (code, kind, text) in named {
        put_code(&mut fields, code, kind);
        put_text(&mut fields, text);
    }
    if let Ok(arguments) = u8::try_from(call.arguments.len())
        && 0 < arguments
    {
        put_code(&mut fields, 8, 'g');
        fields.push(arguments);
        fields.extend(std::iter::repeat_n(b's', usize::from(arguments)));
        fields.push(0);
    }
    let mut message = vec![b'l', METHOD_CALL, 0, 1];
    for number in [length(&body), serial, length(&fields)] {
        message.extend(number.to_le_bytes());
    }
    message.extend(&fields);
    pad(&mut message, 8);
    message.extend(&body);
    message
}

fn put_code(fields: &mut Vec<u8>, code: u8, kind: char) {
    pad(fields, 8);
    fields.extend([code, 1, u8::try_from(kind).unwrap_or(b's'), 0]);
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    pad(bytes, 4);
    bytes.extend(length(text.as_bytes()).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

fn pad(bytes: &mut Vec<u8>, boundary: usize) {
    bytes.resize(bytes.len().next_multiple_of(boundary), 0);
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

    #[test]
    fn a_call_is_what_a_real_bus_understands() {
        let call = Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: PROPERTIES,
            member: "Get",
            arguments: &["org.freedesktop.systemd1.Manager", "Version"],
        };
        // As dbus-daemon 1.14 took and answered it.
        let taken =
            b"l\x01\0\x014\0\0\0\x02\0\0\0\x90\0\0\0\x01\x01o\0\x19\0\0\0/org/freedesktop/systemd1\0\0\0\0\0\0\0\
            \x02\x01s\0\x1f\0\0\0org.freedesktop.DBus.Properties\0\x03\x01s\0\x03\0\0\0Get\0\0\0\0\0\
            \x06\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\x08\x01g\0\x02ss\0\
            \x20\0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\x07\0\0\0Version\0";
        assert_eq!(encode(call, 2).escape_ascii().to_string(), taken.escape_ascii().to_string());
    }

    /// The reply to `Hello` and the signal behind it, as dbus-daemon 1.14 sent them.
    const HELLO: &[u8] =
        b"l\x02\x01\x01\t\0\0\0\x01\0\0\0=\0\0\0\x06\x01s\0\x04\0\0\0:1.3\0\0\0\0\x05\x01u\0\x01\0\0\0\
        \x08\x01g\0\x01s\0\0\x07\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\x04\0\0\0:1.3\0";
    const ACQUIRED: &[u8] =
        b"l\x04\x01\x01\t\0\0\0\x02\0\0\0\x8d\0\0\0\x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\
        \x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\x03\x01s\0\x0c\0\0\0NameAcquired\0\0\0\0\
        \x06\x01s\0\x04\0\0\0:1.3\0\0\0\0\x08\x01g\0\x01s\0\0\x07\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
        \x04\0\0\0:1.3\0";
    const REFUSED: &[u8] = b"l\x03\x01\x01\x06\0\0\0\x03\0\0\0\x0f\0\0\0\x05\x01u\0\x02\0\0\0\x08\x01g\0\x01s\0\0\
        \x01\0\0\0x\0";

    /// What becomes of a connection and one call to a bus that says `greeting` and then `messages`.
    fn check(greeting: &'static [u8], messages: &[&[u8]], expect: Result<&[u8], ErrorKind>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("bus");
        let listener = UnixListener::bind(&socket).unwrap();
        let messages = messages.concat();
        let bus = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(greeting).unwrap();
            // The client reads the greeting by itself: the rest follows its `BEGIN`.
            let (mut heard, mut byte) = (Vec::new(), [0]);
            while !heard.ends_with(b"BEGIN\r\n") && stream.read(&mut byte).is_ok_and(|read| 0 < read) {
                heard.extend(byte);
            }
            drop(stream.write_all(&messages));
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            while stream.read(&mut [0; 4_096]).is_ok_and(|read| 0 < read) {}
        });
        let call = Call { destination: "a", path: "/a", interface: "a.b", member: "c", arguments: &[] };
        let reply = Bus::connect(&socket).and_then(|mut bus| bus.call(call)).map_err(|error| error.kind());
        assert_eq!(reply.as_deref().map_err(|kind| *kind), expect);
        bus.join().unwrap();
    }

    #[test]
    fn a_bus_that_answers_oddly_is_an_error_and_no_more() {
        let mut second = HELLO.to_vec();
        second[36] = 2;
        check(b"OK 1\r\n", &[HELLO, ACQUIRED, &second], Ok(b"\x04\0\0\0:1.3\0"));
        check(b"OK 1\r\n", &[HELLO, ACQUIRED, REFUSED], Err(ErrorKind::NotFound));
        check(b"REJECTED EXTERNAL\r\n", &[], Err(ErrorKind::PermissionDenied));
        check(b"OK 1\r\n", &[&HELLO[..40]], Err(ErrorKind::UnexpectedEof));
        check(b"OK 1\r\n", &[HELLO, &[b"l\x02\x01\x01", &[0xff; 12][..]].concat()], Err(ErrorKind::InvalidData));
        check(b"OK 1\r\n", &[HELLO, &[b'x'; 16]], Err(ErrorKind::InvalidData));
        check(b"OK 1\r\n", &[HELLO, &ACQUIRED.repeat(MESSAGES_BETWEEN_MAX)], Err(ErrorKind::InvalidData));
    }
}
