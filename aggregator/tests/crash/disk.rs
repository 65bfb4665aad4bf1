//! A disk that loses power: what a program did to its files, as `strace` wrote it down, and what may be left of that.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What a disk writes wholly or not at all.
const SECTOR: usize = 512;

/// Numbers by chance: the same for the same seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % limit.max(1)
    }
}

/// One line of what was done.
#[derive(Debug)]
pub(crate) struct Call {
    thread: String,
    name: String,
    /// Texts in quotes, and paths of open files.
    texts: Vec<Vec<u8>>,
    open: Vec<String>,
    /// The last number among the arguments.
    number: usize,
    /// Whether it begins here, and ends here.
    begins: bool,
    ends: bool,
    makes: bool,
    empties: bool,
}

impl Call {
    /// What a line says, if it says that something was done.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (thread, rest) = line.split_once(' ')?;
        let rest = rest.trim_start();
        let resumed = rest.strip_prefix("<... ");
        let name: String = resumed.unwrap_or(rest).chars().take_while(|char| char.is_alphanumeric()).collect();
        if name.is_empty() || rest.contains(" = -1 ") {
            return None;
        }
        let begins = resumed.is_none();
        let ends = !rest.ends_with("<unfinished ...>");
        let arguments = rest.rsplit_once(") = ").map_or(rest, |(before, _)| before);
        let (mut texts, mut open) = (Vec::new(), Vec::new());
        let mut outside = String::new();
        let mut chars = arguments.char_indices();
        while let Some((at, char)) = chars.next() {
            let close = if char == '"' { '"' } else { '>' };
            if char == '"' || (char == '<' && arguments[at + 1..].starts_with("\\x")) {
                let text = &arguments[at + 1..];
                let text = &text[..text.find(close)?];
                let bytes: Vec<u8> = text.split("\\x").filter_map(|hex| u8::from_str_radix(hex, 16).ok()).collect();
                if char == '"' {
                    texts.push(bytes)
                } else {
                    open.push(String::from_utf8_lossy(&bytes).into_owned())
                }
                chars.by_ref().find(|(_, char)| *char == close);
            } else {
                outside.push(char);
            }
        }
        let words = outside.split(|char: char| !char.is_ascii_digit());
        let number = words.filter_map(|word| word.parse().ok()).next_back().unwrap_or_default();
        let (makes, empties) = (rest.contains("O_CREAT"), rest.contains("O_TRUNC"));
        Some(Self { thread: thread.to_owned(), name, texts, open, number, begins, ends, makes, empties })
    }

    /// The path of the open file that it is about.
    fn file(&self) -> &str {
        self.open.first().map_or("", String::as_str)
    }

    /// A path among its arguments, from the last one on.
    fn path(&self, from_last: usize) -> String {
        let text = self.texts.iter().rev().nth(from_last);
        text.map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    }

    /// What it writes.
    fn bytes(&self) -> Vec<u8> {
        self.texts.first().cloned().unwrap_or_default()
    }
}

#[derive(Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Default)]
struct File {
    /// What is on the disk for sure.
    durable: Vec<u8>,
    /// What may be.
    pending: Vec<Change>,
    /// Its length, as the program sees it.
    length: usize,
}

#[derive(Clone, Debug)]
enum Renaming {
    Make(String, usize),
    Move(String, String),
    Remove(String),
}

/// The files of one directory and below.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    root: String,
    /// Of which files it says that they are written, and does not write them: of those whose path has this.
    lies_about: Option<&'static str>,
    files: Vec<File>,
    /// As the program sees them, and as they are on the disk for sure.
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<Renaming>,
    /// What a thread waits for: a file with so many changes, or so many names.
    syncs: BTreeMap<String, (Option<usize>, usize)>,
    /// What the program said it has.
    pub(crate) acknowledged: Vec<u64>,
}

fn rename(names: &mut BTreeMap<String, usize>, change: Renaming) {
    match change {
        Renaming::Make(name, file) => drop(names.insert(name, file)),
        Renaming::Move(from, to) => {
            if let Some(file) = names.remove(&from) {
                names.insert(to, file);
            }
        }
        Renaming::Remove(name) => drop(names.remove(&name)),
    }
}

impl Disk {
    pub(crate) fn new(root: &Path, lies_about: Option<&'static str>) -> Self {
        Self { root: root.to_str().unwrap().to_owned(), lies_about, ..Self::default() }
    }

    /// Does what a line says.
    pub(crate) fn apply(&mut self, call: &Call) {
        match call.name.as_str() {
            "openat" if call.makes && call.begins => self.open(&call.path(0), call.empties),
            "pwrite64" if call.begins => {
                self.change(call.file(), |_| Change::Write { at: call.number, bytes: call.bytes() })
            }
            "write" if call.begins => {
                if let Some(number) = String::from_utf8_lossy(&call.bytes()).strip_prefix("stored ") {
                    self.acknowledged.push(number.trim().parse().unwrap());
                    return;
                }
                self.change(call.file(), |length| Change::Write { at: length, bytes: call.bytes() });
            }
            "ftruncate" if call.begins => self.change(call.file(), |_| Change::Truncate(call.number)),
            "fsync" | "fdatasync" => self.sync(call),
            "rename" | "renameat" | "renameat2" if call.begins => {
                self.rename(Renaming::Move(call.path(1), call.path(0)));
            }
            "unlink" | "unlinkat" if call.begins => self.rename(Renaming::Remove(call.path(0))),
            _ => {}
        }
    }

    fn open(&mut self, path: &str, empties: bool) {
        if path.starts_with(&self.root) && !self.names.contains_key(path) {
            self.files.push(File::default());
            self.rename(Renaming::Make(path.to_owned(), self.files.len() - 1));
        } else if empties {
            self.change(path, |_| Change::Truncate(0));
        }
    }

    fn rename(&mut self, change: Renaming) {
        let (Renaming::Make(name, _) | Renaming::Move(name, _) | Renaming::Remove(name)) = &change;
        if name.starts_with(&self.root) {
            rename(&mut self.names, change.clone());
            self.pending.push(change);
        }
    }

    fn change(&mut self, path: &str, change: impl FnOnce(usize) -> Change) {
        let Some(file) = self.names.get(path).map(|at| &mut self.files[*at]) else { return };
        let change = change(file.length);
        file.length = match &change {
            Change::Write { at, bytes } => file.length.max(at + bytes.len()),
            Change::Truncate(length) => *length,
        };
        file.pending.push(change);
    }

    /// What was done before it began is on the disk when it has ended.
    fn sync(&mut self, call: &Call) {
        if call.begins {
            let file = self.names.get(call.file()).copied();
            if file.is_none() && !call.file().starts_with(&self.root) {
                return;
            }
            let changes = file.map_or(self.pending.len(), |file| self.files[file].pending.len());
            if !self.lies_about.is_some_and(|of| call.file().contains(of)) {
                self.syncs.insert(call.thread.clone(), (file, changes));
            }
        }
        let ended = call.ends.then(|| self.syncs.remove(&call.thread)).flatten();
        match ended {
            Some((Some(file), changes)) => {
                let File { durable, pending, .. } = &mut self.files[file];
                for change in pending.drain(..changes.min(pending.len())) {
                    put(durable, &change, &mut || true);
                }
            }
            Some((None, changes)) => {
                for change in self.pending.drain(..changes.min(self.pending.len())) {
                    rename(&mut self.durable, change);
                }
            }
            None => {}
        }
    }

    /// Whether something is not there for sure.
    pub(crate) fn is_behind(&self) -> bool {
        !self.pending.is_empty() || self.names.values().any(|file| !self.files[*file].pending.is_empty())
    }

    /// Whether hours were sealed.
    pub(crate) fn has_block_files(&self) -> bool {
        self.durable.keys().any(|name| name.contains("/raw/"))
    }

    /// Writes what may be left if the power goes at this moment.
    pub(crate) fn lose_power(&self, to: &Path, chance: &mut Chance) {
        // All that was not synced is there, nothing of it, or some sectors.
        let manner = chance.below(4);
        let mut names = self.durable.clone();
        let kept = if manner == 0 { self.pending.len() } else { chance.below(self.pending.len() + 1) };
        for change in &self.pending[..kept] {
            rename(&mut names, change.clone());
        }
        for (name, file) in names {
            let name = name.strip_prefix(&self.root).unwrap().trim_start_matches('/').to_owned();
            // Memory that programs share is not there after a start.
            if name.ends_with("-shm") || name == "lock" {
                continue;
            }
            let File { durable, pending, .. } = &self.files[file];
            let mut bytes = durable.clone();
            for change in pending {
                put(&mut bytes, change, &mut || match manner {
                    0 => true,
                    1 => false,
                    _ => chance.below(2) == 1,
                });
            }
            let path = to.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

/// Makes a change to what is kept of it.
fn put(file: &mut Vec<u8>, change: &Change, keep: &mut dyn FnMut() -> bool) {
    match change {
        Change::Truncate(length) => {
            if keep() {
                file.resize(*length, 0);
            }
        }
        Change::Write { at, bytes } => {
            let mut begin = 0;
            while begin < bytes.len() {
                let end = bytes.len().min((at + begin) / SECTOR * SECTOR + SECTOR - at);
                if keep() {
                    file.resize(file.len().max(at + end), 0);
                    file[at + begin..at + end].copy_from_slice(&bytes[begin..end]);
                }
                begin = end;
            }
        }
    }
}
