//! `fixed_points`: steady states with and without an image, and what each area's linearisation there says of stability,
//! growth, noise and chaos.

mod measured;
mod params;
mod pictures;
mod tables;

use cords::data::ImageSet;
use cords::dynamics::{
    Attractors, FixedPoint, FixedPoints as Points, LeadingEigenvalues, Separation, SpectrumOptions, fixed_points,
    recurrent_norm_bound, recurrent_spectrum, save_vectors, separation,
};
use cords::net::{CordsNet, Model};
use dynvis_runner::table::TableRow;

use self::measured::Compared;
use self::params::Params;
use self::tables::{
    Attractor, Classes, Convolution, Eigenvalue, Exponent, Growth, NetworkGrowth, NetworkSize, NetworkState, Noise,
    NoiseMode, Power, Size, Starts, State,
};
use super::keyed_defaults;
use super::noise::model_name;
use super::times::require;
use super::{Artifact, Context, Declared, Kind, Members, StageError, Update, Violation, spread};

pub(super) struct FixedPoints;

// Outputs that are no tables; those are named by their rows.
const EIGENVECTORS: &str = "eigenvectors";
const PICTURES: &str = "pictures";

/// What was found out about one network as a whole.
struct Network {
    slot: usize,
    name: String,
    seed: u64,
    /// `[area]`: eigenvalues of its recurrent convolution, by magnitude and by real part.
    convolutions: Vec<[LeadingEigenvalues; 2]>,
    /// `[area]`; empty where it was not asked for.
    separations: Vec<Separation>,
    /// Fraction of the settled images that the network itself classifies rightly there; none where none settled.
    answers: Option<f64>,
}

/// A fixed point with what it belongs to.
struct NetworkFixedPoint {
    slot: usize,
    network: String,
    /// The network with the matrix fields that tell it from the others, for pictures.
    title: String,
    seed: u64,
    /// Index in the dataset; -1 without input.
    image: i64,
    label: Option<String>,
    /// Step of the simulation, ms.
    dt_ms: f64,
    /// Bounds of the norms of the recurrent convolutions; none where they were not asked for.
    bounds: Vec<Option<f64>>,
    point: FixedPoint,
}

impl Kind for FixedPoints {
    type Params = Params;
    const NAME: &'static str = "fixed_points";
    const SUMMARY: &'static str = "steady states with and without an image, and each area's eigenvalues, growth, noise \
        response and exponents there";
    const CODE_VERSION: u32 = 7;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::FIXED_POINTS;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::table::<State>("steady states of each area, with and without an image"),
        Declared::table::<Eigenvalue>("leading eigenvalues of each area's Jacobian at its steady state")
            .when("with `eigenvalues` above 0", |params| params.eigenvalues > 0),
        Declared::table::<NetworkState>("what the steady states of the whole network are")
            .when("with `eigenvalues` above 0", |params| params.eigenvalues > 0),
        Declared::table::<Starts>(
            "whether a steady state is the only one, and whether activity returns after the image",
        )
        .called("initial_conditions")
        .when("with `initial_conditions` or `after` above 0", |params| {
            params.initial_conditions > 0 || params.after > 0.0
        }),
        Declared::table::<Attractor>(
            "where activity goes in the long run: steady states, limit cycles, neither, or divergence",
        )
        .when("with `attractors`", |params| params.attractors.is_some()),
        Declared::table::<Size>("singular values of each area's coupling, and how far from normal it is")
            .called("non_normality")
            .when("with `singular_values` above 0", |params| params.singular_values > 0),
        Declared::table::<NetworkSize>(
            "singular values of the whole network's coupling, and how far from normal it is",
        )
        .called("network_non_normality")
        .when("with `singular_values` above 0", |params| params.singular_values > 0),
        Declared::table::<Growth>("largest growth of a perturbation of each area's steady state")
            .when("with a time in `growth`", |params| !params.growth.is_empty()),
        Declared::table::<NetworkGrowth>("largest growth of a perturbation of the whole network's steady state")
            .when("with a time in `growth`", |params| !params.growth.is_empty()),
        Declared::table::<Noise>("stationary fluctuations of each area at its steady state")
            .when("with `probes` above 0", |params| params.probes > 0),
        Declared::table::<Power>("their power by frequency").when("with a frequency in `frequencies`", |params| {
            !params.frequencies.is_empty()
        }),
        Declared::table::<NoiseMode>("directions in which the whole network fluctuates most")
            .when("with `noise_modes` above 0", |params| params.noise_modes > 0),
        Declared::table::<Compared>("fluctuations by the linearisation, and as a `noise` stage measured them")
            .when("with `measured`", |params| params.measured.is_some()),
        Declared::table::<Convolution>("leading eigenvalues of each area's recurrent convolution itself")
            .when("with `convolution_eigenvalues` above 0", |params| {
                params.convolution_eigenvalues > 0
            }),
        Declared::table::<Classes>(
            "how the steady states of images lie in each area, and how well classes are separated",
        )
        .when("with `classes`", |params| params.classes),
        Declared::table::<Exponent>("Lyapunov exponents of each area along the trajectory")
            .when("with `exponents` above 0", |params| params.exponents > 0),
        Declared::always(EIGENVECTORS, Artifact::FILES, "eigenvectors of `eigenvalues`")
            .when("with `eigenvectors`", |params| params.eigenvectors),
        Declared::always(
            PICTURES,
            Artifact::FILES,
            "eigenvalues in the complex plane and the like; SVG and PNG",
        ),
    ];
    // Pictures name the fields.
    const SEES_GROUPS: bool = true;

    fn check(params: &Params) -> Vec<Violation> {
        params.violations()
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let indices = set.split(params.split);
        let indices = spread(indices, params.images);
        let measured = match &params.measured {
            Some(reference) => measured::gains(&context.table_input(&reference.0)?)?,
            None => Vec::new(),
        };
        // What cannot be simulated is said before anything is computed.
        for (slot, reference) in params.models.iter().enumerate() {
            let model = Model::load(&context.input(&reference.0)?.join("model.safetensors"))?;
            if let Model::CordsNet { euler, .. } = &model {
                require(euler, &format!("model {slot}"), &params.times())?;
            }
        }
        let members = Members::of(context, params.models.iter().map(|model| model.0.as_str()));
        let (mut found, mut networks) = (Vec::new(), Vec::new());
        for (slot, reference) in params.models.iter().enumerate() {
            let model = Model::load(&context.input(&reference.0)?.join("model.safetensors"))?;
            let net = cordsnet(&model, slot, &set)?;
            let options = params.options(&net);
            let areas = 0..net.architecture().areas();
            let bounds: Vec<Option<f64>> = areas
                .map(|area| {
                    (params.singular_values > 0)
                        .then(|| recurrent_norm_bound(&net, area))
                        .flatten()
                })
                .collect();
            let constants = model.info().normalisation((set.mean(), set.std()));
            let image = |i: usize, out: &mut [f32]| {
                set.fill_unit(indices[i] as usize, out)?;
                set.normalise_by(constants, out);
                Ok(())
            };
            let models = params.models.len();
            let mut progress = |done, total| {
                context.report(Update {
                    done: (slot * total + done) as u64,
                    total: (models * total) as u64,
                    unit: "parts".into(),
                    phase: format!("model {}/{models}", slot + 1),
                    figures: Vec::new(),
                    milestone: done == total,
                });
            };
            let points = fixed_points(&net, indices.len(), &image, &options, params.classes, &mut progress)?;
            let name = model_name(&model);
            let seed = model.info().seed;
            if params.eigenvectors {
                let folder = context.output(EIGENVECTORS)?;
                let images = indices.iter().map(|index| i64::from(*index)).zip(&points.images);
                for (image, point) in [(-1, &points.spontaneous)].into_iter().chain(images) {
                    let spectra: Vec<_> = point.areas.iter().map(|area| area.spectrum.as_ref()).collect();
                    let file = match image {
                        -1 => format!("model_{slot}_spontaneous.safetensors"),
                        image => format!("model_{slot}_image_{image}.safetensors"),
                    };
                    save_vectors(&folder.join(file), &net, &spectra)?;
                }
            }
            let labels: Vec<u32> = indices.iter().map(|index| set.label(*index as usize)).collect();
            networks.push(Network::of(params, &net, slot, (&name, seed), &points, &labels)?);
            let of = |image, label, point| NetworkFixedPoint {
                slot,
                network: name.clone(),
                title: members.title_of(slot, &name),
                seed,
                image,
                label,
                dt_ms: net.euler().dt_ms,
                bounds: bounds.clone(),
                point,
            };
            found.push(of(-1, None, points.spontaneous));
            found.extend(indices.iter().zip(points.images).map(|(&index, point)| {
                let label = set.classes().get(set.label(index as usize) as usize).cloned();
                of(i64::from(index), label, point)
            }));
        }
        for note in notes(&found, params.attractors.is_some()) {
            context.note(note);
        }
        for output in Self::outputs(params) {
            let slot = output.slot.as_str();
            match slot {
                State::NAME => context.write_rows(slot, State::rows(&found))?,
                Eigenvalue::NAME => context.write_rows(slot, Eigenvalue::rows(&found))?,
                NetworkState::NAME => context.write_rows(slot, NetworkState::rows(&found))?,
                Starts::NAME => context.write_rows(slot, Starts::rows(&found))?,
                Attractor::NAME => context.write_rows(slot, Attractor::rows(&found))?,
                Size::NAME => context.write_rows(slot, Size::rows(&found))?,
                NetworkSize::NAME => context.write_rows(slot, NetworkSize::rows(&found))?,
                Growth::NAME => context.write_rows(slot, Growth::rows(&found))?,
                NetworkGrowth::NAME => context.write_rows(slot, NetworkGrowth::rows(&found))?,
                Noise::NAME => context.write_rows(slot, Noise::rows(&found))?,
                Power::NAME => context.write_rows(slot, Power::rows(&found, &params.frequencies))?,
                NoiseMode::NAME => context.write_rows(slot, NoiseMode::rows(&found))?,
                Compared::NAME => context.write_rows(slot, Compared::rows(&found, &measured))?,
                Convolution::NAME => context.write_rows(slot, Convolution::rows(&networks))?,
                Classes::NAME => context.write_rows(slot, Classes::rows(&networks))?,
                Exponent::NAME => {
                    let rows = Exponent::rows(&found, &params.exponent_noise, params.exponents);
                    context.write_rows(slot, rows)?;
                }
                PICTURES => pictures::write(&found, &context.output(slot)?)?,
                // Written model by model.
                EIGENVECTORS => {}
                other => return Err(StageError::new(format!("nothing writes the output `{other}`"))),
            }
        }
        Ok(())
    }
}

impl Network {
    fn of(
        params: &Params,
        net: &CordsNet<f64>,
        slot: usize,
        (name, seed): (&str, u64),
        points: &Points,
        labels: &[u32],
    ) -> Result<Self, StageError> {
        let areas = 0..net.architecture().areas();
        let spectrum = SpectrumOptions {
            modes: params.convolution_eigenvalues,
            seed: params.seed,
            ..SpectrumOptions::default()
        };
        let asked = areas.clone().filter(|_| params.convolution_eigenvalues > 0);
        let convolutions = asked.map(|area| recurrent_spectrum(net, area, &spectrum));
        // Where a search did not converge there is no steady state to lie anywhere.
        let settled: Vec<usize> = (0..labels.len())
            .filter(|i| points.images[*i].answer.is_some())
            .collect();
        let settled_labels: Vec<u32> = settled.iter().map(|i| labels[*i]).collect();
        let separations = areas.filter(|_| params.classes).map(|area| {
            let states: Vec<&[f32]> = settled.iter().map(|i| points.states[*i][area].as_slice()).collect();
            separation(&states, &settled_labels)
        });
        let right = settled
            .iter()
            .filter(|i| points.images[**i].answer == Some(labels[**i] as usize));
        Ok(Self {
            slot,
            name: name.to_owned(),
            seed,
            convolutions: convolutions.collect(),
            answers: (!settled.is_empty()).then(|| right.count() as f64 / settled.len() as f64),
            separations: separations.collect::<Result<_, _>>()?,
        })
    }
}

/// What tables do not say at a glance: searches that found no steady state, which most tables leave out, activity with
/// several attractors, and activity that did not settle in the time given.
fn notes(found: &[NetworkFixedPoint], has_attractors: bool) -> Vec<String> {
    let count = |is_one: &dyn Fn(&NetworkFixedPoint) -> bool| found.iter().filter(|f| is_one(f)).count();
    let lost = count(&|f| f.point.areas.iter().any(|area| !area.steady.converged));
    let diverged = count(&|f| f.point.areas.iter().any(|area| area.steady.diverged));
    let with_attractors = |is_one: &dyn Fn(&Attractors) -> bool| {
        count(&|f| {
            let mut attractors = f.point.areas.iter().flat_map(|area| &area.attractors);
            attractors.any(is_one)
        })
    };
    let several = with_attractors(&Attractors::is_multistable);
    let unsettled = with_attractors(&Attractors::has_unsettled);
    let all = found.len();
    let mut notes = Vec::new();
    if lost > 0 {
        let of_these = match diverged {
            0 => String::new(),
            diverged => format!(" ({diverged} diverged)"),
        };
        let more = if has_attractors {
            "the table `attractors` says what activity does there"
        } else {
            "give `attractors: {}` to see what activity does there"
        };
        notes.push(format!("{lost} of {all} states did not converge{of_these}: {more}"));
    }
    if several > 0 {
        notes.push(format!(
            "{several} of {all} states are one of several attractors: see the table `attractors`"
        ));
    }
    if unsettled > 0 {
        notes.push(format!(
            "activity of {unsettled} of {all} states had not settled from every initial condition when \
             `attractors.time` was over: where it is not chaotic, it is on its way to an attractor. Raise \
             `attractors.time`, which must be several times the longest time constant of the network, `tau_a_ms` of \
             adapting units included"
        ));
    }
    notes
}

/// The network in float64: residuals of 1e-6 and eigenvalues leave float32 little room.
fn cordsnet(model: &Model, slot: usize, set: &ImageSet) -> Result<CordsNet<f64>, StageError> {
    if let Model::Cnn { .. } = model {
        let error = StageError::new(format!("model {slot} is a CNN, which has no dynamics"));
        return Err(error.hint("give `models` stages that train a CordsNet"));
    }
    let net = model.cordsnet()?;
    let architecture = net.architecture();
    if (architecture.in_channels(), architecture.image_side()) != (set.channels(), set.side()) {
        return Err(StageError::new(format!(
            "model {slot} takes images of {} x {}^2, the dataset has {} x {}^2",
            architecture.in_channels(),
            architecture.image_side(),
            set.channels(),
            set.side()
        )));
    }
    Ok(net.cast())
}
