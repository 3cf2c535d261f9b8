//! Changes of levels that leave every pixel where it is.

use super::planes::{Level, Planes};
use crate::device::vectorised;

/// Weights of red, green and blue in the grey of torchvision.
const GREY: [f32; 3] = [0.2989, 0.587, 0.114];

/// Changes all levels alike.
#[inline(always)]
fn change<L: Level>(levels: &mut [L], change: impl Fn(L) -> L) {
    vectorised(
        #[inline(always)]
        || change_each(levels, change),
    );
}

#[inline(always)]
fn change_each<L: Level>(levels: &mut [L], change: impl Fn(L) -> L) {
    for level in levels {
        *level = change(*level);
    }
}

/// Multiplies all levels by a factor of at least 0, and limits them: torchvision's `adjust_brightness`.
pub fn brightness<L: Level>(image: &mut Planes<'_, L>, factor: f32) {
    change(
        image.levels_mut(),
        #[inline(always)]
        |level: L| L::cut(level.number() * factor),
    );
}

/// `level` times `factor` and `other` times 1 - `factor`.
#[inline(always)]
fn blend<L: Level>(level: L, other: f32, factor: f32, rest: f32) -> L {
    L::cut(L::product_sum(other, rest, level.number() * factor))
}

/// What is left of 1, as torchvision computes it: in float64.
fn rest(factor: f64) -> (f32, f32) {
    (factor as f32, (1.0 - factor) as f32)
}

/// Multiplies differences from the image's mean grey by a factor of at least 0: torchvision's `adjust_contrast`.
pub fn contrast<L: Level>(image: &mut Planes<'_, L>, factor: f64) {
    let (factor, rest) = rest(factor);
    let mean = mean_grey(image);
    change(
        image.levels_mut(),
        #[inline(always)]
        |level: L| blend(level, mean, factor, rest),
    );
}

/// Mean over the image of its greys, in whole levels where levels are whole.
fn mean_grey<L: Level>(image: &mut Planes<'_, L>) -> f32 {
    let (width, plane) = (image.width(), image.plane());
    let mut sum = 0.0;
    let mut greys = vec![0.0; width];
    for start in (0..plane).step_by(width) {
        match image.colours() {
            Some(colours) => {
                let [red, green, blue] = colours.map(|colour| &colour[start..][..width]);
                vectorised(
                    #[inline(always)]
                    || row_of_greys(red, green, blue, &mut greys),
                );
            }
            None => {
                for (grey, level) in greys.iter_mut().zip(&image.levels()[start..]) {
                    *grey = level.number();
                }
            }
        }
        sum += f64::from(sum_of(&greys));
    }
    (sum / plane as f64) as f32
}

#[inline(always)]
fn row_of_greys<L: Level>(red: &[L], green: &[L], blue: &[L], greys: &mut [f32]) {
    for (((grey, red), green), blue) in greys.iter_mut().zip(red).zip(green).zip(blue) {
        *grey = grey_of(*red, *green, *blue);
    }
}

#[inline(always)]
fn grey_of<L: Level>(red: L, green: L, blue: L) -> f32 {
    let grey = L::product_sum(green.number(), GREY[1], red.number() * GREY[0]);
    L::whole_below(L::product_sum(blue.number(), GREY[2], grey))
}

/// Sum of a row's values, in eight parts that a processor adds up side by side.
fn sum_of(values: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    let parts = values.chunks_exact(8);
    let rest: f32 = parts.remainder().iter().sum();
    for part in parts {
        for (sum, value) in sums.iter_mut().zip(part) {
            *sum += value;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Multiplies differences from every pixel's grey by a factor of at least 0: torchvision's `adjust_saturation`. Grey
/// images stay as they are.
pub fn saturation<L: Level>(image: &mut Planes<'_, L>, factor: f64) {
    let (factor, rest) = rest(factor);
    if let Some([red, green, blue]) = image.colours() {
        vectorised(
            #[inline(always)]
            || saturate(red, green, blue, (factor, rest)),
        );
    }
}

#[inline(always)]
fn saturate<L: Level>(red: &mut [L], green: &mut [L], blue: &mut [L], (factor, rest): (f32, f32)) {
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        let grey = grey_of(*red, *green, *blue);
        *red = blend(*red, grey, factor, rest);
        *green = blend(*green, grey, factor, rest);
        *blue = blend(*blue, grey, factor, rest);
    }
}

/// Turns every pixel's hue by a share of the full circle, from -1/2 to 1/2: torchvision's `adjust_hue`. Grey images
/// stay as they are.
pub fn hue<L: Level>(image: &mut Planes<'_, L>, share: f32) {
    if let Some([red, green, blue]) = image.colours() {
        vectorised(
            #[inline(always)]
            || turn_hues(red, green, blue, share),
        );
    }
}

#[inline(always)]
fn turn_hues<L: Level>(red: &mut [L], green: &mut [L], blue: &mut [L], share: f32) {
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        let [h, s, v] = hue_saturation_value(red.unit(), green.unit(), blue.unit());
        let turned = h + share;
        let [r, g, b] = colour_of(turned - turned.floor(), s, v);
        (*red, *green, *blue) = (L::of_unit(r), L::of_unit(g), L::of_unit(b));
    }
}

/// Hue and saturation in [0, 1], and the largest of the three.
#[inline(always)]
fn hue_saturation_value(red: f32, green: f32, blue: f32) -> [f32; 3] {
    let (largest, smallest) = (red.max(green).max(blue), red.min(green).min(blue));
    let range = largest - smallest;
    if range == 0.0 {
        return [0.0, 0.0, largest];
    }
    let [r, g, b] = [red, green, blue].map(|level| (largest - level) / range);
    let sixths = if largest == red {
        b - g
    } else if largest == green {
        (r + 2.0) - b
    } else {
        (g + 4.0) - r
    };
    let hue = sixths * (1.0 / 6.0) + 1.0;
    [hue - hue.floor(), range / largest, largest]
}

/// Red, green and blue of hue, saturation and value.
#[inline(always)]
fn colour_of(hue: f32, saturation: f32, value: f32) -> [f32; 3] {
    let sixths = hue * 6.0;
    let sector = sixths.floor();
    let within = sixths - sector;
    let (product, rest) = (saturation * within, 1.0 - saturation);
    let [falling, rising, low] = [1.0 - product, product + rest, rest].map(|share| (share * value).clamp(0.0, 1.0));
    match sector as i32 % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}

/// Multiplies differences from the blurred image by a factor of at least 0: torchvision's `adjust_sharpness`. The blur
/// is the mean of the 3 x 3 pixels around, the middle one taken five times; pixels at the edge stay as they are, and so
/// do images of less than 3 x 3.
pub fn sharpness<L: Level>(image: &mut Planes<'_, L>, factor: f64) {
    let (width, height, plane) = (image.width(), image.height(), image.plane());
    if width < 3 || height < 3 {
        return;
    }
    let rest = (1.0 - factor) as f32;
    // Sums of three neighbours in the rows above, at and below the one that is changed.
    let mut sums = [(); 3].map(|()| vec![0.0; width - 2]);
    for plane in image.levels_mut().chunks_exact_mut(plane) {
        vectorised(
            #[inline(always)]
            || sharpen(plane, width, rest, &mut sums),
        );
    }
}

#[inline(always)]
fn sharpen<L: Level>(plane: &mut [L], width: usize, rest: f32, [above, at, below]: &mut [Vec<f32>; 3]) {
    let height = plane.len() / width;
    sums_of_three(&plane[..width], above);
    sums_of_three(&plane[width..][..width], at);
    for y in 1..height - 1 {
        let (row, next) = plane[y * width..].split_at_mut(width);
        sums_of_three(&next[..width], below);
        sharpen_row(&mut row[1..width - 1], [above, at, below], rest);
        std::mem::swap(above, at);
        std::mem::swap(at, below);
    }
}

#[inline(always)]
fn sums_of_three<L: Level>(row: &[L], sums: &mut [f32]) {
    for (((sum, a), b), c) in sums.iter_mut().zip(row).zip(&row[1..]).zip(&row[2..]) {
        *sum = a.number() + b.number() + c.number();
    }
}

#[inline(always)]
fn sharpen_row<L: Level>(row: &mut [L], [above, at, below]: [&[f32]; 3], rest: f32) {
    for (((level, above), at), below) in row.iter_mut().zip(above).zip(at).zip(below) {
        let number = level.number();
        let blurred = L::nearest_whole((above + at + below + 4.0 * number) * (1.0 / 13.0));
        *level = L::cut(L::product_sum(blurred - number, rest, number));
    }
}

/// Keeps the upper `bits`, 0 to 8, of every level: torchvision's `posterize`.
pub fn posterize<L: Level>(image: &mut Planes<'_, L>, bits: u32) {
    change(
        image.levels_mut(),
        #[inline(always)]
        |level: L| level.posterized(bits),
    );
}

/// Inverts the levels from `threshold` on, which is a number from 0 to 255 or from 0 to 1: torchvision's `solarize`.
pub fn solarize<L: Level>(image: &mut Planes<'_, L>, threshold: f32) {
    change(
        image.levels_mut(),
        #[inline(always)]
        |level: L| {
            if level.number() >= threshold {
                level.inverted()
            } else {
                level
            }
        },
    );
}

/// Inverts all levels: torchvision's `invert`.
pub fn invert<L: Level>(image: &mut Planes<'_, L>) {
    change(
        image.levels_mut(),
        #[inline(always)]
        |level: L| level.inverted(),
    );
}

/// Spreads the levels of each plane over the whole range: torchvision's `autocontrast`. A plane of one level stays as
/// it is.
pub fn autocontrast<L: Level>(image: &mut Planes<'_, L>) {
    let plane = image.plane();
    for plane in image.levels_mut().chunks_exact_mut(plane) {
        let (least, largest) = extremes(plane);
        if least < largest {
            let least = least.number();
            let scale = (largest.number() - least) * (1.0 / L::BOUND);
            change(
                plane,
                #[inline(always)]
                |level: L| L::cut((level.number() - least) / scale),
            );
        }
    }
}

fn extremes<L: Level>(levels: &[L]) -> (L, L) {
    let (mut least, mut largest) = ([levels[0]; 32], [levels[0]; 32]);
    vectorised(
        #[inline(always)]
        || narrow(levels, &mut least, &mut largest),
    );
    let lesser = |a: L, b: L| if b < a { b } else { a };
    let larger = |a: L, b: L| if b > a { b } else { a };
    (
        least.into_iter().fold(levels[0], lesser),
        largest.into_iter().fold(levels[0], larger),
    )
}

#[inline(always)]
fn narrow<L: Level>(levels: &[L], least: &mut [L; 32], largest: &mut [L; 32]) {
    let (mut low, mut high) = (*least, *largest);
    let parts = levels.chunks_exact(32);
    for (at, level) in parts.remainder().iter().enumerate() {
        low[at] = if *level < low[at] { *level } else { low[at] };
        high[at] = if *level > high[at] { *level } else { high[at] };
    }
    for part in parts {
        for at in 0..32 {
            low[at] = if part[at] < low[at] { part[at] } else { low[at] };
            high[at] = if part[at] > high[at] { part[at] } else { high[at] };
        }
    }
    (*least, *largest) = (low, high);
}

/// Spreads the levels of each plane so that all are about as frequent: torchvision's `equalize`, which does it for 256
/// levels as Pillow.
pub fn equalize<L: Level>(image: &mut Planes<'_, L>) {
    let plane = image.plane();
    let mut bytes = vec![0; plane];
    for plane in image.levels_mut().chunks_exact_mut(plane) {
        vectorised(
            #[inline(always)]
            || bytes_of(plane, &mut bytes),
        );
        let table = equalizing(&bytes).map(L::of_byte);
        for (level, byte) in plane.iter_mut().zip(&bytes) {
            *level = table[usize::from(*byte)];
        }
    }
}

#[inline(always)]
fn bytes_of<L: Level>(levels: &[L], bytes: &mut [u8]) {
    for (byte, level) in bytes.iter_mut().zip(levels) {
        *byte = level.byte();
    }
}

/// What becomes of every level.
fn equalizing(bytes: &[u8]) -> [u8; 256] {
    // Neighbours often are equal: in one histogram each would wait for the one before.
    let mut parts = [[0_u32; 256]; 4];
    let fours = bytes.chunks_exact(4);
    for byte in fours.remainder() {
        parts[0][usize::from(*byte)] += 1;
    }
    for four in fours {
        for (part, byte) in parts.iter_mut().zip(four) {
            part[usize::from(*byte)] += 1;
        }
    }
    let count = |level: usize| parts.iter().map(|part| part[level] as usize).sum::<usize>();
    let of_brightest = (0..256).rev().map(count).find(|count| *count > 0).unwrap_or(0);
    let step = (bytes.len() - of_brightest) / 255;
    let mut below = 0;
    std::array::from_fn(|level| {
        if step == 0 {
            return level as u8;
        }
        // In the darkest level it is half a step, and hence 0.
        let equalized = ((below + step / 2) / step).min(255);
        below += count(level);
        equalized as u8
    })
}
