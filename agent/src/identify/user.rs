//! `/etc/passwd`: names and homes of users. Pure.

use std::collections::HashMap;

/// One user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub name: String,
    /// Empty where the line does not say it.
    pub home: String,
}

/// Reads the users by number; of a number that comes twice the first.
#[must_use]
pub(super) fn parse(passwd: &[u8]) -> HashMap<u32, User> {
    let mut users = HashMap::new();
    for line in String::from_utf8_lossy(passwd).lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(_), Some(Ok(number))) = (fields.next(), fields.next(), fields.next().map(str::parse))
        else {
            continue;
        };
        let home = fields.nth(2).unwrap_or_default().to_owned();
        users.entry(number).or_insert_with(|| User { name: name.to_owned(), home });
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_lines_are_passed_over() {
        let users = parse(b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0\n\nbad\nb\xff:x:12:0\nneg:x:-1:0\n#:x:\nwww:x:33");
        let mut users: Vec<_> = users.into_iter().map(|(number, user)| (number, user.name, user.home)).collect();
        users.sort();
        let expect = [(0, "root", "/root"), (12, "b\u{fffd}", ""), (33, "www", "")];
        assert_eq!(users, expect.map(|(number, name, home)| (number, name.to_owned(), home.to_owned())));
    }
}
