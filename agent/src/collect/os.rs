//! `/etc/os-release`: which distribution it is.

use std::path::PathBuf;

use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Tick;
use crate::collect::info::Info;
use crate::host::Roots;

/// The distribution as labels.
pub(super) struct Os {
    /// Where it may stand, the operator's place first.
    files: [PathBuf; 2],
    info: Info,
}

impl Os {
    pub(super) fn new(roots: &Roots) -> Self {
        let files = ["/etc/os-release", "/usr/lib/os-release"].map(|file| roots.on_rootfs(file.as_ref()));
        Self { files, info: Info::new(metric("node_os_info")) }
    }
}

impl Collector for Os {
    fn name(&self) -> &'static str {
        "os"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(self.info.metric().tier) {
            return Ok(());
        }
        let [first, second] = &self.files;
        let labels = match tick.host.read_once(first) {
            Ok(text) => parse(text),
            Err(error) if error.is_missing() => parse(tick.host.read_once(second)?),
            Err(error) => return Err(error.into()),
        };
        self.info.put(tick.samples, labels);
        Ok(())
    }
}

/// Lines of `NAME=value`, the value quoted as a shell would; those that are labels of the metric, as node_exporter has them.
pub(super) fn parse(text: &[u8]) -> Labels {
    let text = String::from_utf8_lossy(text);
    let fields = text.lines().filter_map(|line| line.trim().split_once('='));
    let known = fields.map(|(name, value)| (name.to_ascii_lowercase(), unquote(value)));
    known.filter(|(name, _)| metric("node_os_info").labels.contains(&name.as_str())).collect()
}

fn unquote(value: &str) -> String {
    let quoted = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    let bare = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    let mut plain = String::with_capacity(bare.len());
    let mut escaped = false;
    for c in bare.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_labels() {
        let check = |text: &str, expect: &str| assert_eq!(parse(text.as_bytes()).to_string(), expect, "{text:?}");
        check("NAME=\"Debian GNU/Linux\"\nID=debian\nHOME_URL=x\n", r#"{id="debian", name="Debian GNU/Linux"}"#);
        check("NAME='a b'\n# ID=no\nVERSION=\"\"", r#"{name="a b"}"#);
        check(r#"NAME="say \"hi\" for \$5 \\""#, r#"{name="say \"hi\" for $5 \\"}"#);
        check("NAME=\"open\nID\n=\n", r#"{name="\"open"}"#);
        check("", "{}");
    }
}
