//! Sources in the forms that their usual tools write, and damaged ones. `fixtures/data_sets.zip` is made by
//! `benches/reference/data_sets.py`: image k is flat, with red 10 + 5 k.

use crate::data_support::{config, error, put, run, temp};
use crate::support::Fixture;
use cords::data::*;
use std::path::Path;

/// A folder with the data sets of the fixture.
fn unpacked() -> tempfile::TempDir {
    let folder = temp();
    let file = fs_err::File::open(Fixture::path("data_sets.zip")).expect("an archive");
    let mut zip = zip::ZipArchive::new(file).expect("an archive");
    zip.extract(folder.path()).expect("unpacked");
    folder
}

/// All images of a source, none of them moved to another part.
fn source(name: SourceName, path: &Path, side: usize) -> PrepareConfig {
    config(ImageSource::new(name, path), side, 3)
}

/// What an image set holds of each image: its number k, its class and its part.
fn images(set: &ImageSet) -> Vec<(usize, String, Split)> {
    let part_of = |i: usize| {
        let parts = [Split::Train, Split::Validation, Split::Test];
        let mut parts = parts.into_iter().filter(|part| set.split(*part).contains(&(i as u32)));
        parts.next().expect("in a part")
    };
    let number = |i: usize| {
        let plane = set.side() * set.side();
        let [red, green, blue] = [0, plane, 2 * plane].map(|at| usize::from(set.image(i).expect("levels")[at]));
        let k = (red - 10) / 5;
        assert_eq!((green, blue), (250 - 5 * k, 37 * k % 256), "image {i}");
        k
    };
    let class = |i: usize| set.classes()[set.label(i) as usize].clone();
    (0..set.len()).map(|i| (number(i), class(i), part_of(i))).collect()
}

/// Numbers and classes of the images of the given part, or of those that the source leaves for training.
fn in_part(set: &ImageSet, test: bool) -> Vec<(usize, String)> {
    let images = images(set).into_iter();
    let kept = images.filter(|(_, _, part)| (*part == Split::Test) == test);
    kept.map(|(k, class, _)| (k, class)).collect()
}

fn pairs(expected: &[(usize, &str)]) -> Vec<(usize, String)> {
    expected.iter().map(|(k, class)| (*k, (*class).to_owned())).collect()
}

#[test]
fn imagenet_is_read_from_its_archives_with_the_devkit_s_classes() {
    let folder = unpacked();
    let path = folder.path().join("imagenet");
    let (summary, set, _out) = run(&source(SourceName::Imagenet, &path, 8)).expect("sound archives");
    assert_eq!(set.classes(), ["n01440764", "n01443537", "n02102040"]);
    let classes = |k: usize| set.classes()[k / 4].clone();
    let train: Vec<(usize, String)> = (0..12).map(|k| (k, classes(k))).collect();
    assert_eq!(in_part(&set, false), train);
    // Lines 2, 3, 1, 2 of the list, of which `meta.mat` says which synsets they are; images by their numbers.
    let test = [
        (12, "n01440764"),
        (13, "n01443537"),
        (14, "n02102040"),
        (15, "n01440764"),
    ];
    assert_eq!(in_part(&set, true), pairs(&test));
    assert_eq!(summary.files[5], "ILSVRC2012_img_train.tar/n01443537/n01443537_1.JPEG");
    assert_eq!(summary.files[12], "ILSVRC2012_img_val.tar/ILSVRC2012_val_00000001.JPEG");
    let inputs = ImageSource::new(SourceName::Imagenet, &path).input_files();
    assert_eq!(inputs.expect("there").len(), 3);
}

#[test]
fn imagenet_is_read_from_folders_with_and_without_the_devkit() {
    let folder = unpacked();
    let path = folder.path().join("imagenet");
    fs_err::remove_file(path.join("ILSVRC2012_img_train.tar")).expect("there");
    fs_err::remove_file(path.join("ILSVRC2012_img_val.tar")).expect("there");
    let image = |name: &str, k: u8| {
        let colour = [10 + 5 * k, 250 - 5 * k, (37 * u32::from(k) % 256) as u8].repeat(64);
        let mut png = std::io::Cursor::new(Vec::new());
        let format = image::ImageFormat::Png;
        image::write_buffer_with_format(&mut png, &colour, 8, 8, image::ColorType::Rgb8, format).expect("PNG");
        put(&path, name, png.get_ref());
    };
    for (c, synset) in ["n02102040", "n01440764", "n01443537"].iter().enumerate() {
        (0..4).for_each(|i| image(&format!("train/{synset}/{i}.JPEG"), 4 * c as u8 + i));
    }
    (1..5).for_each(|n| image(&format!("val/ILSVRC2012_val_0000000{n}.JPEG"), 11 + n));
    let (_, set, _out) = run(&source(SourceName::Imagenet, &path, 8)).expect("sound folders");
    let test = [
        (12, "n01440764"),
        (13, "n01443537"),
        (14, "n02102040"),
        (15, "n01440764"),
    ];
    assert_eq!(in_part(&set, true), pairs(&test));
    // A number beyond the list, and a name of another kind.
    image("val/ILSVRC2012_val_00000009.JPEG", 1);
    image("val/other.JPEG", 1);
    let message = error(&source(SourceName::Imagenet, &path, 8)).to_string();
    assert!(
        message.contains("no line 9") && message.contains("`other.JPEG` is not called"),
        "{message}"
    );
    fs_err::remove_dir_all(path.join("val")).expect("there");
    image("val/n01443537/a.JPEG", 12);
    let (_, set, _out) = run(&source(SourceName::Imagenet, &path, 8)).expect("no devkit is needed");
    assert_eq!(in_part(&set, true), pairs(&[(12, "n01443537")]));
    fs_err::remove_dir_all(path.join("train")).expect("there");
    let missing = error(&source(SourceName::Imagenet, &path, 8)).to_string();
    assert!(missing.contains("ILSVRC2012_img_train.tar"), "{missing}");
}

#[test]
fn tiny_imagenet_and_imagenette_are_read_from_their_archives_and_unpacked() {
    let folder = unpacked();
    let tiny = folder.path().join("tiny_imagenet");
    let config = source(SourceName::TinyImagenet, &tiny, 8);
    let (summary, set, _out) = run(&config).expect("a sound archive");
    assert_eq!(set.classes(), ["tench", "English springer"]);
    let test = [(8, "English springer"), (9, "tench"), (10, "English springer")];
    assert_eq!(in_part(&set, true), pairs(&test));
    assert_eq!(in_part(&set, false).len(), 8);
    assert_eq!(summary.notes, ["skipped 2 images in `test`, whose class is not given"]);
    let first = "tiny-imagenet-200.zip/tiny-imagenet-200/train/n01440764/images/n01440764_0.JPEG";
    assert_eq!(summary.files[0], first);
    let archive = tiny.join("tiny-imagenet-200.zip");
    let mut zip = zip::ZipArchive::new(fs_err::File::open(&archive).expect("there")).expect("an archive");
    zip.extract(&tiny).expect("unpacked");
    fs_err::remove_file(&archive).expect("there");
    let (unpacked_summary, same, _out) = run(&config).expect("a sound folder");
    assert_eq!(images(&same), images(&set));
    assert_eq!(
        unpacked_summary.files[0],
        first.strip_prefix("tiny-imagenet-200.zip/").expect("below it")
    );
    put(&tiny, "tiny-imagenet-200/wnids.txt", b"n01440764\nn00000001\n");
    let message = error(&config).to_string();
    assert!(
        message.contains("the first being n00000001") && message.contains("n02102040"),
        "{message}"
    );

    let (summary, set, _out) =
        run(&source(SourceName::Imagenette, &folder.path().join("imagenette"), 8)).expect("a sound archive");
    assert_eq!(set.classes(), ["tench", "parachute"]);
    // Classes are in order of their folders' names, n01440764 first.
    let expected = |first: usize| -> Vec<(usize, String)> {
        let of = |first: usize, class: &'static str| (first..first + 4).map(move |k| (k, class.to_owned()));
        of(first + 4, "tench").chain(of(first, "parachute")).collect()
    };
    assert_eq!((in_part(&set, false), in_part(&set, true)), (expected(0), expected(8)));
    assert!(
        summary.notes.iter().any(|note| note.contains("skipped 1 links")),
        "{:?}",
        summary.notes
    );
}

#[test]
fn webdataset_takes_classes_from_cls_and_json_and_parts_from_names() {
    let folder = unpacked();
    let path = folder.path().join("webdataset");
    let (summary, set, _out) = run(&source(SourceName::Webdataset, &path, 8)).expect("sound archives");
    assert_eq!(set.classes(), ["cat", "dog"]);
    let train = [(0, "cat"), (1, "dog"), (2, "cat"), (3, "dog"), (4, "cat"), (5, "dog")];
    assert_eq!(
        (in_part(&set, false), in_part(&set, true)),
        (pairs(&train), pairs(&[(6, "dog"), (7, "cat")]))
    );
    assert_eq!(summary.files[3], "train-000001.tar/s.d/0003.PNG");
    assert!(
        summary.files[0].ends_with("a folder with a long name/0000.jpg"),
        "{}",
        summary.files[0]
    );
    fs_err::remove_file(path.join("classnames.txt")).expect("there");
    let (_, set, _out) = run(&source(SourceName::Webdataset, &path, 8)).expect("sound archives");
    assert_eq!(set.classes(), ["0", "1"]);
}

#[test]
fn a_changed_byte_of_an_array_in_an_archive_is_noticed() {
    let folder = unpacked();
    let path = folder.path().join("arrays_npz/set.npz");
    let sound = fs_err::read(&path).expect("there");
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&sound)).expect("an archive");
    let places: Vec<(usize, usize)> = (0..zip.len())
        .map(|member| {
            let member = zip.by_index(member).expect("a member");
            let start = member.data_start().expect("in the archive") as usize;
            (start, start + member.compressed_size() as usize)
        })
        .collect();
    assert!(!places.is_empty());
    for (start, end) in places {
        // The last value, and one in the middle.
        for at in [end - 1, start + (end - start) / 2] {
            let mut changed = sound.clone();
            changed[at] ^= 1;
            fs_err::write(&path, changed).expect("written");
            let message = error(&source(SourceName::Arrays, &folder.path().join("arrays_npz"), 4)).to_string();
            assert!(message.contains("set.npz"), "byte {at}: {message}");
        }
    }
}

#[test]
fn samples_without_an_image_that_is_read_are_told() {
    let folder = unpacked();
    let path = folder.path().join("webdataset");
    let mut archive = tar::Builder::new(fs_err::File::create(path.join("train-000009.tar")).expect("created"));
    for (name, content) in [("a.webp", "RIFF"), ("a.cls", "0"), ("b.cls", "1")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, name, content.as_bytes())
            .expect("written");
    }
    archive.finish().expect("written");
    let (summary, ..) = run(&source(SourceName::Webdataset, &path, 8)).expect("sound archives");
    let [note] = &summary.notes[..] else {
        panic!("{:?}", summary.notes)
    };
    assert!(
        note.contains("2 samples") && note.contains("train-000009.tar/a, train-000009.tar/b"),
        "{note}"
    );
}

#[test]
fn parquet_is_read_whatever_its_compression_encoding_and_pages() {
    let folder = unpacked();
    for kind in ["snappy", "zstd", "gzip", "none"] {
        let path = folder.path().join(format!("parquet_{kind}"));
        let (summary, set, _out) =
            run(&source(SourceName::Parquet, &path, 8)).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(set.classes(), ["cat", "dog"]);
        let class = |k: usize| {
            (
                k,
                ["cat", "dog", "cat", "dog", "cat", "dog", "dog", "cat"][k].to_owned(),
            )
        };
        assert_eq!(in_part(&set, false), (0..8).map(class).collect::<Vec<_>>(), "{kind}");
        assert_eq!(in_part(&set, true), pairs(&[(8, "dog"), (9, "cat")]), "{kind}");
        assert_eq!(summary.notes, ["skipped 2 images without a label"]);
        assert_eq!(summary.files[4], "data/train-00000-of-00002.parquet[4]");
    }
    let other = folder.path().join("parquet_other");
    let message = error(&source(SourceName::Parquet, &other, 8)).to_string();
    for row in ["train.parquet[4]", "train.parquet[5]", "no bytes of an image"] {
        assert!(message.contains(row), "{message}");
    }
    let message = error(&source(SourceName::Parquet, &folder.path().join("parquet_brotli"), 8)).to_string();
    assert!(
        message.contains("Brotli") && message.contains("train.parquet"),
        "{message}"
    );
}

#[test]
fn arrays_of_numpy_in_one_archive_and_in_files() {
    let folder = unpacked();
    let at = |name: &str| folder.path().join(name);
    let (summary, set, _out) = run(&source(SourceName::Arrays, &at("arrays_npz"), 4)).expect("sound arrays");
    assert_eq!(set.classes(), ["3", "7"]);
    let class = |k: usize| (k, if k.is_multiple_of(2) { "7" } else { "3" }.to_owned());
    assert_eq!(in_part(&set, false), (0..6).map(class).collect::<Vec<_>>());
    assert_eq!(in_part(&set, true), (6..10).map(class).collect::<Vec<_>>());
    assert_eq!(summary.files[6], "set.npz/x_test.npy[0]");
    let (_, set, _out) = run(&source(SourceName::Arrays, &at("arrays_npy"), 4)).expect("sound arrays");
    assert_eq!((set.len(), images(&set)[3].0), (10, 3));

    let mut grey = source(SourceName::Arrays, &at("arrays_medmnist"), 4);
    grey.channels = 1;
    let (_, set, _out) = run(&grey).expect("sound arrays");
    let counts = [Split::Train, Split::Validation, Split::Test].map(|part| set.split(part).len());
    assert_eq!((counts, &*set.image(7).expect("levels")), ([6, 2, 2], &[45; 16][..]));
    put(
        &at("arrays_npy"),
        "labels.npy",
        &fs_err::read(at("arrays_npy/images.npy")).expect("there"),
    );
    let message = error(&source(SourceName::Arrays, &at("arrays_npy"), 4)).to_string();
    assert!(message.contains("labels are whole numbers [N]"), "{message}");
    fs_err::remove_file(at("arrays_npy/labels.npy")).expect("there");
    let message = error(&source(SourceName::Arrays, &at("arrays_npy"), 4)).to_string();
    assert!(
        message.contains("images.npy") && message.contains("`labels` or `y` is needed"),
        "{message}"
    );
}

#[test]
fn svhn_has_columns_first_and_ten_for_zero() {
    let folder = unpacked();
    let path = folder.path().join("svhn");
    let (summary, set, _out) = run(&source(SourceName::Svhn, &path, 4)).expect("sound files");
    let class = |k: usize| (k, (k % 10).to_string());
    assert_eq!(in_part(&set, false), (0..20).map(class).collect::<Vec<_>>());
    assert_eq!(in_part(&set, true), (20..23).map(class).collect::<Vec<_>>());
    assert_eq!(
        (set.image(3).expect("levels")[4 + 2], summary.files[21].as_str()),
        (1, "test_32x32.mat[1]")
    );
}

#[test]
fn stimuli_are_in_the_order_of_their_table() {
    let folder = unpacked();
    let path = folder.path().join("stimuli");
    let config = source(SourceName::Stimuli, &path, 8);
    let (summary, set, _out) = run(&config).expect("a sound set");
    assert_eq!(set.classes(), ["cat", "dog"]);
    let found: Vec<usize> = images(&set).into_iter().map(|(k, ..)| k).collect();
    assert_eq!(found, [2, 0, 1, 3, 4, 5]);
    assert_eq!(summary.files[0], "stimulus_set.zip/set/c.png");
    assert_eq!(summary.notes, ["skipped 1 images that the table does not name"]);
    let archive = path.join("stimulus_set.zip");
    let mut zip = zip::ZipArchive::new(fs_err::File::open(&archive).expect("there")).expect("an archive");
    zip.extract(&path).expect("unpacked");
    let (summary, same, _out) = run(&config).expect("a sound folder");
    assert_eq!((images(&same), summary.files[0].as_str()), (images(&set), "set/c.png"));
    put(
        &path,
        "stimulus_set.csv",
        b"image_id,filename\nx,set/a.png\ny,set/missing.png\nz,z.png\n",
    );
    let message = error(&config).to_string();
    assert!(
        message.contains("2 rows name images that are not there: set/missing.png, z.png"),
        "{message}"
    );
}

#[test]
fn cifar_is_read_from_class_folders() {
    let dir = temp();
    let classes = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ];
    for (label, class) in classes.iter().enumerate() {
        for (part, i) in [("train", 0), ("train", 1), ("test", 2)] {
            let level = (label * 20 + i) as u8;
            let path = dir.path().join(format!("{part}/{class}/000{i}.png"));
            crate::data_support::png(&path, 32, 32, image::ColorType::Rgb8, &[level; 3072]);
        }
    }
    let config = source(SourceName::Cifar10, dir.path(), 32);
    let (summary, set, _out) = run(&config).expect("sound folders");
    assert_eq!(
        (set.classes(), set.split(Split::Test).len()),
        (&classes.map(str::to_owned)[..], 10)
    );
    assert_eq!(
        (summary.name.as_str(), set.image(set.len() - 1).expect("levels")[0]),
        ("cifar10", 182)
    );
    for part in ["train", "test"] {
        let at = |class: &str| dir.path().join(format!("{part}/{class}"));
        fs_err::rename(at("bird"), at("emu")).expect("there");
    }
    let message = error(&config).to_string();
    assert!(message.contains("emu"), "{message}");
}

/// A small file cut or changed at some hundred places: an error that names the file, or images, but no panic.
#[test]
fn damaged_files_are_errors_that_name_them() {
    let folder = unpacked();
    for (name, file, side) in [
        (SourceName::Imagenet, "imagenet/ILSVRC2012_img_val.tar", 8),
        (SourceName::Imagenet, "imagenet/ILSVRC2012_devkit_t12.tar.gz", 8),
        (SourceName::Imagenette, "imagenette/imagenette2-160.tgz", 8),
        (SourceName::TinyImagenet, "tiny_imagenet/tiny-imagenet-200.zip", 8),
        (SourceName::Webdataset, "webdataset/train-000000.tar", 8),
        (
            SourceName::Parquet,
            "parquet_snappy/data/train-00000-of-00002.parquet",
            8,
        ),
        (SourceName::Parquet, "parquet_zstd/data/train-00000-of-00002.parquet", 8),
        (SourceName::Parquet, "parquet_none/data/train-00000-of-00002.parquet", 8),
        (SourceName::Arrays, "arrays_npz/set.npz", 4),
        (SourceName::Arrays, "arrays_npy/images.npy", 4),
        (SourceName::Svhn, "svhn/train_32x32.mat", 4),
        (SourceName::Svhn, "svhn/test_32x32.mat", 4),
        (SourceName::Stimuli, "stimuli/stimulus_set.zip", 8),
    ] {
        let path = folder.path().join(file);
        let sound = fs_err::read(&path).expect("there");
        let config = source(name, path.parent().expect("a folder"), side);
        let config = match file.starts_with("parquet") {
            true => source(name, path.parent().and_then(Path::parent).expect("a folder"), side),
            false => config,
        };
        let last = path.file_name().expect("a name").to_string_lossy().into_owned();
        // To write over a file makes some file systems wait for the disk.
        let write = |bytes: &[u8]| {
            fs_err::remove_file(&path).expect("there");
            fs_err::write(&path, bytes).expect("written");
        };
        let step = (sound.len() / 47).max(1);
        for at in (0..sound.len()).step_by(step) {
            write(&sound[..at]);
            if let Err(error) = prepare_in_memory(&config, &mut |_, _| {}) {
                assert!(
                    error.to_string().contains(&last) || error.to_string().contains("class"),
                    "{file} {at}: {error}"
                );
            }
            let mut changed = sound.clone();
            changed[at] ^= 0xA5;
            write(&changed);
            drop(prepare_in_memory(&config, &mut |_, _| {}));
        }
        write(&sound);
    }
}
