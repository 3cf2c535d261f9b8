//! Against Pillow, on the pictures that `benches/reference/images.py` makes.

use super::*;
use crate::data::resize::{Axis, Rule, fitted};
use safetensors::SafeTensors;

const FIXTURES: &[u8] = include_bytes!("../../../tests/fixtures/images.safetensors");

fn fixtures() -> SafeTensors<'static> {
    SafeTensors::deserialize(FIXTURES).expect("the fixture is whole")
}

/// What a file says before the pixels.
fn header(file: &Path, bytes: &[u8]) -> Result<Header, DataError> {
    Picture::open(file, bytes).map(|picture| picture.header())
}

/// Pixels under a name.
fn expected(fixtures: &SafeTensors<'_>, name: &str) -> Pixels {
    let tensor = fixtures.tensor(&format!("{name}/pixels")).expect("in the fixture");
    let [height, width, channels] = tensor.shape()[..] else {
        panic!("{name}: height, width, channels")
    };
    Pixels {
        width,
        height,
        channels,
        data: tensor.data().to_vec(),
    }
}

/// Names of the files of a kind, and what they hold.
fn files(kind: &str) -> Vec<(String, Vec<u8>)> {
    let fixtures = fixtures();
    let mut names: Vec<String> = fixtures.names().iter().map(|name| (*name).to_owned()).collect();
    names.retain(|name| name.split('/').count() == 2 && name.starts_with(kind));
    names.sort();
    assert!(!names.is_empty());
    let content = |name: String| (name.clone(), fixtures.tensor(&name).expect("there").data().to_vec());
    names.into_iter().map(content).collect()
}

/// Largest and mean difference.
fn difference(one: &Pixels, other: &Pixels) -> (u8, f64) {
    let differences: Vec<u8> = one.data.iter().zip(&other.data).map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: f64 = differences.iter().map(|difference| f64::from(*difference)).sum();
    (
        differences.iter().copied().max().unwrap_or(0),
        sum / differences.len() as f64,
    )
}

#[test]
fn pixels_are_those_of_pillow() {
    let fixtures = fixtures();
    for (name, bytes) in files("whole/") {
        let found = decode(Path::new(&name), &bytes, false).expect("a sound picture");
        assert!(
            found == expected(&fixtures, &name),
            "{name}: {:?}",
            difference(&found, &expected(&fixtures, &name))
        );
        let header = header(Path::new(&name), &bytes).expect("a sound picture");
        let Pixels {
            width,
            height,
            channels,
            ..
        } = found;
        let orientation = 1;
        let from_pixels = Header {
            width,
            height,
            channels,
            orientation,
        };
        assert_eq!(header, from_pixels, "{name}");
    }
}

/// Windows of their own size, at any place, of files of every sampling and order of scans.
#[test]
fn a_window_is_what_the_whole_has_there() {
    let more: [(&str, &[u8]); 4] = [
        ("progressive", include_bytes!("../../../tests/fixtures/progressive.jpg")),
        ("2x2", include_bytes!("../../../tests/fixtures/scans_separate_2x2.jpg")),
        ("1x2", include_bytes!("../../../tests/fixtures/scans_separate_1x2.jpg")),
        ("two scans", include_bytes!("../../../tests/fixtures/scans_two_2x2.jpg")),
    ];
    let more = more.map(|(name, bytes)| (name.to_owned(), bytes.to_vec()));
    let mut decoder = Decoder::default();
    for (name, bytes) in files("whole/").into_iter().chain(more) {
        let file = Path::new(&name);
        let whole = decode(file, &bytes, false).expect("sound");
        let (width, height) = (whole.width, whole.height);
        for left in (0..width).step_by(5) {
            let top = left * 7 % height;
            for size in [
                (1, 1),
                (width - left, 1),
                (1, height - top),
                (width - left, height - top),
            ] {
                let window = [left, top, size.0, size.1];
                let view = View {
                    window,
                    size,
                    cut: [0, 0, size.0, size.1],
                    channels: whole.channels,
                    upright: false,
                };
                let found = decode_view(&mut decoder, file, &bytes, &view).expect("sound");
                assert!(found == whole.clone().cropped(window), "{name}: {window:?}");
            }
        }
    }
}

#[test]
fn orientation_is_applied_where_it_is_asked_for() {
    let fixtures = fixtures();
    for (name, bytes) in files("oriented/") {
        let upright = expected(&fixtures, &name);
        let file = Path::new(&name);
        let header = header(file, &bytes).expect("a sound picture");
        assert_eq!(header.oriented_size(), (upright.width, upright.height));
        assert!(name.ends_with(&format!("_{}", header.orientation)), "{name}");
        let mut decoder = Decoder::default();
        let view = View {
            window: [0, 0, upright.width, upright.height],
            size: (upright.width, upright.height),
            cut: [0, 0, upright.width, upright.height],
            channels: 3,
            upright: true,
        };
        assert!(
            decode_view(&mut decoder, file, &bytes, &view).expect("sound") == upright,
            "{name}"
        );
        let view = View {
            window: [5, 2, 4, 7],
            size: (4, 7),
            cut: [0, 0, 4, 7],
            ..view
        };
        let part = decode_view(&mut decoder, file, &bytes, &view).expect("sound");
        assert!(part == upright.cropped([5, 2, 4, 7]), "{name}");
        let view = View {
            window: [0, 0, header.width, header.height],
            size: (header.width, header.height),
            cut: [0, 0, header.width, header.height],
            channels: 3,
            upright: false,
        };
        let stored = decode_view(&mut decoder, file, &bytes, &view).expect("sound");
        assert!(stored == decode(file, &bytes, false).expect("sound"), "{name}");
    }
}

/// Shorter side resized, centre cropped: the same from the pixels that it needs as from all.
#[test]
fn the_centre_is_that_of_the_whole_resized() {
    let mut decoder = Decoder::default();
    for (name, bytes) in files("view/") {
        let file = Path::new(&name);
        let whole = decode(file, &bytes, false).expect("sound");
        let view = View::of_centre((whole.width, whole.height), 37, 32, 3, false);
        let found = decode_view(&mut decoder, file, &bytes, &view).expect("sound");
        let [across, down] = fitted(whole.width, whole.height, 37, 32);
        let axis = |axis: &Axis| Axis::whole(axis.from, axis.to);
        let mut resizer = Resizer::default();
        resizer.plan(&axis(&across), &axis(&down), Rule::Pillow);
        let resized = resizer.resize(whole.with_channels(3));
        let centre = [across.wanted.start, down.wanted.start, 32, 32];
        assert!(found == resized.cropped(centre), "{name}");
    }
}

/// Calls `check(name, found, expected)` for every view of a kind.
fn views(kind: &str, check: impl Fn(&str, &Pixels, &Pixels)) {
    let fixtures = fixtures();
    // One decoder for all, as a thread has it: nothing may be left of the picture before.
    let mut decoder = Decoder::default();
    for (name, bytes) in files(kind) {
        for number in 0.. {
            let name = format!("{name}/{number}");
            let Ok(window) = fixtures.tensor(&format!("{name}/window")) else {
                assert!(number > 0, "{name}");
                break;
            };
            let window: Vec<usize> = (window.data().as_chunks::<8>().0.iter())
                .map(|bytes| i64::from_le_bytes(*bytes) as usize)
                .collect();
            let expected = expected(&fixtures, &name);
            let view = View {
                window: window.try_into().expect("four numbers"),
                size: (expected.width, expected.height),
                cut: [0, 0, expected.width, expected.height],
                channels: expected.channels,
                upright: false,
            };
            let found = decode_view(&mut decoder, Path::new(&name), &bytes, &view).expect("sound");
            check(&name, &found, &expected);
            // A part of the result is the same part.
            let cut = [expected.width / 3, 1, expected.width.div_ceil(2), expected.height - 2];
            let view = View { cut, ..view };
            let part = decode_view(&mut decoder, Path::new(&name), &bytes, &view).expect("sound");
            assert!(part == found.cropped(cut), "{name}");
        }
    }
}

#[test]
fn views_are_those_of_pillow() {
    for kind in ["view/", "scaled/"] {
        views(kind, |name, found, expected| {
            assert!(found == expected, "{name}: {:?}", difference(found, expected));
        });
    }
}

#[test]
fn windows_that_leave_the_picture_are_refused() {
    let (name, bytes) = files("view/").remove(0);
    let mut decoder = Decoder::default();
    for window in [[0, 0, 76, 10], [0, 50, 10, 9], [70, 0, 0, 5], [usize::MAX, 0, 2, 2]] {
        let view = View::of_window(window, 3, 3, false);
        let error = decode_view(&mut decoder, Path::new(&name), &bytes, &view).expect_err("outside");
        assert!(matches!(error, DataError::Option { .. }), "{window:?}: {error:?}");
    }
}

/// Whatever is cut off or changed: pixels or an error that names the file, from all three ways in.
#[test]
fn damage_is_an_error_or_goes_unnoticed() {
    let mut state = 7u32;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % bound
    };
    let mut decoder = Decoder::default();
    for (name, bytes) in files("whole/").into_iter().chain(files("view/")) {
        let file = Path::new(&name);
        let mut all = |bytes: &[u8]| {
            if let Err(error) = decode(file, bytes, false) {
                assert!(error.to_string().contains(&name), "{error}");
            }
            if let Ok(header) = header(file, bytes)
                && header.width * header.height < 1 << 20
            {
                let view = View {
                    window: [
                        header.width / 3,
                        header.height / 3,
                        header.width.div_ceil(2),
                        header.height.div_ceil(2),
                    ],
                    size: (5, 4),
                    cut: [0, 0, 5, 4],
                    channels: 3,
                    upright: true,
                };
                let _ = decode_view(&mut decoder, file, bytes, &view);
            }
        };
        for _ in 0..20 {
            all(&bytes[..next(bytes.len())]);
            let mut changed = bytes.clone();
            for _ in 0..1 + next(3) {
                changed[next(bytes.len())] = next(256) as u8;
            }
            all(&changed);
        }
    }
}

/// A header may tell of any size; no memory is asked for what the file cannot hold.
#[test]
fn a_png_with_more_pixels_than_its_bytes_can_hold_is_damaged() {
    let (name, mut bytes) = files("whole/png_rgb").remove(0);
    bytes[16..20].copy_from_slice(&30_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&30_000u32.to_be_bytes());
    let error = decode(Path::new(&name), &bytes, false).expect_err("too many pixels");
    assert!(matches!(error, DataError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("30000 x 30000"), "{error}");
}
