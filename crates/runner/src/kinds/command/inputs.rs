//! What a program is told of its inputs: which folder belongs to which, and the matrix fields of members.

use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value as Json;

use crate::kind::{AnyRefs, Artifact, Context, StageError, Violation};

/// One folder of an input, as the file lists it.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    folder: &'a Path,
    artifact: Artifact,
    /// Of a member, where the input has several. A stage that is an input alone does not tell its fields: they are not
    /// part of the identity of whoever reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<&'a IndexMap<String, Json>>,
}

/// The slots that an input fills, in their order.
pub(super) fn slots(input: &AnyRefs) -> &[String] {
    match input {
        AnyRefs::One(slot) => std::slice::from_ref(slot),
        AnyRefs::Members(slots) => slots,
    }
}

/// Names that would be taken for members of another input.
pub(super) fn violations(inputs: &BTreeMap<String, AnyRefs>) -> Vec<Violation> {
    let is_member = |name: &&String| {
        let (of, number) = name.rsplit_once('.').unwrap_or_default();
        inputs.contains_key(of) && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    };
    let wrong = inputs.keys().filter(is_member).map(|name| {
        let message =
            format!("input `{name}`: that is what a member of another input would be called; choose another name");
        Violation::new("inputs", message)
    });
    wrong.collect()
}

/// Writes the list of all inputs.
pub(super) fn list(inputs: &BTreeMap<String, AnyRefs>, context: &Context, file: &Path) -> Result<(), StageError> {
    let mut listed = Vec::new();
    for (name, input) in inputs {
        for slot in slots(input) {
            let found = context.inputs.get(slot);
            let found = found.ok_or_else(|| StageError::new(format!("input `{slot}` is missing")))?;
            listed.push(Listed {
                name,
                folder: &found.path,
                artifact: found.artifact,
                fields: matches!(input, AnyRefs::Members(_)).then_some(&found.member.fields),
            });
        }
    }
    Ok(fs_err::write(file, serde_json::to_vec_pretty(&listed)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_not_called_like_a_member_of_another() {
        let named = |names: &[&str]| {
            let one = |name: &&str| ((*name).to_owned(), AnyRefs::One("a".into()));
            violations(&names.iter().map(one).collect()).len()
        };
        assert_eq!(named(&["a", "a.0"]), 1);
        assert_eq!(named(&["a", "b.0", "a.x", "a0", "0"]), 0);
    }
}
