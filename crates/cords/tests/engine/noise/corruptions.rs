//! Published corruption sets: their folders, and networks on versions of images.

use cords::data::*;
use cords::device::Cpu;
use cords::net::{Model, Presentation};
use cords::noise::*;

use super::nets::*;
use crate::data_support::{config, png, put, run as prepared, temp};

const SHOWN: Presentation = Presentation {
    spontaneous_ms: 20.0,
    stimulus_ms: 30.0,
};

/// Versions of a set's images: as they are, inverted, and all of one level.
struct Versions<'a> {
    set: &'a ImageSet,
    images: &'a [u32],
    /// Versions and places that cannot be read.
    bad: &'a [(usize, usize)],
}

impl CorruptedImages for Versions<'_> {
    fn versions(&self) -> usize {
        3
    }

    fn levels(&self, version: usize, place: usize) -> Result<Vec<u8>, DataError> {
        if self.bad.contains(&(version, place)) {
            return Err(DataError::Option {
                option: "images",
                what: format!("bad image {version}/{place}"),
            });
        }
        let mut clean = vec![0.0; self.set.image_len()];
        self.set
            .fill_unit(self.images[place] as usize, &mut clean)
            .expect("levels");
        let level = |value: f32| (value * 255.0).round() as u8;
        let of = |value: f32| match version {
            0 => level(value),
            1 => 255 - level(value),
            _ => 128,
        };
        Ok(clean.into_iter().map(of).collect())
    }
}

fn evaluated(model: &Model, versions: &Versions<'_>) -> Result<Vec<VersionResult>, NoiseError> {
    let mut last = (0, 1);
    let mut progress = |done, all| last = (done, all);
    let results = evaluate_versions(
        &Cpu,
        model,
        versions.set,
        versions.images,
        versions,
        SHOWN,
        &mut progress,
    );
    assert!(results.is_err() || last.0 == last.1);
    results
}

#[test]
fn versions_are_answered_as_the_images_that_they_are() {
    let (set, _dir) = digits();
    let images = set.split(Split::Test);
    for (model, observer) in [
        (cordsnet(&set), Observer::Cordsnet),
        (cnn(&set), Observer::CnnFirstFrame),
    ] {
        let versions = Versions {
            set: &set,
            images,
            bad: &[],
        };
        let results = evaluated(&model, &versions).expect("everything fits");
        assert_eq!(results.len(), 4);
        let clean = &run(&model, &set, &options(&[observer], &[(NoisePresentation::Static, 0.0)]))[0];
        for (result, change) in [(&results[0], 0.0), (&results[1], 0.0)] {
            assert_eq!((&result.right, result.change), (&clean.right, change));
            assert_eq!(result.accuracy_interval, clean.accuracy_interval);
        }
        // An image of one level has one answer, whatever image it was made of.
        let labels: Vec<u32> = images.iter().map(|image| set.label(*image as usize)).collect();
        let right = results[3].right.iter().zip(&labels);
        let classes: std::collections::BTreeSet<u32> = right
            .filter(|(right, _)| **right == Some(true))
            .map(|(_, l)| *l)
            .collect();
        assert!(classes.len() <= 1, "{classes:?}");
        // A network with random weights may answer it as it does the clean image.
        assert!(results[2].change > 0.1, "{}", results[2].change);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
        assert_eq!(
            results,
            pool.install(|| evaluated(&model, &versions)).expect("everything fits")
        );
    }
}

#[test]
fn all_images_that_cannot_be_read_are_named() {
    let (set, _dir) = digits();
    let versions = Versions {
        set: &set,
        images: set.split(Split::Test),
        bad: &[(0, 3), (2, 0), (2, 17)],
    };
    let error = evaluated(&cnn(&set), &versions).expect_err("three are bad").to_string();
    for name in ["3 problems", "bad image 0/3", "bad image 2/0", "bad image 2/17"] {
        assert!(error.contains(name), "{name}: {error}");
    }
}

/// Two classes of three test images of 8 x 8 pixels, and of each a version that is brighter by the severity.
fn write_imagenet_c(dir: &std::path::Path, below: &str) {
    let level = |class: usize, image: usize, at: usize| (40 * class + 20 * image + at % 8) as u8;
    let write = |path: std::path::PathBuf, class: usize, image: usize, more: u8| {
        let values: Vec<u8> = (0..192).map(|at| level(class, image, at) + more).collect();
        png(&path, 8, 8, image::ColorType::Rgb8, &values);
    };
    for (class, name) in ["n01440764", "n01443537"].iter().enumerate() {
        for image in 0..3 {
            let file = format!("ILSVRC2012_val_{image}{class}.JPEG");
            write(dir.join(format!("clean/val/{name}/{file}")), class, image, 0);
            write(
                dir.join(format!("clean/train/{name}/train_{image}.JPEG")),
                class,
                image,
                0,
            );
            for severity in [1, 5] {
                let path = format!("c/{below}fog/{severity}/{name}/{file}");
                write(dir.join(path), class, image, severity);
            }
        }
    }
}

fn source(dir: &std::path::Path) -> CorruptionSource {
    CorruptionSource {
        set: CorruptionSet::ImagenetC,
        path: dir.join("c"),
        corruptions: vec![Corruption::Fog],
        severities: vec![1, 5],
    }
}

/// The clean test images of [`write_imagenet_c`] and their files.
fn clean(dir: &std::path::Path) -> (ImageSet, Vec<u32>, Vec<String>, tempfile::TempDir) {
    let images = ImageSource::new(SourceName::ImageFolder, dir.join("clean"));
    let (summary, set, out) = prepared(&config(images, 8, 3)).expect("sound images");
    let test = set.split(Split::Test).to_vec();
    let files = test
        .iter()
        .map(|image| summary.files[*image as usize].clone())
        .collect();
    (set, test, files, out)
}

#[test]
fn images_of_imagenet_c_are_found_by_class_and_name() {
    for below in ["", "weather/"] {
        let dir = temp();
        write_imagenet_c(dir.path(), below);
        let (set, images, files, _out) = clean(dir.path());
        let source = source(dir.path());
        let corrupted = source
            .open(CleanSubset {
                set: &set,
                images: &images,
                files: &files,
                resize: None,
            })
            .expect("sound images");
        assert_eq!((corrupted.versions(), images.len()), (2, 6));
        for (place, image) in images.iter().enumerate() {
            for (version, severity) in [1, 5].into_iter().enumerate() {
                let levels = corrupted.levels(version, place).expect("an image");
                let clean = set.image(*image as usize).expect("levels");
                let brighter = clean.iter().map(|level| level + severity);
                assert!(brighter.eq(levels), "{place} {version}");
            }
        }
        // Wherever the folders lie, files have the same names.
        let found = source.input_files().expect("all are there");
        let names: Vec<String> = (found.folders.iter())
            .flat_map(|(prefix, folder)| {
                let files = class_folder_files(folder).expect("readable");
                (0..files.len()).map(move |i| format!("{prefix}{}", files.within(i)))
            })
            .collect();
        assert_eq!((names.len(), found.folders.len()), (12, 2));
        assert_eq!(names[0], "fog/1/n01440764/ILSVRC2012_val_00.JPEG");
    }
}

#[test]
fn missing_and_foreign_images_are_named() {
    let dir = temp();
    write_imagenet_c(dir.path(), "");
    let (set, images, files, _out) = clean(dir.path());
    let opened = |files: &[String]| {
        let subset = CleanSubset {
            set: &set,
            images: &images,
            files,
            resize: None,
        };
        source(dir.path()).open(subset).map(|_| ())
    };
    let gone = [
        "c/fog/1/n01440764/ILSVRC2012_val_10.JPEG",
        "c/fog/5/n01443537/ILSVRC2012_val_01.JPEG",
    ];
    for name in gone {
        fs_err::remove_file(dir.path().join(name)).expect("removed");
    }
    let error = opened(&files).expect_err("two are missing").to_string();
    assert!(error.contains("2 problems"), "{error}");
    assert!(gone.iter().all(|name| error.contains(name)), "{error}");
    let foreign: Vec<String> = (0..images.len()).map(|image| format!("mine/{image}.png")).collect();
    let error = opened(&foreign).expect_err("none is there").to_string();
    assert!(error.contains("none of the 12 corrupted images"), "{error}");
    fs_err::remove_dir_all(dir.path().join("c/fog/5")).expect("removed");
    let error = opened(&files).expect_err("a severity is missing").to_string();
    assert!(error.contains("fog, severity 5"), "{error}");
}

#[test]
fn a_damaged_image_is_named() {
    let dir = temp();
    write_imagenet_c(dir.path(), "");
    let (set, images, files, _out) = clean(dir.path());
    let bad = [
        "c/fog/1/n01440764/ILSVRC2012_val_10.JPEG",
        "c/fog/5/n01443537/ILSVRC2012_val_01.JPEG",
    ];
    put(dir.path(), bad[0], b"no image");
    put(dir.path(), bad[1], b"");
    let subset = CleanSubset {
        set: &set,
        images: &images,
        files: &files,
        resize: None,
    };
    let corrupted = source(dir.path()).open(subset).expect("all files are there");
    let found: Vec<String> = (0..corrupted.versions())
        .flat_map(|version| (0..images.len()).map(move |place| (version, place)))
        .filter_map(|(version, place)| corrupted.levels(version, place).err())
        .map(|error| error.to_string())
        .collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.iter().zip(bad).all(|(error, name)| error.contains(name)),
        "{found:?}"
    );
}
