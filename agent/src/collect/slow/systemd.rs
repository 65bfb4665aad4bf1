//! Units of systemd: from its bus where there is one, and from their control groups where there is none.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::metric::Tier;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::slow::Visit;
use crate::collect::slow::devices;
use crate::collect::slow::name_behind;
use crate::host;
use crate::host::Bus;
use crate::host::Call;
use crate::host::Roots;
use crate::host::Values;

const RESTARTS: &Metric = metric("node_systemd_service_restart_total");
const RUNNING: &Metric = metric("node_systemd_system_running");
const STATE: &Metric = metric("node_systemd_unit_state");
const TRIGGERED: &Metric = metric("node_systemd_timer_last_trigger_seconds");
const UNITS: &Metric = metric("node_systemd_units");
const VERSION: &Metric = metric("node_systemd_version");

const STATES: [&str; 5] = ["active", "activating", "deactivating", "failed", "inactive"];

/// Units that follow what others show; node_exporter's default.
const EXCLUDED: &[&str] = &[".automount", ".device", ".mount", ".scope", ".slice"];

/// Units asked for more than their state.
const UNITS_MAX: usize = 2_000;

const MANAGER: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// The host's systemd, asked once a minute: it answers on its one thread, which has other work.
pub(in crate::collect) fn systemd(roots: &Roots) -> impl Collector + use<> {
    let bus = roots.rootfs.join(host::SYSTEM_BUS);
    // With control groups of the first version it has a hierarchy of its own.
    let slices = ["", "unified", "systemd"].map(|tree| roots.cgroupfs.join(tree).join("system.slice"));
    let there = slices.clone();
    let places = move || if bus.exists() || there.iter().any(|it| it.exists()) { vec![bus.clone()] } else { vec![] };
    devices("systemd", places, move |bus, said| visit(bus, &slices, said)).each(Tier::Minute)
}

fn visit(bus: &Path, slices: &[PathBuf], visit: &mut Visit) {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let is_mute = |error: &io::Error| matches!(error.kind(), ConnectionRefused | NotFound) || host::is_refusal(error);
    match ask(bus, visit) {
        Ok(()) => {}
        Err(error) if is_mute(&error) => list_running(slices, visit),
        Err(error) => visit.fail(CollectError::Systemd(error)),
    }
}

/// A control group tells who runs, and nothing of those that do not.
fn list_running(slices: &[PathBuf], visit: &mut Visit) {
    let listed = slices.iter().map(|slice| host::entries(slice, "")).find(|services| !services.is_empty());
    let runs = |service: &PathBuf| service.extension().is_some_and(|it| it == "service");
    for service in listed.unwrap_or_default().into_iter().filter(runs) {
        let name = name_behind(&service, "").unwrap_or_default();
        visit.put(STATE, &Labels::new().with("name", name).with("state", "active"), 1.0);
    }
}

struct Unit<'a> {
    name: &'a str,
    is_loaded: bool,
    state: &'a str,
    path: &'a str,
}

fn ask(socket: &Path, visit: &mut Visit) -> io::Result<()> {
    let mut bus = Bus::connect(socket)?;
    let asked = |member, arguments| Call {
        destination: MANAGER,
        path: MANAGER_PATH,
        interface: MANAGER_INTERFACE,
        member,
        arguments,
    };
    let version = property(&mut bus, MANAGER_PATH, MANAGER_INTERFACE, "Version")?;
    if let Some(Property::Text(version)) = version {
        let number: String = version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let number = number.trim_end_matches('.').parse().unwrap_or(0.0);
        visit.put(VERSION, &Labels::new().with("version", version), number);
    }
    if let Some(Property::Text(state)) = property(&mut bus, MANAGER_PATH, MANAGER_INTERFACE, "SystemState")? {
        visit.put(RUNNING, &Labels::new(), f64::from(u8::from(state == "running")));
    }
    let listed = bus.call(asked("ListUnits", &[]))?;
    let units = parse_units(&listed).ok_or(io::ErrorKind::InvalidData)?;
    for state in STATES {
        let count = units.iter().filter(|unit| unit.state == state).count();
        visit.put(UNITS, &Labels::new().with("state", state), f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }
    let is_shown = |unit: &&Unit<'_>| unit.is_loaded && !EXCLUDED.iter().any(|kind| unit.name.ends_with(kind));
    for unit in units.iter().filter(is_shown).take(UNITS_MAX) {
        ask_unit(&mut bus, unit, visit)?;
    }
    Ok(())
}

fn ask_unit(bus: &mut Bus, unit: &Unit<'_>, visit: &mut Visit) -> io::Result<()> {
    let labels = Labels::new().with("name", unit.name);
    let mut kind = String::new();
    if unit.name.ends_with(".service") {
        let interface = "org.freedesktop.systemd1.Service";
        if let Some(Property::Text(text)) = property(bus, unit.path, interface, "Type")? {
            kind = text;
        }
        // Since systemd 235.
        if let Some(Property::Number(restarts)) = property(bus, unit.path, interface, "NRestarts")? {
            visit.put(RESTARTS, &labels, restarts);
        }
    } else if unit.name.ends_with(".timer")
        && let Some(Property::Number(microseconds)) =
            property(bus, unit.path, "org.freedesktop.systemd1.Timer", "LastTriggerUSec")?
    {
        visit.put(TRIGGERED, &labels, microseconds * 1e-6);
    }
    let labels = labels.with("type", kind);
    for state in STATES {
        visit.put(STATE, &labels.clone().with("state", state), f64::from(u8::from(state == unit.state)));
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Property {
    Text(String),
    Number(f64),
}

/// `None` where the object has no such property, or is gone.
fn property(bus: &mut Bus, path: &str, interface: &str, name: &str) -> io::Result<Option<Property>> {
    let reply = bus.call(Call {
        destination: MANAGER,
        path,
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        arguments: &[interface, name],
    });
    match reply {
        Ok(reply) => Ok(parse_property(&reply)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts, and microseconds since the epoch")]
fn parse_property(reply: &[u8]) -> Option<Property> {
    let mut values = Values::new(reply);
    match values.signature()? {
        "s" => values.text().map(|text| Property::Text(text.to_owned())),
        "u" => values.number().map(|number| Property::Number(f64::from(number))),
        "t" => values.long().map(|number| Property::Number(number as f64)),
        _ => None,
    }
}

/// `a(ssssssouso)`: name, description, load state, active state, sub-state, followed unit, path, job, its type and path.
fn parse_units(reply: &[u8]) -> Option<Vec<Unit<'_>>> {
    let mut values = Values::new(reply);
    values.number()?;
    values.align(8)?;
    let mut units = Vec::new();
    while !values.is_empty() {
        values.align(8)?;
        let [name, _, loaded, state, _, _, path] = [(); 7].map(|()| values.text());
        values.number()?;
        values.text()?;
        values.text()?;
        units.push(Unit { name: name?, is_loaded: loaded? == "loaded", state: state?, path: path? });
    }
    Some(units)
}

/// Any bytes as a reply.
pub(super) fn parse_anything(bytes: &[u8]) {
    parse_property(bytes);
    parse_units(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.push(0);
    }

    /// One unit as systemd lists it.
    fn unit(list: &mut Vec<u8>, name: &str, state: &str) {
        list.resize(list.len().next_multiple_of(8), 0);
        for part in [name, "a description", "loaded", state, "running", "", "/unit"] {
            text(list, part);
        }
        list.resize(list.len().next_multiple_of(4) + 4, 0);
        text(list, "");
        text(list, "/");
    }

    #[test]
    fn a_list_of_units_is_read_whole_or_not_at_all() {
        let mut list = vec![0; 4];
        unit(&mut list, "a.service", "active");
        unit(&mut list, "b.service", "failed");
        let read = |list: &[u8]| {
            parse_units(list)
                .map(|units| units.iter().map(|unit| format!("{} {}", unit.name, unit.state)).collect::<Vec<_>>())
        };
        assert_eq!(read(&list).unwrap(), ["a.service active", "b.service failed"]);
        for cut in 0..list.len() {
            let units = read(&list[..cut]);
            assert!(units.as_ref().is_none_or(|units| units.len() < 2), "{cut}: {units:?}");
        }
        list[8..12].fill(0xff);
        assert_eq!(read(&list), None);
    }

    #[test]
    fn control_groups_tell_who_runs_where_the_bus_does_not_speak() {
        let root = tempfile::tempdir().unwrap();
        let (bus, slice) = (root.path().join("bus"), root.path().join("system.slice"));
        for group in ["a.service", "b.service", "c.mount"] {
            fs::create_dir_all(slice.join(group)).unwrap();
        }
        let check = || {
            let mut said = Visit::new(true);
            visit(&bus, &[root.path().join("none"), slice.clone()], &mut said);
            let running =
                ["a", "b"].map(|name| format!(r#"node_systemd_unit_state{{name="{name}.service", state="active"}} 1"#));
            assert_eq!((said.shown(), said.failed.is_none()), (running.to_vec(), true));
        };
        check();
        let listener = UnixListener::bind(&bus).unwrap();
        // A user that it cannot name: it closes before it answers, or after it was greeted.
        for answers in [&[] as &[&[u8]], &[b"OK 0123\r\n"]] {
            let listener = listener.try_clone().unwrap();
            let answering = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                for answer in answers {
                    assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
                    stream.write_all(answer).unwrap();
                }
            });
            check();
            answering.join().unwrap();
        }
        drop(listener);
        check();
    }

    #[test]
    fn a_property_is_a_text_or_a_number() {
        let check = |reply: &[u8], expect: Option<Property>| assert_eq!(parse_property(reply), expect);
        check(b"\x01s\0\0\x03\0\0\x00252\0", Some(Property::Text("252".to_owned())));
        check(b"\x01u\0\0\x05\0\0\0", Some(Property::Number(5.0)));
        check(b"\x01t\0\0\0\0\0\0\x07\0\0\0\0\0\0\0", Some(Property::Number(7.0)));
        check(b"\x01b\0\0\x01\0\0\0", None);
        check(b"\x01u\0\0\x05\0\0", None);
        check(b"\xff", None);
        check(b"", None);
    }
}
