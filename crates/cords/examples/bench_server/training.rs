//! Loss and gradients of whole trials. The optimiser is left out.

use cords::Tensor;
use cords::device::{Cpu, Phi, Target};
use cords::learn::{Batch, CordsNetGradient, Gradient, HistoryPrecision, Memory, Objective, logspace};
use cords::net::{Euler, Graph, Parameters};
use serde::Deserialize;

use crate::{Failure, Prepared, tensor};

/// A published network and its trial. Tensors: `images` [batch, channels, side, side] and all parameters.
#[derive(Deserialize)]
pub(crate) struct TrainingCase {
    areas: usize,
    image_side: usize,
    classes: usize,
    labels: Vec<u32>,
    spontaneous_steps: usize,
    stimulus_steps: usize,
    after_steps: usize,
    window: usize,
    return_window: usize,
    /// Steps between the activities that are kept; all of them if not given.
    #[serde(default)]
    interval: Option<usize>,
    /// How they are kept.
    #[serde(default)]
    history: HistoryPrecision,
}

pub(crate) struct Training {
    architecture: Graph,
    parameters: Parameters<f32>,
    objective: Objective,
    images: Vec<f32>,
    targets: Vec<Target>,
    memory: Memory,
    history: HistoryPrecision,
    /// From the first pass on, so that what it takes counts as the pass's memory.
    gradient: Option<CordsNetGradient<f32>>,
    result: Option<Gradient<f32>>,
}

impl Training {
    pub(crate) fn new(case: TrainingCase, tensors: &Parameters<f32>) -> Result<Self, Failure> {
        let images = tensor(tensors, "images")?;
        let architecture = Graph::published(case.areas, images.shape[1], case.image_side, case.classes)?;
        let mut parameters = Parameters::new();
        for (name, _) in architecture.cordsnet_shapes() {
            parameters.insert(name.clone(), tensor(tensors, &name)?.clone());
        }
        Ok(Self {
            architecture,
            parameters,
            objective: Objective {
                spontaneous_steps: case.spontaneous_steps,
                stimulus_steps: case.stimulus_steps,
                after_steps: case.after_steps,
                ramp: logspace(-3.0, 0.0, case.window),
                return_weight: 1e-3,
                return_window: case.return_window,
            },
            images: images.data.clone(),
            targets: Target::of(&case.labels),
            memory: case.interval.map_or(Memory::Unlimited, Memory::Every),
            history: case.history,
            gradient: None,
            result: None,
        })
    }
}

impl Prepared for Training {
    fn pass(&mut self) -> Result<(), Failure> {
        let batch = Batch {
            images: &self.images,
            targets: &self.targets,
        };
        self.result = None;
        let gradient = match &mut self.gradient {
            Some(gradient) => {
                // Training meets new weights in every step.
                gradient.set_parameters(&self.parameters)?;
                gradient
            }
            none => {
                let gradient = CordsNetGradient::new(
                    &Cpu,
                    &self.architecture,
                    &self.parameters,
                    &Euler::published(),
                    Phi::Relu,
                    &self.objective,
                )?;
                none.insert(gradient.keeping(self.memory, self.history))
            }
        };
        self.result = Some(gradient.run(batch, &[])?);
        Ok(())
    }

    fn outputs(&self) -> Parameters<f32> {
        let Some(result) = &self.result else {
            return Parameters::new();
        };
        let mut outputs = result.gradients.clone();
        let loss = Tensor {
            shape: vec![1],
            data: vec![result.loss.loss as f32],
        };
        outputs.insert("loss", loss);
        outputs
    }
}
