//! `dynvis check`.

use super::PipelineArgs;
use super::error::CommandError;
use super::ui::Ui;

/// Find every error of a pipeline in one pass
#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
}

pub(crate) fn check(ui: &mut Ui, args: &CheckArgs) -> Result<u8, CommandError> {
    let pipeline = args.pipeline.load(ui)?;
    let written: std::collections::BTreeSet<_> = pipeline.stages.iter().map(|s| &s.family).collect();
    ui.status(&format!(
        "{}: no errors ({} stages, {} with all matrix members)",
        pipeline.path.display(),
        written.len(),
        pipeline.stages.len()
    ));
    Ok(0)
}
