//! The parts of the tool that read what others may have written, without the engine, for fuzzing.

#![allow(dead_code, reason = "the tool uses more of these files than the targets do")]
#![allow(unused_imports, reason = "as above")]

mod fail;
mod files;
#[path = "../../src/key/mod.rs"]
mod key;
#[path = "../../src/pipeline/mod.rs"]
mod pipeline;
mod stage;
#[path = "../../src/store/mod.rs"]
mod store;

use std::path::Path;

/// Resolves a pipeline; every problem must have a place in the text and words.
pub fn pipeline(text: &str) {
    match pipeline::from_text("fuzz.yaml", text) {
        Ok(pipeline) => {
            let order = pipeline.order();
            assert_eq!(order.len(), pipeline.stages.len(), "no circle gets through");
            for stage in &pipeline.stages {
                assert!(!stage.name.is_empty());
                assert!(stage.inputs.iter().all(|i| i.producer.0 < pipeline.stages.len()));
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems.iter().take(20) {
                assert!(!problem.kind.to_string().is_empty());
                let _ = problem.kind.help();
            }
        }
    }
}

/// Opens a store whose journal holds these bytes, with and without checksums that fit; asks and appends.
pub fn journal(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    store::check_journal(&folder.path().join("raw"), bytes);
    store::check_journal(&folder.path().join("framed"), &store::framed(bytes));
}

/// Opens a store with these bytes in place of a run's record, a description and the stat cache.
pub fn manifests(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let root: &Path = folder.path();
    store::check_manifests(root, bytes);
}
