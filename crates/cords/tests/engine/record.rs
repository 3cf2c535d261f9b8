//! Recorded activity against direct simulation, and dimensionality against its definition.

use std::convert::Infallible;
use std::path::Path;

use cords::data::{ImageSet, ImageSetWriter, Splits};
use cords::device::{Cpu, Phi};
use cords::learn::Initialisation;
use cords::net::{Architecture, Euler, Graph, Input, Model, ModelInfo, Presentation, State};
use cords::record::{AreaTime, RecordError, RecordOptions, participation_ratio, record};
use cords::rng::{Purpose, Stream};
use safetensors::SafeTensors;

// ---------------------------------------------------------------------------------------------- participation ratio

/// `[images, features]` normal values, feature k scaled by 1 / (1 + k mod 7), on a mean of its own.
fn values(images: usize, features: usize) -> Vec<f32> {
    let mut values = vec![0.0f32; images * features];
    Stream::new(5, Purpose::Probe, 0, 0, 0, 0).normal_fill(&mut values);
    for row in values.chunks_exact_mut(features) {
        for (k, value) in row.iter_mut().enumerate() {
            *value = *value / (1 + k % 7) as f32 + k as f32 / features as f32;
        }
    }
    values
}

fn ratio(values: &[f32], images: usize, features: usize) -> Option<f64> {
    let mut read = |image: usize, range: std::ops::Range<usize>, out: &mut [f32]| -> Result<(), Infallible> {
        out.copy_from_slice(&values[image * features..][range]);
        Ok(())
    };
    match participation_ratio(images, features, &mut read) {
        Ok(ratio) => ratio,
    }
}

/// (tr C)^2 / tr(C^2) with C[a][b] = mean over images of the product of centred values, element by element.
fn by_definition(values: &[f32], images: usize, features: usize) -> f64 {
    let at = |image: usize, feature: usize| f64::from(values[image * features + feature]);
    let means: Vec<f64> = (0..features)
        .map(|f| (0..images).map(|i| at(i, f)).sum::<f64>() / images as f64)
        .collect();
    let (mut trace, mut squares) = (0.0, 0.0);
    for a in 0..features {
        for b in 0..features {
            let c = (0..images)
                .map(|i| (at(i, a) - means[a]) * (at(i, b) - means[b]))
                .sum::<f64>()
                / images as f64;
            trace += if a == b { c } else { 0.0 };
            squares += c * c;
        }
    }
    trace * trace / squares
}

/// Both sides of the Gram matrix, sizes that are no multiple of a vector or a block. Sums of some 1e3 products in f64.
#[test]
fn participation_ratio_is_that_of_the_covariance() {
    for (images, features) in [(5, 33), (33, 5), (12, 12), (2, 100), (100, 1), (61, 130)] {
        let values = values(images, features);
        let (found, expected) = (
            ratio(&values, images, features).expect("it varies"),
            by_definition(&values, images, features),
        );
        assert!(
            (found - expected).abs() < 1e-10 * expected,
            "{images} x {features}: {found} against {expected}"
        );
        assert!(found >= 1.0 - 1e-12 && found <= (images - 1).min(features) as f64 + 1e-9);
    }
    // Several blocks: more than 2^22 values, few on one side.
    for (images, features) in [(19, 250_000), (250_000, 19)] {
        let values = values(images, features);
        let found = ratio(&values, images, features).expect("it varies");
        // The transposed formula: over images where they are few.
        let expected = if features < images {
            by_definition(&values, images, features)
        } else {
            let means: Vec<f64> = (0..features)
                .map(|f| (0..images).map(|i| f64::from(values[i * features + f])).sum::<f64>() / images as f64)
                .collect();
            let product = |i: usize, j: usize| -> f64 {
                (0..features)
                    .map(|f| {
                        (f64::from(values[i * features + f]) - means[f])
                            * (f64::from(values[j * features + f]) - means[f])
                    })
                    .sum()
            };
            let trace: f64 = (0..images).map(|i| product(i, i)).sum();
            let squares: f64 = (0..images)
                .flat_map(|i| (0..images).map(move |j| (i, j)))
                .map(|(i, j)| product(i, j).powi(2))
                .sum();
            trace * trace / squares
        };
        assert!(
            (found - expected).abs() < 1e-9 * expected,
            "{images} x {features}: {found} against {expected}"
        );
    }
}

#[test]
fn participation_ratio_counts_equal_directions() {
    // Each image moves one feature of its own, up or down: equal variance along four directions, on a common mean.
    let mut values = vec![3.0f32; 8 * 50];
    for image in 0..8 {
        values[image * 50 + 10 * (image / 2)] += if image % 2 == 0 { 2.0 } else { -2.0 };
    }
    assert!((ratio(&values, 8, 50).expect("it varies") - 4.0).abs() < 1e-12);
    // All variance along one direction, from either side.
    for (images, features) in [(4, 9), (9, 4)] {
        let values: Vec<f32> = (0..images)
            .flat_map(|i| (0..features).map(move |f| (i * (f + 1)) as f32))
            .collect();
        assert!((ratio(&values, images, features).expect("it varies") - 1.0).abs() < 1e-12);
    }
    assert_eq!(ratio(&[1.0; 12], 3, 4), None, "nothing varies");
    assert_eq!(ratio(&[1.0, f32::NAN, 0.0, 2.0], 2, 2), None, "not finite");
    assert_eq!(ratio(&[1.0, 2.0], 1, 2), None, "one image");
}

// ------------------------------------------------------------------------------------------------------- recordings

const SIDE: usize = 16;

fn images(folder: &Path) -> ImageSet {
    let classes = ["a", "b", "c"].map(str::to_owned);
    let mut writer = ImageSetWriter::create(folder, "noise", 2, SIDE, &classes).expect("created");
    for image in 0..23u64 {
        let mut stream = Stream::new(1, Purpose::Probe, image, 0, 0, 0);
        let pixels: Vec<u8> = (0..2 * SIDE * SIDE).map(|_| stream.below(256) as u8).collect();
        writer.push(&pixels, (image % 3) as u32).expect("pushed");
    }
    let splits = Splits {
        train: (0..10).collect(),
        validation: Vec::new(),
        test: (10..23).collect(),
    };
    writer.finish(&splits, None, "", "").expect("finished")
}

fn architecture() -> Graph {
    Architecture {
        in_channels: 2,
        image_side: SIDE,
        channels: vec![5, 5, 5, 7, 7],
        strides: vec![1, 1, 2, 1],
        classes: 3,
    }
    .graph()
    .expect("valid")
}

fn cordsnet() -> Model {
    let mut parameters = Initialisation::default().cordsnet(&architecture(), 4);
    for area in 0..4 {
        let bias = parameters.get_mut(&format!("conv_bias.{area}")).expect("a bias");
        bias.data
            .iter_mut()
            .enumerate()
            .for_each(|(i, b)| *b = 0.3 * (i as f32).sin());
    }
    Model::CordsNet {
        architecture: architecture(),
        euler: Euler::published(),
        phi: Phi::Relu,
        parameters,
        info: ModelInfo::default(),
    }
}

fn options(pooled: bool) -> RecordOptions {
    RecordOptions {
        areas: vec![0, 1, 3],
        times_ms: vec![0.0, 2.0, 20.0, 40.9, 60.0],
        pooled,
        presentation: Presentation {
            spontaneous_ms: 30.0,
            stimulus_ms: 40.0,
        },
    }
}

/// Tensors of a file as (shape, values), floats and whole numbers alike.
fn tensor(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<f64>) {
    let tensors = SafeTensors::deserialize(bytes).expect("a safetensors file");
    let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
    let values = match view.dtype() {
        safetensors::Dtype::F32 => view
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|b| f64::from(f32::from_le_bytes(*b)))
            .collect(),
        safetensors::Dtype::F64 => view
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|b| f64::from_le_bytes(*b))
            .collect(),
        _ => view
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b) as f64)
            .collect(),
    };
    (view.shape().to_vec(), values)
}

fn recorded(model: &Model, options: &RecordOptions, which: &[u32], threads: usize) -> (Vec<u8>, Vec<AreaTime>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let set = images(folder.path());
    let path = folder.path().join("activity.safetensors");
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads");
    let mut last = (0, 0);
    let rows = pool
        .install(|| {
            record(&Cpu, model, &set, which, options, &path, &mut |done, total| {
                last = (done, total)
            })
        })
        .expect("recorded");
    assert_eq!(last, (which.len() + rows.len(), which.len() + rows.len()));
    (std::fs::read(&path).expect("read"), rows)
}

#[test]
fn a_recording_holds_what_the_simulation_gives() {
    let model = cordsnet();
    let which: Vec<u32> = (3..23).collect();
    let (bytes, rows) = recorded(&model, &options(false), &which, 2);
    let steps = [0, 1, 10, 20, 30];
    assert_eq!(
        tensor(&bytes, "times"),
        (vec![5], steps.map(|s| 2.0 * f64::from(s)).to_vec()),
        "40.9 ms is step 20"
    );
    let labels: Vec<f64> = which.iter().map(|i| f64::from(i % 3)).collect();
    assert_eq!(tensor(&bytes, "labels"), (vec![20], labels.clone()));
    assert_eq!(
        tensor(&bytes, "images"),
        (vec![20], which.iter().map(|i| f64::from(*i)).collect())
    );

    // One image at a time: 15 steps without input, 20 with the image, 10 without.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let set = images(folder.path());
    let net = model.cordsnet().expect("a network");
    let (logits_shape, logits) = tensor(&bytes, "logits");
    assert_eq!(logits_shape, [20, 5, 3]);
    let mut right = [0; 5];
    for (place, image) in which.iter().enumerate() {
        let mut pixels = vec![0.0; set.image_len()];
        set.fill_unit(*image as usize, &mut pixels).expect("a sound image");
        set.normalise(&mut pixels);
        let inp = net.embed(&pixels, 1);
        let mut state = net.spontaneous(15);
        let mut states: Vec<State<f32>> = vec![state.clone()];
        net.run(&mut state, Input::Constant(&inp), 20, &mut |_, view| {
            states.push(view.state())
        });
        net.run(&mut state, Input::Blank, 10, &mut |_, view| states.push(view.state()));
        for (time, step) in steps.into_iter().enumerate() {
            let state = &states[step as usize];
            for area in [0, 1, 3] {
                let (shape, values) = tensor(&bytes, &format!("area.{area}"));
                assert_eq!(shape[..2], [20, 5]);
                assert_eq!(shape[2..], net.area_shape(area));
                let units = state.areas[area].len();
                let found = &values[(place * 5 + time) * units..][..units];
                // The same float32 sums, in groups of another size: a few roundings.
                let scale = state.areas[area].iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
                for (found, expected) in found.iter().zip(&state.areas[area]) {
                    assert!(
                        (found - f64::from(*expected)).abs() <= 1e-5 * scale,
                        "image {image}, step {step}, area {area}"
                    );
                }
            }
            let expected = net.logits(state);
            let found = &logits[(place * 5 + time) * 3..][..3];
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - f64::from(*expected)).abs() <= 1e-4, "logits of image {image}");
            }
            let best = (0..3)
                .max_by(|a, b| found[*a].total_cmp(&found[*b]))
                .expect("three logits");
            right[time] += usize::from(best as f64 == labels[place]);
        }
    }
    assert_eq!(rows.len(), 3 * 5);
    for (index, row) in rows.iter().enumerate() {
        let (area, time) = ([0, 1, 3][index / 5], index % 5);
        assert_eq!((row.area, row.time_ms), (area, 2.0 * f64::from(steps[time])));
        let (shape, values) = tensor(&bytes, &format!("area.{area}"));
        let units: usize = shape[2..].iter().product();
        let at = |image: usize| &values[(image * 5 + time) * units..][..units];
        let mean = (0..20).flat_map(at).sum::<f64>() / (20 * units) as f64;
        assert!((row.mean_rate.expect("finite") - mean).abs() < 1e-12 * mean.abs().max(1.0));
        let here: Vec<f32> = (0..20).flat_map(at).map(|v| *v as f32).collect();
        assert_eq!(row.participation_ratio, ratio(&here, 20, units));
        // The spontaneous state depends on no image, and an image reaches area 3 through area 1 or 2 in its third step.
        assert_eq!(row.participation_ratio.is_none(), time == 0 || (area == 3 && time == 1));
        assert_eq!(row.accuracy, Some(right[time] as f64 / 20.0));
    }
    assert_eq!(
        recorded(&model, &options(false), &which, 1),
        (bytes, rows),
        "one thread and two"
    );
}

#[test]
fn pooled_activity_is_the_mean_of_the_maps() {
    let model = cordsnet();
    let which = [4, 0, 9];
    let (raw, raw_rows) = recorded(&model, &options(false), &which, 1);
    let (pooled, rows) = recorded(&model, &options(true), &which, 1);
    for area in [0, 1, 3] {
        let (shape, values) = tensor(&raw, &format!("area.{area}"));
        let (pooled_shape, found) = tensor(&pooled, &format!("area.{area}"));
        assert_eq!(pooled_shape, shape[..3]);
        let plane = shape[3] * shape[4];
        for (map, found) in values.chunks_exact(plane).zip(&found) {
            let mean = map.iter().sum::<f64>() / plane as f64;
            assert_eq!(*found, f64::from(mean as f32));
        }
    }
    assert_eq!(tensor(&raw, "logits"), tensor(&pooled, "logits"));
    for (raw, pooled) in raw_rows.iter().zip(&rows) {
        let (raw, pooled) = (raw.mean_rate.expect("finite"), pooled.mean_rate.expect("finite"));
        assert!(
            (raw - pooled).abs() < 1e-6 * raw.abs().max(1e-3),
            "pooled values are rounded to f32"
        );
    }
}

/// A network that explodes, for images of much contrast before others: those that have diverged are counted and in no
/// mean.
#[test]
fn images_that_diverged_are_counted_and_not_averaged() {
    const IMAGES: usize = 12;
    const TIMES: usize = 301;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let classes = ["a", "b", "c"].map(str::to_owned);
    let mut writer = ImageSetWriter::create(folder.path(), "contrasts", 2, SIDE, &classes).expect("created");
    for image in 0..IMAGES {
        let mut stream = Stream::new(1, Purpose::Probe, image as u64, 0, 0, 0);
        let span: u64 = [255, 60, 12, 3][image % 4];
        let pixels: Vec<u8> = (0..2 * SIDE * SIDE)
            .map(|_| (127 - span / 2 + stream.below(span + 1)) as u8)
            .collect();
        writer.push(&pixels, (image % 3) as u32).expect("pushed");
    }
    let splits = Splits {
        train: (0..IMAGES as u32).collect(),
        validation: Vec::new(),
        test: Vec::new(),
    };
    let set = writer.finish(&splits, None, "", "").expect("finished");
    let which: Vec<u32> = (0..IMAGES as u32).collect();
    let options = RecordOptions {
        areas: vec![0, 1, 2, 3],
        times_ms: (0..TIMES).map(|step| 2.0 * step as f64).collect(),
        pooled: false,
        // From r = 0, so that images differ by what they drive.
        presentation: Presentation {
            spontaneous_ms: 0.0,
            stimulus_ms: 600.0,
        },
    };
    // How fast it explodes decides whether images do so in different steps.
    let (bytes, rows) = [6.0, 10.0, 15.0, 20.0, 30.0, 60.0]
        .into_iter()
        .find_map(|gain| {
            let mut parameters = Initialisation::default().cordsnet(&architecture(), 4);
            for area in 0..4 {
                let lengths = format!("area_conv.{area}.parametrizations.weight.original0");
                parameters.get_mut(&lengths).expect("lengths").data.fill(gain);
                let bias = format!("conv_bias.{area}");
                parameters.get_mut(&bias).expect("a bias").data.fill(0.0);
            }
            let model = Model::CordsNet {
                architecture: architecture(),
                euler: Euler::published(),
                phi: Phi::Relu,
                parameters,
                info: ModelInfo::default(),
            };
            let path = folder.path().join(format!("{gain}.safetensors"));
            let rows = record(&Cpu, &model, &set, &which, &options, &path, &mut |_, _| {}).expect("recorded");
            let mixed = rows.iter().any(|row| row.diverged > 0 && row.diverged < IMAGES);
            mixed.then(|| (std::fs::read(&path).expect("read"), rows))
        })
        .expect("a network that explodes for some images before others");

    fn at(values: &[f64], len: usize, image: usize, time: usize) -> &[f64] {
        &values[(image * TIMES + time) * len..][..len]
    }
    let (_, logits) = tensor(&bytes, "logits");
    let areas: Vec<(usize, Vec<f64>)> = (0..4)
        .map(|area| {
            let (shape, values) = tensor(&bytes, &format!("area.{area}"));
            (shape[2..].iter().product(), values)
        })
        .collect();
    assert_eq!(rows.len(), 4 * TIMES);
    assert_eq!(rows[0].diverged, 0);
    for (index, row) in rows.iter().enumerate() {
        let (area, time) = (index / TIMES, index % TIMES);
        let kept: Vec<usize> = (0..IMAGES)
            .filter(|image| {
                let finite = |len: usize, values: &[f64]| at(values, len, *image, time).iter().all(|v| v.is_finite());
                finite(3, &logits) && areas.iter().all(|(len, values)| finite(*len, values))
            })
            .collect();
        assert_eq!(row.diverged, IMAGES - kept.len(), "area {area}, step {time}");
        if kept.is_empty() {
            assert_eq!(
                (row.mean_rate, row.participation_ratio, row.accuracy),
                (None, None, None)
            );
            continue;
        }
        let (len, values) = &areas[area];
        let here: Vec<f64> = kept
            .iter()
            .flat_map(|image| at(values, *len, *image, time))
            .copied()
            .collect();
        let mean = here.iter().sum::<f64>() / here.len() as f64;
        assert!((row.mean_rate.expect("finite") - mean).abs() <= 1e-9 * mean.abs());
        let here: Vec<f32> = here.iter().map(|v| *v as f32).collect();
        assert_eq!(row.participation_ratio, ratio(&here, kept.len(), *len));
        let right = kept.iter().filter(|image| {
            let (label, logits) = (**image % 3, at(&logits, 3, **image, time));
            (0..3).all(|class| logits[class] < logits[label] || (logits[class] == logits[label] && class >= label))
        });
        assert_eq!(row.accuracy, Some(right.count() as f64 / kept.len() as f64));
    }
}

#[test]
fn a_cnn_is_recorded_once() {
    let model = Model::Cnn {
        architecture: architecture(),
        parameters: Initialisation::default().cnn(&architecture(), 1),
        info: ModelInfo::default(),
    };
    let once = RecordOptions {
        times_ms: Vec::new(),
        ..options(false)
    };
    let (bytes, rows) = recorded(&model, &once, &[0, 5, 7], 1);
    assert_eq!(tensor(&bytes, "area.3").0, [3, 1, 7, 2, 2]);
    assert_eq!(tensor(&bytes, "times"), (vec![1], vec![0.0]));
    assert_eq!(rows.len(), 3);
}

#[test]
fn what_cannot_be_recorded_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let set = images(folder.path());
    let path = folder.path().join("activity.safetensors");
    let problem = |model: &Model, which: &[u32], change: &dyn Fn(&mut RecordOptions)| {
        let mut options = options(false);
        change(&mut options);
        match record(&Cpu, model, &set, which, &options, &path, &mut |_, _| {}) {
            Err(RecordError::Option { option, .. }) => option,
            Err(RecordError::Images { .. }) => "size",
            other => panic!("{other:?}"),
        }
    };
    let model = cordsnet();
    assert_eq!(problem(&model, &[], &|_| {}), "images");
    assert_eq!(problem(&model, &[23], &|_| {}), "images");
    assert_eq!(problem(&model, &[0], &|o| o.areas = vec![4]), "areas");
    assert_eq!(problem(&model, &[0], &|o| o.areas = vec![1, 0]), "areas");
    assert_eq!(problem(&model, &[0], &|o| o.times_ms = vec![]), "times");
    assert_eq!(problem(&model, &[0], &|o| o.times_ms = vec![-2.0]), "times");
    // Both are step 1.
    assert_eq!(problem(&model, &[0], &|o| o.times_ms = vec![1.9, 2.1]), "times");
    assert_eq!(
        problem(&model, &[0], &|o| o.presentation.stimulus_ms = f64::NAN),
        "presentation"
    );
    let Model::CordsNet { parameters, .. } = &model else {
        unreachable!()
    };
    let mut larger = architecture().architecture().expect("a short form");
    larger.image_side = 14;
    let larger = Model::CordsNet {
        architecture: larger.graph().expect("valid"),
        euler: Euler::published(),
        phi: Phi::Relu,
        parameters: parameters.clone(),
        info: ModelInfo::default(),
    };
    assert_eq!(problem(&larger, &[0], &|_| {}), "size");
}
