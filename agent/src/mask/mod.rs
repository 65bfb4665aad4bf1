//! Command lines, and labels that others wrote, without their secrets. Pure.
//!
//! A command line is judged word by word: what a name like `password` points at is masked, and what looks like a
//! secret by itself. A word masked for nothing costs a little; a secret shown costs a lot.

mod known;

use std::ops::Range;

use crate::mask::known::JOINTS;
use crate::mask::known::LETTERS;
use crate::mask::known::ORACLE;
use crate::mask::known::PLACE_WORDS;
use crate::mask::known::Place;
use crate::mask::known::REDIS;
use crate::mask::known::SCHEMES;
use crate::mask::known::SECRET_BEGINNINGS;
use crate::mask::known::SECRET_PARTS;
use crate::mask::known::SECRET_PATHS;
use crate::mask::known::SECRET_WORDS;
use crate::mask::known::USER_ENDS;
use crate::mask::known::USER_OPTIONS;

/// Bytes of a command line that are shown: enough for a program and what it was asked to do.
pub const COMMAND_LINE_BYTES_MAX: usize = 512;

/// Bytes of a command line that are looked at: Java's are long, and what lies behind is not shown.
pub const LOOKED_AT_BYTES: usize = 8_192;

/// What stands for a secret.
const MASK: &str = "***";

/// Makes one line of a process' arguments, separated by NUL, secrets masked.
#[must_use]
pub fn masked(cmdline: &[u8]) -> String {
    line(&masked_arguments(cmdline))
}

/// Makes one line of a process' arguments as they are.
#[must_use]
pub fn full(cmdline: &[u8]) -> String {
    line(&arguments(cmdline))
}

/// A process' arguments one by one, secrets masked.
#[must_use]
pub fn masked_arguments(cmdline: &[u8]) -> Vec<String> {
    let arguments = arguments(cmdline);
    let program = program(arguments.first().map_or("", String::as_str)).to_owned();
    let mut masker = Masker { programs: vec![program], expecting: Expecting::Nothing, first: true };
    arguments.iter().map(|argument| masker.argument(argument)).collect()
}

/// A process' arguments one by one, as they are.
#[must_use]
pub fn arguments(cmdline: &[u8]) -> Vec<String> {
    let cmdline = &cmdline[..cmdline.len().min(LOOKED_AT_BYTES)];
    let cmdline = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    cmdline.split(|&byte| byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// What a label says, unless its name or its form tells that it is secret.
#[must_use]
pub fn masked_value(name: &str, value: &str) -> String {
    if is_secret_name(name) && !value.is_empty() {
        return MASK.to_owned();
    }
    Masker { programs: Vec::new(), expecting: Expecting::Nothing, first: true }.argument(value)
}

fn line(arguments: &[String]) -> String {
    let line = arguments.join(" ");
    let line = line.trim();
    let end = (0..=COMMAND_LINE_BYTES_MAX.min(line.len())).rev().find(|&end| line.is_char_boundary(end));
    line[..end.unwrap_or(0)].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Bytes that such a secret has at least, its beginning included.
const SECRET_BYTES: usize = 12;

/// Bytes from which letters of both cases mixed with digits are taken for a secret.
const RANDOM_BYTES: usize = 32;

/// Programs of one command line that are remembered: a host may be called as one of them.
const PROGRAMS_MAX: usize = 8;

/// What the words before say of the next word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expecting {
    Nothing,
    Secret,
    /// A user with a password behind it.
    User,
    /// Nothing but secrets to the end.
    Rest,
}

struct Masker {
    /// The program, and those that it may have been told to run.
    programs: Vec<String>,
    expecting: Expecting,
    first: bool,
}

impl Masker {
    fn argument(&mut self, argument: &str) -> String {
        if self.takes_whole(argument) {
            return MASK.to_owned();
        }
        let mut shown = String::with_capacity(argument.len());
        let mut rest = argument;
        while !rest.is_empty() {
            let space = rest.len() - rest.trim_start().len();
            shown.push_str(&rest[..space]);
            rest = &rest[space..];
            let word = word_end(rest);
            if word == 0 {
                break;
            }
            let begins = rest.len() == argument.len();
            if let Some(secret) = secret_behind_name(rest, begins) {
                shown.push_str(&rest[..secret.start]);
                shown.push_str(MASK);
                rest = &rest[secret.end..];
                self.expecting = Expecting::Nothing;
            } else {
                shown.push_str(&self.word(&rest[..word]));
                rest = &rest[word..];
            }
            self.first = false;
        }
        shown
    }

    /// Whether the words before make all of this argument a secret.
    fn takes_whole(&mut self, argument: &str) -> bool {
        match self.expecting {
            Expecting::Rest => true,
            Expecting::Secret if !argument.starts_with("--") && !JOINTS.contains(&argument) => {
                // `Authorization: Bearer …` in words of their own.
                let scheme = SCHEMES.contains(&plain(argument).as_str());
                self.expecting = if scheme { Expecting::Secret } else { Expecting::Nothing };
                true
            }
            Expecting::Secret | Expecting::User | Expecting::Nothing => false,
        }
    }

    fn word(&mut self, word: &str) -> String {
        let expecting = std::mem::replace(&mut self.expecting, Expecting::Nothing);
        if expecting == Expecting::Secret && JOINTS.contains(&word) {
            self.expecting = expecting;
            return word.to_owned();
        }
        if expecting == Expecting::Secret && !word.starts_with("--") {
            return MASK.to_owned();
        }
        if let Some(at) = user_end(word, expecting == Expecting::User) {
            return format!("{}{MASK}", &word[..=at]);
        }
        if !self.first && self.programs.len() < PROGRAMS_MAX && is_known_program(program(word)) {
            self.programs.push(program(word).to_owned());
        }
        if let Some(shown) = self.letter(word).or_else(|| self.oracle(word)) {
            return shown;
        }
        self.expect_behind(word);
        mask_url(word).or_else(|| mask_random(word)).unwrap_or_else(|| word.to_owned())
    }

    fn runs(&self, programs: &[&str]) -> bool {
        self.programs.iter().any(|program| programs.contains(&program.as_str()))
    }

    /// `user/password@database`, also behind a name.
    fn oracle(&self, word: &str) -> Option<String> {
        let user = word.rfind('=').map_or(0, |at| at + 1);
        let slash = user + word[user..].find('/')?;
        let end = word.rfind('@').filter(|end| slash < *end).unwrap_or(word.len());
        let told = self.runs(ORACLE) && !self.first && user < slash && !word.starts_with(['-', '.', '@']);
        told.then(|| format!("{}{MASK}{}", &word[..=slash], &word[end..]))
    }

    /// One-letter options of programs that are known to take secrets so.
    fn letter(&mut self, word: &str) -> Option<String> {
        // `htpasswd -nb user password`
        if self.runs(&["htpasswd"]) && !word.starts_with("--") && word.starts_with('-') && word.contains('b') {
            self.expecting = Expecting::Rest;
            return Some(word.to_owned());
        }
        let rows = LETTERS.iter().filter(|(programs, letter, _)| word.starts_with(letter) && self.runs(programs));
        let (_, letter, place) = rows.max_by_key(|(_, letter, _)| letter.len())?;
        let behind = &word[letter.len()..];
        match place {
            Place::Either if behind.is_empty() => self.expecting = Expecting::Secret,
            Place::Same if behind.is_empty() => {}
            Place::Same | Place::Either => return Some(format!("{letter}{MASK}")),
        }
        Some(word.to_owned())
    }

    fn expect_behind(&mut self, word: &str) {
        let option = word.starts_with('-') && !word.contains('=');
        let bare = matches!(plain(word).as_str(), "password" | "passphrase" | "passwd" | "bearer");
        let sql = word.eq_ignore_ascii_case("by");
        let letters =
            word.strip_prefix('-').is_some_and(|letters| letters.bytes().all(|byte| byte.is_ascii_alphabetic()));
        if USER_OPTIONS.contains(&word) || (letters && word.ends_with('u')) {
            self.expecting = Expecting::User;
        } else if self.runs(REDIS) && word.eq_ignore_ascii_case("auth") {
            self.expecting = Expecting::Rest;
        } else if (option && is_secret_name(word)) || (bare && !self.first) || (sql && !self.first) {
            self.expecting = Expecting::Secret;
        }
    }
}

/// Where the user of a `user:password` ends: in an option's value, or in a word that is one.
fn user_end(word: &str, is_user: bool) -> Option<usize> {
    let value = USER_OPTIONS.iter().find_map(|option| {
        let value = word.strip_prefix(option)?;
        let long = option.starts_with("--");
        (!value.is_empty() && (!long || value.starts_with('='))).then(|| word.len() - value.len())
    });
    let from = if is_user { 0 } else { value? };
    Some(from + word[from..].find(USER_ENDS)?)
}

fn is_known_program(name: &str) -> bool {
    let lettered = LETTERS.iter().any(|(programs, _, _)| programs.contains(&name));
    lettered || ORACLE.contains(&name) || REDIS.contains(&name) || name == "htpasswd"
}

fn program(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word).trim_matches(['"', '\'', '(', ')', ';'])
}

/// A word in small letters without what surrounds it.
fn plain(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_ascii_lowercase()
}

/// Whether what a name points at is secret: `--db-password`, `AWS_SECRET_ACCESS_KEY`, `spring.datasource.passWord`.
fn is_secret_name(name: &str) -> bool {
    let words = words(name);
    if words.last().is_some_and(|last| PLACE_WORDS.contains(&last.as_str())) {
        return false;
    }
    let joined = words.concat();
    let whole =
        SECRET_WORDS.contains(&joined.as_str()) || words.iter().any(|word| SECRET_WORDS.contains(&word.as_str()));
    whole
        || joined.ends_with("pass")
        || joined.ends_with("pwd")
        || SECRET_PARTS.iter().any(|part| joined.contains(part))
}

/// The words that a name is made of, in small letters: cut at signs and where small letters become capital.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut small = false;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() || (small && c.is_ascii_uppercase()) {
            words.push(String::new());
        }
        small = c.is_ascii_lowercase();
        if let Some(last) = words.last_mut().filter(|_| c.is_ascii_alphanumeric()) {
            last.push(c.to_ascii_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Where the first word ends.
fn word_end(text: &str) -> usize {
    text.find(char::is_whitespace).unwrap_or(text.len())
}

/// The secret of a `name=secret` or `name: secret` whose name begins in the first word of `text`; `begins` says that an
/// argument does.
fn secret_behind_name(text: &str, begins: bool) -> Option<Range<usize>> {
    let word = &text[..word_end(text)];
    let mut name_from = 0;
    for (at, c) in word.char_indices() {
        match c {
            '=' | ':' => {
                let name = word[name_from..at].trim_matches(['"', '\'', '\\', '{', '(', '[', '$']);
                let is_url = word[at..].starts_with("://");
                if !is_url && is_secret_name(name) {
                    return secret_at(text, at + 1, begins && name_from == 0);
                }
                name_from = at + 1;
            }
            ',' | ';' | '&' | '?' | '{' | '/' | '@' | '|' | '(' => name_from = at + 1,
            _ => {}
        }
    }
    None
}

/// The secret that begins at `at`, behind its name: to the closing quote, to the end of a header, or to the next space.
/// One whose name begins its `argument` may hold spaces: the shell has joined them already.
fn secret_at(text: &str, at: usize, argument: bool) -> Option<Range<usize>> {
    let from = at + (text[at..].len() - text[at..].trim_start().len());
    let rest = &text[from..];
    let header = text[..at].ends_with(':');
    let length = match quoted(rest) {
        Some(length) => length,
        None if at < from && !header => 0,
        None if argument => rest.len(),
        None if header => rest.find(['"', '\'']).unwrap_or(rest.len()),
        None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
    };
    (0 < length).then_some(from..from + length)
}

/// Length of the quoted text that `text` begins with, quotes included; a quote may be escaped, and so may those inside.
fn quoted(text: &str) -> Option<usize> {
    let escapes = text.len() - text.trim_start_matches('\\').len();
    let quote = text[escapes..].chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut at = escapes + 1;
    while let Some(found) = text[at..].find(quote) {
        let before = &text[at..at + found];
        at += found + 1;
        if before.len() - before.trim_end_matches('\\').len() <= escapes {
            return Some(at);
        }
    }
    Some(text.len())
}

/// A URL, or `user:password@host` without a scheme, with its password masked.
fn mask_url(word: &str) -> Option<String> {
    if let Some((at, path)) = SECRET_PATHS.iter().find_map(|path| Some((word.find(path)?, path))) {
        return Some(format!("{}{MASK}", &word[..at + path.len()]));
    }
    let from = word.find("://").map_or(0, |at| at + 3);
    let at = from + word[from..].rfind('@')?;
    let user = &word[from..at];
    let secret = match user.find(':') {
        Some(colon) => from + colon + 1,
        None if 0 < from && (is_random(user, SECRET_BYTES) || is_hexadecimal(user)) => from,
        None => return None,
    };
    Some(format!("{}{MASK}{}", &word[..secret], &word[at..]))
}

/// A word with what looks like a secret masked.
fn mask_random(word: &str) -> Option<String> {
    let value = word.rfind('=').filter(|at| at + 2 < word.len()).map_or(0, |at| at + 1);
    let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '+' | '=');
    if !word[value..].starts_with('/') && word[value..].chars().all(base64) && is_random(&word[value..], RANDOM_BYTES) {
        return Some(format!("{}{MASK}", &word[..value]));
    }
    let piece = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '=' | '.');
    let mut shown = String::with_capacity(word.len());
    let mut masked = false;
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|c| !piece(c)).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        let value = run.rfind('=').map_or(0, |at| at + 1);
        let known =
            SECRET_BEGINNINGS.iter().any(|start| run[value..].starts_with(start) && SECRET_BYTES <= run.len() - value);
        if known || run[value..].split('.').any(|part| is_random(part, RANDOM_BYTES)) {
            shown.push_str(&run[..value]);
            shown.push_str(MASK);
            masked = true;
        } else {
            shown.push_str(run);
        }
        let separator = behind.chars().next().map_or(0, char::len_utf8);
        shown.push_str(&behind[..separator]);
        rest = &behind[separator..];
    }
    masked.then_some(shown)
}

/// Whether a run of letters, digits and a few signs is too mixed and too long to be a word.
fn is_random(text: &str, bytes_min: usize) -> bool {
    let has = |what: fn(&u8) -> bool| text.bytes().any(|byte| what(&byte));
    let mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
    bytes_min <= text.len() && (mixed || SECRET_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning)))
}

/// Whether a run is as long as a token and made of nothing but hexadecimal digits.
fn is_hexadecimal(text: &str) -> bool {
    RANDOM_BYTES <= text.len() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Arguments are parted by `|`; what stands between `<` and `>` is secret and must be masked, the rest shown.
    fn check(case: &str) {
        let cmdline = case.replace(['<', '>'], "").replace('|', "\0") + "\0";
        let mut expect = String::new();
        let mut rest = case;
        while let Some((before, behind)) = rest.split_once('<') {
            let (_, behind) = behind.split_once('>').unwrap();
            expect += before;
            expect += MASK;
            rest = behind;
        }
        expect += rest;
        assert_eq!(masked(cmdline.as_bytes()), expect.replace('|', " "), "{case}");
    }

    #[test]
    fn ordinary_command_lines_are_shown_whole() {
        check("/usr/bin/python3|-m|http.server|8080");
        check("/usr/sbin/sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups");
        check("nginx: worker process");
        check("postgres: checkpointer");
        check("java|-Xmx512m|-cp|/opt/app/lib/*:/opt/app/conf|org.example.Main|--server.port=8080");
        check("ssh|-p|2222|git@github.com");
        check("rsync|-a|/src/|host:/dst/");
        check("docker|run|-it|--name|web|-p|8080:80|nginx:1.25".replace("-p|8080:80|", "").as_str());
        check("mysqld|--port=3306|--datadir=/var/lib/mysql");
        check("ps|-p|17");
        check("cargo|test|-p|agent");
        check("vim|/srv/keyboard.md|compass.txt");
        check("app|--password-file=/run/secrets/db|--token-path|/x");
        check("curl|https://example.org/a/b?page=2");
        check("bash|-c|while :; do sleep 1; done");
        check("");
    }

    #[test]
    fn values_of_options() {
        check("app|--password=<hunter2>");
        check("app|--password|<hunter2>|--port|80");
        check("app|--password|<two words>");
        check("app|--password=<a,b;c&d>");
        check("gpg|--passphrase=<correct horse>|-d");
        check("app|-password|<hunter2>");
        check("app|--db-password=<hunter2>|--db-user=me");
        check("app|--dbPassword|<hunter2>");
        check("app|--api-key|<abc>|--api_key=<abc>|--apikey=<abc>|--apiKey=<abc>");
        check("app|--token|<abc>|--auth-token=<abc>|--access-token|<abc>");
        check("app|--secret=<abc>|--client-secret|<abc>");
        check("app|--passphrase|<abc>|--private-key=<abc>");
        check("app|--pass=<abc>|--pwd=<abc>|--pw|<abc>");
        check("app|--key|<abc>|--jwt=<abc>|--credentials=<abc>");
        check("java|-Dspring.datasource.password=<hunter2>|-jar|a.jar");
        check("java|-Djavax.net.ssl.keyStorePassword=<hunter2>");
        check("helm|install|--set|auth.rootPassword=<x>|--set=a=b,auth.password=<x>");
        check("kubectl|create|secret|generic|s|--from-literal=password=<x>");
        check("xfreerdp|/u:me|/p:x".replace("/p:x", "/password:<x>").as_str());
        check("redis-server|--requirepass|<x>|--masterauth|<x>");
        check("consul|-encrypt|gossip|-token=<x>");
    }

    #[test]
    fn environment_and_assignments() {
        check("env|PASSWORD=<x>|app");
        check("env|DB_PASSWORD=<x>|MYSQL_PWD=<x>|PGPASSWORD=<x>|HOME=/root|app");
        check("env|AWS_SECRET_ACCESS_KEY=<x>|AWS_REGION=eu|app");
        check("docker|run|-e|POSTGRES_PASSWORD=<x>|postgres:16");
        check("docker|run|--env=API_TOKEN=<x>|app");
        check("sh|-c|PASSWORD=<x app --port 80>");
        check("sh|-c|exec env PASSWORD=<x> app --port 80");
        check("env|PASSWORD=<my pw>|app");
        check("sh|-c|export TOKEN=\"x y\" && app".replace("\"x y\"", "<\"x y\">").as_str());
        check("app|host=db user=me password=<x> sslmode=require");
        check("app|Server=db;Password=<x>");
        check("app|{\"user\":\"me\",\"password\":<\"x y\">}");
        check("app|password: <x>");
        check("tool|x|password|=|<pw>");
        check("sh|-c|x password = <pw> y");
        check(r#"app|{"password":<"ab\"cd pw">,"port":1}"#);
        check(r#"sh|-c|app '{\"password\":<\"two words\">}'"#);
        check("curl|-b|PHPSESSID=<a1b2>");
    }

    #[test]
    fn one_letter_options_of_programs_that_have_them() {
        check("mysql|-u|root|-p<hunter2>|shop");
        check("/usr/bin/mysqldump|-uroot|-p<hunter2>");
        check("mysql|-p|shop");
        check("sh|-c|mysql -p<hunter2> shop");
        check("sudo|mysqladmin|-p<hunter2>|ping");
        check("sshpass|-p|<x>|ssh|host");
        check("sshpass|-p<x>|ssh|host");
        check("redis-cli|-h|db|-a|<x>|ping");
        check("ldapsearch|-D|cn=a|-w|<x>");
        check("sqlcmd|-S|db|-P|<x>");
        check("7z|a|-p<x>|a.7z");
        check("snmpget|-v2c|-c|<public>|host");
        check("docker|login|-u|me|-p|<x>|registry");
        check("htpasswd|-b|<f>|<u>|<p>");
        check("openssl|enc|-k|<x>|-passin|<pass:x>");
        check("plink|-pw|<x>|host");
        check("curl|-u|me:<x>|https://a");
        check("curl|--user|me:<x>|https://a");
        check("smbclient|-U|me%<x>|//host/share");
        check("curl|-uadmin:<x>|https://a");
        check("curl|-sku|admin:<x>|https://a");
        check("curl|--user=root:<x>|https://a");
        check("http|-a|<me:x>|a.example");
        check("mysql|-h|net|-p<hunter2>");
        check("mysqlsh|-p<hunter2>");
        check("snmpbulkget|-c|<public>|host");
        check("isql|-P|<x>");
        check("htpasswd|-nb|<u>|<p>");
        check("htpasswd|-cb|<f>|<u>|<p>");
        check("xfreerdp|/u:me|/p:<x>");
        check("useradd|-p|<x>|me");
        check("redis-cli|AUTH|<x>");
        check("redis-cli|auth|<me>|<x>");
        check("sqlplus|scott/<tiger>@db");
        check("exp|userid=scott/<tiger>@db|file=/tmp/a.dmp");
    }

    #[test]
    fn urls() {
        check("app|postgres://me:<x>@db:5432/shop");
        check("app|redis://:<x>@db");
        check("app|--url=https://me:<p@ss/word>@host/");
        check("app|amqp://me:<x>@mq,amqp://mq2");
        check("app|root:<x>@tcp(db:3306)/shop");
        check("app|https://a/b?x=1&token=<abc>");
        check("app|https://a/b?api_key=<abc>");
        check("git|clone|https://<ghp_abcdefghijklmnop>@github.com/a/b");
        check("app|postgres://me@db/shop");
        check("git|clone|https://<0123456789abcdef0123456789abcdef01234567>@github.com/a/b");
        check("curl|https://hooks.slack.com/services/<T0/B0/abc>");
        check("npm|i|https://registry/@scope/pkg");
    }

    #[test]
    fn headers() {
        check("curl|-H|Authorization: <Bearer abc>|https://a");
        check(
            "curl|-H|Authorization:|<Bearer>|<abc>"
                .replace("Authorization:|<Bearer>|<abc>", "authorization:<abc>")
                .as_str(),
        );
        check("curl|-H|X-Api-Key: <abc>|https://a");
        check("curl|-H|X-Api-Key: <Token x>|https://a");
        check("sh|-c|curl -H \"X-Api-Key: <Token x>\" https://a");
        check("curl|-H|PRIVATE-TOKEN: <abc>");
        check("curl|-b|Cookie: <sid=abc; other=def>");
        check("sh|-c|curl -H \"Authorization: <Bearer abc>\" https://a");
        check("app|Bearer|<abc>");
    }

    #[test]
    fn secrets_known_by_their_form() {
        check("app|<AKIAIOSFODNN7EXAMPLE>");
        check("app|<ghp_16C7e42F292c6912E7710c838347Ae178B4a>");
        check("app|--x=<glpat-abcdefghijklmnop>");
        check("app|<eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc>");
        check("app|<wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY1>");
        check("app|<xoxb-1234567890-abc>");
        check("app|<wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY>|/opt/Application1/releases/currentVersion2");
        check("containerd-shim|-id|91a1a1f01a5ed31b6460eda81aa65ce36f7aa3901f29321666ee6323fa42f546");
        check("app|/usr/lib/x86_64-linux-gnu/ImageMagick-6.9.11/modules-Q16");
    }

    #[test]
    fn labels() {
        let check = |name: &str, value: &str, expect: &str| assert_eq!(masked_value(name, value), expect, "{name}");
        check("com.docker.compose.service", "web", "web");
        check("com.docker.compose.config-hash", &"0a".repeat(32), &"0a".repeat(32));
        check("traefik.http.middlewares.a.basicauth.users", "me:$apr1$x", "***");
        check("backup.dsn", "postgres://me:x@db/shop", "***");
        check("backup.target", "postgres://me:x@db/shop", "postgres://me:***@db/shop");
        check("backup.command", "dump --password=x y", "dump --password=*** y");
        check("token", "", "");
    }

    #[test]
    fn sql_and_bare_words() {
        check("mysql|-e|ALTER USER me IDENTIFIED BY <'x'>");
        check("tool|password|<x>");
        check("passwd|root");
    }

    #[test]
    fn titles_and_bad_bytes() {
        assert_eq!(masked(b"a\nb\tc\x1b[0m\0"), "a b c [0m");
        assert_eq!(masked(b"a\xffb\0\0\0"), "a\u{fffd}b");
        assert_eq!(masked(&b"x ".repeat(20_000)).len(), COMMAND_LINE_BYTES_MAX);
        assert_eq!(full(b"app\0--password=x\0"), "app --password=x");
        let long = [b"app\0--password=".as_slice(), &b"s3cret".repeat(5_000)].concat();
        assert_eq!(masked(&long), "app --password=***");
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, text in "[-a-z:=@/ \"'&?\\{\\}\u{0}\u{e9}]{0,80}") {
            drop(masked(&bytes));
            drop(masked(text.as_bytes()));
        }

        #[test]
        fn a_password_never_survives(secret in "[A-Za-z0-9!#%^*_+.~]{3,40}", at in 0..6_usize) {
            let secret = format!("Zq9{secret}");
            let cmdline = [
                format!("app\0--password={secret}"),
                format!("app\0--password\0{secret}"),
                format!("env\0DB_PASSWORD={secret}\0app"),
                format!("sh\0-c\0app --token {secret}; true"),
                format!("app\0https://me:{secret}@host/"),
                format!("mysql\0-p{secret}"),
            ];
            prop_assert!(!masked(cmdline[at].as_bytes()).contains(&secret));
        }
    }
}
