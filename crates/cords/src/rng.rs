//! Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//!
//! Element i of a stream depends only on the stream's key and on i, never on who draws it, in what order or in
//! what batch; a GPU kernel that computes the same blocks draws the same numbers.

/// What a stream is for. Streams of different purposes never share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Noise added to image pixels.
    ImageNoise = 1,
    /// Noise current inside the activation function.
    NeuralNoise = 2,
    /// Initial weights of a network.
    Initialisation = 3,
    /// Order of the training images.
    Shuffle = 4,
    /// Augmentation of training images.
    Augmentation = 5,
    /// Probe vectors and starting points of iterative solvers.
    Probe = 6,
    /// Division of a data set into training, validation and test images.
    Split = 7,
    /// What happens in the trials of a cognitive task.
    Trial = 8,
    /// Random projections of features.
    Projection = 9,
    /// Simulated neurons: their weights and their noise.
    Recordings = 10,
    /// Controls that shuffle times or stimuli.
    Control = 11,
    /// Which units are silenced.
    Silencing = 12,
    /// Noise on a network's weights.
    WeightNoise = 13,
    /// Resampling of images for intervals.
    Bootstrap = 14,
}

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// One block of Philox4x32-10: four 32-bit words from a 128-bit counter and a 64-bit key.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A stream of random numbers named by (seed, purpose, image, trial, step, area).
///
/// The name is mixed into a 96-bit key by two Philox blocks; the remaining 64 counter bits count blocks of four
/// words. `uniform`, `below` and `word` read on from where the stream stands.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    tail: [u32; 2],
    block: u64,
    words: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream of that name, at its beginning.
    pub fn new(seed: u64, purpose: Purpose, image: u64, trial: u32, step: u32, area: u32) -> Self {
        let seed_key = [seed as u32, (seed >> 32) as u32];
        let first = philox([image as u32, (image >> 32) as u32, trial, step], seed_key);
        let second = philox([area, purpose as u32, first[2], first[3]], [first[0], first[1]]);
        Self {
            key: [second[0], second[1]],
            tail: [second[2], second[3]],
            block: 0,
            words: [0; 4],
            used: 4,
        }
    }

    fn block(&self, index: u64) -> [u32; 4] {
        philox(
            [index as u32, (index >> 32) as u32, self.tail[0], self.tail[1]],
            self.key,
        )
    }

    /// The next 32 random bits.
    pub fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.words = self.block(self.block);
            self.block += 1;
            self.used = 0;
        }
        let word = self.words[self.used];
        self.used += 1;
        word
    }

    fn word64(&mut self) -> u64 {
        u64::from(self.word()) | u64::from(self.word()) << 32
    }

    /// Uniform on [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.word64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform on 0, 1, ..., n - 1 without bias (Lemire's multiplication with rejection); 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.word64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Standard normal values by Box and Muller's transform, four to a block, starting at the next whole block.
    ///
    /// From the stream's beginning, value i comes from block i/4, whatever the length asked for.
    pub fn normal_fill(&mut self, out: &mut [f32]) {
        for four in out.chunks_mut(4) {
            four.copy_from_slice(&self.normals(self.block)[..four.len()]);
            self.block += 1;
        }
        self.used = 4;
    }

    /// The normal values from number `first` on that [`normal_fill`](Self::normal_fill) writes from the stream's
    /// beginning.
    pub fn normals_at(&self, first: usize, out: &mut [f32]) {
        let skipped = first % 4;
        let head = out.len().min((4 - skipped) % 4);
        let (head, rest) = out.split_at_mut(head);
        let block = (first / 4) as u64;
        head.copy_from_slice(&self.normals(block)[skipped..][..head.len()]);
        let block = block + u64::from(skipped > 0);
        for (more, four) in rest.chunks_mut(4).enumerate() {
            four.copy_from_slice(&self.normals(block + more as u64)[..four.len()]);
        }
    }

    fn normals(&self, block: u64) -> [f32; 4] {
        let words = self.block(block);
        let (a, b) = box_muller(words[0], words[1]);
        let (c, d) = box_muller(words[2], words[3]);
        [a as f32, b as f32, c as f32, d as f32]
    }

    /// The stream's name as a kernel takes it: the key, and the counter's words above the number of the block.
    pub(crate) fn words(&self) -> [u32; 4] {
        [self.key[0], self.key[1], self.tail[0], self.tail[1]]
    }

    /// One standard normal value (the first of the next whole block).
    pub fn normal(&mut self) -> f64 {
        let words = self.block(self.block);
        self.block += 1;
        self.used = 4;
        box_muller(words[0], words[1]).0
    }

    /// A uniformly random order of 0, 1, ..., n - 1 (Fisher and Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        order
    }
}

impl rand::RngCore for Stream {
    fn next_u32(&mut self) -> u32 {
        self.word()
    }

    fn next_u64(&mut self) -> u64 {
        self.word64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.word().to_le_bytes()[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// Two independent standard normal values from two uniform words. The radius word is shifted off zero, so that
/// the logarithm is finite: values reach sqrt(2 ln 2^33) = 6.8.
fn box_muller(radius: u32, angle: u32) -> (f64, f64) {
    const SCALE: f64 = 1.0 / 4_294_967_296.0;
    let radius = (-2.0 * ((f64::from(radius) + 0.5) * SCALE).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * f64::from(angle) * SCALE).sin_cos();
    (radius * cos, radius * sin)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with Random123 (kat_vectors, philox4x32-10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn a_value_depends_only_on_key_and_index() {
        let stream = || Stream::new(7, Purpose::ImageNoise, 3, 1, 4, 0);
        let mut long = [0.0; 40];
        stream().normal_fill(&mut long);
        for n in [1, 4, 7, 31] {
            let mut short = vec![0.0; n];
            stream().normal_fill(&mut short);
            assert_eq!(short, long[..n]);
        }
    }

    #[test]
    fn normal_values_can_be_drawn_from_anywhere() {
        let mut all = [0.0; 40];
        Stream::new(7, Purpose::NeuralNoise, 3, 1, 4, 0).normal_fill(&mut all);
        for (first, n) in [
            (0, 40),
            (1, 2),
            (3, 9),
            (4, 8),
            (6, 1),
            (6, 2),
            (7, 33),
            (39, 1),
            (5, 0),
        ] {
            let mut part = vec![0.0; n];
            Stream::new(7, Purpose::NeuralNoise, 3, 1, 4, 0).normals_at(first, &mut part);
            assert_eq!(part, all[first..first + n], "{n} from {first}");
        }
    }

    #[test]
    fn every_part_of_the_name_matters() {
        let draw =
            |seed, purpose, image, trial, step, area| Stream::new(seed, purpose, image, trial, step, area).word64();
        let base = draw(1, Purpose::NeuralNoise, 2, 3, 4, 5);
        assert_ne!(base, draw(2, Purpose::NeuralNoise, 2, 3, 4, 5));
        assert_ne!(base, draw(1, Purpose::ImageNoise, 2, 3, 4, 5));
        assert_ne!(base, draw(1, Purpose::NeuralNoise, 1 << 40, 3, 4, 5));
        assert_ne!(base, draw(1, Purpose::NeuralNoise, 2, 4, 4, 5));
        assert_ne!(base, draw(1, Purpose::NeuralNoise, 2, 3, 5, 5));
        assert_ne!(base, draw(1, Purpose::NeuralNoise, 2, 3, 4, 6));
    }

    /// With n = 200,000 the mean has standard error 0.0022, the variance 0.0032, the fourth moment
    /// sqrt(96/n) = 0.022: bounds are 5 standard errors.
    #[test]
    fn normal_moments() {
        let mut values = vec![0.0f32; 200_000];
        Stream::new(0, Purpose::NeuralNoise, 0, 0, 0, 0).normal_fill(&mut values);
        let moment = |p: i32| values.iter().map(|v| f64::from(*v).powi(p)).sum::<f64>() / values.len() as f64;
        assert!(moment(1).abs() < 0.011, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.016, "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.11, "fourth moment {}", moment(4));
    }

    /// 60,000 draws over 6 values: each count has standard deviation 91, bound 5 of them.
    #[test]
    fn below_is_uniform_and_in_range() {
        let mut stream = Stream::new(0, Purpose::Probe, 0, 0, 0, 0);
        let mut counts = [0i64; 6];
        for _ in 0..60_000 {
            counts[stream.below(6) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (c - 10_000).abs() < 456), "{counts:?}");
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.below(1), 0);
    }

    #[test]
    fn permutation_holds_every_index_once() {
        let mut order = Stream::new(5, Purpose::Shuffle, 0, 0, 0, 0).permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
