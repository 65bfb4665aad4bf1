//! What `check-config` finds: all that `run` would refuse, or leave out of use, that can be told without opening the store.

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::alert::files;
use crate::alert::rule;
use crate::config::Config;
use crate::config::Credential;
use crate::http::tls;
use crate::notify::config::NotifyConfig;

/// What was found, a line each.
#[derive(Debug, Default)]
pub struct Findings {
    good: Vec<String>,
    bad: Vec<String>,
}

impl Findings {
    /// Looks at all that a configuration names.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let mut found = Self::default();
        if let Some(wanted) = &config.http.tls
            && let Err(error) = tls::check(wanted)
        {
            found.bad("http.tls", &error);
        }
        for target in &config.forward {
            match &target.credential {
                Some(Credential::Bearer(file) | Credential::Basic(_, file)) => found.secret(file),
                None => {}
            }
        }
        match files::paths(&config.rules_dir) {
            Ok(files) => files.iter().for_each(|file| found.rules(file)),
            Err(error) => {
                found.bad(config.rules_dir.join("rules").display(), &format_args!("cannot be listed: {error}"))
            }
        }
        found.routes(&config.rules_dir);
        for (unread, read) in config.unread() {
            found.good(unread.display(), &format_args!("is not read, but {}", read.display()));
        }
        found
    }

    /// Rule files alone.
    #[must_use]
    pub fn of_rules(files: &[PathBuf]) -> Self {
        let mut found = Self::default();
        files.iter().for_each(|file| found.rules(file));
        found
    }

    /// What is wrong, and what is not, as text.
    #[must_use]
    pub fn text(&self) -> String {
        self.bad.iter().chain(&self.good).map(|line| format!("{line}\n")).collect()
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.bad.is_empty()
    }

    fn good(&mut self, of: impl Display, what: &dyn Display) {
        self.good.push(format!("{of}: {what}"));
    }

    fn bad(&mut self, of: impl Display, what: &dyn Display) {
        self.bad.push(format!("{of}: {what}"));
    }

    fn rules(&mut self, file: &Path) {
        let name = file.display();
        match files::read(file).map(|text| rule::parse(&text)) {
            Ok(Ok(rules)) => {
                let count: usize = rules.groups.iter().map(|group| group.rules.len()).sum();
                self.good(&name, &format_args!("{count} rules"));
            }
            Ok(Err(errors)) => {
                errors.iter().for_each(|error| self.bad(&name, error));
                if 0 < errors.untold() {
                    self.bad(&name, &format_args!("and {} more", errors.untold()));
                }
            }
            Err(error) => self.bad(&name, &format_args!("cannot read it: {error}")),
        }
    }

    fn routes(&mut self, directory: &Path) {
        let path = directory.join("alertmanager.yml");
        let name = path.display();
        match NotifyConfig::read(directory) {
            Ok(None) => {}
            Ok(Some(config)) => {
                self.good(&name, &format_args!("{} receivers", config.receivers.len()));
                config.warnings.iter().for_each(|warning| self.good(&name, warning));
                config.secret_files().for_each(|file| self.secret(file));
            }
            Err(error) => self.bad(&name, &error),
        }
    }

    /// The file of a secret, of which nothing is told but that it cannot be read.
    fn secret(&mut self, file: &Path) {
        if let Err(error) = fs::File::open(file) {
            self.bad(file.display(), &format_args!("cannot read it: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CommandLine;

    /// Writes files, checks, and gives whether all is good and what is told, without the directory.
    fn check(files: &[(&str, &str)]) -> (bool, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let config = CommandLine { config: Some(dir.path().join("aggregator.toml")), values: Vec::new() };
        let found = Findings::of(&Config::read(config).unwrap());
        let text = found.text().replace(&format!("{}/", dir.path().display()), "");
        (found.is_good(), text.lines().map(str::to_owned).collect())
    }

    const RULES: &str = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n";

    #[test]
    fn what_is_good_is_told_and_what_is_not_read() {
        let routes = "route: {receiver: a}\nreceivers: [{name: a}]\ninhibit_rules: [{source_match: {a: b}}]\n";
        let dir = tempfile::tempdir().unwrap();
        let unread = dir.path().join("rules");
        fs::create_dir(&unread).unwrap();
        let config = format!("data_dir = '{}'", dir.path().display());
        let (good, told) = check(&[("aggregator.toml", &config), ("rules/a.yml", RULES), ("alertmanager.yml", routes)]);
        assert!(good, "{told:#?}");
        assert_eq!(
            told[..3],
            [
                "rules/a.yml: 1 rules",
                "alertmanager.yml: 1 receivers",
                "alertmanager.yml: inhibit_rules are not applied"
            ]
        );
        assert!(told[3].starts_with(&format!("{}: is not read, but ", unread.display())), "{}", told[3]);
        assert_eq!(check(&[("aggregator.toml", "")]), (true, Vec::new()));
    }

    #[test]
    fn all_that_is_wrong_is_told_and_no_secret() {
        let config = "http.tls = { certificate = '/no/cert', key = '/no/key' }\n[[forward]]\nname = 'f'\n\
                      url = 'http://u:sesame@a'\nbearer_file = '/no/token'";
        let bad = RULES.replace("== 0", "==").replace("name: g", "name: g\n  intervall: 1m");
        let routes = "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{url_file: no/url, http_config: {basic_auth: \
                      {username: u, password: mellon}}}]}]\n";
        let files =
            [("aggregator.toml", config), ("rules/a.yml", &bad), ("rules/b.yml", RULES), ("alertmanager.yml", routes)];
        let (good, told) = check(&files);
        assert!(!good);
        let expect = [
            "http.tls: cannot use /no/cert: ",
            "/no/token: cannot read it: ",
            "rules/a.yml: line 3: group \"g\": unknown key `intervall`, did you mean `interval`?",
            "rules/a.yml: line 6: group \"g\", rule \"A\": ",
            "no/url: cannot read it: ",
            "rules/b.yml: 1 rules",
            "alertmanager.yml: 1 receivers",
        ];
        assert_eq!(told.len(), expect.len(), "{told:#?}");
        for (told, expect) in told.iter().zip(expect) {
            assert!(told.starts_with(expect) && !told.contains("sesame") && !told.contains("mellon"), "{told}");
        }
        let (good, told) =
            check(&[("aggregator.toml", ""), ("alertmanager.yml", "route: {receiver: b}\nreceivers: []\n")]);
        assert!(!good && told[0].starts_with("alertmanager.yml: a route names the receiver \"b\""), "{told:?}");
    }

    #[test]
    fn rule_files_are_checked_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["good.yml", "bad.yml", "missing.yml"].map(|name| dir.path().join(name));
        fs::write(&files[0], RULES).unwrap();
        fs::write(&files[1], RULES.replace("== 0", "==\n  - {alert: B}")).unwrap();
        let found = Findings::of_rules(&files);
        assert!(!found.is_good());
        let text = found.text().replace(&format!("{}/", dir.path().display()), "");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("bad.yml: line 5: group \"g\", rule \"A\": "), "{}", lines[0]);
        assert_eq!(lines[1], "bad.yml: line 6: group \"g\", rule \"B\": a rule needs `expr`");
        assert!(lines[2].starts_with("missing.yml: cannot read it: "), "{}", lines[2]);
        assert_eq!(lines[3], "good.yml: 1 rules");
        assert!(Findings::of_rules(&files[..1]).is_good());
    }
}
