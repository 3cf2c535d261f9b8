//! Image sets from outside: the artifact's bytes, the packed sources from small generated files, and every way in which
//! those can be damaged.

mod data_support;

use cords::data::*;
use cords::learn::Images;
use data_support::{self as files, config, error, put, run, temp};
use std::path::{Path, PathBuf};

// ------------------------------------------------------------------------------------------------ digits, the artifact

#[test]
fn digits_are_prepared_and_read_back() {
    let (summary, set, _out) = run(&config(Source::Digits, 8, 1)).expect("embedded");
    assert_eq!(
        (set.len(), set.channels(), set.side(), set.name()),
        (1797, 1, 8, "digits")
    );
    // Class by class: round(n / 10) to validation and round(n / 5) to test.
    for (class, count) in summary.classes.iter().enumerate() {
        let n = (0..set.len()).filter(|i| set.label(*i) as usize == class).count();
        assert_eq!(count.test, (n as f64 / 5.0 + 0.5) as usize);
        assert_eq!(count.validation, (n as f64 / 10.0 + 0.5) as usize);
        assert_eq!(count.train + count.validation + count.test, n);
    }
    // Not resized: the levels of the first line, 0..16 to 0..255.
    assert_eq!(set.image(0)[..8], [0, 0, 80, 207, 143, 16, 0, 0]);
    assert!(set.manifest().attribution.contains("Alpaydin"));

    // Mean and deviation, computed anew in f64 by their definition.
    let values = || {
        set.split(Split::Train)
            .iter()
            .flat_map(|i| set.image(*i as usize))
            .map(|v| f64::from(*v) / 255.0)
    };
    let n = values().count() as f64;
    let mean = values().sum::<f64>() / n;
    let std = (values().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    // 80,000 additions of values below 1 in f64: error below 80,000 * 1e-16 relative.
    assert!((summary.mean[0] - mean).abs() < 1e-11 && (summary.std[0] - std).abs() < 1e-11);
    assert_eq!(set.mean(), [summary.mean[0] as f32]);
}

#[test]
fn bytes_depend_on_the_configuration_alone() {
    let read = |dir: &Path| {
        ["manifest.json", "images.u8", "labels.u32", "splits.u32"]
            .map(|name| fs_err::read(dir.join(name)).expect("written"))
    };
    let base = PrepareConfig {
        limit: Some(Limit::Total(300)),
        ..config(Source::Digits, 32, 3)
    };
    let pool = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads")
    };
    let (_, _, one) = pool(1).install(|| run(&base)).expect("embedded");
    let (_, _, four) = pool(4).install(|| run(&base)).expect("embedded");
    assert!(read(one.path()) == read(four.path()));
    let text = String::from_utf8(read(one.path())[0].clone()).expect("JSON is text");
    assert!(!text.contains(one.path().to_str().expect("text")), "a path in {text}");

    let (_, set, other) = run(&PrepareConfig {
        seed: 2,
        ..base.clone()
    })
    .expect("embedded");
    assert_ne!(read(one.path())[3], read(other.path())[3]);
    assert_eq!(set.len(), 300);
}

#[test]
fn progress_reaches_the_total() {
    let mut calls = Vec::new();
    let out = temp();
    prepare(&config(Source::Digits, 8, 1), out.path(), &mut |done, total| {
        calls.push((done, total))
    })
    .expect("embedded");
    assert_eq!(calls.first(), Some(&(0, 1797)));
    assert_eq!(calls.last(), Some(&(1797, 1797)));
    assert!(calls.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn damaged_artifacts_are_refused() {
    let (_, set, out) = run(&config(Source::Digits, 8, 1)).expect("embedded");
    drop(set);
    let refuse = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = out.path().join(name);
        let original = fs_err::read(&path).expect("written");
        let mut bytes = original.clone();
        change(&mut bytes);
        fs_err::write(&path, bytes).expect("can write");
        match ImageSet::open(out.path()) {
            Err(DataError::NotAnImageSet { file, .. }) => assert_eq!(file, path),
            other => panic!("{name}: {other:?}"),
        }
        fs_err::write(&path, original).expect("can write");
    };
    refuse("images.u8", &|bytes| bytes.truncate(100));
    refuse("labels.u32", &|bytes| bytes[0] = 77);
    refuse("labels.u32", &|bytes| bytes.truncate(10));
    refuse("splits.u32", &|bytes| bytes.copy_within(0..4, 4));
    refuse("manifest.json", &|bytes| bytes.truncate(10));
    refuse("manifest.json", &|bytes| {
        *bytes = String::from_utf8(bytes.clone())
            .expect("JSON")
            .replace("\"version\": 1", "\"version\": 9")
            .into_bytes();
    });
    assert!(ImageSet::open(out.path()).is_ok());
    assert!(matches!(
        ImageSet::open(&out.path().join("absent")),
        Err(DataError::Io(_))
    ));
}

#[test]
fn filled_images_are_normalised_and_augmented_by_key() {
    let (_, set, _out) = run(&config(Source::Digits, 8, 1)).expect("embedded");
    let images = SplitImages::new(&set, Split::Test, None, 0).expect("valid");
    let index = set.split(Split::Test)[3] as usize;
    let mut out = vec![0.0; 64];
    images.fill(3, 0, &mut out);
    for (value, level) in out.iter().zip(set.image(index)) {
        let expected = (f64::from(*level) / 255.0 - set.manifest().mean[0]) / set.manifest().std[0];
        // Values up to 3 in f32, four roundings.
        assert!((f64::from(*value) - expected).abs() < 2e-6);
    }
    assert_eq!(images.label(3), set.label(index));

    let augment = Augment {
        elastic: Some(Elastic {
            alpha: 20.0,
            sigma: 2.0,
        }),
        ..Augment::default()
    };
    let images = SplitImages::new(&set, Split::Train, Some(&augment), 4).expect("valid");
    let fill = |i, epoch| {
        let mut out = vec![0.0; 64];
        images.fill(i, epoch, &mut out);
        out
    };
    assert_eq!(fill(5, 2), fill(5, 2));
    assert_ne!(fill(5, 2), fill(5, 3));
    let bad = Augment {
        horizontal_flip: 2.0,
        ..Augment::default()
    };
    assert!(matches!(
        SplitImages::new(&set, Split::Train, Some(&bad), 0),
        Err(DataError::Option { .. })
    ));
}

// ---------------------------------------------------------------------------------------------------------------- MNIST

fn mnist(dir: &Path) -> PrepareConfig {
    PrepareConfig {
        validation_fraction: Some(0.34),
        ..config(Source::Mnist { path: dir.to_owned() }, 8, 1)
    }
}

#[test]
fn mnist_keeps_its_test_part() {
    let dir = temp();
    files::mnist(dir.path());
    let (summary, set, _out) = run(&mnist(dir.path())).expect("sound files");
    assert_eq!(set.split(Split::Test), (30..50).collect::<Vec<_>>());
    // 3 training images a class: round(3 * 0.34) = 1 to validation.
    assert!(
        summary
            .classes
            .iter()
            .all(|c| (c.train, c.validation, c.test) == (2, 1, 2))
    );
    assert_eq!(
        Source::Mnist {
            path: dir.path().to_owned()
        }
        .input_files()
        .expect("sound")
        .len(),
        4
    );

    let fashion = Source::FashionMnist {
        path: dir.path().to_owned(),
    };
    let published = PrepareConfig {
        normalisation: Normalisation::Published,
        ..config(fashion, 8, 3)
    };
    let (_, set, _out) = run(&published).expect("sound files");
    assert_eq!(set.classes()[9], "Ankle boot");
    assert_eq!(set.mean(), [0.2860; 3]);

    let contradiction = PrepareConfig {
        test_fraction: Some(0.1),
        ..mnist(dir.path())
    };
    assert!(matches!(
        error(&contradiction),
        DataError::Option {
            option: "test_fraction",
            ..
        }
    ));
}

#[test]
fn mnist_levels_are_read_in_order() {
    let dir = temp();
    files::mnist(dir.path());
    put(
        dir.path(),
        "train-images-idx3-ubyte.gz",
        &files::gzip(&files::idx_images(30, 8, 8)),
    );
    put(dir.path(), "t10k-images-idx3-ubyte", &files::idx_images(20, 8, 8));
    let (_, set, _out) = run(&mnist(dir.path())).expect("sound files");
    let expected: Vec<u8> = (64 * 7..64 * 8u32).map(|i| (i * 7 % 251) as u8).collect();
    assert_eq!(set.image(7), expected);
}

#[test]
fn damaged_mnist_files_are_located() {
    let dir = temp();
    let damaged = |name: &str, bytes: &[u8]| {
        files::mnist(dir.path());
        put(dir.path(), name, bytes);
        error(&mnist(dir.path()))
    };
    let expect_at = |error: DataError, name: &str, at: u64, text: &str| match error {
        DataError::Damaged { file, offset, what, .. } => {
            assert_eq!((file.file_name(), offset), (Some(name.as_ref()), at), "{what}");
            assert!(what.contains(text), "{what}");
        }
        other => panic!("{other:?}"),
    };
    let images = files::idx_images(30, 6, 5);
    let name = "train-images-idx3-ubyte.gz";
    let zipped = files::gzip(&images);
    match damaged(name, &zipped[..zipped.len() / 2]) {
        DataError::Damaged { what, .. } => assert!(what.contains("truncated gzip"), "{what}"),
        other => panic!("{other:?}"),
    }
    let mut flipped = zipped.clone();
    flipped[40] ^= 0x55;
    assert!(matches!(damaged(name, &flipped), DataError::Damaged { .. }));
    expect_at(damaged(name, &images[..800]), name, 800, "truncated");
    expect_at(
        damaged(name, &[images.clone(), vec![0]].concat()),
        name,
        916,
        "too long",
    );
    expect_at(damaged(name, &images[..7]), name, 7, "header");
    expect_at(damaged(name, b"<!DOCTYPE html>"), name, 0, "magic number is 0x3c21444f");
    // A label file under the name of an image file.
    expect_at(damaged(name, &files::idx_labels(&[1; 30])), name, 0, "0x00000801");
    expect_at(damaged(name, &files::idx_images(30, 0, 5)), name, 4, "0 x 5");

    let labels = "train-labels.idx1-ubyte";
    match damaged(labels, &files::idx_labels(&[&[3; 12][..], &[10], &[0; 17]].concat())) {
        DataError::LabelOutOfRange {
            offset: 20,
            image: 12,
            label: 10,
            max: 9,
            file,
        } => {
            assert_eq!(file, dir.path().join(labels));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        damaged(labels, &files::idx_labels(&[0; 29])),
        DataError::CountMismatch {
            images: 30,
            labels: 29,
            ..
        }
    ));
    put(dir.path(), labels, &files::idx_labels(&[0; 30]));
    fs_err::remove_file(dir.path().join(labels)).expect("was there");
    files::mnist(dir.path());
    match damaged("t10k-images-idx3-ubyte", &files::idx_images(20, 5, 6)) {
        DataError::MixedSizes {
            found: [5, 6],
            expected: [6, 5],
            ..
        } => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn missing_files_are_named_with_their_alternatives() {
    let dir = temp();
    files::mnist(dir.path());
    fs_err::remove_file(dir.path().join("t10k-labels-idx1-ubyte.gz")).expect("was there");
    let source = Source::Mnist {
        path: dir.path().to_owned(),
    };
    let missing: Vec<_> = source
        .required_files()
        .into_iter()
        .filter(|r| r.found().is_none())
        .collect();
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].alternatives[0], dir.path().join("t10k-labels-idx1-ubyte.gz"));
    let text = error(&config(source, 8, 1)).to_string();
    assert!(
        text.contains("test labels") && text.contains("t10k-labels.idx1-ubyte"),
        "{text}"
    );
    assert!(Source::Digits.required_files().is_empty());
    let absent = Source::ImageFolder {
        path: dir.path().join("absent"),
    };
    assert!(absent.required_files()[0].found().is_none());
    assert!(matches!(absent.input_files(), Err(DataError::Missing { .. })));
}

// ---------------------------------------------------------------------------------------------------------------- CIFAR

#[test]
fn cifar10_from_files_and_from_the_archive_are_the_same() {
    let (plain, packed) = (temp(), temp());
    files::cifar10(plain.path());
    let read = |name: String| {
        (
            format!("cifar-10-batches-bin/{name}"),
            fs_err::read(plain.path().join(&name)).expect("there"),
        )
    };
    let mut members: Vec<(String, Vec<u8>)> = (1..=5).map(|i| read(format!("data_batch_{i}.bin"))).collect();
    members.push(("cifar-10-batches-bin/readme.html".to_owned(), vec![b'x'; 700]));
    members.push(read("test_batch.bin".to_owned()));
    let members: Vec<(&str, Vec<u8>)> = members
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.clone()))
        .collect();
    put(
        packed.path(),
        "cifar-10-binary.tar.gz",
        &files::gzip(&files::tar(&members)),
    );
    let prepared = |dir: &Path| run(&config(Source::Cifar10 { path: dir.to_owned() }, 32, 3)).expect("sound files");
    let (summary, set, _a) = prepared(plain.path());
    let (packed_summary, packed_set, _b) = prepared(packed.path());
    // The files of the archive are named with it.
    let named = |mut summary: Summary| (std::mem::take(&mut summary.files), summary);
    let ((files, summary), (packed_files, packed_summary)) = (named(summary), named(packed_summary));
    assert_eq!((summary, files.len()), (packed_summary, packed_files.len()));
    assert_eq!(
        (set.len(), set.split(Split::Test).len(), set.classes()[9].as_str()),
        (60, 10, "truck")
    );
    for i in 0..set.len() {
        assert_eq!(set.image(i), packed_set.image(i));
    }
    // Record 3 of the second file, channel 2, row 5.
    assert_eq!(set.image(13)[2 * 1024 + 5 * 32 + 9], 3 + 2 + 5);
    assert_eq!(
        Source::Cifar10 {
            path: packed.path().to_owned()
        }
        .input_files()
        .expect("there")
        .len(),
        1
    );

    // Grey: level i + c + y in channel c weighs to 0.299 (i + y) + 0.587 (i + y + 1) + 0.114 (i + y + 2), rounded.
    let (_, grey, _c) = run(&config(
        Source::Cifar10 {
            path: plain.path().to_owned(),
        },
        32,
        1,
    ))
    .expect("sound files");
    assert_eq!(grey.image(13)[5 * 32], (8.0 + 0.587 + 0.228 + 0.5f64) as u8);
}

#[test]
fn cifar100_uses_fine_labels() {
    let dir = temp();
    let labels: Vec<[u8; 2]> = (0..200).map(|i| [i / 10, i % 100]).collect();
    let labels: Vec<&[u8]> = labels.iter().map(|l| &l[..]).collect();
    put(dir.path(), "cifar-100-binary/train.bin", &files::cifar_records(&labels));
    put(
        dir.path(),
        "cifar-100-binary/test.bin",
        &files::cifar_records(&labels[..100]),
    );
    let cifar100 = config(
        Source::Cifar100 {
            path: dir.path().to_owned(),
        },
        32,
        3,
    );
    let (_, set, _out) = run(&cifar100).expect("sound files");
    assert_eq!(
        (set.classes().len(), set.label(42), set.classes()[42].as_str()),
        (100, 42, "leopard")
    );

    put(
        dir.path(),
        "cifar-100-binary/test.bin",
        &files::cifar_records(&[&[0, 5], &[0, 100]]),
    );
    match error(&cifar100) {
        // Second record of 3,074 bytes, second byte.
        DataError::LabelOutOfRange {
            offset: 3075,
            image: 1,
            label: 100,
            max: 99,
            ..
        } => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn damaged_cifar_files_are_located() {
    let dir = temp();
    files::cifar10(dir.path());
    let source = Source::Cifar10 {
        path: dir.path().to_owned(),
    };
    let path = dir.path().join("data_batch_3.bin");
    let good = fs_err::read(&path).expect("there");
    fs_err::write(&path, &good[..4000]).expect("can write");
    match error(&config(source.clone(), 32, 3)) {
        DataError::Damaged { file, offset: 3073, .. } => assert_eq!(file, path),
        other => panic!("{other:?}"),
    }

    let packed = temp();
    let archive = files::tar(&[("cifar-10-batches-bin/data_batch_1.bin", good)]);
    let source = config(
        Source::Cifar10 {
            path: packed.path().to_owned(),
        },
        32,
        3,
    );
    let name = "cifar-10-binary.tar.gz";
    put(packed.path(), name, &files::gzip(&archive[..20_000]));
    assert!(error(&source).to_string().contains("ends within its member"));
    put(packed.path(), name, &files::gzip(&archive));
    assert!(error(&source).to_string().contains("no member `data_batch_2.bin`"));
    let zipped = files::gzip(&archive);
    put(packed.path(), name, &zipped[..zipped.len() - 20]);
    assert!(error(&source).to_string().contains("truncated gzip"));
}

// -------------------------------------------------------------------------------------------------------------- options

#[test]
fn impossible_options_are_refused() {
    let base = config(Source::Digits, 8, 1);
    let refused = |config: PrepareConfig| match error(&config) {
        DataError::Option { option, .. } => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(PrepareConfig {
            side: 0,
            ..base.clone()
        }),
        "side"
    );
    assert_eq!(
        refused(PrepareConfig {
            resize: Some(7),
            ..base.clone()
        }),
        "resize"
    );
    assert_eq!(
        refused(PrepareConfig {
            channels: 2,
            ..base.clone()
        }),
        "channels"
    );
    assert_eq!(
        refused(PrepareConfig {
            test_fraction: Some(1.0),
            ..base.clone()
        }),
        "test_fraction"
    );
    assert_eq!(
        refused(PrepareConfig {
            validation_fraction: Some(f64::NAN),
            ..base.clone()
        }),
        "validation_fraction"
    );
    assert_eq!(
        refused(PrepareConfig {
            limit: Some(Limit::PerClass(0)),
            ..base.clone()
        }),
        "limit"
    );
    assert_eq!(
        refused(PrepareConfig {
            normalisation: Normalisation::Published,
            ..base.clone()
        }),
        "normalisation"
    );
    let given = Normalisation::Given {
        mean: vec![0.1, 0.2],
        std: vec![0.1, 0.2],
    };
    assert_eq!(
        refused(PrepareConfig {
            normalisation: given,
            ..base.clone()
        }),
        "normalisation"
    );
    let heavy = PrepareConfig {
        test_fraction: Some(0.6),
        validation_fraction: Some(0.5),
        ..base.clone()
    };
    assert!(matches!(error(&heavy), DataError::TooFewImages { .. }));
}

#[test]
fn configuration_survives_serialisation() {
    let config = PrepareConfig {
        limit: Some(Limit::PerClass(5)),
        normalisation: Normalisation::Given {
            mean: vec![0.5],
            std: vec![0.25],
        },
        ..config(
            Source::Mnist {
                path: PathBuf::from("data/mnist"),
            },
            8,
            1,
        )
    };
    let text = serde_json::to_string(&config).expect("serialises");
    assert_eq!(
        serde_json::from_str::<PrepareConfig>(&text).expect("reads back"),
        config
    );
    assert!(serde_json::from_str::<Augment>(r#"{"horizontal_flips": 0.5}"#).is_err());
}

#[test]
fn writer_refuses_what_does_not_fit() {
    let dir = temp();
    let classes = ["a".to_owned(), "b".to_owned()];
    let start = || ImageSetWriter::create(dir.path(), "x", 1, 2, &classes).expect("can write");
    let mut writer = start();
    assert!(writer.push(&[0; 3], 0).is_err());
    assert!(writer.push(&[0; 4], 2).is_err());
    writer.push(&[0, 255, 0, 255], 1).expect("fits");
    let split = |train: &[u32], test: &[u32]| Splits {
        train: train.to_vec(),
        validation: vec![],
        test: test.to_vec(),
    };
    assert!(writer.finish(&split(&[0], &[0]), None, "", "").is_err());
    let mut writer = start();
    writer.push(&[0, 255, 0, 255], 1).expect("fits");
    let set = writer.finish(&split(&[0], &[]), None, "", "").expect("complete");
    assert_eq!((set.mean(), set.std()), (&[0.5f32][..], &[0.5f32][..]));
    assert!(start().finish(&split(&[], &[]), None, "", "").is_err());
}

#[test]
fn gzip_filled_up_with_zeros_reads_and_rubbish_does_not() {
    let dir = files::temp();
    files::mnist(dir.path());
    let (plain, set, _out) = run(&mnist(dir.path())).expect("sound files");
    let name = "train-images-idx3-ubyte.gz";
    let whole = fs_err::read(dir.path().join(name)).expect("there");
    files::put(dir.path(), name, &[whole.clone(), vec![0; 512]].concat());
    let (padded, again, _again) = run(&mnist(dir.path())).expect("padding is no content");
    assert_eq!(plain, padded);
    assert!((0..set.len()).all(|i| set.image(i) == again.image(i)));
    // Two archives, one after the other, are one file.
    let raw = files::idx_images(30, 6, 5);
    let two = [files::gzip(&raw[..100]), files::gzip(&raw[100..])].concat();
    files::put(dir.path(), name, &two);
    assert_eq!(run(&mnist(dir.path())).expect("sound files").0, plain);
    files::put(dir.path(), name, &[whole.clone(), b"rubbish".to_vec()].concat());
    match error(&mnist(dir.path())) {
        DataError::Damaged { offset, what, .. } => {
            assert_eq!(offset, whole.len() as u64);
            assert!(what.contains("7 bytes that are no gzip archive"), "{what}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn torchvisions_raw_folders_are_found() {
    let raw = files::temp();
    files::mnist(raw.path());
    let plain = run(&mnist(raw.path())).expect("sound files").0;
    for place in ["raw", "MNIST/raw"] {
        let dir = files::temp();
        files::mnist(&dir.path().join(place));
        let found = run(&mnist(dir.path())).expect("sound files").0;
        assert_eq!(found.classes, plain.classes);
        assert_eq!(found.files[0], format!("{place}/train-images-idx3-ubyte.gz[0]"));
        assert_eq!(found.files[31], format!("{place}/t10k-images-idx3-ubyte[1]"));
    }
}

#[test]
fn emnist_letters_are_named_and_upright() {
    let dir = files::temp();
    let labels = |n: u8| (0..n).map(|i| 1 + i % 26).collect::<Vec<_>>();
    for (part, n) in [("train", 52u8), ("test", 26)] {
        let name = |what: &str| format!("gzip/emnist-letters-{part}-{what}-ubyte.gz");
        files::put(
            dir.path(),
            &name("images-idx3"),
            &files::gzip(&files::idx_images(u32::from(n), 8, 8)),
        );
        files::put(
            dir.path(),
            &name("labels-idx1"),
            &files::gzip(&files::idx_labels(&labels(n))),
        );
    }
    let source = |division| Source::Emnist {
        path: dir.path().to_owned(),
        division,
    };
    let (summary, set, _out) = run(&config(source(Emnist::Letters), 8, 1)).expect("sound files");
    assert_eq!(
        (
            set.classes().len(),
            set.classes()[0].as_str(),
            set.classes()[25].as_str()
        ),
        (26, "a", "z")
    );
    assert_eq!([set.label(0), set.label(25), set.label(26)], [0, 25, 0]);
    assert_eq!(summary.files[52], "gzip/emnist-letters-test-images-idx3-ubyte.gz[0]");
    // The file's levels are 0, 7, 14, ... down the first column.
    let column: Vec<u8> = (0..8).map(|row| set.image(0)[row * 8]).collect();
    assert_eq!(column, [0, 7, 14, 21, 28, 35, 42, 49]);
    // Another division is not there.
    assert!(matches!(
        error(&config(source(Emnist::Balanced), 8, 1)),
        DataError::Missing { .. }
    ));
}

/// A batch of the Python version as Python 2 pickled it.
fn cifar_pickle(labels_key: &str, labels: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = b"\x80\x02}q\x01(U".to_vec();
    out.push(labels_key.len() as u8);
    out.extend(labels_key.bytes());
    out.extend(b"q\x02]q\x03(");
    out.extend(labels.iter().flat_map(|label| [b'K', *label]));
    out.extend(b"eU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01M");
    out.extend((labels.len() as u16).to_le_bytes());
    out.extend(b"M\x00\x0c\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out.extend(b"tbu.");
    out
}

#[test]
fn cifar_pickles_read_as_the_binary_version() {
    let binary = files::temp();
    files::cifar10(binary.path());
    let python = files::temp();
    let labels: Vec<u8> = (0..10).collect();
    let names = [
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
    ];
    for name in names {
        let records = fs_err::read(binary.path().join(format!("{name}.bin"))).expect("there");
        let data: Vec<u8> = records.chunks(3073).flat_map(|record| record[1..].to_vec()).collect();
        files::put(
            python.path(),
            &format!("cifar-10-batches-py/{name}"),
            &cifar_pickle("labels", &labels, &data),
        );
    }
    let of = |dir: &Path| config(Source::Cifar10 { path: dir.to_owned() }, 32, 3);
    let (summary, one, _one) = run(&of(binary.path())).expect("sound files");
    let (pickled, two, _two) = run(&of(python.path())).expect("sound files");
    assert_eq!(summary.classes, pickled.classes);
    assert_eq!(summary.mean, pickled.mean);
    assert!((0..one.len()).all(|i| one.image(i) == two.image(i) && one.label(i) == two.label(i)));
    assert_eq!(summary.files[59], "test_batch.bin[9]");
    assert_eq!(pickled.files[10], "cifar-10-batches-py/data_batch_2[0]");
    // Cut short, of other labels, or something else.
    let path = "cifar-10-batches-py/test_batch";
    let whole = fs_err::read(python.path().join(path)).expect("there");
    files::put(python.path(), path, &whole[..whole.len() / 2]);
    assert!(
        error(&of(python.path()))
            .to_string()
            .contains("truncated, or no pickle")
    );
    files::put(python.path(), path, &cifar_pickle("labels", &[11], &[0; 3072]));
    assert!(matches!(
        error(&of(python.path())),
        DataError::LabelOutOfRange { label: 11, max: 9, .. }
    ));
    files::put(python.path(), path, &cifar_pickle("labels", &[1, 2], &[0; 3072]));
    assert!(error(&of(python.path())).to_string().contains("no array `data`"));
    files::put(python.path(), path, b"\x80\x02cposix\nsystem\nU\x02ls\x85R.");
    assert!(error(&of(python.path())).to_string().contains("no list of labels"));
}

/// A tar of a Mac or of GNU tar with extended headers, whose names end like the members' own.
#[test]
fn cifar_archives_with_extended_headers_read() {
    let dir = files::temp();
    files::cifar10(dir.path());
    let mut archive = Vec::new();
    for name in (1..=5)
        .map(|i| format!("data_batch_{i}.bin"))
        .chain(["test_batch.bin".to_owned()])
    {
        let bytes = fs_err::read(dir.path().join(&name)).expect("there");
        let mut header = files::tar(&[(
            &format!("PaxHeader/{name}"),
            b"30 mtime=1700000000.123456789\n".to_vec(),
        )]);
        header[156] = b'x';
        let member = files::tar(&[(&format!("cifar-10-batches-bin/{name}"), bytes)]);
        // Each without the blocks that end an archive.
        archive.extend_from_slice(&header[..header.len() - 1024]);
        archive.extend_from_slice(&member[..member.len() - 1024]);
    }
    archive.resize(archive.len() + 1024, 0);
    let packed = files::temp();
    files::put(packed.path(), "cifar-10-binary.tar.gz", &files::gzip(&archive));
    let of = |dir: &Path| config(Source::Cifar10 { path: dir.to_owned() }, 32, 3);
    let (plain, _, _plain) = run(&of(dir.path())).expect("sound files");
    let (found, _, _found) = run(&of(packed.path())).expect("sound files");
    assert_eq!((plain.classes, plain.mean), (found.classes, found.mean));
}
