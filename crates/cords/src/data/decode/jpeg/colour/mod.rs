//! From the planes of the components to interleaved pixels: upsampling ("fancy", triangular) and colours as in libjpeg.

#[cfg(target_arch = "x86_64")]
mod avx2;

use super::headers::Colours;

/// Samples of a component, of the part of the image that is wanted.
pub(super) struct Plane {
    pub(super) samples: Vec<u8>,
    pub(super) stride: usize,
    /// Place of the first sample in the whole component.
    pub(super) left: usize,
    pub(super) top: usize,
    /// Width and height of the whole component.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Pixels of the image to a sample, across and down.
    pub(super) across: usize,
    pub(super) down: usize,
    /// Whether samples are interpolated where there are two pixels to one.
    pub(super) smooth: bool,
}

impl Plane {
    /// Samples of a row of the component, from the first that was decoded.
    #[inline(always)]
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[(y - self.top) * self.stride..][..self.stride]
    }

    /// The pixels `left .. left + width` of a row of the image, in `line`, or as they lie here.
    #[inline(always)]
    fn line<'a>(&'a self, y: usize, left: usize, width: usize, line: &'a mut Line) -> &'a [u8] {
        if (self.across, self.down) == (1, 1) {
            return &self.row(y)[left - self.left..][..width];
        }
        let (first, last) = (left / self.across, (left + width - 1) / self.across);
        let near = y / self.down;
        // Half a sample above or below: a quarter of the row on that side.
        let far = match (self.down == 2 && self.smooth, y % self.down) {
            (true, 0) => near.saturating_sub(1),
            (true, _) => (near + 1).min(self.height - 1),
            _ => near,
        };
        // Across, each sample goes over to its neighbours; the last on either side stands for what is beyond.
        let beside = self.smooth && self.across == 2;
        let inside = match beside {
            true => first.saturating_sub(1)..(last + 2).min(self.width),
            false => first..last + 1,
        };
        let within = |y: usize| &self.row(y)[inside.start - self.left..inside.end - self.left];
        let (near, far) = (within(near), within(far));
        let sums = &mut line.sums;
        sums.clear();
        if beside && first == 0 {
            sums.push(0);
        }
        if self.smooth && self.down == 2 {
            sums.extend(
                near.iter()
                    .zip(far)
                    .map(|(near, far)| 3 * u16::from(*near) + u16::from(*far)),
            );
        } else {
            sums.extend(near.iter().map(|near| u16::from(*near)));
        }
        if beside && first == 0 {
            sums[0] = sums[1];
        }
        if beside && last + 1 == self.width {
            sums.extend(sums.last().copied());
        }
        line.pixels.resize((last + 1 - first) * self.across, 0);
        let pixels = &mut line.pixels[..];
        match (self.smooth, self.across, self.down) {
            (true, 2, 1) => interpolate(sums, pixels, 1, 2, 2),
            (true, 2, _) => interpolate(sums, pixels, 8, 7, 4),
            (true, ..) => {
                // Rows alone: rounded down in the upper and up in the lower.
                let half = if y.is_multiple_of(2) { 1 } else { 2 };
                for (pixel, sum) in pixels.iter_mut().zip(sums.iter()) {
                    *pixel = ((sum + half) >> 2) as u8;
                }
            }
            _ => {
                for (pixels, sum) in pixels.chunks_exact_mut(self.across).zip(sums.iter()) {
                    pixels.fill(*sum as u8);
                }
            }
        }
        &line.pixels[left - first * self.across..][..width]
    }
}

/// Two pixels of each sum, a quarter of the neighbour on its side in each. `sums` has one more at either end.
#[inline(always)]
fn interpolate(sums: &[u16], pixels: &mut [u8], half_left: u16, half_right: u16, shift: u32) {
    let own = &sums[1..];
    let next = &sums[2..];
    for (((pair, before), own), next) in pixels.as_chunks_mut::<2>().0.iter_mut().zip(sums).zip(own).zip(next) {
        *pair = [
            ((3 * own + before + half_left) >> shift) as u8,
            ((3 * own + next + half_right) >> shift) as u8,
        ];
    }
}

/// Buffers of one row of a component.
#[derive(Default)]
pub(super) struct Line {
    sums: Vec<u16>,
    pixels: Vec<u8>,
}

/// Luminance and chrominance to red, green and blue, with libjpeg's constants of 16 bits.
#[inline(always)]
fn red_green_blue(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91_881 * cr + 32_768) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + 32_768) >> 16);
    let blue = y + ((116_130 * cb + 32_768) >> 16);
    [
        red.clamp(0, 255) as u8,
        green.clamp(0, 255) as u8,
        blue.clamp(0, 255) as u8,
    ]
}

/// [`red_green_blue`] of a row.
#[inline(always)]
fn rows_of_colour(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    let done = if std::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "calls a function compiled for AVX2")]
        // SAFETY: the processor has just been found to have AVX2.
        unsafe {
            avx2::red_green_blue(y, cb, cr, out)
        }
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    let rest = y[done..].iter().zip(&cb[done..]).zip(&cr[done..]);
    for (pixel, ((y, cb), cr)) in out[3 * done..].as_chunks_mut::<3>().0.iter_mut().zip(rest) {
        *pixel = red_green_blue(*y, *cb, *cr);
    }
}

/// What light an ink leaves of `black`, both as 255 minus their amount. As PIL converts CMYK, rounding included.
#[inline(always)]
fn printed(ink: u8, black: u8) -> u8 {
    let product = u32::from(255 - ink) * u32::from(black) + 128;
    black - (((product >> 8) + product) >> 8) as u8
}

/// The rectangle of the image at `left`, `top` of `width` x `height` pixels as grey or as red, green and blue.
#[inline(always)]
pub(super) fn pixels(
    planes: &[Plane],
    colours: Colours,
    [left, top, width, height]: [usize; 4],
    lines: &mut [Line; 4],
    out: &mut Vec<u8>,
) {
    let channels = if colours == Colours::Grey { 1 } else { 3 };
    out.reserve(width * height * channels + 16);
    out.resize(width * height * channels, 0);
    for (y, row) in (top..).zip(out.chunks_exact_mut(width * channels)) {
        let [a, b, c, d] = &mut *lines;
        let mut lines = planes.iter().zip([a, b, c, d]);
        let mut next = || {
            lines
                .next()
                .map_or(&[][..], |(plane, line)| plane.line(y, left, width, line))
        };
        let (one, two, three, four) = (next(), next(), next(), next());
        let three_of = one.iter().zip(two).zip(three);
        let pixels = row.as_chunks_mut::<3>().0.iter_mut();
        match colours {
            Colours::Grey => row.copy_from_slice(one),
            Colours::Rgb => {
                for (pixel, ((r, g), b)) in pixels.zip(three_of) {
                    *pixel = [*r, *g, *b];
                }
            }
            Colours::YCbCr => rows_of_colour(one, two, three, row),
            Colours::Cmyk => {
                for ((pixel, ((c, m), y)), k) in pixels.zip(three_of).zip(four) {
                    *pixel = [*c, *m, *y].map(|ink| printed(ink, *k));
                }
            }
            Colours::Ycck => {
                for ((pixel, ((y, cb), cr)), k) in pixels.zip(three_of).zip(four) {
                    *pixel = red_green_blue(*y, *cb, *cr).map(|ink| printed(255 - ink, *k));
                }
            }
        }
    }
}
