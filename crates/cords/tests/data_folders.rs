//! Folders of JPEG and PNG files: classes, parts, pixel kinds, and damaged or foreign files.

mod data_support;

use cords::data::*;
use data_support::{self as files, error, folder, put, run, temp};
use std::path::Path;

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
fn progressive_subsampled_jpeg_decodes_as_by_libjpeg() {
    let dir = temp();
    let jpeg = include_bytes!("fixtures/progressive.jpg");
    put(dir.path(), "a/x.jpg", jpeg);
    put(
        dir.path(),
        "b/x.png",
        include_bytes!("fixtures/progressive_decoded.png"),
    );
    let (_, set, _out) = run(&PrepareConfig {
        side: 32,
        ..folder(dir.path())
    })
    .expect("sound files");
    let worst = set.image(0).iter().zip(set.image(1)).map(|(a, b)| a.abs_diff(*b)).max();
    // Inverse transform and chroma interpolation round differently.
    assert!(worst <= Some(3), "{worst:?}");

    // Cut anywhere, it is refused.
    fs_err::remove_file(dir.path().join("b/x.png")).expect("was there");
    put(dir.path(), "b/x.jpg", jpeg);
    for cut in (2..jpeg.len()).step_by(5) {
        put(dir.path(), "b/x.jpg", &jpeg[..cut]);
        let error = error(&PrepareConfig {
            side: 32,
            ..folder(dir.path())
        });
        assert!(
            matches!(error, DataError::Damaged { offset, .. } if offset == cut as u64),
            "{cut}: {error:?}"
        );
    }
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

#[test]
fn constant_channels_need_given_constants() {
    let dir = temp();
    files::png(&dir.path().join("a/x.png"), 8, 8, image::ColorType::L8, &[9; 64]);
    assert!(matches!(
        error(&folder(dir.path())),
        DataError::ConstantChannel { channel: 0 }
    ));
}
