//! From a scratch folder to an object.

use std::path::Path;

use super::objects::{self, hash_folder};
use super::{Store, StoreError, StoredOutput, io};
use crate::fail::{self, Step};
use crate::key::ContentHash;
use crate::kind::Artifact;

impl Store {
    /// Moves a finished output from scratch into the store, under its content's name. `told` is the content that another
    /// node has written, where one did: what came from there is held against it, and what was moved before its submitter
    /// was killed is found again.
    pub(crate) fn publish(
        &mut self,
        slot: &str,
        artifact: Artifact,
        scratch: &Path,
        told: Option<&ContentHash>,
    ) -> Result<StoredOutput, StoreError> {
        if let Some(told) = told.filter(|_| !scratch.exists())
            && let Ok(content) = hash_folder(&self.object(told))
            && content.hash == *told
        {
            return Ok(StoredOutput {
                slot: slot.to_owned(),
                artifact,
                content: content.hash,
                files: content.files,
                empty: content.empty,
            });
        }
        // An empty folder is a result: one without anything to draw, or to put aside. A link is none.
        if !std::fs::symlink_metadata(scratch).is_ok_and(|metadata| metadata.is_dir()) {
            return Err(StoreError::OutputMissing { slot: slot.to_owned() });
        }
        let content = hash_folder(scratch).map_err(io("hash an output"))?;
        if told.is_some_and(|told| *told != content.hash) {
            return Err(StoreError::Transfer { slot: slot.to_owned() });
        }
        fail::at(Step::Hashed).map_err(io("hash an output"))?;
        let target = self.object(&content.hash);
        let own = objects::as_own(scratch, &content).map_err(io("publish an output"))?;
        let from = own.as_deref().unwrap_or(scratch);
        objects::move_into_place(from, &target, &content).map_err(io("publish an output"))?;
        for file in &content.files {
            self.fingerprints.remember(&target.join(&file.path), &file.hash);
        }
        Ok(StoredOutput {
            slot: slot.to_owned(),
            artifact,
            content: content.hash,
            files: content.files,
            empty: content.empty,
        })
    }
}
