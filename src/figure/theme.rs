//! The colours of all figures. The report's page has the same on white, and others of the same kind on black.

use super::description::Paint;

/// What is drawn on.
pub(crate) const PAPER: &str = "#ffffff";
/// Texts.
pub(crate) const INK: &str = "#1b1f24";
/// Axes and lines across.
pub(crate) const SOFT: &str = "#57606a";
/// The grid.
pub(crate) const RULE: &str = "#d0d7de";
/// Things without an order. Chosen by a search over simulated colour deficiencies, at least 3 to 1 against white.
pub(crate) const CATEGORIES: [&str; 8] = [
    "#0072b2", "#d55e00", "#00a857", "#9f789c", "#7f3a00", "#2b2b33", "#2a8ec4", "#8a6d00",
];
/// Ends of ordered values.
pub(crate) const LOW: &str = "#c87b14";
pub(crate) const HIGH: &str = "#4a1c86";

/// A colour as `#rrggbb`.
pub(crate) fn colour(paint: Paint) -> String {
    match paint {
        Paint::Category(n) => CATEGORIES[n % CATEGORIES.len()].to_owned(),
        Paint::Neutral => SOFT.to_owned(),
        Paint::Ordered(place) => mixed(LOW, HIGH, place.clamp(0.0, 1.0)),
    }
}

/// A colour between two, as `color-mix(in oklab)` of CSS has it: equal steps look equally large.
fn mixed(low: &str, high: &str, place: f64) -> String {
    let [a, b] = [low, high].map(|colour| oklab(linear(colour)));
    let between: [f64; 3] = std::array::from_fn(|part| a[part] + place * (b[part] - a[part]));
    let coded = |light: f64| {
        let light = light.clamp(0.0, 1.0);
        let value = if light <= 0.003_130_8 {
            12.92 * light
        } else {
            1.055 * light.powf(1.0 / 2.4) - 0.055
        };
        (255.0 * value).round() as u8
    };
    let [red, green, blue] = from_oklab(between).map(coded);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Red, green and blue light from 0 to 1 of `#rrggbb`.
fn linear(colour: &str) -> [f64; 3] {
    std::array::from_fn(|part| {
        let digits = colour.get(1 + 2 * part..3 + 2 * part).unwrap_or("00");
        let value = f64::from(u8::from_str_radix(digits, 16).unwrap_or(0)) / 255.0;
        if value <= 0.040_45 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    })
}

/// Ottosson 2020, "A perceptual color space for image processing".
fn oklab([red, green, blue]: [f64; 3]) -> [f64; 3] {
    let long = (0.412_221_470_8 * red + 0.536_332_536_3 * green + 0.051_445_992_9 * blue).cbrt();
    let medium = (0.211_903_498_2 * red + 0.680_699_545_1 * green + 0.107_396_956_6 * blue).cbrt();
    let short = (0.088_302_461_9 * red + 0.281_718_837_6 * green + 0.629_978_700_5 * blue).cbrt();
    [
        0.210_454_255_3 * long + 0.793_617_785_0 * medium - 0.004_072_046_8 * short,
        1.977_998_495_1 * long - 2.428_592_205_0 * medium + 0.450_593_709_9 * short,
        0.025_904_037_1 * long + 0.782_771_766_2 * medium - 0.808_675_766_0 * short,
    ]
}

fn from_oklab([light, green_red, blue_yellow]: [f64; 3]) -> [f64; 3] {
    let long = (light + 0.396_337_777_4 * green_red + 0.215_803_757_3 * blue_yellow).powi(3);
    let medium = (light - 0.105_561_345_8 * green_red - 0.063_854_172_8 * blue_yellow).powi(3);
    let short = (light - 0.089_484_177_5 * green_red - 1.291_485_548_0 * blue_yellow).powi(3);
    [
        4.076_741_662_1 * long - 3.307_711_591_3 * medium + 0.230_969_929_2 * short,
        -1.268_438_004_6 * long + 2.609_757_401_1 * medium - 0.341_319_396_5 * short,
        -0.004_196_086_3 * long - 0.703_418_614_7 * medium + 1.707_614_701_0 * short,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordered_colours_go_from_one_end_to_the_other() {
        assert_eq!(colour(Paint::Ordered(0.0)), LOW);
        assert_eq!(colour(Paint::Ordered(1.0)), HIGH);
        // Of white and black the middle is the grey of half the lightness: 0.5 cubed is 12.5 % of the light.
        assert_eq!(mixed("#ffffff", "#000000", 0.5), "#636363");
        assert_eq!(colour(Paint::Category(8)), CATEGORIES[0]);
    }
}
