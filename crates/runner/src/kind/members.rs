//! Members of an input that is a list: which of them repeat each other, and what tells the others apart.
//!
//! Networks that differ in a matrix field are different networks; those that differ in `seed` alone repeat each other.
//! A mean and its `n` are over repetitions. Kinds that form such means, or name fields in pictures, say so
//! ([`Kind::SEES_GROUPS`]), and what they are told is part of their stages' identity. Stages' names are not: what is
//! renamed is not computed anew.
//!
//! [`Kind::SEES_GROUPS`]: super::Kind::SEES_GROUPS

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::Context;
use crate::names::scalar;

/// What a kind is told of a member of an input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The stage that it belongs to: a number, from 0 in the order in which stages appear in the list.
    pub family: usize,
    /// Matrix fields of the member. [`REPETITION`](crate::names::REPETITION) is among them only where the kind
    /// [sees](super::Kind::SEES_REPETITIONS) it.
    pub fields: IndexMap<String, Json>,
    /// Its stage, as the pipeline writes it, for kinds that [see names](super::Kind::SEES_NAMES).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stage: String,
    /// The inputs of the stage that filled this one, for kinds that [see names](super::Kind::SEES_NAMES).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<ProducerInput>,
}

/// An input of a stage that filled an input: what a number in its tables stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProducerInput {
    /// Name of its slot: `models.3`.
    pub slot: String,
    /// The stage behind it, as the pipeline writes it.
    pub stage: String,
    /// The matrix fields of that stage.
    pub fields: IndexMap<String, Json>,
}

impl Member {
    /// What it adds to an identity; nothing where nothing sets it apart.
    pub(crate) fn identity(&self) -> Option<String> {
        let text = |fields: &IndexMap<String, Json>| -> String {
            fields.iter().map(|(name, value)| format!(", {name}={value}")).collect()
        };
        let source = |source: &ProducerInput| format!("; {} is {}{}", source.slot, source.stage, text(&source.fields));
        (*self != Self::default()).then(|| {
            let sources: String = self.sources.iter().map(source).collect();
            let name = if self.stage.is_empty() {
                String::new()
            } else {
                format!(" {}", self.stage)
            };
            format!("stage {}{name}{}{sources}", self.family, text(&self.fields))
        })
    }
}

/// The members of one list of inputs.
#[derive(Clone, Debug, Default)]
pub struct Members(Vec<Member>);

impl Members {
    /// The members in these slots, in the order of the slots.
    pub fn of<'a>(context: &Context, slots: impl IntoIterator<Item = &'a str>) -> Self {
        let member = |slot: &str| context.inputs.get(slot).map(|input| input.member.clone());
        Self(slots.into_iter().map(|slot| member(slot).unwrap_or_default()).collect())
    }

    /// The first member that this one repeats; itself where there is none.
    pub fn group(&self, index: usize) -> usize {
        let same = |other: &Member| self.0.get(index) == Some(other);
        self.0.iter().position(same).unwrap_or(index)
    }

    /// Whether two members belong to different stages and have the same fields.
    pub fn differ_in_stage_alone(&self, one: usize, other: usize) -> bool {
        let fields = |index: usize| self.0.get(index).map(|member| &member.fields);
        self.group(one) != self.group(other) && fields(one) == fields(other)
    }

    /// Whether two members belong to the same stage.
    pub fn same_stage(&self, one: usize, other: usize) -> bool {
        let family = |index: usize| self.0.get(index).map(|member| member.family);
        family(one) == family(other)
    }

    /// The fields of a member, as a title shows them: `tau=10, dt=2`.
    pub fn fields(&self, index: usize) -> String {
        let member = self.0.get(index);
        member.map_or_else(String::new, |member| text(member.fields.iter()))
    }

    /// The fields that all members have in common, as a title shows them: `set=mnist`.
    pub fn common(&self) -> String {
        let Some(first) = self.0.first() else {
            return String::new();
        };
        text(first.fields.iter().filter(|(name, _)| self.is_common(name)))
    }

    /// A title with the fields that all members have in common.
    pub fn title(&self, title: &str) -> String {
        match self.common() {
            common if common.is_empty() => title.to_owned(),
            common => format!("{title} ({common})"),
        }
    }

    /// A name for each member in a legend: the one given, and the fields in which members differ. Members of other
    /// stages that neither tells apart get their number, from 0; those that repeat each other have the same name.
    pub fn labels(&self, names: &[String]) -> Vec<String> {
        let label = |(index, name): (usize, &String)| {
            let fields = self.0.get(index).into_iter().flat_map(|member| &member.fields);
            with_fields(name, &text(fields.filter(|(name, _)| !self.is_common(name))))
        };
        let labels: Vec<String> = names.iter().enumerate().map(label).collect();
        let numbered = |(index, label): (usize, &String)| {
            let group = self.group(index);
            let is_other = |(other, text): (usize, &String)| text == label && self.group(other) != group;
            match labels.iter().enumerate().any(is_other) {
                true => format!("{label} #{group}"),
                false => label.clone(),
            }
        };
        labels.iter().enumerate().map(numbered).collect()
    }

    /// A title for what belongs to one member alone: its name and all its fields.
    pub fn title_of(&self, index: usize, name: &str) -> String {
        with_fields(name, &self.fields(index))
    }

    fn is_common(&self, field: &str) -> bool {
        let first = self.0.first().and_then(|member| member.fields.get(field));
        first.is_some() && self.0.iter().all(|member| member.fields.get(field) == first)
    }
}

/// Mean and spread over repetitions. What is not finite is missing and counts nowhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// None of nothing.
    pub mean: Option<f64>,
    /// Standard deviation (n - 1); none of a single value.
    pub deviation: Option<f64>,
    /// Values that it is over.
    pub n: usize,
}

impl Spread {
    /// Mean and spread of values in any order.
    pub fn of(values: &[f64]) -> Self {
        let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        // Equal values deviate by nothing, not by the rounding of their mean.
        let equal = values.iter().all(|v| *v == values[0]);
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let deviation = if equal {
            0.0
        } else {
            (squares / (n as f64 - 1.0)).sqrt()
        };
        Self {
            mean: (n > 0).then_some(mean),
            deviation: (n > 1).then_some(deviation),
            n,
        }
    }
}

fn with_fields(name: &str, fields: &str) -> String {
    match fields {
        "" => name.to_owned(),
        fields => format!("{name}, {fields}"),
    }
}

fn text<'a>(fields: impl Iterator<Item = (&'a String, &'a Json)>) -> String {
    let fields: Vec<String> = fields
        .map(|(name, value)| format!("{name}={}", scalar(value)))
        .collect();
    fields.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn member(family: usize, fields: Json) -> Member {
        let fields = fields.as_object().expect("an object").clone();
        Member {
            stage: String::new(),
            sources: Vec::new(),
            family,
            fields: fields.into_iter().collect(),
        }
    }

    fn names(count: usize) -> Vec<String> {
        vec!["CordsNet-R2".to_owned(); count]
    }

    #[test]
    fn what_differs_in_a_field_is_no_repetition() {
        let members = Members(vec![
            member(0, json!({})),
            member(1, json!({ "set": "mnist", "dt": 1 })),
            member(1, json!({ "set": "mnist", "dt": 5 })),
            member(1, json!({ "set": "mnist", "dt": 1 })),
        ]);
        let groups: Vec<usize> = (0..4).map(|index| members.group(index)).collect();
        assert_eq!(groups, [0, 1, 2, 1]);
        // The first has no `set`, so it is in common to none.
        assert_eq!(members.title("noise"), "noise");
        assert_eq!(
            members.labels(&names(4))[..3],
            [
                "CordsNet-R2",
                "CordsNet-R2, set=mnist, dt=1",
                "CordsNet-R2, set=mnist, dt=5"
            ]
        );
        let members = Members(members.0[1..].to_vec());
        assert_eq!(members.title("noise"), "noise (set=mnist)");
        assert_eq!(
            members.labels(&names(3)),
            ["CordsNet-R2, dt=1", "CordsNet-R2, dt=5", "CordsNet-R2, dt=1"]
        );
    }

    #[test]
    fn a_spread_is_over_what_is_there() {
        let of = |values: &[f64]| {
            let Spread { mean, deviation, n } = Spread::of(values);
            (mean, deviation, n)
        };
        assert_eq!(of(&[1.0, f64::NAN, 3.0]), (Some(2.0), Some(2.0f64.sqrt()), 2));
        assert_eq!(of(&[0.1; 3]), (Some(3.0 * 0.1 / 3.0), Some(0.0), 3));
        assert_eq!(of(&[0.5]), (Some(0.5), None, 1));
        assert_eq!(of(&[f64::NAN]), (None, None, 0));
    }

    #[test]
    fn stages_that_neither_name_nor_field_tells_apart_are_numbered() {
        let members = Members(vec![member(0, json!({})), member(1, json!({})), member(1, json!({}))]);
        assert_eq!(
            members.labels(&names(3)),
            ["CordsNet-R2 #0", "CordsNet-R2 #1", "CordsNet-R2 #1"]
        );
        let single = Members(vec![member(0, json!({ "tau": 10 }))]);
        assert_eq!(single.labels(&names(1)), names(1));
        assert_eq!(single.title("noise"), "noise (tau=10)");
    }
}
