//! The fields of a protobuf message, one after the other, as slices of the bytes they came in: nothing is copied, and
//! however often a hostile message nests or repeats, reading it takes no memory.

/// Fields that are still to be read.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a [u8]);

/// One field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// An integer.
    Varint(u64),
    /// Eight bytes: a double.
    Fixed64(u64),
    /// A text, a message or a packed list.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32(u32),
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end too early.
    #[error("it ends inside a field")]
    Torn,
    /// An integer has more than ten bytes, or more than 64 bits.
    #[error("it has an integer of more than 64 bits")]
    Integer,
    /// A tag says what no tag may.
    #[error("it has a field of number {0} and wire type {1}, which there is not")]
    Tag(u64, u64),
    /// A field is of another type than it must be.
    #[error("its field {0} has another type than it must have")]
    Type(u32),
}

/// Largest number of a field that protobuf knows.
const NUMBER_MAX: u64 = (1 << 29) - 1;

impl<'a> Fields<'a> {
    /// Those of a message.
    #[must_use]
    pub const fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The next field and its number; nothing at the end.
    ///
    /// # Errors
    /// When the bytes are no message.
    pub fn field(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let (number, wire_type) = (tag >> 3, tag & 7);
        let known = u32::try_from(number).ok().filter(|_| (1..=NUMBER_MAX).contains(&number));
        let known = known.ok_or(Malformed::Tag(number, wire_type))?;
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| Malformed::Torn)?)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups ended with the second version of the language; no message of ours has one.
            _ => return Err(Malformed::Tag(number, wire_type)),
        };
        Ok(Some((known, value)))
    }

    /// The next integer, where no tag says so: in a packed list.
    ///
    /// # Errors
    /// When there is none.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (at, byte) in self.0.iter().enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if 9 < at || (at == 9 && 1 < bits) {
                return Err(Malformed::Integer);
            }
            value |= bits << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(Malformed::Torn)
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::Torn)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Torn)?;
        self.0 = rest;
        Ok(*taken)
    }
}

impl<'a> Value<'a> {
    /// As a message inside; `number` is the field's.
    ///
    /// # Errors
    /// When it is something else.
    pub const fn message(self, number: u32) -> Result<Fields<'a>, Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(Fields::of(bytes)),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err(Malformed::Type(number)),
        }
    }

    /// As a text; nothing when it is not UTF-8, as a text must be.
    ///
    /// # Errors
    /// When it is something else.
    pub const fn text(self, number: u32) -> Result<Option<&'a str>, Malformed> {
        match self {
            Self::Bytes(bytes) => match str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Ok(None),
            },
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err(Malformed::Type(number)),
        }
    }

    /// As a double.
    ///
    /// # Errors
    /// When it is something else.
    pub const fn double(self, number: u32) -> Result<f64, Malformed> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            Self::Varint(_) | Self::Bytes(_) | Self::Fixed32(_) => Err(Malformed::Type(number)),
        }
    }

    /// As a signed integer that is not in zigzag.
    ///
    /// # Errors
    /// When it is something else.
    pub const fn int64(self, number: u32) -> Result<i64, Malformed> {
        match self {
            Self::Varint(value) => Ok(value.cast_signed()),
            Self::Fixed64(_) | Self::Bytes(_) | Self::Fixed32(_) => Err(Malformed::Type(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expect: Result<&[(u32, Value<'_>)], Malformed>) {
        let mut fields = Fields::of(bytes);
        let mut read = Vec::new();
        let ended = loop {
            match fields.field() {
                Ok(Some(field)) => read.push(field),
                Ok(None) => break Ok(&read[..]),
                Err(error) => break Err(error),
            }
        };
        assert_eq!(ended, expect, "{bytes:02x?}");
    }

    #[test]
    fn fields_are_read_as_protobuf_writes_them() {
        // From the encoding's own documentation.
        check(&[0x08, 0x96, 0x01], Ok(&[(1, Value::Varint(150))]));
        check(b"\x12\x07testing", Ok(&[(2, Value::Bytes(b"testing"))]));
        check(
            &[0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            Ok(&[(1, Value::Varint((-2_i64).cast_unsigned()))]),
        );
        check(&[0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f], Ok(&[(1, Value::Fixed64(1.0_f64.to_bits()))]));
        check(&[0x0d, 1, 0, 0, 0], Ok(&[(1, Value::Fixed32(1))]));
        check(&[], Ok(&[]));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        check(&[0x08], Err(Malformed::Torn));
        check(&[0x80], Err(Malformed::Torn));
        check(b"\x12\x08testing", Err(Malformed::Torn));
        check(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Err(Malformed::Torn));
        check(&[0x09, 0], Err(Malformed::Torn));
        check(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], Err(Malformed::Integer));
        check(&[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], Err(Malformed::Integer));
        check(&[0x00, 0x00], Err(Malformed::Tag(0, 0)));
        check(&[0x0b], Err(Malformed::Tag(1, 3)));
        check(&[0x0e], Err(Malformed::Tag(1, 6)));
    }
}
