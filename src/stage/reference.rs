//! References to other stages as parameter types: what makes the edges of the graph.
//!
//! In a pipeline they hold the user's text (`cordsnet@seed=1`); in a worker they hold the name of
//! the input slot that the text resolved to. The schema marks them with `x-reference`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! reference {
    ($name:ident, $marker:literal, $description:literal) => {
        #[doc = $description]
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub(crate) struct $name(pub(crate) String);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "x-reference": $marker, "description": $description })
            }
        }
    };
}

reference!(DatasetRef, "dataset", "A stage that prepares a dataset.");
reference!(ModelRef, "model", "A stage that trains or imports a model.");
reference!(ActivityRef, "activity", "A stage that records activity.");
reference!(
    RecordingsRef,
    "recordings",
    "A stage that reads or simulates recordings of neurons."
);
reference!(AnyRef, "any", "A stage, or one output of it as stage/output.");
