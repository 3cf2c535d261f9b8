//! The feed-forward twin of a CordsNet: the same convolutions, sources and readout, with batch norm and no time.
//!
//! Per area `r = ReLU(BN(area_conv(BN(area_area(x)))))`; batch norm also follows inp_conv and skip_area. The forward
//! pass here serves evaluation (running statistics) and training (statistics of the whole batch, over chunks of
//! images).

use super::connections::pool_readout;
use super::filters::Weights;
use super::folded::FoldedGraph;
use super::graph::{Conv, ConvKind, INPUT, Inlet, TwinArea, Way};
use super::parameters::READOUT_BIAS;
use super::{Graph, NetError, Parameters};
use crate::Real;
use crate::device::{Cpu, Device, Maps, of_all_ranks};

/// Added to the variance (PyTorch's default).
pub(crate) const NORM_EPSILON: f64 = 1e-5;

/// Batch norm after one convolution, per channel.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Vec<f64>,
    pub(crate) bias: Vec<f64>,
    running: Running,
}

/// Running statistics of one batch norm.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) mean: Vec<f64>,
    pub(crate) variance: Vec<f64>,
}

/// Statistics that one batch norm used in one pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) mean: Vec<f64>,
    /// Mean squared distance from the mean (not Bessel's).
    pub(crate) variance: Vec<f64>,
    /// Number of values of each channel: images times positions.
    pub(crate) count: usize,
}

/// Everything a forward pass over one chunk of images leaves behind.
pub(crate) struct CnnChunk<T: Real, D: Device<T>> {
    pub(crate) batch: usize,
    pub(crate) work: D::Workspace,
    pub(crate) images: D::Buffer,
    /// Per channel of the batch norm being formed: mean, and squared distance from it.
    moments: Vec<[f64; 2]>,
    /// Output of each convolution, by number (unused for the readout).
    pub(crate) convolved: Vec<D::Buffer>,
    /// Batch norm of each convolution's output, where there is one.
    pub(crate) normed: Vec<D::Buffer>,
    pub(crate) inp: D::Buffer,
    /// x_l per area; empty where it is `inp`.
    pub(crate) source: Vec<D::Buffer>,
    pub(crate) activity: Vec<D::Buffer>,
    pub(crate) pooled: D::Buffer,
    pub(crate) logits: D::Buffer,
}

/// What a convolution reads.
#[derive(Clone, Copy)]
pub(crate) enum ConvInput {
    Images,
    Inp,
    /// The sum of an area's sources.
    Source(usize),
    /// The batch norm of another convolution.
    Normed(usize),
    Activity(usize),
}

impl ConvInput {
    /// What an area's inlet reads.
    pub(crate) fn of(area: usize, inlet: &Inlet) -> Self {
        if reads_inp(inlet) {
            Self::Inp
        } else {
            Self::Source(area)
        }
    }
}

/// Whether an inlet's only source is the image's `inp`.
fn reads_inp(inlet: &Inlet) -> bool {
    inlet.areas.is_empty() && inlet.image == [Way::Direct]
}

impl<T: Real, D: Device<T>> CnnChunk<T, D> {
    pub(crate) fn input(&self, input: ConvInput) -> &D::Buffer {
        match input {
            ConvInput::Images => &self.images,
            ConvInput::Inp => &self.inp,
            ConvInput::Source(area) => &self.source[area],
            ConvInput::Normed(conv) => &self.normed[conv],
            ConvInput::Activity(area) => &self.activity[area],
        }
    }
}

/// The CNN on a device.
pub(crate) struct CnnGraph<T: Real, D: Device<T>> {
    pub(crate) device: D,
    pub(crate) architecture: Graph,
    filters: Vec<D::Filter>,
    pub(crate) norms: Vec<Option<Norm>>,
    readout_bias: D::Buffer,
}

impl<T: Real, D: Device<T>> CnnGraph<T, D> {
    pub(crate) fn new(device: &D, architecture: &Graph, weights: &Weights<T, D>, running: &[Option<Running>]) -> Self {
        // The order of `cnn_others`: weight and bias of every batch norm, then the readout's bias.
        let (readout_bias, affine) = weights.others().split_last().expect("the readout's bias comes last");
        let values = |buffer: &D::Buffer| device.download(buffer).into_iter().map(T::to_f64).collect();
        let mut affine = affine.chunks_exact(2);
        let norms = running
            .iter()
            .map(|running| {
                running.as_ref().and_then(|running| {
                    affine.next().map(|pair| Norm {
                        weight: values(&pair[0]),
                        bias: values(&pair[1]),
                        running: running.clone(),
                    })
                })
            })
            .collect();
        Self {
            device: device.clone(),
            architecture: architecture.clone(),
            filters: weights.filters(device),
            norms,
            readout_bias: {
                let maps = architecture.logit_maps(1);
                let mut out = device.zeros_maps(maps);
                device.broadcast_parameter(maps, readout_bias, &mut out);
                out
            },
        }
    }

    pub(crate) fn filter(&self, conv: usize) -> &D::Filter {
        &self.filters[conv]
    }

    pub(crate) fn conv(&self, conv: usize) -> &Conv {
        &self.architecture.convs()[conv]
    }

    pub(crate) fn maps(&self, area: usize, batch: usize) -> Maps {
        self.architecture.maps(area, batch)
    }

    /// Areas in the order in which they are computed.
    pub(crate) fn areas(&self) -> Vec<TwinArea<'_>> {
        self.architecture.twin().expect("checked when the network was made")
    }

    /// Memory for a chunk of images, given as host `[batch, in_channels, side, side]`.
    pub(crate) fn chunk(&self, images: &[T], batch: usize) -> CnnChunk<T, D> {
        let maps = self.architecture.image_maps(batch);
        let mut uploaded = self.device.zeros_maps(maps);
        self.device.upload_maps(maps, images, &mut uploaded);
        self.chunk_of(uploaded, batch)
    }

    /// Memory for a chunk of images that are on the device.
    fn chunk_of(&self, images: D::Buffer, batch: usize) -> CnnChunk<T, D> {
        let device = &self.device;
        let architecture = &self.architecture;
        let out = |conv: &Conv| device.zeros_maps(conv.shape.out_maps(batch));
        let convs = architecture.convs().iter();
        let normed = |conv: &Conv| conv.norm().map_or(device.zeros(0), |_| out(conv));
        let mut source: Vec<D::Buffer> = (0..architecture.areas()).map(|_| device.zeros(0)).collect();
        for TwinArea { area, inlet, .. } in self.areas() {
            if !reads_inp(inlet) {
                source[area] = device.zeros_maps(inlet.reads.with_batch(batch));
            }
        }
        CnnChunk {
            batch,
            work: D::Workspace::default(),
            images,
            moments: Vec::new(),
            convolved: convs.clone().map(out).collect(),
            normed: convs.map(normed).collect(),
            inp: device.zeros_maps(architecture.inp_maps(batch)),
            source,
            activity: (0..architecture.areas())
                .map(|area| device.zeros_maps(self.maps(area, batch)))
                .collect(),
            pooled: device.zeros_maps(architecture.pooled_maps(batch)),
            logits: device.zeros_maps(architecture.logit_maps(batch)),
        }
    }

    /// Forward pass of all chunks together. In training, batch norm uses the statistics of the whole batch,
    /// combined in the order of the chunks; they are returned by the number of their convolution.
    pub(crate) fn forward(&self, chunks: &mut [CnnChunk<T, D>], training: bool) -> Vec<Statistics> {
        let device = &self.device;
        let architecture = &self.architecture;
        let mut statistics = vec![Statistics::default(); self.filters.len()];
        let convolve = |chunks: &mut [CnnChunk<T, D>], conv: usize, from: ConvInput| {
            device.for_each(chunks, |_, chunk| {
                let mut y = std::mem::replace(&mut chunk.convolved[conv], device.zeros(0));
                let mut work = std::mem::take(&mut chunk.work);
                device.conv(
                    &mut work,
                    &self.filters[conv],
                    chunk.batch,
                    chunk.input(from),
                    &mut y,
                    false,
                );
                chunk.convolved[conv] = y;
                chunk.work = work;
            });
        };
        convolve(chunks, INPUT, ConvInput::Images);
        statistics[INPUT] = self.normalise(INPUT, chunks, training);
        device.for_each(chunks, |_, chunk| {
            let maps = self.conv(INPUT).shape.out_maps(chunk.batch);
            device.avg_pool(maps, &chunk.normed[INPUT], &mut chunk.inp);
        });
        for (conv, described) in architecture.convs().iter().enumerate() {
            if described.kind == ConvKind::ImageShortcut {
                convolve(chunks, conv, ConvInput::Inp);
            }
        }
        for TwinArea { area, inlet, recurrent } in self.areas() {
            for (from, way) in &inlet.areas {
                if let Way::Conv(conv) = *way {
                    convolve(chunks, conv, ConvInput::Activity(*from));
                    statistics[conv] = self.normalise(conv, chunks, training);
                }
            }
            device.for_each(chunks, |_, chunk| self.read_source(area, inlet, chunk));
            convolve(chunks, inlet.conv, ConvInput::of(area, inlet));
            statistics[inlet.conv] = self.normalise(inlet.conv, chunks, training);
            convolve(chunks, recurrent, ConvInput::Normed(inlet.conv));
            statistics[recurrent] = self.normalise(recurrent, chunks, training);
            device.for_each(chunks, |_, chunk| {
                device.rectify(&chunk.normed[recurrent], &mut chunk.activity[area])
            });
        }
        device.for_each(chunks, |_, chunk| {
            pool_readout(device, architecture, chunk.batch, &chunk.activity, &mut chunk.pooled);
            device.broadcast(
                architecture.logit_maps(chunk.batch),
                &self.readout_bias,
                &mut chunk.logits,
            );
            device.conv(
                &mut chunk.work,
                self.filter(architecture.readout_conv()),
                chunk.batch,
                &chunk.pooled,
                &mut chunk.logits,
                true,
            );
        });
        statistics
    }

    /// x_l, where it is not `inp`.
    fn read_source(&self, area: usize, inlet: &Inlet, chunk: &mut CnnChunk<T, D>) {
        if reads_inp(inlet) {
            return;
        }
        let device = &self.device;
        let mut x = std::mem::replace(&mut chunk.source[area], device.zeros(0));
        let inp = inlet.image.iter().map(|way| (None, *way));
        let areas = inlet.areas.iter().map(|(from, way)| (Some(*from), *way));
        for (index, (from, way)) in inp.chain(areas).enumerate() {
            let (maps, source) = match from {
                None => (self.architecture.inp_maps(chunk.batch), &chunk.inp),
                Some(from) => (self.maps(from, chunk.batch), &chunk.activity[from]),
            };
            let source = match way {
                Way::Conv(conv) if self.norms[conv].is_some() => &chunk.normed[conv],
                Way::Conv(conv) => &chunk.convolved[conv],
                Way::Direct => source,
                Way::Upsampled(interpolation) => {
                    let enlargement = (inlet.reads.side, interpolation);
                    device.upsample(maps, enlargement, source, &mut x, index > 0);
                    continue;
                }
            };
            if index > 0 {
                device.add(source, &mut x);
            } else {
                device.copy(source, &mut x);
            }
        }
        chunk.source[area] = x;
    }

    /// Batch norm of one convolution's output over all chunks.
    fn normalise(&self, index: usize, chunks: &mut [CnnChunk<T, D>], training: bool) -> Statistics {
        let device = &self.device;
        let maps = self.conv(index).shape.out_maps(1);
        let norm = self.norms[index]
            .as_ref()
            .expect("only convolutions that have a batch norm are normalised");
        let statistics = if training {
            device.for_each(chunks, |_, chunk| {
                chunk.moments = device.channel_moments(maps.with_batch(chunk.batch), &chunk.convolved[index]);
            });
            let parts = chunks
                .iter()
                .map(|chunk| ((chunk.batch * maps.plane()) as f64, chunk.moments.as_slice()));
            Statistics::of(moments_of_all_peers(device, combine_moments(maps.channels, parts)))
        } else {
            Statistics {
                mean: norm.running.mean.clone(),
                variance: norm.running.variance.clone(),
                count: 0,
            }
        };
        let scale: Vec<f64> = norm
            .weight
            .iter()
            .zip(&statistics.variance)
            .map(|(w, variance)| w / (variance + NORM_EPSILON).sqrt())
            .collect();
        let shift: Vec<f64> = norm
            .bias
            .iter()
            .zip(&scale)
            .zip(&statistics.mean)
            .map(|((b, scale), mean)| b - scale * mean)
            .collect();
        device.for_each(chunks, |_, chunk| {
            let maps = maps.with_batch(chunk.batch);
            device.channel_affine(maps, &scale, &shift, &chunk.convolved[index], &mut chunk.normed[index]);
        });
        statistics
    }
}

/// Joins the moments of parts (count, per channel mean and squared distance from it) in order; Chan, Golub and LeVeque
/// 1983.
fn combine_moments<'a>(channels: usize, parts: impl Iterator<Item = (f64, &'a [[f64; 2]])>) -> (f64, Vec<[f64; 2]>) {
    let mut joined = vec![[0.0f64; 2]; channels];
    let mut count = 0.0;
    for (size, moments) in parts.filter(|(size, _)| *size > 0.0) {
        let total = count + size;
        for (joined, part) in joined.iter_mut().zip(moments) {
            let difference = part[0] - joined[0];
            joined[0] += difference * size / total;
            joined[1] += part[1] + difference * difference * count * size / total;
        }
        count = total;
    }
    (count, joined)
}

/// The moments of what all peers have.
fn moments_of_all_peers<T: Real, D: Device<T>>(
    device: &D,
    (count, moments): (f64, Vec<[f64; 2]>),
) -> (f64, Vec<[f64; 2]>) {
    if device.peers().world == 1 {
        return (count, moments);
    }
    let channels = moments.len();
    let own: Vec<f64> = [count].into_iter().chain(moments.into_flattened()).collect();
    let all = of_all_ranks(device, &own);
    let parts = all.chunks(own.len()).map(|part| (part[0], part[1..].as_chunks().0));
    combine_moments(channels, parts)
}

impl Statistics {
    /// Of so many values of each channel with these moments.
    fn of((count, moments): (f64, Vec<[f64; 2]>)) -> Self {
        Self {
            mean: moments.iter().map(|moments| moments[0]).collect(),
            variance: moments.iter().map(|moments| moments[1] / count).collect(),
            count: count as usize,
        }
    }
}

/// Running statistics from arranged parameters, by the place of their convolution in the fixed order.
pub(crate) fn running_from<T: Real>(architecture: &Graph, parameters: &Parameters<T>) -> Vec<Option<Running>> {
    let values = |name: &String| -> Vec<f64> {
        let tensor = parameters
            .get(name)
            .expect("parameters are arranged for this architecture");
        tensor.data.iter().map(|value| value.to_f64()).collect()
    };
    let running = |[_, _, mean, variance]: [String; 4]| Running {
        mean: values(&mean),
        variance: values(&variance),
    };
    let convs = architecture.convs().iter();
    convs.map(|conv| conv.norm_names().map(running)).collect()
}

/// Names of a CNN's trained parameters apart from g and v.
pub(crate) fn cnn_others(architecture: &Graph) -> Vec<String> {
    let names = architecture.convs().iter().filter_map(Conv::norm_names);
    names
        .flat_map(|[weight, bias, _, _]| [weight, bias])
        .chain([READOUT_BIAS.to_owned()])
        .collect()
}

/// The CNN twin ready to evaluate, with its batch norms or with them folded in.
pub struct Cnn<T: Real, D: Device<T> = Cpu> {
    parameters: Parameters<T>,
    form: Form<T, D>,
}

enum Form<T: Real, D: Device<T>> {
    Normed(CnnGraph<T, D>),
    Folded(FoldedGraph<T, D>),
}

impl<T: Real> Cnn<T, Cpu> {
    /// A network on the CPU.
    ///
    /// # Errors
    /// A [`NetError`] where architecture and parameters do not fit together.
    pub fn new(architecture: &Graph, parameters: &Parameters<T>) -> Result<Self, NetError> {
        Self::on(&Cpu, architecture, parameters)
    }
}

impl<T: Real, D: Device<T>> Cnn<T, D> {
    /// A network on a given device.
    ///
    /// # Errors
    /// A [`NetError`] where architecture and parameters do not fit together.
    pub fn on(device: &D, architecture: &Graph, parameters: &Parameters<T>) -> Result<Self, NetError> {
        architecture.twin()?;
        let parameters = parameters.arranged_cnn(architecture)?;
        if parameters.is_folded_cnn() {
            let form = Form::Folded(FoldedGraph::new(device, architecture, &parameters));
            return Ok(Self { parameters, form });
        }
        let weights = Weights::upload(device, architecture, &parameters, cnn_others(architecture));
        let graph = CnnGraph::new(device, architecture, &weights, &running_from(architecture, &parameters));
        Ok(Self::from_graph(parameters, graph))
    }

    /// The network over a graph whose batch norms and weights are those of `parameters`, or newer.
    pub(crate) fn from_graph(parameters: Parameters<T>, graph: CnnGraph<T, D>) -> Self {
        let form = Form::Normed(graph);
        Self { parameters, form }
    }

    pub(crate) fn device(&self) -> &D {
        match &self.form {
            Form::Normed(graph) => &graph.device,
            Form::Folded(graph) => &graph.device,
        }
    }

    /// The network without its weights.
    pub fn architecture(&self) -> &Graph {
        match &self.form {
            Form::Normed(graph) => &graph.architecture,
            Form::Folded(graph) => &graph.architecture,
        }
    }

    /// Parameters and running statistics in order.
    pub fn parameters(&self) -> &Parameters<T> {
        &self.parameters
    }

    /// Logits `[batch, classes]` of normalised images `[batch, in_channels, side, side]`, in evaluation mode.
    pub fn logits_eval(&self, images: &[T], batch: usize) -> Vec<T> {
        self.evaluate(images, batch).0
    }

    /// Logits `[batch, classes]` of normalised images on the device, one group of them, and the activity of every area
    /// there.
    pub(crate) fn evaluate_group(&self, images: &D::Buffer, batch: usize) -> (Vec<T>, Vec<D::Buffer>) {
        let device = self.device();
        let (logits, activity) = match &self.form {
            Form::Normed(graph) => {
                let mut chunk = [graph.chunk_of(device.duplicate(images), batch)];
                graph.forward(&mut chunk, false);
                let [chunk] = chunk;
                (chunk.logits, chunk.activity)
            }
            Form::Folded(graph) => {
                let pass = graph.forward(&mut D::Workspace::default(), images, batch, |_, _, _, _| {});
                (pass.logits, pass.activity)
            }
        };
        let maps = self.architecture().logit_maps(batch);
        let mut host = vec![T::ZERO; maps.len()];
        device.download_maps(maps, &logits, &mut host);
        (host, activity)
    }

    /// The activity of every area, as [`evaluate_group`](Self::evaluate_group) gives it, with its shape.
    pub(crate) fn with_maps<'a>(&self, activity: &'a [D::Buffer], batch: usize) -> Vec<(Maps, &'a D::Buffer)> {
        let maps = |area: usize| self.architecture().maps(area, batch);
        activity.iter().enumerate().map(|(area, r)| (maps(area), r)).collect()
    }

    /// Logits `[batch, classes]` and the activity of every area `[batch, channels, side, side]`, in evaluation mode.
    pub fn evaluate(&self, images: &[T], batch: usize) -> (Vec<T>, Vec<Vec<T>>) {
        let device = self.device();
        let architecture = self.architecture();
        let size = device.group_images();
        let image_len = architecture.image_len();
        struct Group<'a, T> {
            images: &'a [T],
            logits: Vec<T>,
            activity: Vec<Vec<T>>,
        }
        let mut groups: Vec<Group<'_, T>> = images[..batch * image_len]
            .chunks(size * image_len)
            .map(|images| Group {
                images,
                logits: Vec::new(),
                activity: Vec::new(),
            })
            .collect();
        device.for_each(&mut groups, |_, group| {
            let batch = group.images.len() / image_len;
            let maps = architecture.image_maps(batch);
            let mut images = device.zeros_maps(maps);
            device.upload_maps(maps, group.images, &mut images);
            let (logits, activity) = self.evaluate_group(&images, batch);
            group.logits = logits;
            let areas = activity.iter().enumerate().map(|(area, activity)| {
                let maps = architecture.maps(area, batch);
                let mut out = vec![T::ZERO; maps.len()];
                device.download_maps(maps, activity, &mut out);
                out
            });
            group.activity = areas.collect();
        });
        let logits = groups.iter().flat_map(|group| group.logits.iter().copied()).collect();
        let area = |area: usize| {
            groups
                .iter()
                .flat_map(|group| group.activity[area].iter().copied())
                .collect()
        };
        (logits, (0..architecture.areas()).map(area).collect())
    }
}
