//! Numbers that are the same at every run, drawn so that a function is smooth around them.

/// How the elements of an operand are drawn.
#[derive(Clone, Copy, Debug)]
pub enum Sampler {
    /// Uniform in a range.
    Uniform(f64, f64),
    /// Uniform in -2 to 2, at least a quarter away from these points.
    Off(&'static [f64]),
    /// No two elements closer than a quarter: the largest of a window stays the largest.
    Distinct,
}

/// The generator SplitMix64.
pub struct Random(u64);

impl Random {
    /// A generator for everything that is drawn under this name.
    pub fn named(name: &str) -> Random {
        Random(name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)))
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit.max(1) as u64) as usize
    }

    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn draw(&mut self, sampler: Sampler, count: usize) -> Vec<f64> {
        match sampler {
            Sampler::Uniform(low, high) => (0..count).map(|_| self.uniform(low, high)).collect(),
            Sampler::Off(points) => (0..count).map(|_| self.off(points)).collect(),
            Sampler::Distinct => {
                let mut values: Vec<f64> = (0..count).map(|i| 0.25 * (i as f64 - count as f64 / 2.0)).collect();
                (1..count).for_each(|i| values.swap(i, self.below(i + 1)));
                values
            }
        }
    }

    fn off(&mut self, points: &[f64]) -> f64 {
        loop {
            let value = self.uniform(-2.0, 2.0);
            if points.iter().all(|point| (value - point).abs() >= 0.25) {
                return value;
            }
        }
    }
}
