//! Image sets from outside: every source from small generated files, every way in which files can be damaged, and
//! the artifact's bytes.

use cords::data::*;
use cords::learn::Images;
use std::io::Write;
use std::path::{Path, PathBuf};

mod files {
    //! Writers of the formats under test, from their specifications.
    use super::*;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("writes to memory");
        encoder.finish().expect("writes to memory")
    }

    pub(crate) fn idx_images(count: u32, height: u32, width: u32) -> Vec<u8> {
        let mut bytes: Vec<u8> = [0x803, count, height, width]
            .iter()
            .flat_map(|n| n.to_be_bytes())
            .collect();
        bytes.extend((0..count * height * width).map(|i| (i * 7 % 251) as u8));
        bytes
    }

    pub(crate) fn idx_labels(labels: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = [0x801, labels.len() as u32]
            .iter()
            .flat_map(|n| n.to_be_bytes())
            .collect();
        bytes.extend(labels);
        bytes
    }

    /// 30 training and 20 test images of 6 x 5 pixels, three and two a class, the four usual names.
    pub(crate) fn mnist(dir: &Path) {
        let labels = |n: u8| (0..n).map(|i| i % 10).collect::<Vec<_>>();
        put(dir, "train-images-idx3-ubyte.gz", &gzip(&idx_images(30, 6, 5)));
        put(dir, "train-labels.idx1-ubyte", &idx_labels(&labels(30)));
        put(dir, "t10k-images-idx3-ubyte", &idx_images(20, 6, 5));
        put(dir, "t10k-labels-idx1-ubyte.gz", &gzip(&idx_labels(&labels(20))));
    }

    /// CIFAR records; pixel (y, x) of channel c of record i has level i + c + y.
    pub(crate) fn cifar_records(labels: &[&[u8]]) -> Vec<u8> {
        let record = |(i, labels): (usize, &&[u8])| {
            let mut bytes = labels.to_vec();
            bytes.extend((0..3 * 1024).map(|at| (i + at / 1024 + at % 1024 / 32) as u8));
            bytes
        };
        labels.iter().enumerate().flat_map(record).collect()
    }

    pub(crate) fn cifar10(dir: &Path) {
        let all: Vec<Vec<u8>> = (0..10).map(|label| vec![label]).collect();
        let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        for i in 1..=5 {
            put(dir, &format!("data_batch_{i}.bin"), &cifar_records(&all));
        }
        put(dir, "test_batch.bin", &cifar_records(&all));
    }

    /// A POSIX ustar archive.
    pub(crate) fn tar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content) in members {
            let mut header = [0u8; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            header[257..262].copy_from_slice(b"ustar");
            out.extend(header);
            out.extend(content);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.resize(out.len() + 1024, 0);
        out
    }

    pub(crate) fn png(path: &Path, width: u32, height: u32, color: image::ColorType, bytes: &[u8]) {
        fs_err::create_dir_all(path.parent().expect("has a folder")).expect("can write");
        image::save_buffer_with_format(path, bytes, width, height, color, image::ImageFormat::Png).expect("can write");
    }

    /// A baseline JPEG whose 8 x 8 blocks are flat: only the direct-current coefficient of each is coded, with steps of
    /// 1, so that decoding is exact. One component makes it grey; with three, they are Y, Cb, Cr.
    pub(crate) fn jpeg(
        blocks_across: usize,
        blocks_down: usize,
        components: &[&dyn Fn(usize, usize) -> u8],
    ) -> Vec<u8> {
        let mut out = vec![0xFF, 0xD8];
        let segment = |marker: u8, body: &[u8]| {
            let mut bytes = vec![0xFF, marker];
            bytes.extend((body.len() as u16 + 2).to_be_bytes());
            bytes.extend(body);
            bytes
        };
        let mut table = vec![0];
        table.extend([1; 64]);
        out.extend(segment(0xDB, &table));
        let n = components.len() as u8;
        let mut frame = vec![8];
        frame.extend((8 * blocks_down as u16).to_be_bytes());
        frame.extend((8 * blocks_across as u16).to_be_bytes());
        frame.push(n);
        for id in 1..=n {
            frame.extend([id, 0x11, 0]);
        }
        out.extend(segment(0xC0, &frame));
        // Direct current: sixteen codes of 4 bits would use up all codes, so categories 0..=11 have 4 bits each.
        let mut huffman = vec![0x00, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        huffman.extend(0..12u8);
        out.extend(segment(0xC4, &huffman));
        // Alternating current: end of block only, code 0.
        let mut huffman = vec![0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        huffman.push(0);
        out.extend(segment(0xC4, &huffman));
        let mut scan = vec![n];
        for id in 1..=n {
            scan.extend([id, 0x00]);
        }
        scan.extend([0, 63, 0]);
        out.extend(segment(0xDA, &scan));
        let mut bits: Vec<bool> = Vec::new();
        let mut put = |value: u32, length: u32| bits.extend((0..length).rev().map(|bit| value >> bit & 1 == 1));
        let mut last = vec![0i32; components.len()];
        for y in 0..blocks_down {
            for x in 0..blocks_across {
                for (component, last) in components.iter().zip(&mut last) {
                    let level = 8 * (i32::from(component(y, x)) - 128);
                    let difference = level - *last;
                    *last = level;
                    let category = 32 - difference.unsigned_abs().leading_zeros();
                    put(category, 4);
                    let value = if difference < 0 {
                        difference + (1 << category) - 1
                    } else {
                        difference
                    };
                    put(value as u32, category);
                    put(0, 1);
                }
            }
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        for byte in bits.chunks(8) {
            let byte = byte.iter().fold(0u8, |byte, bit| byte << 1 | u8::from(*bit));
            out.push(byte);
            if byte == 0xFF {
                out.push(0);
            }
        }
        out.extend([0xFF, 0xD9]);
        out
    }

    pub(crate) fn put(dir: &Path, name: &str, bytes: &[u8]) {
        let path = dir.join(name);
        fs_err::create_dir_all(path.parent().expect("has a folder")).expect("can write");
        fs_err::write(path, bytes).expect("can write");
    }
}

use files::put;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("can make a folder")
}

fn config(source: Source, side: usize, channels: usize) -> PrepareConfig {
    PrepareConfig {
        source,
        side,
        resize: None,
        channels,
        validation_fraction: None,
        test_fraction: None,
        seed: 1,
        limit: None,
        normalisation: Normalisation::TrainingSplit,
    }
}

fn run(config: &PrepareConfig) -> Result<(Summary, ImageSet, tempfile::TempDir), DataError> {
    let out = temp();
    let summary = prepare(config, out.path(), &mut |_, _| {})?;
    let set = ImageSet::open(out.path())?;
    Ok((summary, set, out))
}

fn error(config: &PrepareConfig) -> DataError {
    run(config).map(|(summary, ..)| summary).expect_err("must fail")
}

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
    assert_eq!(summary, packed_summary);
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

// -------------------------------------------------------------------------------------------------------- image folders

fn folder(dir: &Path) -> PrepareConfig {
    PrepareConfig {
        validation_fraction: Some(0.0),
        test_fraction: Some(0.0),
        ..config(Source::ImageFolder { path: dir.to_owned() }, 8, 3)
    }
}

/// A picture of 8 x 8 pixels with a gradient, as PNG.
fn small_png(path: &Path) {
    let bytes: Vec<u8> = (0..192).map(|i| i as u8).collect();
    files::png(path, 8, 8, image::ColorType::Rgb8, &bytes);
}

#[test]
fn folders_are_classes_and_pixel_kinds_are_converted() {
    let dir = temp();
    let at = |name: &str| dir.path().join(name);
    let rgb: Vec<u8> = (0..192).map(|i| i as u8).collect();
    files::png(&at("zebra/b.png"), 8, 8, image::ColorType::Rgb8, &rgb);
    let rgba: Vec<u8> = rgb.chunks(3).flat_map(|p| [p[0], p[1], p[2], 7]).collect();
    files::png(&at("zebra/a.png"), 8, 8, image::ColorType::Rgba8, &rgba);
    let grey: Vec<u8> = (100..164).collect();
    files::png(&at("ant/grey.png"), 8, 8, image::ColorType::L8, &grey);
    let grey16: Vec<u8> = grey
        .iter()
        .flat_map(|v| (u16::from(*v) * 257 + 100).to_ne_bytes())
        .collect();
    files::png(&at("ant/grey16.PNG"), 8, 8, image::ColorType::L16, &grey16);
    let rgb16: Vec<u8> = rgb.iter().flat_map(|v| (u16::from(*v) * 257).to_ne_bytes()).collect();
    files::png(&at("bee/deep.png"), 8, 8, image::ColorType::Rgb16, &rgb16);
    // A JPEG under the name of a PNG, as in ImageNet; and files that are passed over.
    put(dir.path(), "bee/jpeg.png", &files::jpeg(1, 1, &[&|_, _| 90]));
    put(dir.path(), "bee/.DS_Store", b"x");
    put(dir.path(), "readme.txt", b"beside the classes");

    let (_, set, _out) = run(&folder(dir.path())).expect("sound files");
    assert_eq!(set.classes(), ["ant", "bee", "zebra"]);
    assert_eq!((0..6).map(|i| set.label(i)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
    let planes = |pixels: &[u8]| {
        (0..3)
            .flat_map(|c| pixels.iter().skip(c).step_by(3).copied())
            .collect::<Vec<_>>()
    };
    let repeated = grey.repeat(3);
    assert_eq!(set.image(0), repeated);
    // 16 bits rounded to 8: (257 v + 100) / 257 is v.
    assert_eq!(set.image(1), repeated);
    assert_eq!(set.image(2), planes(&rgb));
    assert_eq!(set.image(3), [90; 192]);
    assert_eq!(set.image(4), planes(&rgb));
    assert_eq!(set.image(5), planes(&rgb));
    let files = Source::ImageFolder {
        path: dir.path().to_owned(),
    }
    .input_files()
    .expect("there");
    assert_eq!(files.len(), 6);
    assert!(files.is_sorted());
}

#[test]
fn jpeg_colours_are_exact_and_the_centre_is_cropped() {
    let dir = temp();
    // 24 x 16 pixels in flat blocks: Y 80, 100, 120 across; Cb and Cr neutral but for a red middle block in row 1.
    let luma = |_: usize, x: usize| 80 + 20 * x as u8;
    let red = |y: usize, x: usize| if (y, x) == (1, 1) { 168 } else { 128 };
    put(dir.path(), "a/x.jpg", &files::jpeg(3, 2, &[&luma, &|_, _| 128, &red]));
    let mut wide = folder(dir.path());
    wide.side = 16;
    let (_, set, _out) = run(&PrepareConfig {
        normalisation: Normalisation::Given {
            mean: vec![0.5; 3],
            std: vec![0.2; 3],
        },
        ..wide
    })
    .expect("sound files");
    let at = |c: usize, y: usize, x: usize| set.image(0)[(c * 16 + y) * 16 + x];
    // Columns 4..20 remain: 4 of Y = 80, 8 of 100, 4 of 120.
    assert_eq!(
        [at(0, 0, 0), at(1, 0, 3), at(2, 0, 4), at(0, 0, 11), at(0, 0, 12)],
        [80, 80, 100, 100, 120]
    );
    // JFIF: R = Y + 1.402 (Cr - 128) = 156.1, G = Y - 0.714 (Cr - 128) = 71.4; one level for the decoder's fixed point.
    assert!(at(0, 12, 8).abs_diff(156) <= 1 && at(1, 12, 8).abs_diff(71) <= 1 && at(2, 12, 8).abs_diff(100) <= 1);
}

#[test]
fn train_val_test_folders_give_the_parts() {
    let dir = temp();
    for part in ["train", "val"] {
        for class in ["a", "b"] {
            for i in 0..4 {
                small_png(&dir.path().join(format!("{part}/{class}/{i}.png")));
            }
        }
    }
    let imagenet = PrepareConfig {
        test_fraction: None,
        validation_fraction: Some(0.25),
        ..folder(dir.path())
    };
    let (_, set, _out) = run(&imagenet).expect("sound files");
    // Without test/, val/ is the test part and validation comes from train/.
    assert_eq!(set.split(Split::Test), (8..16).collect::<Vec<_>>());
    assert_eq!(set.split(Split::Validation).len(), 2);

    small_png(&dir.path().join("test/a/0.png"));
    let all_given = PrepareConfig {
        validation_fraction: None,
        ..imagenet.clone()
    };
    let (summary, set, _out) = run(&all_given).expect("sound files");
    assert_eq!(set.split(Split::Validation), (8..16).collect::<Vec<_>>());
    assert_eq!(set.split(Split::Test), [16]);
    assert_eq!(summary.classes[1].test, 0);
    assert!(matches!(
        error(&imagenet),
        DataError::Option {
            option: "validation_fraction",
            ..
        }
    ));

    small_png(&dir.path().join("test/c/0.png"));
    assert!(matches!(error(&all_given), DataError::UnknownClass { folder, .. } if folder.ends_with("test/c")));
    fs_err::remove_dir_all(dir.path().join("test")).expect("was there");
    fs_err::remove_dir_all(dir.path().join("val")).expect("was there");
    small_png(&dir.path().join("val/ILSVRC2012_val_00000001.png"));
    let text = error(&all_given).to_string();
    assert!(text.contains("must first be sorted by class"), "{text}");
}

#[test]
fn sizes_may_differ_and_may_be_smaller_than_the_crop() {
    let dir = temp();
    files::png(&dir.path().join("a/small.png"), 3, 5, image::ColorType::L8, &[50; 15]);
    files::png(
        &dir.path().join("a/wide.png"),
        100,
        20,
        image::ColorType::L8,
        &[200; 2000],
    );
    let (_, set, _out) = run(&PrepareConfig {
        resize: Some(10),
        ..folder(dir.path())
    })
    .expect("sound files");
    assert_eq!(set.image(0), [50; 192]);
    assert_eq!(set.image(1), [200; 192]);
}

#[test]
fn bad_image_folders_are_explained() {
    let dir = temp();
    let at = |name: &str| dir.path().join(name);
    let fails = |name: &str, bytes: &[u8]| {
        small_png(&at("a/good.png"));
        put(dir.path(), name, bytes);
        let error = error(&folder(dir.path()));
        fs_err::remove_file(at(name)).expect("was put there");
        error
    };
    let good_png = {
        small_png(&at("a/good.png"));
        fs_err::read(at("a/good.png")).expect("there")
    };
    let named = |error: &DataError, name: &str| {
        assert!(error.to_string().contains(at(name).to_str().expect("text")), "{error}")
    };

    let truncated = fails("a/x.png", &good_png[..good_png.len() - 30]);
    assert!(matches!(truncated, DataError::Damaged { .. }), "{truncated:?}");
    named(&truncated, "a/x.png");
    let mut flipped = good_png.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xFF;
    assert!(matches!(fails("a/x.png", &flipped), DataError::Damaged { .. }));

    let jpeg = files::jpeg(4, 4, &[&|y, x| (60 + 40 * y + 7 * x) as u8]);
    for cut in [2, 30, jpeg.len() / 2, jpeg.len() - 12, jpeg.len() - 2, jpeg.len() - 1] {
        let truncated = fails("a/x.jpg", &jpeg[..cut]);
        assert!(
            matches!(truncated, DataError::Damaged { offset, .. } if offset == cut as u64),
            "{cut}: {truncated:?}"
        );
        named(&truncated, "a/x.jpg");
    }
    let text = fails("a/notes.txt", b"not an image").to_string();
    assert!(
        text.contains("notes.txt") && text.contains("not a JPEG or PNG"),
        "{text}"
    );
    assert!(fails("a/x.jpg", b"").to_string().contains("empty"));
    assert!(fails("a/x.gif", b"GIF89a...").to_string().contains("GIF"));

    fs_err::create_dir(at("b")).expect("can make a folder");
    match error(&folder(dir.path())) {
        DataError::EmptyClass { class, folder } => assert_eq!((class.as_str(), folder), ("b", at("b"))),
        other => panic!("{other:?}"),
    }
    fs_err::create_dir(at("b/nested")).expect("can make a folder");
    assert!(matches!(error(&folder(dir.path())), DataError::NotAnImage { file, .. } if file == at("b/nested")));

    let flat = temp();
    small_png(&flat.path().join("x.png"));
    let text = error(&folder(flat.path())).to_string();
    assert!(
        text.contains("no class folders") && text.contains("1 files lie directly"),
        "{text}"
    );
}

#[test]
fn the_first_bad_image_is_reported_for_any_number_of_threads() {
    let dir = temp();
    for i in 0..40 {
        let path = dir.path().join(format!("a/{i:02}.png"));
        if i % 7 == 5 {
            put(dir.path(), &format!("a/{i:02}.png"), b"x")
        } else {
            small_png(&path)
        }
    }
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        let error = pool.install(|| error(&folder(dir.path())));
        assert!(matches!(error, DataError::NotAnImage { file, .. } if file.ends_with("a/05.png")));
    }
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

    let dir = temp();
    files::png(&dir.path().join("a/x.png"), 8, 8, image::ColorType::L8, &[9; 64]);
    assert!(matches!(
        error(&folder(dir.path())),
        DataError::ConstantChannel { channel: 0 }
    ));
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
