//! Convolutional recurrent dynamical systems for vision (CordsNet): simulation, training and analysis.
//!
//! A library without pipelines, tables or printing. Model code is written once over the kernel interface in
//! [`device`]; the same seed and inputs give the same bits whatever the number of threads.
//!
//! # Training
//!
//! A network of two areas learns the 1,797 handwritten digits that are part of this crate, on the CPU:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use cords::data::{ImageSource, PrepareConfig, SourceName, Split, SplitImages, prepare_in_memory};
//! use cords::{device::Cpu, learn::{Data, DirectConfig, Fit, Training}, net::{Architecture, Euler, ModelInfo}};
//!
//! // Grey images of 8 x 8 pixels. Files of images, and floats in memory, are read in `data` too.
//! let digits = PrepareConfig::new(ImageSource::new(SourceName::Digits, ""), 1, 8);
//! let (set, _) = prepare_in_memory(&digits, &mut |_, _| {})?;
//! let images = |split| SplitImages::new(&set, split, None, 0);
//! let data = Data { train: &images(Split::Train)?, validation: &images(Split::Validation)? };
//!
//! // The published rule, narrow: channels of the input layer and of each area; strides of each area.
//! let (channels, strides) = (vec![16; 3], vec![1; 2]);
//! let graph = Architecture { in_channels: 1, image_side: 8, channels, strides, classes: 10 }.graph()?;
//!
//! // The published objective in shorter phases and coarser steps: dt = 5 ms, tau = 10 ms.
//! let config = DirectConfig {
//!     spontaneous_ms: 50.0, stimulus_ms: 50.0, after_ms: 50.0, readout_window_ms: 25.0,
//!     fit: Fit { epochs: 3, learning_rate: 1e-2, ..Fit::default() },
//!     ..DirectConfig::default()
//! };
//! let trained = Training::new(&graph, &config, &data).euler(&Euler::new(5.0, 10.0)).run(&Cpu)?;
//! # assert!(trained.epochs[2].validation_accuracy > 0.6);
//!
//! // What `Model::save` writes and `Model::load` reads.
//! let model = trained.into_model(ModelInfo { presentation: Some(config.presentation()), ..ModelInfo::default() });
//! # assert_eq!(model.architecture().areas(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Noise
//!
//! The same `model` on test images of the same `set`, with noise on their pixels that is drawn anew at every step:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use cords::data::{ImageSource, PrepareConfig, SourceName, Split, SplitImages, prepare_in_memory};
//! # use cords::learn::{Data, DirectConfig, Fit, Training};
//! # use cords::net::{Architecture, Euler, ModelInfo};
//! # let digits = PrepareConfig::new(ImageSource::new(SourceName::Digits, ""), 1, 8);
//! # let (set, _) = prepare_in_memory(&digits, &mut |_, _| {})?;
//! # let images = |split| SplitImages::new(&set, split, None, 0);
//! # let data = Data { train: &images(Split::Train)?, validation: &images(Split::Validation)? };
//! # let (channels, strides) = (vec![16; 3], vec![1; 2]);
//! # let graph = Architecture { in_channels: 1, image_side: 8, channels, strides, classes: 10 }.graph()?;
//! # let config = DirectConfig {
//! #     spontaneous_ms: 50.0, stimulus_ms: 50.0, after_ms: 50.0, readout_window_ms: 25.0,
//! #     fit: Fit { epochs: 3, learning_rate: 1e-2, ..Fit::default() },
//! #     ..DirectConfig::default()
//! # };
//! # let trained = Training::new(&graph, &config, &data).euler(&Euler::new(5.0, 10.0)).run(&cords::device::Cpu)?;
//! # let model = trained.into_model(ModelInfo {
//! #     presentation: Some(config.presentation()),
//! #     ..ModelInfo::default()
//! # });
//! use cords::device::Cpu;
//! use cords::noise::{Condition, EvaluationOptions, NoisePresentation, Perturbation, Pixels, evaluate};
//!
//! let perturbation = Perturbation::Pixels {
//!     noise: Pixels::Gaussian,
//!     timing: NoisePresentation::Dynamic,
//!     clip: false,
//! };
//! // Standard deviations of pixels in [0, 1] at a step of 2 ms; less at these of 5 ms.
//! let conditions = [0.0, 1.0, 4.0].map(|level| Condition { perturbation, level }).to_vec();
//! let presentation = config.presentation();
//! let options = EvaluationOptions { conditions, presentation, ..EvaluationOptions::default() };
//! let results = evaluate(&Cpu, &model, &set, set.split(Split::Test), &options, &mut |_, _| {})?;
//! for result in &results {
//!     println!("level {}: accuracy {:?}", result.condition.level, result.accuracy);
//! }
//! assert!(results[0].correct > results[2].correct);
//! # Ok(())
//! # }
//! ```
//!
//! # Fixed points
//!
//! Where the same `model` settles for three images, and how it comes back to there from a small perturbation:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use cords::data::{ImageSource, PrepareConfig, SourceName, Split, SplitImages, prepare_in_memory};
//! # use cords::learn::{Data, DirectConfig, Fit, Training};
//! # use cords::net::{Architecture, Euler, ModelInfo};
//! # let digits = PrepareConfig::new(ImageSource::new(SourceName::Digits, ""), 1, 8);
//! # let (set, _) = prepare_in_memory(&digits, &mut |_, _| {})?;
//! # let images = |split| SplitImages::new(&set, split, None, 0);
//! # let data = Data { train: &images(Split::Train)?, validation: &images(Split::Validation)? };
//! # let (channels, strides) = (vec![16; 3], vec![1; 2]);
//! # let graph = Architecture { in_channels: 1, image_side: 8, channels, strides, classes: 10 }.graph()?;
//! # let config = DirectConfig {
//! #     spontaneous_ms: 50.0, stimulus_ms: 50.0, after_ms: 50.0, readout_window_ms: 25.0,
//! #     fit: Fit { epochs: 3, learning_rate: 1e-2, ..Fit::default() },
//! #     ..DirectConfig::default()
//! # };
//! # let trained = Training::new(&graph, &config, &data).euler(&Euler::new(5.0, 10.0)).run(&cords::device::Cpu)?;
//! # let model = trained.into_model(ModelInfo {
//! #     presentation: Some(config.presentation()),
//! #     ..ModelInfo::default()
//! # });
//! use cords::data::Images;
//! use cords::dynamics::{FixedPointOptions, SpectrumOptions, fixed_points};
//!
//! // In float64: residuals and eigenvalues leave float32 little room.
//! let net = model.cordsnet()?.cast::<f64>();
//! let options = FixedPointOptions { spectrum: Some(SpectrumOptions::default()), ..FixedPointOptions::default() };
//! let shown = images(Split::Test)?;
//! let found = fixed_points(&net, 3, &|i, out| shown.fill(i, 0, out), &options, false, &mut |_, _| {})?;
//! for (image, point) in found.images.iter().enumerate() {
//!     for (number, area) in point.areas.iter().enumerate() {
//!         let spectrum = area.spectrum.as_ref();
//!         let slowest = spectrum.and_then(|spectrum| spectrum.modes.first()?.time_constant_ms);
//!         let kind = spectrum.and_then(|spectrum| spectrum.stability());
//!         println!("image {image}, area {number}: {kind:?}, slowest mode {slowest:?} ms");
//!     }
//! }
//! assert_eq!(found.images.len(), 3);
//! # Ok(())
//! # }
//! ```
//!
//! Networks that are described in full, with feedback, adaptation and time constants of their own, are a
//! [`Graph`](net::Graph); `examples/` has programs that begin where these end.
//!
//! # Modules
//!
//! Each uses only modules below it in this list, which `tests/cli/modules.rs` of the workspace reads and holds the code
//! against.
//!
//! - `selftest`: a device against float64, and its memory against what is planned
//! - `assoc`: association areas, cognitive tasks, the training of one on the other
//! - `noise`: classification under noise on images, units and weights
//! - `dynamics`: steady states, spectra, noise response and exponents
//! - `record`: activity streamed into a file
//! - `exchange`: weights from and to PyTorch's files
//! - `learn`: gradients, optimisers and the training phases
//! - `neural`: recordings, and regressions of them on features of stimuli
//! - `data`: image sets, from their sources to normalised floats
//! - `net`: CordsNet, the CNN twin, their parameters and model files
//! - `tensor`: a dense tensor, in which parameters are kept
//! - `device`: the kernel interface, its number types, and the processors that implement it
//! - `rng`: counter-based random numbers
//! - `progress`: a count of parts done, from any thread
//! - `interrupt`: ending a long computation from another thread
//! - `statistics`: quantiles and intervals
//! - `linear`: small dense systems of equations

pub mod assoc;
pub mod data;
pub mod device;
pub mod dynamics;
pub mod exchange;
pub mod interrupt;
pub mod learn;
mod linear;
pub mod net;
pub mod neural;
pub mod noise;
mod progress;
pub mod record;
pub mod rng;
pub mod selftest;
pub mod statistics;
mod tensor;

pub use device::Real;
pub use dynvis_base::{Classified, ErrorKind};
pub use tensor::Tensor;
