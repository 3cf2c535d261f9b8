use super::*;
use crate::data::{ImageSource, SourceName};

/// The digits, at 8 x 8 pixels: 64 bytes an image.
fn digits(store: Store) -> PrepareConfig {
    PrepareConfig {
        store,
        limit: Some(Limit::PerClass(30)),
        ..PrepareConfig::new(ImageSource::new(SourceName::Digits, ""), 1, 16)
    }
}

fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs_err::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            let entry = entry.expect("a file");
            let name = entry.file_name().into_string().expect("text");
            (name, fs_err::read(entry.path()).expect("readable"))
        })
        .collect();
    files.sort();
    files
}

/// What lies in a folder but the manifest, which is text.
fn bytes_of(files: &[(String, Vec<u8>)]) -> u64 {
    let files = files.iter().filter(|(name, _)| name != "manifest.json");
    files.map(|(_, content)| content.len() as u64).sum()
}

#[test]
fn what_a_set_will_be_is_told_to_the_byte() {
    for store in [Store::Raw, Store::Encoded] {
        let config = digits(store);
        let told = outlook(&config).expect("embedded");
        let out = tempfile::tempdir().expect("folder");
        let summary = prepare(&config, out.path(), &mut |_, _| {}).expect("embedded");
        let count = |part: fn(&ClassCount) -> usize| summary.classes.iter().map(part).sum::<usize>();
        assert_eq!(told.train, count(|class| class.train));
        assert_eq!(told.validation, count(|class| class.validation));
        assert_eq!(told.test, count(|class| class.test));
        assert_eq!(told.classes, 10);
        assert_eq!(told.bytes, Some(bytes_of(&bytes(out.path()))), "{store:?}");
    }
}

/// Packs of 50 images, so that 300 images make six.
const PACK: u64 = 50 * 64;

#[test]
fn a_set_of_originals_that_was_stopped_goes_on_to_the_same_bytes() {
    let config = digits(Store::Encoded);
    let whole = tempfile::tempdir().expect("folder");
    let go_on = &mut |_, _| ControlFlow::Continue(());
    prepare_with_packs(&config, whole.path(), whole.path(), PACK, go_on).expect("embedded");
    let expected = bytes(whole.path());
    let packs = expected
        .iter()
        .filter(|(name, _)| name.starts_with("originals-"))
        .count();
    assert_eq!(packs, 6);

    for stop_at in [0, 64, 128, 256] {
        let (work, out) = (
            tempfile::tempdir().expect("folder"),
            tempfile::tempdir().expect("folder"),
        );
        let stop = &mut |done, _| {
            if done >= stop_at {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let stopped = prepare_with_packs(&config, out.path(), work.path(), PACK, stop);
        assert!(matches!(stopped, Err(DataError::Stopped)), "{stopped:?}");
        assert!(
            bytes(out.path()).is_empty(),
            "nothing is published before it is complete"
        );
        let mut first = None;
        let count = &mut |done, _| {
            first.get_or_insert(done);
            ControlFlow::Continue(())
        };
        prepare_with_packs(&config, out.path(), work.path(), PACK, count).expect("embedded");
        // What was read after the last complete pack is read again.
        assert_eq!(first, Some(stop_at / 50 * 50));
        assert!(bytes(out.path()) == expected, "stopped at {stop_at}");
        assert!(bytes(work.path()).is_empty(), "nothing is left behind");
    }
}

#[test]
fn what_changed_while_preparing_was_stopped_is_not_taken_up() {
    let config = digits(Store::Encoded);
    let (work, out) = (
        tempfile::tempdir().expect("folder"),
        tempfile::tempdir().expect("folder"),
    );
    let stop = &mut |done, _| {
        if done >= 128 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    prepare_with_packs(&config, out.path(), work.path(), PACK, stop).expect_err("stopped");
    let pack = work.path().join("originals-00001");
    let mut damaged = fs_err::read(&pack).expect("a pack");
    damaged[7] ^= 1;
    fs_err::write(&pack, damaged).expect("written");
    let mut first = None;
    let count = &mut |done, _| {
        first.get_or_insert(done);
        ControlFlow::Continue(())
    };
    prepare_with_packs(&config, out.path(), work.path(), PACK, count).expect("embedded");
    assert_eq!(first, Some(0));
    let whole = tempfile::tempdir().expect("folder");
    let go_on = &mut |_, _| ControlFlow::Continue(());
    prepare_with_packs(&config, whole.path(), whole.path(), PACK, go_on).expect("embedded");
    assert!(bytes(out.path()) == bytes(whole.path()));
}

#[test]
fn originals_are_shown_as_levels_are_prepared() {
    let (raw, _) = prepare_in_memory(&digits(Store::Raw), &mut |_, _| {}).expect("embedded");
    let out = tempfile::tempdir().expect("folder");
    let summary = prepare(&digits(Store::Encoded), out.path(), &mut |_, _| {}).expect("embedded");
    let set = ImageSet::open(out.path()).expect("just written");
    assert_eq!((summary.images, set.len()), (raw.len(), raw.len()));
    // The same constants, too: they are measured on what evaluation shows.
    assert_eq!((set.mean(), set.std()), (raw.mean(), raw.std()));
    for i in 0..raw.len() {
        assert_eq!(set.image(i).expect("shown"), raw.image(i).expect("levels"));
        assert_eq!(set.label(i), raw.label(i));
        assert_eq!(set.original_size(i), [8, 8]);
    }
    for split in [Split::Train, Split::Validation, Split::Test] {
        assert_eq!(set.split(split), raw.split(split));
    }
    // All of an image as a window is what evaluation shows, where nothing is cropped, but for rounding.
    let (window, shown) = (
        set.window(3, [0, 0, 8, 8]).expect("shown"),
        set.image(3).expect("shown"),
    );
    let differences = window.iter().zip(&*shown).map(|(a, b)| a.abs_diff(*b));
    assert!(differences.max().expect("pixels") <= 2);
}

/// Pictures are shown alike whichever way they are stored, turned or not.
#[test]
fn pictures_are_turned_where_that_is_asked_for() {
    const FIXTURES: &[u8] = include_bytes!("../../../tests/fixtures/images.safetensors");
    let fixtures = safetensors::SafeTensors::deserialize(FIXTURES).expect("the fixture is whole");
    let source = tempfile::tempdir().expect("folder");
    let class = source.path().join("class");
    fs_err::create_dir(&class).expect("created");
    for (number, extension) in [(1, "jpeg"), (6, "jpeg"), (3, "png"), (8, "png")] {
        let bytes = fixtures.tensor(&format!("oriented/{extension}_{number}"));
        let path = class.join(format!("{number}.{extension}"));
        fs_err::write(path, bytes.expect("in the fixture").data()).expect("written");
    }
    // In order of name: 1, 3, 6, 8. Each is the same picture of 21 x 14 pixels, stored otherwise.
    for (upright, sizes) in [(false, [[21, 14]; 4]), (true, [[21, 14], [21, 14], [14, 21], [14, 21]])] {
        let config = |store| PrepareConfig {
            store,
            upright,
            test_fraction: Some(0.0),
            validation_fraction: Some(0.0),
            resize: Some(10),
            ..PrepareConfig::new(ImageSource::new(SourceName::ImageFolder, source.path()), 3, 8)
        };
        let (raw, _) = prepare_in_memory(&config(Store::Raw), &mut |_, _| {}).expect("sound pictures");
        let out = tempfile::tempdir().expect("folder");
        prepare(&config(Store::Encoded), out.path(), &mut |_, _| {}).expect("sound pictures");
        let encoded = ImageSet::open(out.path()).expect("just written");
        assert_eq!((encoded.mean(), encoded.std()), (raw.mean(), raw.std()));
        for (i, size) in sizes.into_iter().enumerate() {
            assert_eq!(encoded.original_size(i), size, "{i}");
            assert_eq!(encoded.image(i).expect("shown"), raw.image(i).expect("levels"), "{i}");
        }
    }
}
