//! `/etc/passwd`: names of users. Pure.

use std::collections::HashMap;

/// Reads the names of users by number; of a number that comes twice the first.
#[must_use]
pub(super) fn parse(passwd: &[u8]) -> HashMap<u32, String> {
    let mut users = HashMap::new();
    for line in String::from_utf8_lossy(passwd).lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(_), Some(Ok(number))) = (fields.next(), fields.next(), fields.next().map(str::parse))
        else {
            continue;
        };
        users.entry(number).or_insert_with(|| name.to_owned());
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_lines_are_passed_over() {
        let users = parse(b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0\n\nbad\nb\xff:x:12:0\nneg:x:-1:0\n#:x:\nwww:x:33");
        let mut users: Vec<_> = users.into_iter().collect();
        users.sort();
        assert_eq!(users, [(0, "root".to_owned()), (12, "b\u{fffd}".to_owned()), (33, "www".to_owned())]);
    }
}
