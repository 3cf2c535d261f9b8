//! Folders of JPEG and PNG files: classes, parts, pixel kinds, and damaged or foreign files.

use crate::data_support::{self as files, error, folder, put, run, temp};
use cords::data::*;
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
    assert_eq!(set.image(0).expect("levels")[..], repeated);
    // 16 bits rounded to 8: (257 v + 100) / 257 is v.
    assert_eq!(set.image(1).expect("levels")[..], repeated);
    assert_eq!(set.image(2).expect("levels")[..], planes(&rgb));
    assert_eq!(set.image(3).expect("levels")[..], [90; 192]);
    assert_eq!(set.image(4).expect("levels")[..], planes(&rgb));
    assert_eq!(set.image(5).expect("levels")[..], planes(&rgb));
    let files = ImageSource::new(SourceName::ImageFolder, dir.path())
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
    let (_, set, _out) = run(&wide).expect("sound files");
    let at = |c: usize, y: usize, x: usize| set.image(0).expect("levels")[(c * 16 + y) * 16 + x];
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
    let jpeg = include_bytes!("../fixtures/progressive.jpg");
    put(dir.path(), "a/x.jpg", jpeg);
    put(
        dir.path(),
        "b/x.png",
        include_bytes!("../fixtures/progressive_decoded.png"),
    );
    let (_, set, _out) = run(&PrepareConfig {
        side: 32,
        ..folder(dir.path())
    })
    .expect("sound files");
    let worst = set
        .image(0)
        .expect("levels")
        .iter()
        .zip(&*set.image(1).expect("levels"))
        .map(|(a, b)| a.abs_diff(*b))
        .max();
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
    assert_eq!(set.image(0).expect("levels")[..], [50; 192]);
    assert_eq!(set.image(1).expect("levels")[..], [200; 192]);
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
    let text = fails("a/page.jpg", b"not an image").to_string();
    assert!(
        text.contains("page.jpg") && text.contains("not a JPEG or PNG"),
        "{text}"
    );
    assert!(fails("a/x.jpg", b"").to_string().contains("empty"));
    assert!(fails("a/x.gif", b"GIF89a...").to_string().contains("GIF"));
    assert!(fails("a/x.webp", b"RIFF....WEBPVP8 ").to_string().contains("WebP"));

    fs_err::create_dir(at("b")).expect("can make a folder");
    match error(&folder(dir.path())) {
        DataError::EmptyClass { class, folder } => assert_eq!((class.as_str(), folder), ("b", at("b"))),
        other => panic!("{other:?}"),
    }
    fs_err::create_dir(at("b/nested")).expect("can make a folder");
    assert!(matches!(error(&folder(dir.path())), DataError::NotAnImage { file, .. } if file == at("b/nested")));
}

/// A set with bad files names all of them at once, in order, whichever thread met one first.
#[test]
fn all_bad_images_are_named_at_once_for_any_number_of_threads() {
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
        let DataError::Several(problems) = &error else {
            panic!("{error:?}")
        };
        let bad: Vec<String> = problems
            .iter()
            .map(|problem| match problem {
                DataError::NotAnImage { file, .. } => file.file_name().expect("named").to_string_lossy().into_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(bad, ["05.png", "12.png", "19.png", "26.png", "33.png"]);
        assert!(error.to_string().starts_with("5 problems:\n"), "{error}");
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

fn names(summary: &Summary) -> Vec<&str> {
    summary.files.iter().map(String::as_str).collect()
}

#[test]
fn what_is_no_picture_is_passed_over_with_a_note() {
    let dir = temp();
    for name in ["faces/0.png", "faces/1.png", "places/0.png"] {
        small_png(&dir.path().join(name));
    }
    for name in [
        "faces/notes.txt",
        "places/desktop.ini",
        "README.md",
        "__MACOSX/faces/._0.png",
        "faces/.DS_Store",
    ] {
        put(dir.path(), name, b"words");
    }
    let (summary, set, _out) = run(&folder(dir.path())).expect("sound files");
    assert_eq!(set.classes(), ["faces", "places"]);
    assert_eq!(names(&summary), ["faces/0.png", "faces/1.png", "places/0.png"]);
    let [note] = summary.notes.as_slice() else {
        panic!("{:?}", summary.notes)
    };
    assert_eq!(
        note,
        "skipped 4 entries that are not images: README.md, __MACOSX, faces/notes.txt, places/desktop.ini"
    );
}

#[test]
fn bad_listings_are_named_at_once_and_no_pipe_is_opened() {
    let dir = temp();
    small_png(&dir.path().join("a/0.png"));
    put(dir.path(), "a/x.webp", b"RIFF....WEBPVP8 ");
    put(dir.path(), "a/y.bmp", b"BM....\0\0\0\0....");
    std::os::unix::fs::symlink("nowhere", dir.path().join("a/z.png")).expect("linked");
    let status = std::process::Command::new("mkfifo")
        .arg(dir.path().join("a/pipe.png"))
        .status();
    assert!(status.expect("mkfifo").success());
    fs_err::create_dir(dir.path().join("empty")).expect("made");
    let error = error(&folder(dir.path()));
    let text = error.to_string();
    assert!(
        matches!(&error, DataError::Several(problems) if problems.len() == 5),
        "{text}"
    );
    for part in [
        "x.webp",
        "y.bmp",
        "z.png",
        "leads nowhere",
        "pipe.png",
        "it is a named pipe",
        "class `empty`",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn a_flat_folder_takes_its_classes_from_a_table() {
    let dir = temp();
    for i in 0..4 {
        small_png(&dir.path().join(format!("im{i}.png")));
    }
    // Nothing tells the classes: one, and a note.
    let (summary, set, _out) = run(&folder(dir.path())).expect("sound files");
    assert_eq!(set.classes(), ["images"]);
    assert!(summary.notes[0].contains("all are of one class"), "{:?}", summary.notes);

    put(
        dir.path(),
        "stimuli.csv",
        b"filename;label;split\nim0.png;10;train\nim1;9;test\n\"im2.png\";9;train\n./im3.png;10;val\ngone.png;9;train\n",
    );
    let by_table = PrepareConfig {
        validation_fraction: None,
        test_fraction: None,
        ..folder(dir.path())
    };
    let (summary, set, _out) = run(&by_table).expect("sound files");
    // Numbers in order of number; the parts as the table has them, one after the other.
    assert_eq!(set.classes(), ["9", "10"]);
    assert_eq!(names(&summary), ["im0.png", "im2.png", "im3.png", "im1.png"]);
    assert_eq!((0..4).map(|i| set.label(i)).collect::<Vec<_>>(), [1, 0, 1, 0]);
    assert_eq!(set.split(Split::Train), [0, 1]);
    assert_eq!(set.split(Split::Validation), [2]);
    assert_eq!(set.split(Split::Test), [3]);
    assert_eq!(summary.notes, ["1 rows of stimuli.csv name images that are not there"]);
    let source = ImageSource::new(SourceName::ImageFolder, dir.path());
    assert!(
        source
            .input_files()
            .expect("there")
            .contains(&dir.path().join("stimuli.csv"))
    );

    // Images without a row, and a row that contradicts another.
    let fails = |text: &str| {
        put(dir.path(), "stimuli.csv", text.as_bytes());
        error(&by_table).to_string()
    };
    let text = fails("file,class\nim0.png,a\nim2.png,a\n");
    assert!(text.contains("2 images have no row: im1.png, im3.png"), "{text}");
    let text = fails("file,class\nim0.png,a\nim0.png,b\n");
    assert!(
        text.contains("line 3") && text.contains("another class or part here than in line 2"),
        "{text}"
    );
    // Lines that end as on Windows.
    let text = fails("file,class\r\nim0.png,a\r\nim0.png,b\r\n");
    assert!(text.contains("line 3") && text.contains("than in line 2"), "{text}");
    let text = fails("file,class,split\nim0.png,a,here\n");
    assert!(text.contains("line 2: `here` is not a split"), "{text}");
}

#[test]
fn tiny_imagenet_reads_as_it_lies_on_disk() {
    let dir = temp();
    for class in ["n1", "n2"] {
        for i in 0..3 {
            small_png(&dir.path().join(format!("train/{class}/images/{class}_{i}.png")));
        }
        put(
            dir.path(),
            &format!("train/{class}/{class}_boxes.txt"),
            b"x\t0\t0\t1\t1\n",
        );
    }
    for i in 0..2 {
        small_png(&dir.path().join(format!("val/images/val_{i}.png")));
        small_png(&dir.path().join(format!("test/images/test_{i}.png")));
    }
    put(
        dir.path(),
        "val/val_annotations.txt",
        b"val_0.png\tn2\t0\t0\t1\t1\nval_1.png\tn1\t0\t0\t1\t1\n",
    );
    put(dir.path(), "wnids.txt", b"n1\nn2\n");
    let (summary, set, _out) = run(&PrepareConfig {
        test_fraction: None,
        ..folder(dir.path())
    })
    .expect("sound files");
    assert_eq!(set.classes(), ["n1", "n2"]);
    assert_eq!(set.split(Split::Test), [6, 7]);
    assert_eq!(names(&summary)[6..], ["val/images/val_0.png", "val/images/val_1.png"]);
    assert_eq!([set.label(6), set.label(7)], [1, 0]);
    assert!(
        summary.notes.iter().any(|note| note.contains("2 images in `test`")),
        "{:?}",
        summary.notes
    );
}

#[test]
fn a_folder_called_images_is_a_class_where_training_has_it() {
    let dir = temp();
    for name in ["train/images/0.png", "train/images/1.png", "test/images/2.png"] {
        small_png(&dir.path().join(name));
    }
    let by_parts = PrepareConfig {
        test_fraction: None,
        ..folder(dir.path())
    };
    let (summary, set, _out) = run(&by_parts).expect("sound files");
    assert_eq!(set.classes(), ["images"]);
    assert_eq!(set.split(Split::Test), [2]);
    assert!(summary.notes.is_empty(), "{:?}", summary.notes);
    // One beside other classes.
    small_png(&dir.path().join("train/faces/0.png"));
    let (_, set, _out) = run(&by_parts).expect("sound files");
    assert_eq!(set.classes(), ["faces", "images"]);
    assert_eq!(set.split(Split::Test), [3]);
}

#[test]
fn validation_images_without_a_table_are_told_of_one() {
    let dir = temp();
    for name in ["train/n1/0.png", "train/n2/0.png", "val/images/0.png"] {
        small_png(&dir.path().join(name));
    }
    let error = error(&folder(dir.path()));
    assert!(matches!(error, DataError::NoClasses { .. }), "{error:?}");
    assert!(error.to_string().contains("or have a table"), "{error}");
}

#[test]
fn tables_in_kaggles_form_give_the_first_class() {
    let dir = temp();
    for name in ["train/n1/0.png", "train/n2/0.png", "val/v_1.png", "val/v_2.png"] {
        small_png(&dir.path().join(name));
    }
    put(
        dir.path(),
        "val/LOC_val_solution.csv",
        b"ImageId,PredictionString\nv_2,n1 1 2 3 4 n1 5 6 7 8 \nv_1,n2 1 2 3 4 \n",
    );
    let by_parts = PrepareConfig {
        test_fraction: None,
        ..folder(dir.path())
    };
    let (_, set, _out) = run(&by_parts).expect("sound files");
    assert_eq!(set.split(Split::Test), [2, 3]);
    assert_eq!([set.label(2), set.label(3)], [1, 0]);
}

#[test]
fn an_unknown_class_is_placed_in_its_own_table() {
    let dir = temp();
    for name in ["train/a/0.png", "val/v.png", "test/t.png"] {
        small_png(&dir.path().join(name));
    }
    put(dir.path(), "val/val.csv", b"file,class\nv.png,elsewhere\n");
    put(dir.path(), "test/test.csv", b"file,class\nt.png,a\n");
    let text = error(&folder(dir.path())).to_string();
    assert!(text.contains("val.csv, line 2: class `elsewhere`"), "{text}");
    // A table in another encoding.
    put(dir.path(), "val/val.csv", b"file,class\nv.png,caf\xe9\n");
    let text = error(&folder(dir.path())).to_string();
    assert!(text.contains("val.csv: not UTF-8 text"), "{text}");
}

#[test]
fn a_path_names_its_image_beside_others_of_that_name() {
    let dir = temp();
    small_png(&dir.path().join("x.png"));
    small_png(&dir.path().join("sub/x.png"));
    let prepared = |table: &[u8]| {
        put(dir.path(), "labels.csv", table);
        let source = ImageSource {
            labels: Some(dir.path().join("labels.csv")),
            ..ImageSource::new(SourceName::ImageFolder, dir.path())
        };
        run(&PrepareConfig {
            source,
            ..folder(dir.path())
        })
    };
    let (summary, set, _out) = prepared(b"file,class\nx.png,a\nsub/x.png,b\n").expect("sound files");
    assert_eq!(names(&summary), ["x.png", "sub/x.png"]);
    assert_eq!([set.label(0), set.label(1)], [0, 1]);
    let two = prepared(b"file,class\nx,a\nsub/x.png,b\n").map(|(summary, ..)| summary);
    let text = two.expect_err("two of that name").to_string();
    assert!(text.contains("line 2: several images are called `x`"), "{text}");
}

#[test]
fn a_class_of_bad_files_alone_is_not_called_empty_too() {
    let dir = temp();
    put(dir.path(), "a/x.webp", b"RIFF....WEBPVP8 ");
    let error = error(&folder(dir.path()));
    assert!(matches!(error, DataError::NotAnImage { .. }), "{error:?}");
}

#[test]
fn names_that_differ_outside_utf8_stay_two() {
    use std::os::unix::ffi::OsStrExt;
    let dir = temp();
    let name = |bytes: &[u8]| dir.path().join(std::ffi::OsStr::from_bytes(bytes));
    for class in [&b"a\xff"[..], b"a\xfe", b"a\\xff"] {
        fs_err::create_dir(name(class)).expect("made");
        for file in [&b"x\xe9.png"[..], b"x\xe8.png"] {
            small_png(&name(class).join(std::ffi::OsStr::from_bytes(file)));
        }
    }
    let (summary, set, _out) = run(&folder(dir.path())).expect("sound files");
    assert_eq!(set.classes(), ["a\\\\xff", "a\\xfe", "a\\xff"]);
    assert_eq!((0..6).map(|i| set.label(i)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
    let mut files = summary.files.clone();
    files.dedup();
    assert_eq!(files.len(), 6, "{files:?}");
    assert_eq!(files[2], "a\\xfe/x\\xe8.png");
}

/// A PNG of given chunks with right checksums.
fn png_of(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in chunks {
        let mut crc = flate2::Crc::new();
        crc.update(*name);
        crc.update(content);
        out.extend((content.len() as u32).to_be_bytes());
        out.extend(*name);
        out.extend(*content);
        out.extend(crc.sum().to_be_bytes());
    }
    out
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

#[test]
fn png_with_an_odd_palette_is_an_error_that_names_the_file() {
    let dir = temp();
    let header = |width: u32, height: u32| {
        let mut bytes = [width.to_be_bytes(), height.to_be_bytes()].concat();
        bytes.extend([8, 3, 0, 0, 0]);
        bytes
    };
    let rows = zlib(&[0, 1, 1, 1, 1].repeat(4));
    let palette = |length: usize, width: u32| {
        png_of(&[
            (b"IHDR", &header(width, 4)),
            (b"PLTE", &vec![0x80; length]),
            (b"IDAT", &rows),
            (b"IEND", b""),
        ])
    };
    for (length, width) in [(767, 4), (4, 4), (2, 4), (1, 4), (0, 4), (766, 4), (6, 0), (6, 1 << 30)] {
        put(dir.path(), "a/x.png", &palette(length, width));
        let error = error(&folder(dir.path()));
        assert!(
            matches!(&error, DataError::Damaged { .. } | DataError::TooLarge { .. }),
            "{length} {width}: {error:?}"
        );
        assert!(error.to_string().contains("a/x.png"), "{error}");
    }
    put(dir.path(), "a/x.png", &palette(6, 4));
    let error = error(&folder(dir.path()));
    assert!(
        matches!(error, DataError::ConstantChannel { .. }),
        "a whole palette decodes: {error:?}"
    );
}

#[test]
fn jpeg_kinds_that_are_not_read_are_refused_by_name() {
    let dir = temp();
    let good = files::jpeg(2, 2, &[&|y, x| (60 + 40 * y + 7 * x) as u8]);
    let frame = good.windows(2).position(|pair| pair == [0xFF, 0xC0]).expect("a frame");
    for (at, byte, name) in [
        (1, 0xC3, "a lossless JPEG"),
        (1, 0xC5, "a hierarchical JPEG"),
        (1, 0xC9, "a JPEG with arithmetic coding"),
        (4, 12, "a JPEG with 12 bits a sample"),
        (5, 0xFF, "sides up to 16384 are read"),
    ] {
        let mut bytes = good.clone();
        bytes[frame + at] = byte;
        put(dir.path(), "a/x.jpg", &bytes);
        let error = error(&folder(dir.path()));
        assert!(matches!(error, DataError::Unsupported { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// The decoder's issue 448: baseline files whose components come in scans of their own, subsampled down the columns.
/// Made by `cjpeg -quality 90 -optimize -sample 2x2 -scans FILE` with the scans `0; 1; 2;` or `0; 1 2;`, decoded by
/// Pillow.
#[test]
fn jpeg_scans_with_vertical_subsampling_decode_as_by_libjpeg() {
    let pictures: [(&str, &[u8], &[u8]); 3] = [
        (
            "one scan a component, 2x2",
            include_bytes!("../fixtures/scans_separate_2x2.jpg"),
            include_bytes!("../fixtures/scans_separate_2x2.png"),
        ),
        (
            "one scan a component, 1x2",
            include_bytes!("../fixtures/scans_separate_1x2.jpg"),
            include_bytes!("../fixtures/scans_separate_1x2.png"),
        ),
        (
            "two scans, 2x2",
            include_bytes!("../fixtures/scans_two_2x2.jpg"),
            include_bytes!("../fixtures/scans_two_2x2.png"),
        ),
    ];
    for (what, jpeg, decoded) in pictures {
        let dir = temp();
        put(dir.path(), "a/x.jpg", jpeg);
        put(dir.path(), "b/x.png", decoded);
        let (_, set, _out) = run(&PrepareConfig {
            side: 48,
            ..folder(dir.path())
        })
        .expect("sound files");
        let differences: Vec<f64> = (set
            .image(0)
            .expect("levels")
            .iter()
            .zip(&*set.image(1).expect("levels")))
        .map(|(a, b)| f64::from(a.abs_diff(*b)))
        .collect();
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        // Inverse transforms and chroma interpolation round differently; noise differs by 40 and more.
        assert!(mean < 1.0, "{what}: mean difference {mean}");
    }
}
