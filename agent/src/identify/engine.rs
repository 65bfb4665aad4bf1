//! What a container engine says through its socket: Docker's, or Podman's, which answers alike.
//!
//! The events of containers are listened to; each container that runs is asked about once, and again when an event says
//! that something about it changed. All of it on a thread of its own: an engine that hangs holds nothing up.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::ErrorKind;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::thread;
use std::time::Duration;

use common::backoff::Backoff;
use serde::Deserialize;

use crate::host::http;
use crate::identify::description::Description;
use crate::identify::description::Exit;
use crate::identify::description::LabelFilter;
use crate::identify::docker;

/// Running containers of one engine that are asked about; more than one host runs.
const ENGINE_CONTAINERS_MAX: usize = 4_096;

/// Ends that nobody has asked for yet: of containers that came and went between two ticks nobody ever will.
const EXITS_MAX: usize = 256;

/// Bytes of one answer. A list of a thousand containers has two MiB.
const ENGINE_ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Bytes of one event, which brings all labels of its container.
const ENGINE_EVENT_BYTES_MAX: u64 = 1 << 20;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the events may be silent before the engine is asked whether it still lives.
const SILENCE: Duration = Duration::from_secs(60);

/// Attempts to reach an engine that is not there: it may be starting, or never come.
const ATTEMPTS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// `{"type":["container"]}`
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D";

/// An engine that may be asked.
#[derive(Debug)]
pub(super) struct Engine {
    pub socket: PathBuf,
    told: Arc<Mutex<Told>>,
}

impl Engine {
    /// Begins to listen.
    pub(super) fn new(socket: PathBuf, filter: LabelFilter) -> Self {
        let told = Arc::<Mutex<Told>>::default();
        let (place, to) = (socket.clone(), Arc::downgrade(&told));
        let begun = thread::Builder::new().name("engine".to_owned()).spawn(move || listen(&place, &filter, &to));
        if let Err(error) = begun {
            tracing::warn!(%error, "there is no thread for a container engine");
        }
        Self { socket, told }
    }

    /// What it has told so far. Never locked for longer than it takes to note an event.
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.told)
    }
}

/// What an engine has told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Containers that run.
    containers: HashMap<String, Description>,
    /// Containers in which the kernel killed for want of memory since they began.
    oom_killed: HashSet<String>,
    exits: VecDeque<(String, Exit)>,
    /// Containers about which something was told since anybody looked.
    news: HashSet<String>,
    /// Whether its containers are known: nothing before the first attempt has ended.
    pub is_up: Option<bool>,
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Noted {
    /// All that it says is known.
    Whole,
    /// That container has to be asked about.
    AskAbout(String),
}

impl Told {
    /// What it says of a container that runs.
    pub(super) fn find(&self, id: &str) -> Option<&Description> {
        self.containers.get(id)
    }

    /// How a container ended last; told once.
    pub(super) fn take_exit(&mut self, id: &str) -> Option<Exit> {
        let at = self.exits.iter().rposition(|(known, _)| known == id)?;
        let (_, exit) = self.exits.remove(at)?;
        self.exits.retain(|(known, _)| known != id);
        Some(exit)
    }

    /// Moves the ids of containers about which something was told since the last call.
    pub(super) fn take_news(&mut self, into: &mut HashSet<String>) {
        into.extend(self.news.drain());
    }

    /// Forgets containers that do not run any more: while nobody listened they may have ended.
    fn keep(&mut self, running: &HashSet<String>) {
        let gone: Vec<_> = self.containers.keys().filter(|id| !running.contains(*id)).cloned().collect();
        gone.iter().for_each(|id| self.forget(id));
    }

    fn forget(&mut self, id: &str) {
        self.oom_killed.remove(id);
        if self.containers.remove(id).is_some() {
            self.news.insert(id.to_owned());
        }
    }

    fn describe(&mut self, id: &str, description: Option<Description>) {
        match description {
            Some(description) if self.containers.len() < ENGINE_CONTAINERS_MAX || self.find(id).is_some() => {
                self.containers.insert(id.to_owned(), description);
                self.news.insert(id.to_owned());
            }
            Some(_) => {}
            None => self.forget(id),
        }
    }

    fn note(&mut self, event: Event) -> Noted {
        let Event { actor: Actor { id, attributes }, action } = event;
        if !is_id(&id) {
            return Noted::Whole;
        }
        let (what, detail) = action.split_once(": ").unwrap_or((&action, ""));
        match what {
            "start" => {
                self.oom_killed.remove(&id);
                Noted::AskAbout(id)
            }
            "rename" | "update" => Noted::AskAbout(id),
            "health_status" => {
                let state = self.containers.get_mut(&id).and_then(|known| known.state.as_mut());
                let Some(state) = state.filter(|_| !detail.is_empty()) else { return Noted::AskAbout(id) };
                detail.clone_into(&mut state.health);
                self.news.insert(id);
                Noted::Whole
            }
            "oom" => {
                if self.oom_killed.len() < ENGINE_CONTAINERS_MAX {
                    self.oom_killed.insert(id);
                }
                Noted::Whole
            }
            // Podman's own word is `died`.
            "die" | "died" => {
                let code = ["exitCode", "containerExitCode"].iter().find_map(|key| attributes.get(*key)?.parse().ok());
                if let Some(code) = code {
                    if self.exits.len() == EXITS_MAX {
                        self.exits.pop_front();
                    }
                    let exit = Exit { code, oom_killed: self.oom_killed.contains(&id) };
                    self.exits.push_back((id.clone(), exit));
                }
                self.forget(&id);
                Noted::Whole
            }
            "destroy" | "remove" => {
                self.forget(&id);
                Noted::Whole
            }
            _ => Noted::Whole,
        }
    }
}

/// Listens for as long as anybody wants to know.
fn listen(socket: &Path, filter: &LabelFilter, told: &Weak<Mutex<Told>>) {
    let mut attempts = ATTEMPTS;
    while told.strong_count() != 0 {
        let Err(error) = follow(socket, filter, told, &mut attempts) else { return };
        let Some(told) = told.upgrade() else { return };
        if lock(&told).is_up.replace(false) != Some(false) {
            tracing::warn!(socket = %socket.display(), %error, "a container engine does not answer: it is asked again");
        }
        drop(told);
        thread::sleep(attempts.next(0.5));
    }
}

/// One conversation. Ends with an error, or when nobody wants to know any more.
fn follow(socket: &Path, filter: &LabelFilter, told: &Weak<Mutex<Told>>, attempts: &mut Backoff) -> io::Result<()> {
    // Before the list: what begins or ends while it is made is not missed.
    let mut events = BufReader::new(http::get(socket, EVENTS, SILENCE)?);
    let running = running(http::get(socket, "/containers/json", PATIENCE)?)?;
    for id in running.iter().take(ENGINE_CONTAINERS_MAX) {
        ask_about(socket, id, filter, told)?;
    }
    {
        let Some(told) = told.upgrade() else { return Ok(()) };
        let mut told = lock(&told);
        told.keep(&running);
        if told.is_up.replace(true) == Some(false) {
            tracing::info!(socket = %socket.display(), "a container engine answers");
        }
    }
    attempts.reset();
    let mut line = Vec::new();
    loop {
        match read_line(&mut events, &mut line) {
            Ok(()) => {
                let noted = {
                    let Some(told) = told.upgrade() else { return Ok(()) };
                    parse_event(&line).map(|event| lock(&told).note(event))
                };
                if let Some(Noted::AskAbout(id)) = noted {
                    ask_about(socket, &id, filter, told)?;
                }
                line.clear();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if told.strong_count() == 0 {
                    return Ok(());
                }
                http::get(socket, "/_ping", PATIENCE)?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn ask_about(socket: &Path, id: &str, filter: &LabelFilter, told: &Weak<Mutex<Told>>) -> io::Result<()> {
    let description = match http::get(socket, &format!("/containers/{id}/json"), PATIENCE) {
        Ok(answer) => {
            let mut json = Vec::new();
            answer.take(ENGINE_ANSWER_BYTES_MAX).read_to_end(&mut json)?;
            // What has ended since is told by an event of its own.
            docker::parse(&json, filter).filter(|it| it.state.as_ref().is_some_and(|state| state.is_running))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(told) = told.upgrade() {
        lock(&told).describe(id, description);
    }
    Ok(())
}

/// The ids of a list of containers.
fn running(list: impl Read) -> io::Result<HashSet<String>> {
    let listed: Vec<Listed> = serde_json::from_reader(BufReader::new(list.take(ENGINE_ANSWER_BYTES_MAX)))?;
    Ok(listed.into_iter().map(|listed| listed.id).filter(|id| is_id(id)).collect())
}

/// Reads on until the line is whole.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    let room = ENGINE_EVENT_BYTES_MAX.saturating_sub(line.len() as u64);
    from.take(room).read_until(b'\n', line)?;
    match line.last() {
        Some(b'\n') => Ok(()),
        _ if ENGINE_EVENT_BYTES_MAX <= line.len() as u64 => Err(ErrorKind::InvalidData.into()),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn parse_event(line: &[u8]) -> Option<Event> {
    serde_json::from_slice(line).ok()
}

/// An id goes into the next question: nothing but letters and digits does.
fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Id")]
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: String,
    actor: Actor,
}

#[derive(Debug, Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: HashMap<String, String>,
}

/// Any bytes as what an engine sends.
pub(super) fn parse_anything(bytes: &[u8]) {
    let mut told = Told::default();
    let Ok(answer) = http::Answer::new(bytes) else { return };
    let (mut events, mut line) = (BufReader::new(answer), Vec::new());
    while read_line(&mut events, &mut line).is_ok() {
        drop(running(line.as_slice()));
        if let Some(Noted::AskAbout(id)) = parse_event(&line).map(|event| told.note(event)) {
            told.describe(&id, docker::parse(&line, &LabelFilter::default()));
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    const ID: &str = "b49336bccc94945bec85f31b697ebee138c3d1daf7e3d99cfd5bd244019a839c";

    /// As Docker 20.10 answered about a container whose health check fails.
    const INSPECTED: &str = include_str!("fixtures/inspect.json");

    /// As Docker 20.10 told the life of that container.
    const EVENTS: &str = include_str!("fixtures/events.jsonl");

    fn described() -> Option<Description> {
        docker::parse(INSPECTED.as_bytes(), &LabelFilter::default())
    }

    fn event(action: &str, attributes: &str) -> Event {
        let json = format!(r#"{{"Action":"{action}","Actor":{{"ID":"{ID}","Attributes":{{{attributes}}}}}}}"#);
        parse_event(json.as_bytes()).unwrap()
    }

    fn health(told: &Told) -> Option<&str> {
        told.find(ID)?.state.as_ref().map(|state| state.health.as_str())
    }

    #[test]
    fn the_life_of_a_container_as_an_engine_told_it() {
        let mut told = Told::default();
        let noted: Vec<_> = EVENTS
            .lines()
            .map(|line| {
                let event = parse_event(line.as_bytes()).unwrap();
                let what = event.action.split(':').next().unwrap().to_owned();
                let asks = told.note(event) != Noted::Whole;
                if asks {
                    told.describe(ID, described());
                }
                format!("{what}{}", if asks { "?" } else { "" })
            })
            .collect();
        // The events of a health check ask for nothing, though they come each second.
        let expect =
            ["create", "start?", "exec_create", "exec_die", "health_status", "die", "start?", "die", "destroy"];
        assert_eq!(noted, expect);
        assert_eq!(told.find(ID), None);
        assert_eq!(told.take_exit(ID), Some(Exit { code: 3, oom_killed: false }));
        assert_eq!(told.take_exit(ID), None, "both ends are told by the last");
    }

    #[test]
    fn health_and_kills() {
        let mut told = Told::default();
        assert_eq!(told.note(event("health_status: healthy", "")), Noted::AskAbout(ID.to_owned()));
        told.describe(ID, described());
        assert_eq!(health(&told), Some("unhealthy"));
        assert_eq!(told.note(event("health_status: healthy", "")), Noted::Whole);
        assert_eq!(health(&told), Some("healthy"));
        // Podman names the state elsewhere.
        assert_eq!(told.note(event("health_status", "")), Noted::AskAbout(ID.to_owned()));
        told.note(event("oom", ""));
        told.note(event("died", r#""containerExitCode":"137""#));
        assert_eq!(told.take_exit(ID), Some(Exit { code: 137, oom_killed: true }));
        told.note(event("start", ""));
        told.note(event("die", r#""exitCode":"1""#));
        assert_eq!(told.take_exit(ID), Some(Exit { code: 1, oom_killed: false }));
        told.note(event("die", r#""exitCode":"many""#));
        assert_eq!(told.take_exit(ID), None);
        let mut news = HashSet::new();
        told.take_news(&mut news);
        assert_eq!(news, HashSet::from([ID.to_owned()]));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut told = Told::default();
        let id = |at: usize| format!("{at:064}");
        for at in 0..=ENGINE_CONTAINERS_MAX {
            told.describe(&id(at), described());
            let line = format!(r#"{{"Action":"oom","Actor":{{"ID":"{}"}}}}"#, id(at));
            told.note(parse_event(line.as_bytes()).unwrap());
        }
        assert_eq!([told.containers.len(), told.oom_killed.len()], [ENGINE_CONTAINERS_MAX; 2]);
        for at in 0..=EXITS_MAX {
            let line = format!(r#"{{"Action":"die","Actor":{{"ID":"{}","Attributes":{{"exitCode":"0"}}}}}}"#, id(at));
            told.note(parse_event(line.as_bytes()).unwrap());
        }
        assert_eq!(
            (told.exits.len(), told.take_exit(&id(0)), told.take_exit(&id(1)).is_some()),
            (EXITS_MAX, None, true)
        );
        let mut endless = BufReader::new(io::repeat(b'x'));
        assert_eq!(read_line(&mut endless, &mut Vec::new()).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn an_id_is_nothing_but_letters_and_digits() {
        let check = |id: &str, expect: bool| assert_eq!(is_id(id), expect, "{id}");
        check(ID, true);
        check(&ID[1..], false);
        check(&format!("{}/", &ID[1..]), false);
        check(&format!("../../{}", &ID[6..]), false);
        check("", false);
    }

    /// An engine that runs one container.
    struct Fake {
        listener: UnixListener,
    }

    impl Fake {
        /// Takes the next question, which must be this one.
        fn asked(&self, expect: &str) -> UnixStream {
            let (stream, _) = self.listener.accept().unwrap();
            let mut question = String::new();
            BufReader::new(&stream).read_line(&mut question).unwrap();
            assert_eq!(question, format!("GET {expect} HTTP/1.1\r\n"));
            stream
        }

        fn answer(&self, question: &str, body: &str) {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            self.asked(question).write_all(format!("{head}{body}").as_bytes()).unwrap();
        }

        fn list_and_inspect(&self) {
            self.answer("/containers/json", &format!(r#"[{{"Id":"{ID}"}},{{"Id":"../x"}}]"#));
            self.answer(&format!("/containers/{ID}/json"), INSPECTED);
        }

        /// Begins the stream of events.
        fn stream(&self) -> UnixStream {
            let mut events = self.asked(super::EVENTS);
            events.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            events
        }
    }

    fn tell(events: &mut UnixStream, line: &str) {
        events.write_all(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).as_bytes()).unwrap();
    }

    #[track_caller]
    fn wait(engine: &Engine, what: &str, holds: impl Fn(&Told) -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !holds(&engine.told()) {
            assert!(Instant::now() < until, "{what}: {:?}", engine.told());
            thread::yield_now();
        }
    }

    #[test]
    fn an_engine_is_listened_to_and_when_it_ends_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine");
        let fake = Fake { listener: UnixListener::bind(&socket).unwrap() };
        let engine = Engine::new(socket.clone(), LabelFilter::default());
        let mut events = fake.stream();
        fake.list_and_inspect();
        wait(&engine, "its containers", |told| told.is_up == Some(true));
        assert_eq!(health(&engine.told()), Some("unhealthy"));
        let [started, unhealthy] = ["start", "health_status"].map(|what| EVENTS.lines().find(|it| it.contains(what)));
        tell(&mut events, &unhealthy.unwrap().replace("unhealthy", "healthy"));
        wait(&engine, "an event", |told| health(told) == Some("healthy"));
        tell(&mut events, "no event");
        tell(&mut events, started.unwrap());
        fake.answer(&format!("/containers/{ID}/json"), &INSPECTED.replace("unhealthy", "starting"));
        wait(&engine, "an answer", |told| health(told) == Some("starting"));
        drop((events, fake));
        wait(&engine, "its end", |told| told.is_up == Some(false));

        fs::remove_file(&socket).unwrap();
        let fake = Fake { listener: UnixListener::bind(&socket).unwrap() };
        let _events = fake.stream();
        fake.answer("/containers/json", "[]");
        wait(&engine, "that its container is gone", |told| told.is_up == Some(true) && told.find(ID).is_none());
    }
}
