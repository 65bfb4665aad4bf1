//! Labels that people give: to hosts, and to the hosts of a token.

use std::collections::BTreeMap;

use crate::http::problem::Problem;

/// Labels given at once. Each is part of every series of a host.
const GIVEN_LABELS_MAX: usize = 32;

/// Bytes of a value: what an agent's own configuration may say.
const GIVEN_LABEL_BYTES_MAX: usize = 256;

/// Whether they can be labels of a host.
pub(super) fn check(labels: &BTreeMap<String, String>) -> Result<(), Problem> {
    if GIVEN_LABELS_MAX < labels.len() {
        return Err(Problem::bad_request(format!("labels: at most {GIVEN_LABELS_MAX}")));
    }
    for (name, value) in labels {
        if !is_label_name(name) {
            let why = "letters, digits and _, and instance and job are ours";
            return Err(Problem::bad_request(format!("labels: {name:?} is no name for a label: {why}")));
        }
        if GIVEN_LABEL_BYTES_MAX < value.len() {
            return Err(Problem::bad_request(format!(
                "labels: {name:?} has a value of more than {GIVEN_LABEL_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(())
}

fn is_label_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let ours = name.starts_with("__") || name == "instance" || name == "job";
    !ours && name.chars().all(plain) && name.starts_with(|c: char| !c.is_ascii_digit())
}
