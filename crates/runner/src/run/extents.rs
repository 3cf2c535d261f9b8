//! What the stages of a plan take.

use crate::kind::{Extent, InputExtents, StageError};
use crate::pipeline::Pipeline;
use crate::plan::{Planned, State};

/// What each stage that would run takes, by stage, as far as it is known. Those upstream of them are asked too, since
/// what they take says what these do; of others nothing is known.
///
/// Files outside are looked at, so this is no part of the plan.
///
/// # Errors
/// Of a stage: why it cannot be told.
pub fn extents(pipeline: &Pipeline, planned: &[Planned]) -> Vec<Result<Option<Extent>, StageError>> {
    let mut asked = vec![false; pipeline.stages.len()];
    for p in planned {
        asked[p.id.0] = matches!(p.decision.state, State::Run | State::Maybe);
    }
    let order = pipeline.order();
    for id in order.iter().rev() {
        if asked[id.0] {
            for input in &pipeline.stage(*id).inputs {
                asked[input.producer.0] = true;
            }
        }
    }
    let mut extents: Vec<Result<Option<Extent>, StageError>> = asked.iter().map(|_| Ok(None)).collect();
    for id in order.into_iter().filter(|id| asked[id.0]) {
        let stage = pipeline.stage(id);
        let said = stage.inputs.iter().filter_map(|input| {
            let extent = extents[input.producer.0].as_ref().ok()?.as_ref()?;
            Some((input.slot.as_str(), extent))
        });
        let inputs: InputExtents = said.collect();
        extents[id.0] = stage.work.extent(&pipeline.root, &inputs);
    }
    extents
}
