//! The stage kind `corruptions`, on sets of a few images that are written here.

use serde_json::{Map, Value};

use crate::harness::{Project, Ran, number, rows};

/// Test images of the small CIFAR-10.
const IMAGES: usize = 16;
/// Values of an image.
const LEN: usize = 3 * 32 * 32;

const CORRUPTIONS: [&str; 16] = [
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
];

fn label(image: usize) -> u8 {
    (image % 10) as u8
}

/// Level of a value of a clean image, channel by channel: a grating of its class, and what is its own.
fn clean(image: usize, channel: usize, y: usize, x: usize) -> u8 {
    let class = usize::from(label(image));
    let bars = x * (class + 1) / 16 + y * (class % 3) / 8;
    let bars = if bars.is_multiple_of(2) { 60 } else { 180 };
    (bars + 7 * channel + image * 37 % 23) as u8
}

/// Level of a value with a corruption at a severity: the clean one, moved up or down by what grows with both. At
/// severity 1 nothing is changed.
fn corrupted(corruption: usize, severity: usize, clean: u8, at: usize) -> u8 {
    let size = (severity - 1) * (3 + corruption);
    let sign = if ((at * 2_654_435_761) >> 7).is_multiple_of(2) {
        1
    } else {
        -1
    };
    (i64::from(clean) + sign * size as i64).clamp(0, 255) as u8
}

fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while !(11 + header.len()).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(values);
    out
}

fn put(project: &Project, name: &str, bytes: &[u8]) {
    let path = project.path(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    std::fs::write(path, bytes).expect("written");
}

/// Writes a CIFAR-10 of 150 training and 16 test images to `data/cifar10`, and its CIFAR-10-C to `data/cifar10_c`.
pub fn write_sets(project: &Project) {
    let records = |images: std::ops::Range<usize>| -> Vec<u8> {
        let record = |image: usize| {
            let values = (0..LEN).map(move |at| clean(image, at / 1024, at % 1024 / 32, at % 32));
            [label(image)].into_iter().chain(values)
        };
        images.flat_map(record).collect()
    };
    for batch in 1..=5 {
        let name = format!("data/cifar10/data_batch_{batch}.bin");
        put(project, &name, &records(30 * batch..30 * (batch + 1)));
    }
    put(project, "data/cifar10/test_batch.bin", &records(0..IMAGES));
    for (place, name) in CORRUPTIONS.iter().enumerate() {
        let mut values = Vec::new();
        for severity in 1..=5 {
            for image in 0..IMAGES {
                for at in 0..LEN {
                    let (y, x, channel) = (at / 96, at / 3 % 32, at % 3);
                    let level = clean(image, channel, y, x);
                    values.push(corrupted(place, severity, level, image * LEN + at));
                }
            }
        }
        let shape = format!("({}, 32, 32, 3)", 5 * IMAGES);
        put(
            project,
            &format!("data/cifar10_c/{name}.npy"),
            &npy("|u1", &shape, &values),
        );
    }
    write_labels(project, label);
}

fn write_labels(project: &Project, label: impl Fn(usize) -> u8) {
    let labels: Vec<u8> = (0..5 * IMAGES).map(|row| label(row % IMAGES)).collect();
    let bytes = npy("|u1", &format!("({},)", labels.len()), &labels);
    put(project, "data/cifar10_c/labels.npy", &bytes);
}

/// A pipeline of a small CNN and a small CordsNet.
fn pipeline(more: &str) -> String {
    format!(
        "
name: corrupted
stages:
  cifar10:
    dataset: {{ source: cifar10, side: 32, normalisation: published }}
  cnn:
    train: {{ use: train/digits/cnn, data: cifar10, areas: 2, width: 4, epochs: 1, warmup: 0, batch: 16 }}
  cordsnet:
    train: {{ use: train/digits/cordsnet, data: cifar10, areas: 2, width: 4, epochs: 1, warmup: 0, batch: 16 }}
  corruptions:
    corruptions: {{ models: [cnn, cordsnet], data: cifar10, files: cifar10/files, set: cifar10_c{more} }}
"
    )
}

fn project(more: &str) -> Project {
    let project = Project::with_presets();
    write_sets(&project);
    project.write("p.yaml", &pipeline(more));
    project
}

/// All that was printed, whatever lines it was broken into.
fn said(ran: Ran) -> String {
    let printed = ran.stdout + &ran.stderr;
    printed.split_whitespace().collect::<Vec<_>>().join(" ")
}

type Row = Map<String, Value>;

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("no {column} in {row:?}"))
}

#[test]
fn errors_follow_from_the_accuracy_of_the_same_images() {
    let project = project(", baseline: cnn");
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let accuracy = rows(&project, "corruptions/accuracy");
    // Clean, fifteen corruptions and three noises among them drawn, of two models.
    assert_eq!(accuracy.len(), 2 * (1 + 15 * 5 + 3 * 5));
    let error = |network: &str, source: &str, corruption: &str, severity: usize| {
        let is = |row: &&Row| {
            text(row, "network") == network
                && (text(row, "source"), text(row, "corruption")) == (source, corruption)
                && number(row, "severity") == severity as f64
        };
        1.0 - number(accuracy.iter().find(is).expect("a row"), "accuracy")
    };
    for row in accuracy.iter().filter(|row| text(row, "source") == "file") {
        assert_eq!(number(row, "images"), IMAGES as f64);
        let unchanged = number(row, "severity") == 1.0;
        // At severity 1 the files hold the clean images.
        assert_eq!(number(row, "change") == 0.0, unchanged, "{row:?}");
        if unchanged {
            let network = text(row, "network");
            let clean = error(network, "clean", "none", 0);
            assert_eq!(error(network, "file", text(row, "corruption"), 1), clean);
        }
    }
    // Of a value that is moved by d the root mean square is d, but where it was clipped, which happens to none here.
    let moved = accuracy.iter().find(|row| {
        (text(row, "source"), text(row, "corruption")) == ("file", "gaussian_noise") && number(row, "severity") == 5.0
    });
    let change = number(moved.expect("a row"), "change");
    assert!((change - 12.0 / 255.0).abs() < 1e-6, "{change}");
    let mean = rows(&project, "corruptions/mce");
    for row in &mean {
        let network = text(row, "network");
        let errors = |network: &str| -> Vec<[f64; 5]> {
            let of = |c: &&str| [1, 2, 3, 4, 5].map(|severity| error(network, "file", c, severity));
            CORRUPTIONS[..15].iter().map(of).collect()
        };
        let (own, base) = (errors(network), errors("CNN-R2"));
        let sum = |errors: &[f64; 5]| errors.iter().sum::<f64>();
        let expected = own.iter().map(sum).sum::<f64>() / 75.0;
        assert!((number(row, "mean_error") - expected).abs() < 1e-12);
        let ratios = own.iter().zip(&base).map(|(own, base)| sum(own) / sum(base));
        let expected = ratios.sum::<f64>() / 15.0;
        assert!((number(row, "mce") - expected).abs() < 1e-12, "{row:?}");
        assert_eq!(number(row, "missing"), 0.0);
        assert_eq!(text(row, "baseline"), "CNN-R2, seed 0");
        if network == "CNN-R2" {
            assert_eq!(number(row, "mce"), 1.0);
        }
    }
    assert_eq!(mean.len(), 2);
    assert_eq!(rows(&project, "corruptions/errors").len(), 2 * 15);
    let categories = rows(&project, "corruptions/categories");
    let counts: Vec<f64> = categories[..4].iter().map(|row| number(row, "corruptions")).collect();
    assert_eq!(counts, [3.0, 4.0, 4.0, 4.0]);
    // The levels of what is drawn are those of the published noise.
    let agreement = rows(&project, "corruptions/agreement");
    assert_eq!(agreement.len(), 2 * 3 * 5);
    let drawn = agreement.iter().find(|row| text(row, "corruption") == "gaussian_noise");
    let change = number(drawn.expect("a row"), "change_drawn");
    // 16 x 3072 values: their root mean square is right to 0.3 %, less what is clipped.
    assert!((change / 0.04 - 1.0).abs() < 0.02, "{change}");
    let folder = project.dynvis(&["show", "@", "corruptions/pictures"]).expect(0).stdout;
    let folder = std::path::Path::new(folder.lines().last().expect("a folder").trim());
    assert!(folder.join("error.png").is_file() && folder.join("error_fog.svg").is_file());
}

#[test]
fn a_part_of_the_set_gives_errors_and_no_mce() {
    let more = ", corruptions: [fog, speckle_noise], severities: [2, 5], images: 8, seed: 3";
    let project = project(more);
    let printed = said(project.dynvis(&["run", "p.yaml"]).expect(0));
    assert!(printed.contains("no mean corruption error"), "{printed}");
    assert!(
        printed.contains("fog 1/3/4, ") && printed.contains("snow 1/2/3/4/5"),
        "{printed}"
    );
    let mean = &rows(&project, "corruptions/mce")[0];
    assert_eq!((number(mean, "images"), number(mean, "missing")), (8.0, 73.0));
    assert!(mean["mce"].is_null() && mean["mean_error"].is_null(), "{mean:?}");
    let errors = rows(&project, "corruptions/errors");
    assert_eq!(
        (text(&errors[0], "severities"), text(&errors[1], "category")),
        ("2, 5", "extra")
    );
    // CIFAR-10-C has no published baseline.
    assert!(errors[0]["corruption_error"].is_null() && !errors[0]["mean_error"].is_null());
    let categories = rows(&project, "corruptions/categories");
    assert_eq!((categories.len(), text(&categories[0], "category")), (2, "weather"));
}

#[test]
fn what_is_missing_is_named_with_where_it_can_be_had() {
    let project = project("");
    std::fs::remove_file(project.path("data/cifar10_c/fog.npy")).expect("removed");
    let missing = said(project.dynvis(&["run", "p.yaml"]).expect(2));
    assert!(missing.contains("data/cifar10_c/fog.npy"), "{missing}");
    std::fs::remove_dir_all(project.path("data/cifar10_c")).expect("removed");
    let missing = said(project.dynvis(&["run", "p.yaml"]).expect(2));
    assert!(missing.contains("dynvis data get cifar10_c"), "{missing}");
    // What the archive unpacks to is found, too, and is the same set.
    write_sets(&project);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    std::fs::rename(project.path("data/cifar10_c"), project.path("data/CIFAR-10-C")).expect("moved");
    std::fs::create_dir(project.path("data/cifar10_c")).expect("made");
    let moved = project.path("data/cifar10_c/CIFAR-10-C");
    std::fs::rename(project.path("data/CIFAR-10-C"), moved).expect("moved");
    assert_eq!(project.states(&["p.yaml"])["corruptions"], "cached");
    // A changed array is another result.
    write_labels_elsewhere(&project);
    assert_eq!(project.states(&["p.yaml"])["corruptions"], "run");
}

/// Another file of labels below the folder that the archive unpacks to.
fn write_labels_elsewhere(project: &Project) {
    let bytes = npy("|u1", "(5,)", &[0; 5]);
    put(project, "data/cifar10_c/CIFAR-10-C/labels.npy", &bytes);
}

#[test]
fn arrays_that_are_no_images_of_this_dataset_are_refused() {
    let project = project(", corruptions: [fog, snow], severities: [1]");
    let refused = || said(project.dynvis(&["run", "p.yaml"]).expect(100));
    write_labels(&project, |image| label(image + usize::from(image == 5)));
    let of_labels = refused();
    for part in [
        "1 of 16 images are of another class",
        "test_batch.bin[5]",
        "has label 6",
    ] {
        assert!(of_labels.contains(part), "{part}: {of_labels}");
    }
    write_labels(&project, label);
    // Two bad arrays are named at once.
    let values = vec![0; 5 * IMAGES * LEN];
    let shape = format!("({}, 3, 32, 32)", 5 * IMAGES);
    put(&project, "data/cifar10_c/fog.npy", &npy("|u1", &shape, &values));
    let shape = format!("({}, 32, 32, 3)", 5 * IMAGES);
    let short = npy("|u1", &shape, &values[1..]);
    put(&project, "data/cifar10_c/snow.npy", &short);
    let both = refused();
    for part in ["2 problems", "fog.npy", "snow.npy", "[80, 3, 32, 32]", "truncated"] {
        assert!(both.contains(part), "{part}: {both}");
    }
    let fewer = npy("|u1", "(75, 32, 32, 3)", &values[..75 * LEN]);
    put(&project, "data/cifar10_c/fog.npy", &fewer);
    put(&project, "data/cifar10_c/snow.npy", &npy("|u1", &shape, &values));
    assert!(refused().contains("has 75 images"), "{}", refused());
}

#[test]
fn parameters_that_contradict_each_other_are_refused() {
    let project = project(", corruptions: [fog, fog], severities: [1, 6]");
    let checked = project.dynvis(&["check", "p.yaml"]).expect(2);
    assert!(checked.stderr.contains('6'), "{}", checked.stderr);
    project.write("p.yaml", &pipeline(", corruptions: [fog, fog], severities: [2, 2]"));
    let checked = project.dynvis(&["check", "p.yaml"]).expect(2);
    for part in ["a corruption is given twice", "a severity is given twice"] {
        assert!(checked.stderr.contains(part), "{}", checked.stderr);
    }
}

#[test]
fn images_of_another_size_get_no_drawn_noise() {
    let project = project(", corruptions: [gaussian_noise], severities: [1], resize: 20");
    let text = project.read("p.yaml").replace("side: 32", "side: 16, resize: 20");
    project.write("p.yaml", &text);
    let printed = said(project.dynvis(&["run", "p.yaml"]).expect(0));
    assert!(printed.contains("no noise is drawn"), "{printed}");
    assert!(rows(&project, "corruptions/agreement").is_empty());
    // The same resize and crop as that of the dataset: at severity 1 the files hold the clean images.
    for row in rows(&project, "corruptions/accuracy") {
        assert_eq!(number(&row, "change"), 0.0);
    }
}
