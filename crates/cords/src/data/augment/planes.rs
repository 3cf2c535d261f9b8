//! Images as the operations see them, and what 8-bit levels and floats do differently.

use sealed::Sealed;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for f32 {}
}

/// A level of a pixel: `u8`, 0 to 255, or `f32`, 0 to 1.
///
/// torchvision computes with 8-bit levels as float32 numbers, and every operation has its own way back: rounded after
/// interpolation, cut after changes of colour, shifted by nearly one level after a change of hue.
pub trait Level: Copy + Default + PartialOrd + Send + Sync + Sealed + 'static {
    /// The largest level as a number.
    const BOUND: f32;
    /// The level as a number from 0 to [`BOUND`](Self::BOUND).
    fn number(self) -> f32;
    /// The level of a number after interpolation: to the nearest, halves to the even.
    fn rounded(number: f32) -> Self;
    /// The level of a number after a change of colour: limited to the range, what is behind the point cut off.
    fn cut(number: f32) -> Self;
    /// The number to the nearest whole one, halves to the even, where levels are whole.
    fn nearest_whole(number: f32) -> f32;
    /// The largest whole number that is not above, where levels are whole.
    fn whole_below(number: f32) -> f32;
    /// `a b + c`, rounded once where the result will be cut to a level, as a last bit then decides a whole level.
    fn product_sum(a: f32, b: f32, c: f32) -> f32;
    /// The level in [0, 1].
    fn unit(self) -> f32;
    /// The level of a number in [0, 1].
    fn of_unit(unit: f32) -> Self;
    /// The level among 256.
    fn byte(self) -> u8;
    /// The level of one among 256.
    fn of_byte(byte: u8) -> Self;
    /// The level as far from white as this one from black.
    fn inverted(self) -> Self;
    /// The largest of 2^`bits` evenly spaced levels that is not above.
    fn posterized(self, bits: u32) -> Self;
}

/// A whole number from 0 to 2^22 as an integer: the last bits of its sum with 1.5 * 2^23. A conversion by `as` compares
/// each number with the ends of the range, which no compiler does for several at a time.
#[inline(always)]
pub(super) fn integer(whole: f32) -> u32 {
    const FIRST: f32 = 12_582_912.0;
    (whole + FIRST).to_bits().wrapping_sub(FIRST.to_bits())
}

/// 256 less a thousandth: floats in [0, 1] times this, cut off, are evenly spread over the levels 0 to 255.
const EVENLY: f32 = 255.999;

impl Level for u8 {
    const BOUND: f32 = 255.0;

    #[inline(always)]
    fn number(self) -> f32 {
        f32::from(self)
    }
    #[inline(always)]
    fn rounded(number: f32) -> Self {
        integer(number.clamp(0.0, 255.0).round_ties_even()) as Self
    }
    #[inline(always)]
    fn cut(number: f32) -> Self {
        integer(number.clamp(0.0, 255.0).floor()) as Self
    }
    #[inline(always)]
    fn nearest_whole(number: f32) -> f32 {
        number.round_ties_even()
    }
    #[inline(always)]
    fn whole_below(number: f32) -> f32 {
        number.floor()
    }
    #[inline(always)]
    fn product_sum(a: f32, b: f32, c: f32) -> f32 {
        // The product of two floats is exact in twice their bits.
        (f64::from(a) * f64::from(b) + f64::from(c)) as f32
    }
    #[inline(always)]
    fn unit(self) -> f32 {
        f32::from(self) * (1.0 / 255.0)
    }
    #[inline(always)]
    fn of_unit(unit: f32) -> Self {
        Self::cut(unit * EVENLY)
    }
    #[inline(always)]
    fn byte(self) -> u8 {
        self
    }
    #[inline(always)]
    fn of_byte(byte: u8) -> Self {
        byte
    }
    #[inline(always)]
    fn inverted(self) -> Self {
        !self
    }
    #[inline(always)]
    fn posterized(self, bits: u32) -> Self {
        let kept = bits.min(8);
        self & !(0xFF_u16 >> kept) as Self
    }
}

impl Level for f32 {
    const BOUND: f32 = 1.0;

    #[inline(always)]
    fn number(self) -> f32 {
        self
    }
    #[inline(always)]
    fn rounded(number: f32) -> Self {
        number
    }
    #[inline(always)]
    fn cut(number: f32) -> Self {
        number.clamp(0.0, 1.0)
    }
    #[inline(always)]
    fn nearest_whole(number: f32) -> f32 {
        number
    }
    #[inline(always)]
    fn whole_below(number: f32) -> f32 {
        number
    }
    #[inline(always)]
    fn product_sum(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    fn unit(self) -> f32 {
        self
    }
    #[inline(always)]
    fn of_unit(unit: f32) -> Self {
        unit
    }
    #[inline(always)]
    fn byte(self) -> u8 {
        u8::cut(self * EVENLY)
    }
    #[inline(always)]
    fn of_byte(byte: u8) -> Self {
        byte.unit()
    }
    #[inline(always)]
    fn inverted(self) -> Self {
        1.0 - self
    }
    #[inline(always)]
    fn posterized(self, bits: u32) -> Self {
        let levels = (1_u32 << bits.min(8)) as f32;
        (self * levels).floor().clamp(0.0, levels - 1.0) * (1.0 / levels)
    }
}

/// An image of one (grey) or three planes (red, green, blue), `[channels, height, width]`, that is changed in place.
#[derive(Debug)]
pub struct Planes<'a, L> {
    levels: &'a mut [L],
    width: usize,
    height: usize,
}

impl<'a, L: Level> Planes<'a, L> {
    /// The image of these levels.
    ///
    /// # Panics
    /// If they are not one or three planes of `height` rows of `width` pixels, or if there are none.
    pub fn new(levels: &'a mut [L], width: usize, height: usize) -> Self {
        let plane = width * height;
        assert!(
            plane > 0 && [plane, 3 * plane].contains(&levels.len()),
            "{} levels are not one or three planes of {width} x {height} pixels",
            levels.len()
        );
        Self { levels, width, height }
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All levels, plane after plane.
    pub fn levels(&self) -> &[L] {
        self.levels
    }

    pub(super) fn plane(&self) -> usize {
        self.width * self.height
    }

    pub(super) fn levels_mut(&mut self) -> &mut [L] {
        self.levels
    }

    /// Red, green and blue; none of a grey image.
    pub(super) fn colours(&mut self) -> Option<[&mut [L]; 3]> {
        let plane = self.plane();
        if self.levels.len() == plane {
            return None;
        }
        let (red, rest) = self.levels.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        Some([red, green, blue])
    }
}
