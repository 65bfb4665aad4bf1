//! Lines, words and numbers of kernel files.

/// The lines of a file. The last one counts only where the kernel ended it: what was cut off is not half a number.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
}

/// The words of a line: what spaces and tabs part.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// The first word of a file that holds one.
pub(super) fn first(text: &[u8]) -> Option<&[u8]> {
    words(lines(text).next()?).next()
}

/// The numbers of a line, up to the first word that is none.
pub(super) fn numbers(line: &[u8]) -> impl Iterator<Item = u64> {
    words(line).map_while(number)
}

/// A decimal number without a sign that fits 64 bits.
pub(super) fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if 9 < digit {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A decimal number that may have a sign and a point; nothing that is not finite.
pub(super) fn float(word: &[u8]) -> Option<f64> {
    str::from_utf8(word).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A hexadecimal number, in digits of either case, that fits 64 bits.
pub(super) fn hexadecimal(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        (number >> 60 == 0).then_some(number << 4 | u64::from(digit))
    })
}

/// Fills an array with the numbers of a line; `None` if there are fewer.
pub(super) fn array<const N: usize>(line: &[u8]) -> Option<[u64; N]> {
    let mut numbers = numbers(line);
    let mut array = [0; N];
    for slot in &mut array {
        *slot = numbers.next()?;
    }
    Some(array)
}

/// A name as a label value: bytes that are not UTF-8 are replaced.
pub(super) fn label(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_that_fit() {
        let check = |word: &str, expect| assert_eq!(number(word.as_bytes()), expect, "{word}");
        check("0", Some(0));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        check("99999999999999999999999", None);
        check("", None);
        check("-1", None);
        check("+1", None);
        check("1.5", None);
        check("1x", None);
    }

    #[test]
    fn a_hexadecimal_number_is_digits_that_fit() {
        let check = |word: &str, expect| assert_eq!(hexadecimal(word.as_bytes()), expect, "{word}");
        check("0", Some(0));
        check("000Ff", Some(255));
        check("ffffffffffffffff", Some(u64::MAX));
        check("10000000000000000", None);
        check("0x1", None);
        check("-1", None);
        check("g", None);
        check("", None);
    }

    #[test]
    fn a_line_that_was_cut_off_is_left_out() {
        let check = |text: &str, expect: &[&str]| {
            let expect: Vec<_> = expect.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(lines(text.as_bytes()).collect::<Vec<_>>(), expect);
        };
        check("a\nb\n", &["a", "b"]);
        check("a\n\nb", &["a", ""]);
        check("", &[]);
    }

    #[test]
    fn an_array_needs_all_its_numbers() {
        let check = |line: &str, expect| assert_eq!(array::<2>(line.as_bytes()), expect, "{line}");
        check("1 2", Some([1, 2]));
        check(" 1\t 2 3 x", Some([1, 2]));
        check("1", None);
        check("1 x 2", None);
    }
}
