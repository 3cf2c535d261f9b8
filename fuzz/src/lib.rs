//! What the targets hold: the parts of the runner that read what others may have written, with its own stage kinds.

use std::path::Path;

use dynvis_runner::kind::Registry;
use dynvis_runner::kinds::{Collect, Command, FilesOrTable};
use dynvis_runner::{pipeline, store};

/// Resolves a pipeline; every problem must have a place in the text and words.
///
/// # Panics
/// Where that does not hold.
pub fn pipeline(text: &str) {
    let registry = Registry::new("0").with::<Collect>().with::<Command<FilesOrTable>>();
    match pipeline::from_text("fuzz.yaml", text, &registry) {
        Ok(pipeline) => {
            let order = pipeline.order();
            assert_eq!(order.len(), pipeline.stages.len(), "no cycle gets through");
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
///
/// # Panics
/// Where the store does.
pub fn journal(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    store::check_journal(&folder.path().join("raw"), bytes);
    store::check_journal(&folder.path().join("framed"), &store::framed(bytes));
}

/// Opens a store with these bytes in place of a run's record, a description and the stat cache.
///
/// # Panics
/// Where the store does.
pub fn manifests(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let root: &Path = folder.path();
    store::check_manifests(root, bytes);
}
