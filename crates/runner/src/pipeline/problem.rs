//! Everything that can be wrong with a pipeline, as data: what, where, and what else helps.
//!
//! `cli::error` draws these; nothing here prints.

use super::node::Spot;

/// One finding of `check`.
#[derive(Debug)]
pub struct Problem {
    /// What is wrong.
    pub kind: ProblemKind,
    /// Where; `None` where there is no text to point into.
    pub spot: Option<Spot>,
    /// Other places that belong to it, each with a short label.
    pub related: Vec<(Spot, String)>,
}

impl Problem {
    /// A problem at one place.
    pub fn at(spot: Spot, kind: ProblemKind) -> Self {
        Self {
            kind,
            spot: Some(spot),
            related: Vec::new(),
        }
    }

    /// Adds another place with a short label.
    pub fn with(mut self, spot: Spot, label: impl Into<String>) -> Self {
        self.related.push((spot, label.into()));
        self
    }
}

/// What is wrong; the text of each is what the user reads.
#[derive(Debug, thiserror::Error)]
pub enum ProblemKind {
    #[error("not valid YAML: {message}")]
    Syntax { message: String },
    #[error("expected {expected}, found {found}")]
    WrongType { expected: String, found: String },
    #[error("unknown {what} `{name}`")]
    UnknownName {
        what: &'static str,
        name: String,
        suggestion: Option<String>,
        /// All valid names, where the list is short enough to help.
        valid: Vec<String>,
    },
    #[error("`{name}` is declared twice; names must be unique")]
    DuplicateName { name: String },
    #[error("`{first}` and `{second}` are one and the same: all their parameters are equal")]
    EqualMembers { first: String, second: String },
    #[error("missing {what} `{name}`")]
    Missing {
        what: &'static str,
        name: String,
        hint: Option<String>,
    },
    #[error("{value} is out of range: {limit}")]
    OutOfRange { value: String, limit: String },
    #[error("`{value}` is not one of {}", .valid.join(", "))]
    NotOneOf {
        value: String,
        valid: Vec<String>,
        suggestion: Option<String>,
    },
    /// A rule of the stage kind that spans several parameters.
    #[error("{message}")]
    Inconsistent { message: String },
    #[error("a stage needs exactly one kind as key; this one has {}", if .found.is_empty() { "none".to_owned() } else { .found.join(" and ") })]
    KindCount { found: Vec<String>, valid: Vec<String> },
    #[error("no stage named `{name}`")]
    NoSuchStage { name: String, suggestion: Option<String> },
    #[error("`{reference}` names no member of the matrix of `{stage}`")]
    NoSuchMember {
        reference: String,
        stage: String,
        /// The first of them.
        members: Vec<String>,
        count: usize,
    },
    #[error("`{stage}` has {count} members{}; a single one is needed here", with(fields))]
    AmbiguousMember {
        stage: String,
        count: usize,
        example: String,
        /// Fields that these members share with the one that refers to them; empty if none.
        fields: String,
    },
    #[error("`{stage}` has no member with {fields}, as the member that refers to it has")]
    NoMemberAgrees {
        stage: String,
        fields: String,
        /// The first of them.
        members: Vec<String>,
        count: usize,
    },
    #[error("`{stage}` has no matrix, so `{reference}` selects nothing")]
    NoMatrix { stage: String, reference: String },
    #[error("`{reference}` gives {found}, but this parameter needs {expected}")]
    WrongArtifact {
        reference: String,
        expected: String,
        found: String,
    },
    #[error("`{stage}` has no output `{output}`")]
    NoSuchOutput {
        stage: String,
        output: String,
        valid: Vec<String>,
    },
    #[error("not a reference: `{text}`")]
    BadReference { text: String },
    #[error("stages depend on each other in a cycle: {}", .stages.join(" -> "))]
    Cycle { stages: Vec<String> },
    #[error("cannot read preset `{name}`: {reason}")]
    UnreadablePreset {
        name: String,
        reason: String,
        suggestion: Option<String>,
    },
    #[error("presets use each other in a cycle: {}", .chain.join(" -> "))]
    PresetCycle { chain: Vec<String> },
    #[error("matrix field `{field}` is neither a parameter of `{kind}` nor used as ${{matrix.{field}}}")]
    UnusedMatrixField {
        field: String,
        kind: String,
        suggestion: Option<String>,
    },
    /// No error: what is written so sets it, as before.
    #[error("matrix field `{field}` sets the parameter `{field}` of `{kind}` too, which was not asked for")]
    FieldSetsParameter { field: String, kind: String },
    /// No error: there may be fewer values for once.
    #[error("this excludes no member of the matrix that is not excluded already")]
    ExcludesNothing,
    #[error("cannot read `{path}`: {reason}")]
    UnreadableFile { path: String, reason: String },
    #[error("`{text}` is not of the form stage.parameter=value, vars.name=value or seed=value")]
    BadOverride { text: String },
    /// So that a few lines cannot take all memory.
    #[error("this makes more than {limit} {what}, more than a pipeline can have")]
    TooMuch { what: &'static str, limit: usize },
    /// No error: what is written so means the same as before.
    #[error("{}", old_name(old, new))]
    OldName { old: String, new: String },
    #[error("a name holds letters, digits, `_` and `-` and starts with a letter; `{name}` does not")]
    BadName { name: String },
}

/// What is said of a parameter or an output that was asked for by the name that it had before.
pub fn old_name(old: &str, new: &str) -> String {
    format!("`{old}` is now called `{new}`; the old name still works")
}

impl ProblemKind {
    /// Whether a pipeline with it can run all the same.
    pub fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::OldName { .. } | Self::FieldSetsParameter { .. } | Self::ExcludesNothing
        )
    }

    /// What to do about it, where there is something more to say than the message.
    pub fn help(&self) -> Option<String> {
        let did_you_mean = |s: &Option<String>| s.as_ref().map(|s| format!("did you mean `{s}`?"));
        match self {
            Self::UnknownName { suggestion, valid, .. } => {
                did_you_mean(suggestion).or_else(|| (!valid.is_empty()).then(|| format!("known: {}", valid.join(", "))))
            }
            Self::NotOneOf { suggestion, .. } | Self::NoSuchStage { suggestion, .. } => did_you_mean(suggestion),
            Self::UnusedMatrixField { suggestion, .. } => did_you_mean(suggestion),
            Self::UnreadablePreset { suggestion, .. } => did_you_mean(suggestion),
            Self::Missing { hint, .. } => hint.clone(),
            Self::KindCount { valid, .. } => Some(format!("kinds: {}", valid.join(", "))),
            Self::FieldSetsParameter { field, .. } => Some(format!(
                "write `{field}: \"${{matrix.{field}}}\"` among the parameters if that is meant; if not, name the stage \
                 that the field chooses a member of by its name alone, `stage` in place of `stage@{field}=...`, and the \
                 field sets nothing"
            )),
            Self::NoMemberAgrees {
                stage, members, count, ..
            } => Some(format!(
                "members: {}; `{stage}@field=value` takes one whatever its other fields are",
                shortened(members, *count)
            )),
            Self::NoSuchMember { members, count, .. } => Some(format!("members: {}", shortened(members, *count))),
            Self::AmbiguousMember { stage, example, .. } => Some(format!(
                "write `{example}` for one of them; `{stage}@*` for all is possible where a list is taken, for an \
                 input of a `command` and for the `table` of a `plot`"
            )),
            Self::NoMatrix { stage, .. } => Some(format!("write `{stage}`")),
            Self::NoSuchOutput { valid, .. } => Some(format!("outputs: {}", valid.join(", "))),
            Self::BadReference { .. } => Some(
                "write a stage's name, `stage@field=value` for one member of a matrix, `stage@*` for all, \
                 with `/output` behind it for an output other than the first"
                    .into(),
            ),
            Self::EqualMembers { .. } => Some("leave one of the two values out of the matrix".into()),
            Self::DuplicateName { .. } => Some("rename one of the two".into()),
            _ => None,
        }
    }
}

/// ` with set=mnist`, where there are such fields.
fn with(fields: &str) -> String {
    match fields {
        "" => String::new(),
        fields => format!(" with {fields}"),
    }
}

/// Names of the first, and how many more there are.
fn shortened(names: &[String], count: usize) -> String {
    let mut text = names.join(", ");
    if count > names.len() {
        text += &format!(" and {} more", count - names.len());
    }
    text
}

/// What helps with a wrong name: the one that was meant, and all valid ones unless there are more than anybody reads.
pub(super) fn known<'a>(
    problems: usize,
    name: &str,
    valid: impl ExactSizeIterator<Item = &'a str> + Clone,
) -> (Option<String>, Vec<String>) {
    const FEW: usize = 200;
    let suggestion = suggest_few(problems, name, valid.clone());
    let shown = if valid.len() > FEW { 0 } else { FEW };
    (suggestion, valid.take(shown).map(str::to_owned).collect())
}

/// About how many names are compared at most for the suggestions of one pipeline.
const COMPARISONS: usize = 2_000_000;

/// As [`suggest`], unless so many problems times so many names make it slow: a file of 20,000 wrong names must not take
/// minutes, and only the first problems are shown. `problems`: how many were found before this one.
pub(super) fn suggest_few<'a>(
    problems: usize,
    name: &str,
    candidates: impl ExactSizeIterator<Item = &'a str>,
) -> Option<String> {
    let is_cheap = problems.saturating_mul(candidates.len()) < COMPARISONS;
    is_cheap.then(|| suggest(name, candidates)).flatten()
}

/// The candidate that `name` was most likely meant to be.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const LONGEST: usize = 1000;
    candidates
        .into_iter()
        // Nobody means a name of another order of length, and a long one is slow to compare.
        .filter(|c| name.len().max(c.len()) <= 4 * (name.len().min(c.len()) + 1))
        .filter(|c| name.len().max(c.len()) <= LONGEST)
        .map(|c| (strsim::jaro_winkler(name, c), c))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c.to_owned())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn many_wrong_names_among_many_are_compared_a_bounded_number_of_times() {
        for count in [0, 1, 10, 1_000, 20_000] {
            let names = vec!["name"; count];
            let compared = Cell::new(0);
            for problems in 0..20_000 {
                let candidates = names.iter().map(|name| {
                    compared.set(compared.get() + 1);
                    *name
                });
                // Of no length that anybody could mean, so that the names are looked at and not measured.
                suggest_few(
                    problems,
                    "far longer than any of the names can be, whatever was meant",
                    candidates,
                );
            }
            assert!(compared.get() <= COMPARISONS + count, "{count}: {}", compared.get());
            // The first problems, which are those that are shown, have their suggestions.
            assert!(compared.get() >= count.min(100) * count, "{count}: {}", compared.get());
        }
    }

    #[test]
    fn texts_of_another_order_of_length_are_not_compared() {
        assert_eq!(suggest("trian", ["train", "noise"]), Some("train".into()));
        assert_eq!(suggest(&"train".repeat(10), ["train"]), None);
        let long = "x".repeat(1_001);
        assert_eq!(suggest(&long, [long.as_str()]), None);
    }
}
