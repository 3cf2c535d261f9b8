//! Activity of chosen areas and times for chosen images, streamed into one safetensors file, and its summary.
//!
//! Images go through in groups and every value is written where it belongs at once: memory is that of the groups in
//! flight, whatever the number of images and times.

mod file;
mod participation;
mod run;

pub use participation::participation_ratio;
pub use run::{AreaTime, RecordError, RecordOptions, record, recorded_bytes};
