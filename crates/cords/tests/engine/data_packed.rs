//! The packed sources, MNIST, EMNIST and CIFAR, from small generated files, and every way in which those can be
//! damaged.

use crate::data_support::{self as files, config, error, put, run, temp};
use cords::data::*;
use std::path::Path;

// ----------------------------------------------------------------------------------------------------------------
// MNIST

fn mnist(dir: &Path) -> PrepareConfig {
    PrepareConfig {
        validation_fraction: Some(0.34),
        ..config(ImageSource::new(SourceName::Mnist, dir), 8, 1)
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
        ImageSource::new(SourceName::Mnist, dir.path())
            .input_files()
            .expect("sound")
            .len(),
        4
    );

    let fashion = ImageSource::new(SourceName::FashionMnist, dir.path());
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
    assert_eq!(set.image(7).expect("levels")[..], expected);
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
    let source = ImageSource::new(SourceName::Mnist, dir.path());
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
    assert!(ImageSource::new(SourceName::Digits, "").required_files().is_empty());
    let absent = ImageSource::new(SourceName::ImageFolder, dir.path().join("absent"));
    assert!(absent.required_files()[0].found().is_none());
    assert!(matches!(absent.input_files(), Err(DataError::Missing { .. })));
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
    assert!((0..set.len()).all(|i| set.image(i).expect("levels")[..] == again.image(i).expect("levels")[..]));
    // Two archives, one after the other, are one file.
    let raw = files::idx_images(30, 6, 5);
    let two = [files::gzip(&raw[..100]), files::gzip(&raw[100..])].concat();
    files::put(dir.path(), name, &two);
    assert_eq!(run(&mnist(dir.path())).expect("sound files").0, plain);
    files::put(dir.path(), name, &[whole.clone(), b"rubbish".to_vec()].concat());
    match error(&mnist(dir.path())) {
        DataError::Damaged { offset, what, .. } => {
            assert_eq!(offset, whole.len() as u64);
            assert!(what.contains("7 bytes that are not a gzip archive"), "{what}");
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
    let source = |name| ImageSource::new(name, dir.path());
    let (summary, set, _out) = run(&config(source(SourceName::EmnistLetters), 8, 1)).expect("sound files");
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
    let column: Vec<u8> = (0..8).map(|row| set.image(0).expect("levels")[row * 8]).collect();
    assert_eq!(column, [0, 7, 14, 21, 28, 35, 42, 49]);
    // Another division is not there.
    assert!(matches!(
        error(&config(source(SourceName::EmnistBalanced), 8, 1)),
        DataError::Missing { .. }
    ));
}

// ----------------------------------------------------------------------------------------------------------------
// CIFAR

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
    let prepared = |dir: &Path| run(&config(ImageSource::new(SourceName::Cifar10, dir), 32, 3)).expect("sound files");
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
        assert_eq!(
            set.image(i).expect("levels")[..],
            packed_set.image(i).expect("levels")[..]
        );
    }
    // Record 3 of the second file, channel 2, row 5.
    assert_eq!(set.image(13).expect("levels")[2 * 1024 + 5 * 32 + 9], 3 + 2 + 5);
    assert_eq!(
        ImageSource::new(SourceName::Cifar10, packed.path())
            .input_files()
            .expect("there")
            .len(),
        1
    );

    // Grey: level i + c + y in channel c weighs to 0.299 (i + y) + 0.587 (i + y + 1) + 0.114 (i + y + 2), rounded.
    let (_, grey, _c) = run(&config(ImageSource::new(SourceName::Cifar10, plain.path()), 32, 1)).expect("sound files");
    assert_eq!(
        grey.image(13).expect("levels")[5 * 32],
        (8.0 + 0.587 + 0.228 + 0.5f64) as u8
    );
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
    let cifar100 = config(ImageSource::new(SourceName::Cifar100, dir.path()), 32, 3);
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
    let source = ImageSource::new(SourceName::Cifar10, dir.path());
    let path = dir.path().join("data_batch_3.bin");
    let good = fs_err::read(&path).expect("there");
    fs_err::write(&path, &good[..4000]).expect("can write");
    match error(&config(source.clone(), 32, 3)) {
        DataError::Damaged { file, offset: 3073, .. } => assert_eq!(file, path),
        other => panic!("{other:?}"),
    }

    let packed = temp();
    let archive = files::tar(&[("cifar-10-batches-bin/data_batch_1.bin", good)]);
    let source = config(ImageSource::new(SourceName::Cifar10, packed.path()), 32, 3);
    let name = "cifar-10-binary.tar.gz";
    put(packed.path(), name, &files::gzip(&archive[..20_000]));
    assert!(error(&source).to_string().contains("ends within its member"));
    put(packed.path(), name, &files::gzip(&archive));
    assert!(error(&source).to_string().contains("no member `data_batch_2.bin`"));
    let zipped = files::gzip(&archive);
    put(packed.path(), name, &zipped[..zipped.len() - 20]);
    assert!(error(&source).to_string().contains("truncated gzip"));
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
    let of = |dir: &Path| config(ImageSource::new(SourceName::Cifar10, dir), 32, 3);
    let (summary, one, _one) = run(&of(binary.path())).expect("sound files");
    let (pickled, two, _two) = run(&of(python.path())).expect("sound files");
    assert_eq!(summary.classes, pickled.classes);
    assert_eq!(summary.mean, pickled.mean);
    assert!((0..one.len()).all(
        |i| one.image(i).expect("levels")[..] == two.image(i).expect("levels")[..] && one.label(i) == two.label(i)
    ));
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
        let attributes = b"30 mtime=1700000000.123456789\n".to_vec();
        let header = files::tar_of(b'x', &[(&format!("PaxHeader/{name}"), attributes)]);
        let member = files::tar(&[(&format!("cifar-10-batches-bin/{name}"), bytes)]);
        // Each without the blocks that end an archive.
        archive.extend_from_slice(&header[..header.len() - 1024]);
        archive.extend_from_slice(&member[..member.len() - 1024]);
    }
    archive.resize(archive.len() + 1024, 0);
    let packed = files::temp();
    files::put(packed.path(), "cifar-10-binary.tar.gz", &files::gzip(&archive));
    let of = |dir: &Path| config(ImageSource::new(SourceName::Cifar10, dir), 32, 3);
    let (plain, _, _plain) = run(&of(dir.path())).expect("sound files");
    let (found, _, _found) = run(&of(packed.path())).expect("sound files");
    assert_eq!((plain.classes, plain.mean), (found.classes, found.mean));
}
