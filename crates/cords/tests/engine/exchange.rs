//! Weights from and to PyTorch: a published checkpoint, round trips, reports of what does not fit, and what is refused.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::support::Fixture;
use cords::Tensor;
use cords::device::Phi;
use cords::exchange::{
    ExchangeError, Format, ImportOptions, Misshapen, export, import, import_with_notes, read, to_bytes,
};
use cords::learn::Initialisation;
use cords::net::{Architecture, Euler, Graph, GraphError, Input, Model, ModelInfo, NetError, Parameters};
use zip::write::SimpleFileOptions;

fn options() -> ImportOptions {
    ImportOptions {
        image_side: None,
        euler: Euler::published(),
        info: ModelInfo::default(),
        prefix: None,
    }
}

/// The whole numbers in a value or in a text such as "100 without input, then 100 with the image; logits after the
/// last".
fn steps(json: &serde_json::Value) -> [usize; 2] {
    if let Some(steps) = json.as_u64() {
        return [steps as usize; 2];
    }
    let text = json.as_str().expect("a number of steps or a text");
    let numbers: Vec<usize> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect();
    [numbers[0], numbers[1]]
}

/// Logits and pooled activity of a network imported from what `torch.save` wrote, against PyTorch in float32. Both
/// sides round in float32: 200 steps and sums of some 1e3 terms leave a few times 1e-6 of the largest value.
#[test]
fn fixture_published_checkpoint() {
    let fixture = Fixture::open("published_r2.safetensors");
    let options = ImportOptions {
        euler: Euler::new(10.0 * fixture.number("alpha"), 10.0),
        ..options()
    };
    let model = import(&Fixture::path("published_r2.pth"), &options).expect("a published checkpoint");
    let architecture = model.architecture();
    assert_eq!(architecture.areas() as f64, fixture.number("depth"));
    assert_eq!(architecture.classes() as f64, fixture.number("classes"));

    let net = model.cordsnet().expect("a network");
    let images = fixture.tensor("images");
    let batch = images.shape[0];
    assert_eq!(
        images.shape[1..],
        [
            architecture.in_channels(),
            architecture.image_side(),
            architecture.image_side()
        ]
    );
    let [blank, shown] = steps(&fixture.json["steps"]);
    let mut state = net.spontaneous(blank).repeated(batch);
    let inp = net.embed(&images.cast::<f32>().data, batch);
    let mut pooled = Vec::new();
    let last = architecture.areas() - 1;
    let units: usize = net.area_shape(last)[1..].iter().product();
    net.run(&mut state, Input::Constant(&inp), shown, &mut |_, view| {
        let state = view.state();
        let maps = state.areas[last].chunks_exact(units);
        pooled.extend(maps.map(|map| (map.iter().map(|r| f64::from(*r)).sum::<f64>() / units as f64) as f32));
    });
    let expected = fixture.tensor("logits").data;
    let logits = net.logits(&state);
    assert!(logits.iter().any(|logit| *logit != 0.0));
    for (found, expected) in logits.iter().zip(&expected) {
        assert!(
            (f64::from(*found) - expected).abs() <= 1e-4,
            "{logits:?} against {expected:?}"
        );
    }
    crate::support::assert_close("logits", &logits, &expected, 1e-4);
    crate::support::assert_close("pooled activity", &pooled, &fixture.tensor("pooled").data, 1e-4);
}

/// R2 to R8 of odd widths.
fn architecture(areas: usize) -> Graph {
    Architecture {
        in_channels: 2,
        image_side: 32,
        channels: [5, 5, 5, 7, 7, 3, 3, 9, 9][..=areas].to_vec(),
        strides: [1, 1, 2, 1, 2, 1, 2, 1][..areas].to_vec(),
        classes: 6,
    }
    .graph()
    .expect("valid")
}

fn cordsnet(areas: usize) -> Model {
    let architecture = architecture(areas);
    let mut parameters = Initialisation::default().cordsnet(&architecture, 4);
    for (i, value) in parameters
        .get_mut("conv_bias.1")
        .expect("a bias")
        .data
        .iter_mut()
        .enumerate()
    {
        *value = (i as f32).sin();
    }
    Model::CordsNet {
        architecture,
        euler: Euler::published(),
        phi: Phi::Relu,
        parameters,
        info: ModelInfo::default(),
    }
}

fn written(folder: &Path, model: &Model, format: Format) -> PathBuf {
    let path = folder.join(format!("{format:?}"));
    export(model, format, &path).expect("exported");
    path
}

#[test]
fn what_is_exported_is_imported_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for areas in [2, 4, 6, 8] {
        for format in [Format::Pth, Format::Safetensors] {
            let model = cordsnet(areas);
            let path = written(folder.path(), &model, format);
            assert_eq!(
                import(&path, &options()).expect("imported"),
                model,
                "R{areas} {format:?}"
            );
            assert_eq!(
                std::fs::read(&path).expect("read"),
                to_bytes(&model, format).expect("exported"),
                "equal bytes"
            );
        }
    }
    let cnn = Model::Cnn {
        architecture: architecture(4),
        parameters: Initialisation::default().cnn(&architecture(4), 1),
        info: ModelInfo::default(),
    };
    for format in [Format::Pth, Format::Safetensors] {
        let path = written(folder.path(), &cnn, format);
        let counters = read(&path).expect("read");
        assert!(
            counters
                .iter()
                .any(|entry| entry.name == "skip_norm.0.num_batches_tracked" && entry.shape.is_empty())
        );
        assert!(matches!(import(&path, &options()), Err(ExchangeError::Side { .. })));
        let sided = ImportOptions {
            image_side: Some(32),
            ..options()
        };
        assert_eq!(import(&path, &sided).expect("imported"), cnn);
    }
    // Its batch norms folded into biases per unit, which tell the side.
    let mut parameters = Parameters::new();
    for (i, (name, shape)) in architecture(4).folded_cnn_shapes().into_iter().enumerate() {
        let values = (0..shape.iter().product())
            .map(|k: usize| (i + k) as f32 + 0.5)
            .collect();
        parameters.insert(name, Tensor::new(&shape, values).expect("shape fits"));
    }
    let folded = Model::Cnn {
        architecture: architecture(4),
        parameters,
        info: ModelInfo::default(),
    };
    for format in [Format::Pth, Format::Safetensors] {
        let path = written(folder.path(), &folded, format);
        assert_eq!(import(&path, &options()).expect("imported"), folded);
    }
}

/// A file of float32 tensors, written by the safetensors crate itself.
fn safetensors_file(path: &Path, parameters: &Parameters<f32>, rename: impl Fn(&str) -> String) {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = parameters
        .iter()
        .map(|(name, tensor)| {
            let bytes = tensor.data.iter().flat_map(|v| v.to_le_bytes()).collect();
            (rename(name), tensor.shape.clone(), bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).expect("a view");
        (name.as_str(), view)
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("bytes")).expect("written");
}

#[test]
fn the_wrapper_s_prefix_is_stripped() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("wrapped");
    let model = cordsnet(2);
    safetensors_file(&path, model.parameters(), |name| format!("module.{name}"));
    assert_eq!(import(&path, &options()).expect("imported"), model);
    // Once with and once without it: neither may win.
    let mut twice = model.parameters().clone();
    twice.insert("module.out_fc.bias", Tensor::zeros(&[6]));
    safetensors_file(&path, &twice, str::to_owned);
    let error = import(&path, &options()).expect_err("two of one name").to_string();
    assert!(error.contains("`out_fc.bias` is in the file twice"), "{error}");
}

#[test]
fn everything_that_does_not_fit_is_reported_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("damaged");
    let model = cordsnet(4);
    let mut parameters = Parameters::new();
    for (name, tensor) in model.parameters().iter() {
        if !["conv_bias.3", "out_fc.bias"].contains(&name) {
            parameters.insert(name, tensor.clone());
        }
    }
    parameters.insert("conv_bias.0", Tensor::zeros(&[5, 7, 8]));
    parameters.insert(
        "inp_conv.parametrizations.weight.original1",
        Tensor::zeros(&[5, 2, 5, 5]),
    );
    parameters.insert("area_conv.4.weight", Tensor::zeros(&[1]));
    parameters.insert("fc", Tensor::zeros(&[2, 2]));
    let zero = "area_area.1.parametrizations.weight.original1";
    parameters.get_mut(zero).expect("directions").data[45..90].fill(0.0);
    let infinite = "skip_area.0.parametrizations.weight.original0";
    parameters.get_mut(infinite).expect("lengths").data[3] = f32::INFINITY;
    safetensors_file(&path, &parameters, str::to_owned);
    let error = import(&path, &options()).expect_err("not a network");
    let ExchangeError::Entries { report, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(report.network, "CordsNet-R4");
    assert_eq!(report.missing, ["conv_bias.3", "out_fc.bias"]);
    assert_eq!(report.unexpected, ["area_conv.4.weight", "fc"]);
    let misshapen = |name: &str, found: &[usize], expected: &[usize]| Misshapen {
        name: name.to_owned(),
        found: found.to_vec(),
        expected: expected.to_vec(),
    };
    assert_eq!(
        report.misshapen,
        [
            misshapen(
                "inp_conv.parametrizations.weight.original1",
                &[5, 2, 5, 5],
                &[5, 2, 7, 7]
            ),
            misshapen("conv_bias.0", &[5, 7, 8], &[5, 8, 8]),
        ]
    );
    let unusable: Vec<&str> = report.unusable.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(unusable, [zero, infinite]);
    let text = error.to_string();
    for line in report.lines() {
        assert!(text.contains(&line), "{line} in {text}");
    }
    assert_eq!(report.lines().len(), 8);
}

#[test]
fn a_bias_of_an_area_that_is_not_there_is_unexpected() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("one_area");
    let mut parameters = Parameters::new();
    for (name, tensor) in cordsnet(2).parameters().iter() {
        if !["area_conv.1", "area_area.1", "inp_skip"]
            .iter()
            .any(|second| name.starts_with(second))
        {
            parameters.insert(name, tensor.clone());
        }
    }
    safetensors_file(&path, &parameters, str::to_owned);
    let error = import(&path, &options()).expect_err("a bias too many");
    let ExchangeError::Entries { report, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(report.network, "CordsNet-R1");
    assert_eq!(report.unexpected, ["conv_bias.1"]);
}

#[test]
fn sizes_that_make_no_network_and_foreign_files_are_errors() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("file");
    let text = |path: &Path| import(path, &options()).expect_err("no network").to_string();
    // Areas of two widths: all shapes agree, but their activity is added.
    let mut uneven = architecture(2).description().clone();
    uneven.areas[1].channels = 4;
    uneven.readout = vec![0];
    let uneven = Graph::new(uneven).expect("a network, but none of the published");
    safetensors_file(&path, &Initialisation::default().cordsnet(&uneven, 0), str::to_owned);
    assert!(matches!(
        import(&path, &options()),
        Err(ExchangeError::Sizes {
            source: NetError::Graph(GraphError::Readout { .. }),
            ..
        })
    ));
    let mut other = Parameters::new();
    other.insert("layer1.0.conv1.weight", Tensor::zeros(&[1]));
    safetensors_file(&path, &other, str::to_owned);
    assert!(text(&path).contains("no weights of a CordsNet") && text(&path).contains("`layer1.0.conv1.weight`"));
    std::fs::write(&path, b"just text, long enough to be looked at").expect("written");
    assert!(text(&path).contains("neither a .pth (a zip archive) nor a .safetensors file"));
    // The archive of before PyTorch 0.1.10, and a stream of pickles that ends within its headers.
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    std::fs::write(&path, tar).expect("written");
    assert!(text(&path).contains("tar format of before PyTorch 0.1.10"));
    std::fs::write(&path, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.").expect("written");
    assert!(text(&path).contains("its pickle is truncated"));
    let whole = to_bytes(&cordsnet(2), Format::Pth).expect("exported");
    for length in [4, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("written");
        assert!(
            matches!(import(&path, &options()), Err(ExchangeError::File { .. })),
            "cut at {length}"
        );
    }
    assert!(matches!(
        import(&folder.path().join("none"), &options()),
        Err(ExchangeError::Io(_))
    ));
}

/// A `.pth` around a pickle of our own, with one storage of four bytes.
fn pth_file(path: &Path, pickle: &[u8]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).expect("created"));
    for (name, bytes) in [
        ("data.pkl", pickle),
        ("version", b"3\n"),
        ("data/0", &1f32.to_le_bytes()),
    ] {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file(format!("m/{name}"), options).expect("started");
        archive.write_all(bytes).expect("written");
    }
    archive.finish().expect("finished");
}

/// One tensor of one value in pickle opcodes.
const TENSOR: &str = "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQK\0(K\x01t(K\x01t\
                      \u{89}ccollections\nOrderedDict\n)RtR";

#[test]
fn a_pickle_that_asks_for_more_than_tensors_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("m.pth");
    let latin = |text: &str| text.chars().map(|c| c as u8).collect::<Vec<u8>>();
    let dict = |rest: &str| latin(&format!("\u{80}\u{2}}}(X\x01\0\0\0a{TENSOR}{rest}u."));
    pth_file(&path, &dict(""));
    let entries = read(&path).expect("a dict of one tensor");
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].name.as_str(), entries[0].shape.as_slice()), ("a", &[1][..]));
    assert_eq!(entries[0].values, cords::exchange::Values::Float(vec![1.0]));

    let marker = folder.path().join("executed");
    let run = format!("touch {}", marker.display());
    let length = char::from(u8::try_from(run.len()).expect("a short command"));
    let cases = [
        (
            dict(&format!("X\x01\0\0\0bcposix\nsystem\nX{length}\0\0\0{run}\u{85}R")),
            "`posix.system`",
        ),
        (
            dict("X\x01\0\0\0bcbuiltins\neval\nX\x01\0\0\x001\u{85}R"),
            "`builtins.eval`",
        ),
        (dict("X\x01\0\0\0bc__main__\nNet\n)\u{81}"), "`__main__.Net`"),
        (dict("X\x01\0\0\0b\u{82}\x01"), "the pickle opcode 0x82"),
    ];
    for (pickle, name) in cases {
        pth_file(&path, &pickle);
        match read(&path) {
            Err(ExchangeError::Refused { names, .. }) => {
                assert!(names.iter().any(|n| n == name), "{names:?} without {name}")
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(!marker.exists(), "nothing was executed");
}

/// Wider and narrower numbers than float32, and whole ones.
#[test]
fn other_number_types() {
    use safetensors::{Dtype, tensor::TensorView};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("numbers");
    let bytes = |dtype| -> Vec<u8> {
        match dtype {
            Dtype::F64 => 0.25f64.to_le_bytes().to_vec(),
            Dtype::F16 => vec![0x00, 0x34],
            Dtype::BF16 => vec![0x80, 0x3e],
            _ => 3i64.to_le_bytes().to_vec(),
        }
    };
    for dtype in [Dtype::F64, Dtype::F16, Dtype::BF16, Dtype::I64] {
        let data = bytes(dtype);
        let view = TensorView::new(dtype, vec![1], &data).expect("a view");
        std::fs::write(&path, safetensors::serialize([("x", view)], None).expect("bytes")).expect("written");
        let expected = match dtype {
            Dtype::I64 => cords::exchange::Values::Other("I64".to_owned()),
            _ => cords::exchange::Values::Float(vec![0.25]),
        };
        assert_eq!(read(&path).expect("read")[0].values, expected, "{dtype:?}");
    }
}

/// A checkpoint's names, stored as safetensors.
fn renamed(model: &Model, rename: impl Fn(&str) -> String) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("checkpoint");
    safetensors_file(&path, model.parameters(), rename);
    (folder, path)
}

#[test]
fn checkpoints_as_people_have_them_give_the_same_weights() {
    let model = cordsnet(2);
    let same = |what: &str, rename: &dyn Fn(&str) -> String| {
        let (_folder, path) = renamed(&model, rename);
        assert_eq!(import(&path, &options()).expect(what), model, "{what}");
    };
    for prefix in [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "net._orig_mod.",
        "state_dict.",
        "state_dict.model.",
        "model.module.",
    ] {
        same(prefix, &|name| format!("{prefix}{name}"));
    }
    same("a compiled submodule", &|name| name.replacen('.', "._orig_mod.", 1));
    same("weight norm under its old names", &|name| {
        name.replace(".parametrizations.weight.original0", ".weight_g")
            .replace(".parametrizations.weight.original1", ".weight_v")
    });
}

#[test]
fn what_is_beside_the_network_is_passed_over_and_told() {
    let model = cordsnet(2);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("checkpoint");
    let mut parameters = Parameters::new();
    for (name, tensor) in model.parameters().iter() {
        parameters.insert(format!("state_dict.model.{name}"), tensor.clone());
        parameters.insert(format!("optimizer.state.model.{name}.exp_avg"), tensor.clone());
    }
    parameters.insert("best_acc1", Tensor::zeros(&[1]));
    safetensors_file(&path, &parameters, str::to_owned);
    let found = import_with_notes(&path, &options()).expect("imported");
    assert_eq!(found.model, model);
    let tensors = model.parameters().iter().count();
    assert_eq!(
        found.notes,
        [
            "the network is under `state_dict.model`".to_owned(),
            format!("skipped `best_acc1` (1 tensors), `optimizer` ({tensors} tensors)"),
        ]
    );
    // Two networks: one must be named.
    for (name, tensor) in model.parameters().iter() {
        let mut other = tensor.clone();
        other.data.iter_mut().for_each(|value| *value *= 0.5);
        parameters.insert(format!("ema.{name}"), other);
    }
    safetensors_file(&path, &parameters, str::to_owned);
    let error = import(&path, &options()).expect_err("two networks").to_string();
    assert!(error.contains("2 networks, below `ema`, `state_dict.model`"), "{error}");
    let named = |prefix: &str| ImportOptions {
        prefix: Some(prefix.to_owned()),
        ..options()
    };
    assert_eq!(import(&path, &named("state_dict.model")).expect("named"), model);
    assert_ne!(import(&path, &named("ema.")).expect("named"), model);
    assert!(matches!(
        import(&path, &named("else")),
        Err(ExchangeError::Several { .. })
    ));
}

#[test]
fn a_network_at_the_top_is_told_from_its_copy_within() {
    let model = cordsnet(2);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("checkpoint");
    let mut parameters = Parameters::new();
    for (name, tensor) in model.parameters().iter() {
        let mut copy = tensor.clone();
        copy.data.iter_mut().for_each(|value| *value *= 0.5);
        parameters.insert(format!("ema.{name}"), copy);
        parameters.insert(name, tensor.clone());
    }
    safetensors_file(&path, &parameters, str::to_owned);
    let named = |prefix: &str| ImportOptions {
        prefix: Some(prefix.to_owned()),
        ..options()
    };
    let error = import(&path, &options()).expect_err("two networks").to_string();
    assert!(error.contains("2 networks, below `\"\"` (no name), `ema`"), "{error}");
    assert_eq!(import(&path, &named("")).expect("named"), model);
    assert_ne!(import(&path, &named("ema")).expect("named"), model);
    // A name that none has, where there is one network and where there is none.
    safetensors_file(&path, model.parameters(), |name| format!("model.{name}"));
    let error = import(&path, &named("ema")).expect_err("another name").to_string();
    assert!(error.contains("1 network, below `model`"), "{error}");
    safetensors_file(&path, &Parameters::new(), str::to_owned);
    let error = import(&path, &named("ema")).expect_err("nothing there").to_string();
    assert!(error.contains("there is no network under `ema`"), "{error}");
}

#[test]
fn networks_whose_weight_norm_was_removed_have_the_same_weights() {
    let mut model = cordsnet(2);
    let parameters = match &mut model {
        Model::CordsNet { parameters, .. } => parameters,
        Model::Cnn { .. } => unreachable!("a CordsNet"),
    };
    // A silent channel: a row of zeros.
    parameters
        .get_mut("area_conv.0.parametrizations.weight.original0")
        .expect("lengths")
        .data[2] = 0.0;
    let mut merged = Parameters::new();
    for (name, tensor) in model.parameters().iter() {
        if let Some(module) = name.strip_suffix(".parametrizations.weight.original1") {
            let lengths = model
                .parameters()
                .iter()
                .find(|(other, _)| *other == name.replace("original1", "original0"));
            let lengths = lengths.expect("g beside v").1;
            let mut weights = tensor.clone();
            let row = weights.data.len() / weights.shape[0];
            for (row, g) in weights.data.chunks_exact_mut(row).zip(&lengths.data) {
                let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                row.iter_mut()
                    .for_each(|v| *v = (f64::from(*v) * f64::from(*g) / norm) as f32);
            }
            merged.insert(format!("{module}.weight"), weights);
        } else if !name.ends_with("original0") {
            merged.insert(name, tensor.clone());
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("merged");
    safetensors_file(&path, &merged, str::to_owned);
    let found = import_with_notes(&path, &options()).expect("imported");
    assert!(
        found
            .notes
            .iter()
            .any(|note| note.contains("7 weights without weight norm")),
        "{:?}",
        found.notes
    );
    // The same lengths, and directions that are those of before.
    for (name, tensor) in model
        .parameters()
        .iter()
        .filter(|(name, _)| name.ends_with("original0"))
    {
        let (_, again) = found
            .model
            .parameters()
            .iter()
            .find(|(other, _)| *other == name)
            .expect("there");
        for (a, b) in tensor.data.iter().zip(&again.data) {
            assert!((a - b).abs() <= 1e-6 * a.abs(), "{name}: {a} {b}");
        }
    }
}

/// What PyTorch itself wrote: the format of before 1.6, and checkpoints of trainers. `fixtures/checkpoints/make.py`
/// made them.
#[test]
fn files_of_torch_save_give_the_same_weights() {
    let plain = import(&Fixture::path("checkpoints/plain.pth"), &options()).expect("a state_dict");
    for name in ["legacy", "lightning", "example_imagenet"] {
        let path = Fixture::path(&format!("checkpoints/{name}.pth"));
        let found = import_with_notes(&path, &options()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.model, plain, "{name}");
        let told = found.notes.iter().any(|note| note.contains("`epoch`"));
        assert_eq!(told, name != "legacy", "{name}: {:?}", found.notes);
    }
    // Cut anywhere, it is an error.
    let whole = std::fs::read(Fixture::path("checkpoints/legacy.pth")).expect("there");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("cut.pth");
    for length in [20, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("written");
        assert!(import(&path, &options()).is_err(), "cut at {length}");
    }
}
