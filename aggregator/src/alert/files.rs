//! The directory of rules: which files are there, which of them are in use, and which cannot be.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::alert::rule;
use crate::alert::rule::Group;
use crate::alert::rule::RULE_FILE_BYTES_MAX;
use crate::alert::rule::RuleFile;
use crate::alert::seen::Seen;

/// Most files read: each is looked at every other second.
pub const RULE_FILES_MAX: usize = 1_000;

/// Rules that are always in force, and what their file is called.
const BUILT_IN: (&str, &str) = ("built-in", include_str!("built_in.yml"));

/// What lies in the directory of rules, as of the last look.
#[derive(Debug)]
pub struct RuleFiles {
    directory: PathBuf,
    files: BTreeMap<Arc<str>, Loaded>,
    ignored: Vec<String>,
    /// Why the directory could not be listed at the last look.
    hidden: Option<io::ErrorKind>,
}

/// One rule file.
#[derive(Clone, Debug)]
pub struct Loaded {
    seen: Seen,
    /// Why the file as it lies there is not in use.
    pub error: Option<String>,
    /// The rules in use: the file's, or those of its last good version.
    pub rules: Option<Arc<RuleFile>>,
}

impl RuleFiles {
    /// The files in `rules` below this directory. Nothing is read before the first [`Self::look`].
    #[must_use]
    pub fn new(beside: &Path) -> Self {
        Self { directory: beside.join("rules"), files: BTreeMap::new(), ignored: Vec::new(), hidden: None }
    }

    /// The same, with the rules that are always in force.
    #[must_use]
    pub fn with_built_in(mut self) -> Self {
        let (path, text) = BUILT_IN;
        let parsed = rule::parse(text).map_err(|error| error.to_string());
        let (rules, error) = parsed.map_or_else(|error| (None, Some(error)), |rules| (Some(Arc::new(rules)), None));
        self.files.insert(path.into(), Loaded { seen: Seen::Absent, error, rules });
        self
    }

    /// Looks for files that came, changed or went, and reads those. `again` reads all of them. Says whether anything is
    /// different: nothing is while the directory cannot be listed.
    pub fn look(&mut self, again: bool) -> bool {
        let Listing { found, ignored } = match list(&self.directory) {
            Ok(listed) => listed,
            Err(error) => {
                if self.hidden.replace(error.kind()) != Some(error.kind()) {
                    tracing::warn!(directory = %self.directory.display(), %error, "rules cannot be listed");
                }
                return false;
            }
        };
        self.hidden = None;
        let stays = |path: &Arc<str>| found.contains_key(path) || **path == *BUILT_IN.0;
        let mut changed = ignored != self.ignored || !self.files.keys().all(stays);
        self.ignored = ignored;
        self.files.retain(|path, _| stays(path));
        for (path, seen) in found {
            let before = self.files.get(&path);
            if !again && before.is_some_and(|before| before.seen == seen) {
                continue;
            }
            let loaded = load(&self.directory, &path, seen, before);
            if let Some(error) = &loaded.error {
                tracing::warn!(file = &*path, error, "rule file is not in use");
            }
            self.files.insert(path, loaded);
            changed = true;
        }
        changed
    }

    /// The rule files by their path: `rules/x.yml`.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Loaded)> {
        self.files.iter()
    }

    /// The groups in use, with the paths of their files.
    pub fn groups(&self) -> impl Iterator<Item = (&Arc<str>, &Group)> {
        let groups = |file| <Option<Arc<RuleFile>>>::iter(file).flat_map(|rules| &rules.groups);
        self.files.iter().flat_map(move |(path, file)| groups(&file.rules).map(move |group| (path, group)))
    }

    /// Whether the rules of this file are not known: it is there, or may be, and no version of it could be read so far.
    #[must_use]
    pub fn is_unread(&self, path: &str) -> bool {
        self.files.get(path).map_or(self.hidden.is_some(), |file| file.rules.is_none())
    }

    /// Files that are not rule files by their name.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
}

/// Rule files with what tells their versions, and the names of everything else.
#[derive(Default)]
struct Listing {
    found: BTreeMap<Arc<str>, Seen>,
    ignored: Vec<String>,
}

/// Where the rule files lie in `rules` below this directory.
///
/// # Errors
/// When it cannot be listed. One that is not there is empty.
pub fn paths(beside: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(list(&beside.join("rules"))?.found.keys().map(|path| beside.join(&**path)).collect())
}

/// Lists the directory. One that is not there is empty.
fn list(directory: &Path) -> io::Result<Listing> {
    let Listing { mut found, mut ignored } = Listing::default();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = format!("rules/{}", entry.file_name().to_string_lossy());
        let named = path.ends_with(".yml") || path.ends_with(".yaml");
        // A link to a file is a file: that is how configuration is mounted into containers.
        if !named || entry.path().is_dir() || RULE_FILES_MAX <= found.len() {
            ignored.push(path);
            continue;
        }
        found.insert(path.into(), Seen::at(&entry.path()));
    }
    ignored.sort_unstable();
    Ok(Listing { found, ignored })
}

fn load(directory: &Path, path: &str, seen: Seen, before: Option<&Loaded>) -> Loaded {
    let name = path.strip_prefix("rules/").unwrap_or(path);
    let parsed = read(&directory.join(name))
        .map_err(|error| format!("cannot read it: {error}"))
        .and_then(|text| rule::parse(&text).map_err(|error| error.to_string()));
    match parsed {
        Ok(rules) => Loaded { seen, error: None, rules: Some(Arc::new(rules)) },
        Err(error) => Loaded { seen, error: Some(error), rules: before.and_then(|before| before.rules.clone()) },
    }
}

/// The text of a rule file, or of one that is too long as much as shows it.
///
/// # Errors
/// When it cannot be read or is no text.
pub fn read(path: &Path) -> io::Result<String> {
    let limit = u64::try_from(RULE_FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    fs::File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n";
    const BAD: &str = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up ==\n";

    /// Writes files, looks, and tells for each rule file whether it has an error and how many groups are in use.
    fn check(files: &mut RuleFiles, writes: &[(&str, &str)], expect: &[(&str, bool, usize)]) {
        for (name, text) in writes {
            fs::write(files.directory.join(name), text).unwrap();
        }
        files.look(true);
        let state = |(path, file): (&Arc<str>, &Loaded)| {
            let groups = file.rules.as_ref().map_or(0, |rules| rules.groups.len());
            (path.to_string(), file.error.is_some(), groups)
        };
        let got: Vec<_> = files.iter().map(state).collect();
        let expect: Vec<_> = expect.iter().map(|(path, error, groups)| ((*path).to_owned(), *error, *groups)).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn one_bad_file_stops_no_other_and_keeps_its_old_rules() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("rules")).unwrap();
        let files = &mut RuleFiles::new(directory.path());
        check(files, &[("a.yml", GOOD), ("b.yaml", BAD)], &[("rules/a.yml", false, 1), ("rules/b.yaml", true, 0)]);
        check(files, &[("a.yml", BAD), ("b.yaml", GOOD)], &[("rules/a.yml", true, 1), ("rules/b.yaml", false, 1)]);
        assert!(!files.look(false), "nothing changed");
        fs::write(files.directory.join("README"), "").unwrap();
        fs::remove_file(files.directory.join("a.yml")).unwrap();
        assert!(files.look(false));
        assert_eq!(files.ignored(), ["rules/README"]);
        check(files, &[], &[("rules/b.yaml", false, 1)]);
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_not_empty() {
        let directory = tempfile::tempdir().unwrap();
        let rules = directory.path().join("rules");
        fs::write(&rules, "").unwrap();
        let mut files = RuleFiles::new(directory.path());
        files.look(false);
        assert!(files.is_unread("rules/a.yml"), "nobody knows whether it is there");
        fs::remove_file(&rules).unwrap();
        fs::create_dir(&rules).unwrap();
        fs::write(rules.join("a.yml"), GOOD).unwrap();
        assert!(files.look(false));
        fs::rename(&rules, directory.path().join("away")).unwrap();
        fs::write(&rules, "").unwrap();
        assert!(!files.look(false), "what was read stays in force");
        assert_eq!(files.groups().count(), 1);
        fs::remove_file(&rules).unwrap();
        assert!(files.look(false));
        assert_eq!(files.groups().count(), 0);
        assert!(!files.is_unread("rules/a.yml"));
    }

    #[test]
    fn what_is_built_in_is_always_in_force() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("rules")).unwrap();
        let files = &mut RuleFiles::new(directory.path()).with_built_in();
        check(files, &[("a.yml", GOOD)], &[("built-in", false, 1), ("rules/a.yml", false, 1)]);
        fs::remove_file(files.directory.join("a.yml")).unwrap();
        check(files, &[], &[("built-in", false, 1)]);
        assert!(!files.look(false), "nothing changed");
    }

    #[test]
    fn an_error_says_what_and_where() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("rules")).unwrap();
        let mut files = RuleFiles::new(directory.path());
        fs::write(directory.path().join("rules/a.yml"), BAD).unwrap();
        fs::write(directory.path().join("rules/b.yml"), b"\xff\xfe").unwrap();
        files.look(false);
        let errors: Vec<_> = files.iter().filter_map(|(_, file)| file.error.clone()).collect();
        assert!(errors[0].starts_with("line 5: group \"g\", rule \"A\": "), "{}", errors[0]);
        assert!(errors[1].starts_with("cannot read it: "), "{}", errors[1]);
    }
}
