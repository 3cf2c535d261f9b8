//! References to other stages as parameter types: what makes the edges of the graph.
//!
//! In a pipeline they hold the user's text (`cordsnet@seed=1`); in a worker they hold the name of
//! the input slot that the text resolved to. The schema marks them with `x-reference`, and with `x-several` one that
//! may name several members though it is no list.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Makes a parameter type that names a stage whose output has a type:
/// `reference!(ModelRef, "model", "A stage that trains.")`. The crate that uses it needs `serde` and `schemars`.
#[macro_export]
macro_rules! reference {
    ($name:ident, $marker:literal, $description:literal) => {
        #[doc = $description]
        #[derive(Clone, Debug, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(
            /// The name of a stage, as written; in a worker that of the input slot.
            pub String,
        );

        impl ::schemars::JsonSchema for $name {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!({ "type": "string", "x-reference": $marker, "description": $description })
            }
        }
    };
}

reference!(AnyRef, "any", "A stage, or one output of it as stage/output.");

/// A stage or an output of it, or with `*` several members of a matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AnyRefs {
    /// One, or in a pipeline the user's text.
    One(String),
    /// In a worker: the slots of several members, in their order.
    Members(Vec<String>),
}

impl JsonSchema for AnyRefs {
    fn schema_name() -> Cow<'static, str> {
        "AnyRefs".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "x-reference": "any",
            "x-several": true,
            "description": "A stage, or one output of it as stage/output; all members of a matrix as stage@*/output.",
        })
    }
}
