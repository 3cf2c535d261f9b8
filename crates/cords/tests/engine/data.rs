//! Image sets from outside: the artifact's bytes, how it is read back, and options.

use crate::data_support::{config, error, run, temp};
use cords::data::Images;
use cords::data::*;
use std::path::Path;

// ------------------------------------------------------------------------------------------------ digits, the artifact

#[test]
fn digits_are_prepared_and_read_back() {
    let (summary, set, _out) = run(&config(ImageSource::new(SourceName::Digits, ""), 8, 1)).expect("embedded");
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
    assert_eq!(set.image(0).expect("levels")[..8], [0, 0, 80, 207, 143, 16, 0, 0]);
    assert!(set.manifest().attribution.contains("Alpaydin"));

    // Mean and deviation, computed anew in f64 by their definition.
    let values = || {
        set.split(Split::Train)
            .iter()
            .flat_map(|i| set.image(*i as usize).expect("levels").into_owned())
            .map(|v| f64::from(v) / 255.0)
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
        ..config(ImageSource::new(SourceName::Digits, ""), 32, 3)
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
    prepare(
        &config(ImageSource::new(SourceName::Digits, ""), 8, 1),
        out.path(),
        &mut |done, total| calls.push((done, total)),
    )
    .expect("embedded");
    assert_eq!(calls.first(), Some(&(0, 1797)));
    assert_eq!(calls.last(), Some(&(1797, 1797)));
    assert!(calls.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn damaged_artifacts_are_refused() {
    let (_, set, out) = run(&config(ImageSource::new(SourceName::Digits, ""), 8, 1)).expect("embedded");
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
    let (_, set, _out) = run(&config(ImageSource::new(SourceName::Digits, ""), 8, 1)).expect("embedded");
    let images = SplitImages::new(&set, Split::Test, None, 0).expect("valid");
    let index = set.split(Split::Test)[3] as usize;
    let mut out = vec![0.0; 64];
    images.fill(3, 0, &mut out).expect("a sound image");
    for (value, level) in out.iter().zip(set.image(index).expect("levels").iter()) {
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
        images.fill(i, epoch, &mut out).expect("a sound image");
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

// --------------------------------------------------------------------------------------------------------------
// options

#[test]
fn impossible_options_are_refused() {
    let base = config(ImageSource::new(SourceName::Digits, ""), 8, 1);
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
    // Constants of three channels.
    assert_eq!(
        refused(PrepareConfig {
            normalisation: Normalisation::Published,
            ..config(ImageSource::new(SourceName::Cifar10, ""), 32, 1)
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
        normalisation: Normalisation::Published,
        ..config(ImageSource::new(SourceName::Mnist, "data/mnist"), 8, 1)
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
