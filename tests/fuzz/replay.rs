//! Replays the fuzzers' corpora, so that what they found stays mended.

#[path = "src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzzers' own crate exports them")]
mod targets;

use std::fs;
use std::path::Path;

#[test]
fn the_corpora_are_taken() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let mut replayed = 0;
        for file in fs::read_dir(corpora.join(name)).unwrap() {
            target(&fs::read(file.unwrap().path()).unwrap());
            replayed += 1;
        }
        assert!(0 < replayed, "{name} has no corpus");
    }
}
