//! Sets that keep originals: what is kept of files, what training and evaluation see of them, and damage.

use crate::data_support::{self as files, config, error, folder, put, run, temp};
use cords::data::*;
use std::path::Path;

/// A picture of `width` x `height` pixels, each with a level of its own.
fn picture(path: &Path, width: u32, height: u32) {
    let bytes: Vec<u8> = (0..3 * width * height).map(|i| (i * i * 7 + i * 13) as u8).collect();
    files::png(path, width, height, image::ColorType::Rgb8, &bytes);
}

fn encoded(dir: &Path) -> PrepareConfig {
    PrepareConfig {
        store: Store::Encoded,
        resize: Some(10),
        ..folder(dir)
    }
}

fn pictures(dir: &Path) -> [(u32, u32); 5] {
    let sizes = [(8, 8), (40, 25), (25, 40), (12, 90), (33, 34)];
    for (i, (width, height)) in sizes.into_iter().enumerate() {
        picture(
            &dir.join(format!("{}/{i}.png", if i < 3 { "ant" } else { "bee" })),
            width,
            height,
        );
    }
    sizes
}

#[test]
fn files_are_kept_as_they_are_and_shown_as_levels_are_prepared() {
    let dir = temp();
    let sizes = pictures(dir.path());
    put(
        dir.path(),
        "bee/5.jpg",
        &files::jpeg(3, 2, &[&|x, y| (10 * x + 3 * y) as u8]),
    );
    let (summary, set, out) = run(&encoded(dir.path())).expect("sound files");
    let levels = PrepareConfig {
        store: Store::Raw,
        ..encoded(dir.path())
    };
    let (as_levels, raw, _raw) = run(&levels).expect("sound files");
    assert_eq!((&summary.files, &summary.mean), (&as_levels.files, &as_levels.mean));
    for i in 0..6 {
        assert_eq!(set.image(i).expect("shown"), raw.image(i).expect("levels"), "image {i}");
        assert_eq!(set.label(i), raw.label(i));
    }
    for (i, (width, height)) in sizes.into_iter().enumerate() {
        assert_eq!(set.original_size(i), [width as usize, height as usize]);
    }
    let pack = fs_err::read(out.path().join("originals-00000")).expect("the only pack");
    let expected: Vec<u8> = summary
        .files
        .iter()
        .flat_map(|file| fs_err::read(dir.path().join(file)).expect("there"))
        .collect();
    assert!(pack == expected, "the files, one after the other");
}

#[test]
fn random_crops_are_of_the_original() {
    let dir = temp();
    // The left half is black, the right half white: a crop of the centre square would never be black alone.
    let bytes: Vec<u8> = (0..20)
        .flat_map(|_| (0..100).map(|x| if x < 50 { 0 } else { 255 }))
        .collect();
    files::png(&dir.path().join("a/wide.png"), 100, 20, image::ColorType::L8, &bytes);
    let published = PrepareConfig {
        normalisation: Normalisation::Published,
        ..encoded(dir.path())
    };
    let (_, set, _out) = run(&published).expect("sound files");
    let augment = Augment {
        random_resized_crop: Some(RandomResizedCrop {
            scale: [0.05, 0.15],
            ratio: [1.0, 1.0],
        }),
        ..Augment::default()
    };
    let images = SplitImages::new(&set, Split::Train, Some(&augment), 7).expect("valid");
    let mut seen = [false; 2];
    let mut image = vec![0.0; set.image_len()];
    for epoch in 0..60 {
        images.fill(0, epoch, &mut image).expect("sound");
        let unit: Vec<f32> = (image.iter().enumerate())
            .map(|(at, value)| value * set.std()[at / 64] + set.mean()[at / 64])
            .collect();
        for (seen, level) in seen.iter_mut().zip([0.0, 1.0]) {
            *seen |= unit.iter().all(|value| (value - level).abs() < 1e-5);
        }
    }
    assert_eq!(seen, [true, true]);
}

#[test]
fn bad_files_are_named_all_at_once_or_skipped_and_recorded() {
    let dir = temp();
    for i in 0..30 {
        let path = dir.path().join(format!("a/{i:02}.png"));
        picture(&path, 9 + i, 12);
        if [4, 11, 29].contains(&i) {
            let bytes = fs_err::read(&path).expect("a picture");
            fs_err::write(&path, &bytes[..bytes.len() / 2]).expect("written");
        }
    }
    for store in [Store::Raw, Store::Encoded] {
        let config = PrepareConfig {
            store,
            validation_fraction: Some(0.2),
            ..encoded(dir.path())
        };
        let DataError::Several(problems) = error(&config) else {
            panic!("three problems")
        };
        for (problem, name) in problems.iter().zip(["04.png", "11.png", "29.png"]) {
            assert!(problem.to_string().contains(name), "{problem}");
        }
        assert_eq!(problems.len(), 3);

        let skipping = PrepareConfig {
            on_bad: OnBad::Skip,
            ..config
        };
        let (summary, set, _out) = run(&skipping).expect("27 sound files");
        let skipped: Vec<&str> = summary.skipped.iter().map(|skipped| skipped.file.as_str()).collect();
        assert_eq!(skipped, ["a/04.png", "a/11.png", "a/29.png"]);
        assert!(summary.skipped[0].problem.contains("PNG"), "{:?}", summary.skipped[0]);
        assert_eq!((set.len(), summary.files.len()), (27, 27));
        assert_eq!(summary.files[4], "a/05.png");
        let parts = [Split::Train, Split::Validation, Split::Test].map(|split| set.split(split).len());
        assert_eq!(parts.iter().sum::<usize>(), 27);
        // An image after the first one that was left out is the file that it is called.
        let only = temp();
        fs_err::create_dir_all(only.path().join("a")).expect("a folder");
        fs_err::copy(dir.path().join("a/05.png"), only.path().join("a/05.png")).expect("copied");
        let (_, one, _one) = run(&PrepareConfig {
            store,
            ..encoded(only.path())
        })
        .expect("a sound file");
        assert_eq!(set.image(4).expect("levels"), one.image(0).expect("levels"));
    }
}

#[test]
fn larger_images_are_shrunk_once() {
    let dir = temp();
    picture(&dir.path().join("a/0.png"), 40, 30);
    picture(&dir.path().join("a/1.png"), 12, 48);
    picture(&dir.path().join("a/2.png"), 20, 20);
    put(dir.path(), "a/3.jpg", &files::jpeg(8, 4, &[&|_, _| 90]));
    let config = PrepareConfig {
        max_side: Some(20),
        ..encoded(dir.path())
    };
    let (_, set, _out) = run(&config).expect("sound files");
    let sizes: Vec<[usize; 2]> = (0..4).map(|i| set.original_size(i)).collect();
    assert_eq!(sizes, [[20, 15], [5, 20], [20, 20], [20, 10]]);
    assert_eq!(set.image(3).expect("levels")[0], 90);
    let refused = |config: PrepareConfig| match error(&config) {
        DataError::Option { option, .. } => option,
        other => panic!("{other:?}"),
    };
    let too_small = PrepareConfig {
        max_side: Some(9),
        ..config.clone()
    };
    let raw = PrepareConfig {
        store: Store::Raw,
        ..config
    };
    assert_eq!([refused(too_small), refused(raw)], ["max_side"; 2]);
}

#[test]
fn bytes_of_originals_depend_on_the_source_alone() {
    let dir = temp();
    pictures(dir.path());
    let pool = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads")
    };
    let written = |threads| {
        let (.., out) = pool(threads)
            .install(|| run(&encoded(dir.path())))
            .expect("sound files");
        [
            "manifest.json",
            "originals.index",
            "originals-00000",
            "labels.u32",
            "splits.u32",
        ]
        .map(|name| fs_err::read(out.path().join(name)).expect("written"))
    };
    assert!(written(1) == written(4));
}

#[test]
fn damaged_sets_of_originals_are_refused_or_say_which_image_is_damaged() {
    let dir = temp();
    pictures(dir.path());
    let (_, _, out) = run(&encoded(dir.path())).expect("sound files");
    let at = |name: &str| out.path().join(name);
    let index = fs_err::read(at("originals.index")).expect("an index");
    let refused = |what: &str| {
        let problem = ImageSet::open(out.path()).expect_err("damaged").to_string();
        assert!(problem.contains(what), "{problem}");
    };
    for (byte, value) in [(7, 0xFF), (11, 0xFF), (12, 9), (24, 2), (28, 2)] {
        let mut damaged = index.clone();
        damaged[32 + byte] = value;
        fs_err::write(at("originals.index"), damaged).expect("written");
        refused("image 1");
    }
    fs_err::write(at("originals.index"), &index[..40]).expect("written");
    refused("40 bytes");
    fs_err::write(at("originals.index"), &index).expect("written");
    let pack = fs_err::read(at("originals-00000")).expect("a pack");
    fs_err::write(at("originals-00000"), &pack[..pack.len() - 1]).expect("written");
    refused("image 4");
    let mut damaged = pack.clone();
    let second = u64::from_le_bytes(index[32..40].try_into().expect("8 bytes")) as usize;
    damaged[second..][20..40].fill(7);
    fs_err::write(at("originals-00000"), damaged).expect("written");
    let set = ImageSet::open(out.path()).expect("its parts fit");
    assert!(set.image(0).is_ok());
    let problem = set.image(1).expect_err("damaged").to_string();
    assert!(
        problem.contains("originals-00000") && problem.contains("image 1"),
        "{problem}"
    );
    fs_err::remove_file(at("originals-00000")).expect("removed");
    refused("originals-00000");
}

#[test]
fn arrays_are_kept_at_their_size() {
    let dir = temp();
    files::cifar10(dir.path());
    let source = ImageSource::new(SourceName::Cifar10, dir.path());
    let config = PrepareConfig {
        store: Store::Encoded,
        ..config(source, 64, 3)
    };
    let (_, set, out) = run(&config).expect("sound files");
    assert_eq!((set.side(), set.original_size(0)), (64, [32, 32]));
    let size = fs_err::metadata(out.path().join("originals-00000"))
        .expect("a pack")
        .len();
    assert_eq!(size, 60 * 3072);
}
