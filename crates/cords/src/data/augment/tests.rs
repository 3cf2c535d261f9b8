//! Operations against torchvision's results, and the draws.

use safetensors::SafeTensors;
use serde_json::Value;

use super::*;

/// Bytes of the file that `benches/reference/augment.py` writes, and what it says of itself.
pub(super) fn reference() -> (Vec<u8>, Value) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/augment.safetensors");
    let bytes = std::fs::read(path).expect("the reference");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let json = metadata.metadata().as_ref().and_then(|all| all.get("json"));
    let described = serde_json::from_str(json.expect("a description")).expect("JSON");
    (bytes, described)
}

/// What a level is in a file of tensors, and how far it may be from the reference.
trait Stored: Level + std::fmt::Debug {
    const KIND: &'static str;
    const TOLERANCE: f32;
    fn all(bytes: &[u8]) -> Vec<Self>;
    /// A share of the largest level.
    fn share(share: f64) -> Self;
}

impl Stored for u8 {
    const KIND: &'static str = "u8";
    const TOLERANCE: f32 = 0.0;
    fn all(bytes: &[u8]) -> Vec<Self> {
        bytes.to_vec()
    }
    fn share(share: f64) -> Self {
        (share * 255.0) as Self
    }
}

impl Stored for f32 {
    const KIND: &'static str = "f32";
    const TOLERANCE: f32 = 1e-5;
    fn all(bytes: &[u8]) -> Vec<Self> {
        let values = bytes.chunks_exact(4);
        values
            .map(|b| Self::from_le_bytes(b.try_into().expect("4 bytes")))
            .collect()
    }
    fn share(share: f64) -> Self {
        share as Self
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn pair(value: &Value) -> [f64; 2] {
    [number(&value[0]), number(&value[1])]
}

fn run<L: Stored>(case: &Value, planes: &mut Planes<'_, L>, displaced: &dyn Fn(&str) -> Vec<f32>) {
    let given = |name: &str| number(&case[name]);
    let interpolation = || serde_json::from_value(case["interpolation"].clone()).expect("an interpolation");
    let fill = || case["fill"].as_f64().map(L::share);
    let width = planes.width();
    match case["operation"].as_str().expect("an operation") {
        "brightness" => brightness(planes, given("factor") as f32),
        "contrast" => contrast(planes, given("factor")),
        "saturation" => saturation(planes, given("factor")),
        "sharpness" => sharpness(planes, given("factor")),
        "hue" => hue(planes, given("share") as f32),
        "posterize" => posterize(planes, given("bits") as u32),
        "solarize" => solarize(planes, (f64::from(L::BOUND) * given("threshold")) as f32),
        "autocontrast" => autocontrast(planes),
        "equalize" => equalize(planes),
        "invert" => invert(planes),
        "flip" => flip(planes.levels_mut(), width),
        "rotate" => rotate(planes, given("degrees"), interpolation(), fill()),
        "affine" => {
            let change = AffineChange {
                angle: given("angle"),
                translate: pair(&case["translate"]),
                scale: given("scale"),
                shear: pair(&case["shear"]),
                centre: pair(&case["centre"]),
            };
            affine(planes, &change, interpolation(), fill());
        }
        "elastic" => {
            let field = displaced(case["image"].as_str().expect("an image"));
            elastic(planes, &field, interpolation(), fill());
        }
        "erase" => erase(
            planes,
            [0, 1, 2, 3].map(|side: usize| number(&case["window"][side]) as usize),
        ),
        "automatic" => {
            let operation = named(&case["name"]);
            let bin = given("bin") as u32;
            let magnitude = operation.magnitude(policy(&case["policy"]), bin, 31, width, planes.height());
            operation.apply(planes, magnitude * given("sign"), Interpolation::Nearest, None);
        }
        other => panic!("no operation {other}"),
    }
}

fn named(name: &Value) -> Operation {
    let found = Operation::ALL
        .iter()
        .find(|operation| format!("{operation:?}") == *name);
    *found.unwrap_or_else(|| panic!("no operation {name}"))
}

fn policy(name: &Value) -> Magnitudes {
    match name.as_str() {
        Some("rand_augment") => Magnitudes::RandAugment,
        Some("trivial_augment") => Magnitudes::TrivialAugmentWide,
        _ => panic!("no policy {name}"),
    }
}

fn compare<L: Stored>() {
    let (bytes, described) = reference();
    let tensors = SafeTensors::deserialize(&bytes).expect("tensors");
    let levels = |name: &str| {
        let view = tensors.tensor(&format!("{name}.{}", L::KIND)).expect("a tensor");
        (L::all(view.data()), view.shape().to_vec())
    };
    let displaced = |image: &str| {
        f32::all(
            tensors
                .tensor(&format!("displacement.{image}"))
                .expect("a field")
                .data(),
        )
    };
    let cases = described["cases"].as_array().expect("cases");
    assert!(cases.len() > 120);
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let (mut found, shape) = levels(case["image"].as_str().expect("an image"));
        run(case, &mut Planes::new(&mut found, shape[2], shape[1]), &displaced);
        let (expected, _) = levels(&format!("out.{number}"));
        assert_eq!(found.len(), expected.len());
        let difference = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a.number() - b.number()).abs());
        let largest = difference.fold(0.0, f32::max);
        if largest.is_nan() || largest > L::TOLERANCE {
            let count = found
                .iter()
                .zip(&expected)
                .filter(|(a, b)| (a.number() - b.number()).abs() > L::TOLERANCE);
            wrong.push(format!("{} levels by up to {largest}: {case}", count.count()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn operations_on_8_bit_levels_equal_torchvision() {
    compare::<u8>();
}

#[test]
fn operations_on_floats_equal_torchvision() {
    compare::<f32>();
}

#[test]
fn magnitudes_are_those_of_torchvision() {
    let (_, described) = reference();
    let tables = described["magnitudes"].as_array().expect("tables");
    assert!(tables.len() > 80);
    for table in tables {
        let whole = |name: &str| number(&table[name]) as usize;
        let operation = named(&table["operation"]);
        let magnitudes = policy(&table["policy"]);
        for (bin, expected) in table["magnitudes"].as_array().expect("values").iter().enumerate() {
            let [width, height] = ["width", "height"].map(whole);
            let found = operation.magnitude(magnitudes, bin as u32, whole("bins") as u32, width, height);
            let expected = number(expected);
            // Shifts are cut to whole pixels and levels of posterize are whole already: they must not differ.
            let same = match operation {
                Operation::TranslateX | Operation::TranslateY => found.trunc() == expected.trunc(),
                Operation::Posterize => found == expected,
                _ => true,
            };
            assert!(
                same && (found - expected).abs() <= 1e-6 * expected.abs(),
                "{operation:?} {bin}: {found}, not {expected}"
            );
        }
    }
}

#[test]
fn displacements_are_those_of_torchvision_for_the_same_noise() {
    let (bytes, described) = reference();
    let tensors = SafeTensors::deserialize(&bytes).expect("tensors");
    for image in ["colour", "grey"] {
        let read = |name: &str| {
            let view = tensors.tensor(&format!("{name}.{image}")).expect("a tensor");
            (f32::all(view.data()), view.shape().to_vec())
        };
        let case = described["cases"].as_array().expect("cases").iter();
        let mut case = case.filter(|case| case["operation"] == "elastic" && case["image"] == image);
        let case = case.next().expect("a case");
        let options = Elastic {
            alpha: number(&case["alpha"]) as f32,
            sigma: number(&case["sigma"]) as f32,
        };
        let (noise, shape) = read("noise");
        let found = displacement(noise, shape[2], shape[1], &options);
        for (found, expected) in found.iter().zip(read("displacement").0) {
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
    }
}

fn picture(side: usize) -> Vec<f32> {
    (0..3 * side * side)
        .map(|i| ((i * 37 + 11) % 101) as f32 / 100.0)
        .collect()
}

fn with(augment: &Augment, side: usize, image: u64, epoch: u32) -> Vec<f32> {
    let mut pixels = picture(side);
    augment.apply(&mut pixels, side, 5, image, epoch);
    pixels
}

/// Every change at once, but for the two that exclude each other.
fn everything() -> Augment {
    Augment {
        random_resized_crop: Some(RandomResizedCrop::default()),
        horizontal_flip: 0.5,
        rand_augment: Some(RandAugment::default()),
        affine: Some(Affine {
            degrees: 20.0,
            translate: 0.1,
            scale: [0.8, 1.2],
            shear: 10.0,
        }),
        brightness: 0.4,
        contrast: 0.4,
        saturation: 0.4,
        hue: 0.1,
        elastic: Some(Elastic { alpha: 9.0, sigma: 2.0 }),
        erasing: Some(RandomErasing::default()),
        mix: MixOptions {
            cutmix: Some(1.0),
            mixup: Some(0.2),
        },
        ..Augment::default()
    }
}

#[test]
fn off_changes_nothing_and_draws_depend_on_their_key_alone() {
    let off = Augment::default();
    assert!(off.is_off());
    assert_eq!(with(&off, 9, 0, 0), picture(9));
    assert!(!off.flips(1, 2, 3) && off.window(1, 2, 3, 4, 5).is_none() && off.mix(1, 2, 3, 4).is_none());
    let mut values = picture(9);
    off.erase(&mut values, 9, 1, 2, 3);
    assert_eq!(values, picture(9));
    let bilinear = Augment {
        interpolation: Some(Interpolation::Bilinear),
        ..Augment::default()
    };
    assert!(bilinear.is_off());

    let augment = everything();
    assert!(!augment.is_off());
    augment.validate().expect("valid");
    assert_eq!(with(&augment, 9, 3, 1), with(&augment, 9, 3, 1));
    assert_ne!(with(&augment, 9, 3, 1), with(&augment, 9, 3, 2));
    assert_ne!(with(&augment, 9, 3, 1), with(&augment, 9, 4, 1));
    let windows = |seed, image, epoch| augment.window(seed, image, epoch, 500, 300);
    assert_eq!(windows(1, 2, 3), windows(1, 2, 3));
    assert_ne!(windows(1, 2, 3), windows(2, 2, 3));
    assert_ne!(windows(1, 2, 3), windows(1, 2, 4));
    assert_eq!(augment.mix(1, 2, 3, 9), augment.mix(1, 2, 3, 9));
    assert_ne!(augment.mix(1, 2, 3, 9), augment.mix(1, 2, 4, 9));
}

#[test]
fn switching_one_change_on_leaves_the_others_draws() {
    let all = everything();
    let flip = Augment {
        horizontal_flip: all.horizontal_flip,
        ..Augment::default()
    };
    let crop = Augment {
        random_resized_crop: all.random_resized_crop,
        ..Augment::default()
    };
    let erasing = Augment {
        erasing: all.erasing,
        ..Augment::default()
    };
    for image in 0..30 {
        assert_eq!(flip.flips(1, image, 2), all.flips(1, image, 2));
        assert_eq!(crop.window(1, image, 2, 50, 70), all.window(1, image, 2, 50, 70));
        let [alone, among] = [&erasing, &all].map(|augment| {
            let mut values = picture(12);
            augment.erase(&mut values, 12, 1, image, 2);
            values
        });
        assert_eq!(alone, among);
        // A jitter of almost no brightness takes its place in the order and changes almost nothing else.
        let contrast = Augment {
            contrast: 0.5,
            ..Augment::default()
        };
        let both = Augment {
            brightness: 1e-7,
            affine: Some(Affine::default()),
            ..contrast.clone()
        };
        let [alone, among] = [&contrast, &both].map(|augment| with(augment, 6, image, 0));
        assert!(alone.iter().zip(among).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

#[test]
fn flip_mirrors_exactly_and_as_often_as_asked() {
    let mut after = picture(7);
    flip(&mut after, 7);
    for row in 0..21 {
        for x in 0..7 {
            assert_eq!(after[row * 7 + x], picture(7)[row * 7 + 6 - x]);
        }
    }
    // 4,000 draws at 0.3: standard deviation 29, bound 5 of them.
    let augment = Augment {
        horizontal_flip: 0.3,
        ..Augment::default()
    };
    let flipped = (0..4000).filter(|image| augment.flips(5, *image, 0)).count();
    assert!((flipped as i64 - 1200).abs() < 145, "{flipped}");
}

/// Chi-squared of counts against equal probabilities must lie below the bound, which is exceeded once in 100,000 times.
fn assert_uniform(counts: &[u32], bound: f64, what: &str) {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    let sum: f64 = counts
        .iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum();
    assert!(sum < bound, "{what}: chi-squared {sum}, counts {counts:?}");
}

#[test]
fn rand_augment_draws_every_operation_place_and_sign_alike() {
    let options = RandAugment::default();
    let mut pairs = [0; 196];
    let mut signs = [0; 2];
    for image in 0..20_000 {
        let drawn = options.draw(&mut Change::RandAugment.stream(1, image, 0), 224, 224);
        let place = |operation: Operation| operation as usize;
        pairs[place(drawn[0].0) * 14 + place(drawn[1].0)] += 1;
        for (operation, magnitude) in drawn {
            let expected = operation.magnitude(Magnitudes::RandAugment, 9, 31, 224, 224);
            assert_eq!(magnitude.abs(), expected);
            if operation.is_signed() {
                signs[usize::from(magnitude < 0.0)] += 1;
            } else {
                assert!(magnitude >= 0.0);
            }
        }
    }
    // 195 degrees of freedom; 1.
    assert_uniform(&pairs, 287.0, "pairs of operations");
    assert_uniform(&signs, 19.5, "signs");
}

#[test]
fn trivial_augment_draws_every_operation_and_magnitude_alike() {
    let mut operations = [0; 14];
    let mut bins = [0; 61];
    for image in 0..60_000 {
        let (operation, magnitude) = automatic::draw_trivial(&mut Change::TrivialAugment.stream(1, image, 0), 224, 224);
        operations[operation as usize] += 1;
        if operation == Operation::Rotate {
            bins[(magnitude / 4.5 + 30.0).round() as usize] += 1;
        }
    }
    // 13 degrees of freedom.
    assert_uniform(&operations, 46.0, "operations");
    // Both signs of no rotation are one.
    bins[30] /= 2;
    assert_uniform(&bins, 125.0, "rotations");
}

#[test]
fn affine_draws_are_uniform_and_shifts_whole() {
    let options = Affine {
        degrees: 10.0,
        translate: 0.1,
        scale: [0.9, 1.3],
        shear: 4.0,
    };
    let mut counts = [[0; 10]; 3];
    let mut shifts = [0; 7];
    for image in 0..20_000 {
        let drawn = options.draw(&mut Change::Affine.stream(1, image, 0), 28, 35);
        let shares = [
            (drawn.angle + 10.0) / 20.0,
            (drawn.scale - 0.9) / 0.4,
            (drawn.shear[0] + 4.0) / 8.0,
        ];
        for (counts, share) in counts.iter_mut().zip(shares) {
            assert!((-1e-6..=1.0 + 1e-6).contains(&share));
            counts[((share * 10.0) as usize).min(9)] += 1;
        }
        assert_eq!(drawn.shear[1], 0.0);
        assert!(drawn.translate[1].abs() <= 4.0);
        shifts[(drawn.translate[0] + 3.0) as usize] += 1;
    }
    // 9 degrees of freedom.
    for (counts, what) in counts.iter().zip(["angles", "magnifications", "shears"]) {
        assert_uniform(counts, 39.0, what);
    }
    // Of -2.8 to 2.8, from -2.5 to 2.5 whole numbers have one pixel each, and those beyond 0.3.
    assert_uniform(&shifts[1..6], 30.0, "shifts");
    // 20,000 at 0.3/5.6: standard deviation 32, bound 5 of them.
    assert!((shifts[0] as i32 - 1071).abs() < 160, "{shifts:?}");
}

#[test]
fn jitter_draws_factors_and_orders_alike() {
    // The factor of a jitter shows on a grey level that no bound limits.
    let augment = Augment {
        brightness: 0.4,
        ..Augment::default()
    };
    let mut counts = [0; 10];
    for image in 0..20_000 {
        let mut pixel = [0.5];
        augment.apply(&mut pixel, 1, 3, image, 0);
        counts[(((pixel[0] - 0.3) / 0.4 * 10.0) as usize).min(9)] += 1;
    }
    assert_uniform(&counts, 39.0, "factors");
    let mut first = [0; 4];
    for image in 0..4000 {
        first[Change::OrderOfJitter.stream(3, image, 0).permutation(4)[0] as usize] += 1;
    }
    assert_uniform(&first, 26.0, "orders");
    // Brightness before contrast, or after it.
    let augment = Augment {
        brightness: 0.9,
        contrast: 0.9,
        ..Augment::default()
    };
    for image in 0..50 {
        let found = with(&augment, 4, image, 0);
        let stream = |change: Change| change.stream(5, image, 0);
        let factor = |change| f64::from(between(&mut stream(change), 1.0 - 0.9_f32, 1.9));
        let (bright, contrasted) = (factor(Change::Brightness), factor(Change::Contrast));
        let order = stream(Change::OrderOfJitter).permutation(4);
        let place = |which: u32| order.iter().position(|next| *next == which);
        let mut expected = picture(4);
        let mut planes = Planes::new(&mut expected, 4, 4);
        if place(0) < place(1) {
            brightness(&mut planes, bright as f32);
            contrast(&mut planes, contrasted);
        } else {
            contrast(&mut planes, contrasted);
            brightness(&mut planes, bright as f32);
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn windows_have_the_areas_and_shapes_that_are_asked_for_and_lie_inside() {
    let augment = Augment {
        random_resized_crop: Some(RandomResizedCrop::default()),
        ..Augment::default()
    };
    let mut shapes = [0; 10];
    let (mut area, mut centre) = (0.0, [0.0; 2]);
    let n = 20_000;
    for image in 0..n {
        let [left, top, width, height] = augment.window(1, image, 0, 1000, 1000).expect("a window");
        assert!(width > 0 && height > 0 && left + width <= 1000 && top + height <= 1000);
        area += (width * height) as f64 / 1e6 / n as f64;
        centre[0] += (left as f64 + width as f64 / 2.0) / n as f64;
        centre[1] += (top as f64 + height as f64 / 2.0) / n as f64;
        let small = width * height < 500_000;
        let shape = (width as f64 / height as f64).ln() / (4.0_f64 / 3.0).ln();
        if small {
            shapes[(((shape + 1.0) * 5.0) as usize).min(9)] += 1;
        }
    }
    // No shape of less than 3/4 of the area is refused; whole pixels blur the bounds of the tenths a little.
    assert_uniform(&shapes, 60.0, "shapes");
    // Areas are uniform on [0.08, 1], but those of a shape that does not fit in are drawn anew: with c = ln(4/3), and
    // exp(-c u) the largest area at a share u of the largest shape, their mean is (E[exp(-2 c u)] - 0.08^2) / 2 over
    // E[exp(-c u)] - 0.08. The standard deviation is below 0.27: standard error 0.0019, bound 5.
    let c = (4.0_f64 / 3.0).ln();
    let mean_of = |power: f64| (1.0 - (-power * c).exp()) / (power * c);
    let expected = (mean_of(2.0) - 0.08 * 0.08) / 2.0 / (mean_of(1.0) - 0.08);
    assert!((area - expected).abs() < 0.0095, "{area}, not {expected}");
    // Standard deviation of a centre is below 1000/sqrt(12) = 289: standard error 2, bound 5.
    assert!(centre.iter().all(|at| (at - 500.0).abs() < 10.0), "{centre:?}");
    // Originals of one pixel, and of a shape far from all that is allowed.
    for image in 0..200 {
        assert_eq!(augment.window(1, image, 0, 1, 1), Some([0, 0, 1, 1]));
        let [_, top, width, height] = augment.window(1, image, 0, 3, 900).expect("a window");
        assert!(width <= 3 && top + height <= 900 && height <= 5);
    }
}

#[test]
fn erasing_happens_as_often_as_asked_and_leaves_zeros() {
    let augment = Augment {
        erasing: Some(RandomErasing {
            probability: 0.25,
            ..RandomErasing::default()
        }),
        ..Augment::default()
    };
    let mut erased = 0_i32;
    for image in 0..4000 {
        let mut values = vec![1.0; 3 * 20 * 20];
        augment.erase(&mut values, 20, 1, image, 0);
        let zeros = values.iter().filter(|value| **value == 0.0).count();
        if zeros > 0 {
            erased += 1;
            // Of 400 pixels 0.02 to 0.33 in each of three planes, in whole pixels.
            assert!(zeros.is_multiple_of(3) && (3 * 4..=3 * 145).contains(&zeros), "{zeros}");
        }
    }
    // 4,000 draws at 1/4: standard deviation 27, bound 5 of them.
    assert!((erased - 1000).abs() < 137, "{erased}");
}

#[test]
fn elastic_field_has_the_spread_of_its_definition() {
    // A field uniform on [-1, 1] has variance 1/3; blurring by a 2-D Gaussian multiplies it by 1/(4 pi sigma^2), away
    // from the edges, where reflection repeats values. 40 inner fields (20 of x, 20 of y) of 48 x 48 with about
    // 48 * 48 / (4 pi sigma^2) = 46 independent patches each: relative standard error sqrt(2 / 1840) = 3.3 %; bound 5.
    let options = Elastic {
        alpha: 10.0,
        sigma: 2.0,
    };
    let mut sum = 0.0;
    for image in 0..20 {
        let field = options.draw(&mut Change::Elastic.stream(0, image, 0), 64, 64);
        let inner = |row: usize| &field[row * 64 + 8..][..48];
        sum += (0..128)
            .filter(|row| (8..56).contains(&(row % 64)))
            .flat_map(inner)
            .map(|v| f64::from(v * v))
            .sum::<f64>();
    }
    let variance = sum / (40.0 * 48.0 * 48.0);
    let expected = 100.0 / (64.0 * 64.0) / 3.0 / (4.0 * std::f64::consts::PI * 4.0);
    assert!(
        (variance / expected - 1.0).abs() < 0.165,
        "{variance} against {expected}"
    );
    // Blurs wider than the image are reflected as often as needed.
    let wide = Elastic { alpha: 1.0, sigma: 5.0 };
    for (width, height) in [(3, 3), (1, 4), (1, 1)] {
        let field = wide.draw(&mut Change::Elastic.stream(0, 0, 0), width, height);
        assert!(field.iter().all(|v| v.is_finite()));
    }
}

/// Affine changes of before torchvision's arithmetic was taken over are its own with `fill=None`, but for rounding.
#[test]
fn affine_changes_without_an_interpolation_are_torchvisions_without_fill() {
    let options = Affine {
        degrees: 20.0,
        translate: 0.1,
        scale: [0.8, 1.2],
        shear: 10.0,
    };
    let augment = Augment {
        affine: Some(options),
        ..Augment::default()
    };
    for image in 0..50 {
        let found = with(&augment, 13, image, 2);
        let change = options.draw(&mut Change::Affine.stream(5, image, 2), 13, 13);
        let mut expected = picture(13);
        affine(
            &mut Planes::new(&mut expected, 13, 13),
            &change,
            Interpolation::Bilinear,
            None,
        );
        let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f32::max);
        assert!(largest < 1e-5, "image {image}: {largest}");
    }
}

#[test]
fn levels_stay_in_range_and_extreme_options_do_no_harm() {
    let mut augment = everything();
    for image in 0..40 {
        assert!(
            with(&augment, 11, image, 0)
                .iter()
                .all(|level| (0.0..=1.0).contains(level))
        );
    }
    augment.interpolation = Some(Interpolation::Bilinear);
    augment.affine = Some(Affine {
        degrees: 180.0,
        translate: 1.0,
        scale: [1e-30, 100.0],
        shear: 80.0,
    });
    augment.elastic = Some(Elastic {
        alpha: 10_000.0,
        sigma: 0.1,
    });
    augment.rand_augment = None;
    augment.trivial_augment = true;
    augment.validate().expect("valid");
    for side in [1, 2, 3, 11] {
        for image in 0..40 {
            let found = with(&augment, side, image, 0);
            assert!(found.iter().all(|level| (-1e-6..=1.0 + 1e-6).contains(level)));
        }
    }
}

#[test]
fn impossible_values_are_refused() {
    let refused = |augment: Augment| match augment.validate() {
        Err(DataError::Option { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    assert!(Augment::default().validate().is_ok());
    let off = Augment::default;
    let cases = [
        (
            Augment {
                horizontal_flip: 1.5,
                ..off()
            },
            "horizontal_flip",
        ),
        (
            Augment {
                brightness: f32::NAN,
                ..off()
            },
            "brightness",
        ),
        (
            Augment {
                saturation: 1.5,
                ..off()
            },
            "saturation",
        ),
        (Augment { hue: 0.6, ..off() }, "hue"),
        (
            Augment {
                elastic: Some(Elastic { alpha: 1.0, sigma: 0.0 }),
                ..off()
            },
            "elastic.sigma",
        ),
        (
            Augment {
                affine: Some(Affine {
                    scale: [1.2, 0.8],
                    ..Affine::default()
                }),
                ..off()
            },
            "affine.scale",
        ),
        (
            Augment {
                erasing: Some(RandomErasing {
                    probability: 2.0,
                    ..RandomErasing::default()
                }),
                ..off()
            },
            "erasing.probability",
        ),
        (
            Augment {
                mix: MixOptions {
                    cutmix: Some(0.0),
                    mixup: None,
                },
                ..off()
            },
            "mix.cutmix",
        ),
        (
            Augment {
                mix: MixOptions {
                    cutmix: None,
                    mixup: Some(-1.0),
                },
                ..off()
            },
            "mix.mixup",
        ),
        (
            Augment {
                rand_augment: Some(RandAugment::default()),
                trivial_augment: true,
                ..off()
            },
            "trivial_augment",
        ),
        (
            Augment {
                rand_augment: Some(RandAugment {
                    magnitude: 31,
                    ..RandAugment::default()
                }),
                ..off()
            },
            "rand_augment.magnitude",
        ),
        (
            Augment {
                rand_augment: Some(RandAugment {
                    bins: 1,
                    ..RandAugment::default()
                }),
                ..off()
            },
            "rand_augment.bins",
        ),
    ];
    for (augment, option) in cases {
        assert_eq!(refused(augment), option);
    }
}
