//! Measurements that belong together, and what is told of them.

/// Values of one quantity, in the order in which they were measured.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<f64>);

/// Two series measured in turns.
#[derive(Debug, Default)]
pub struct Pairs {
    /// Ours.
    pub ours: Series,
    /// What ours is compared with.
    pub theirs: Series,
}

impl Series {
    /// One value.
    pub fn of(value: f64) -> Self {
        Self(vec![value])
    }

    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The value that so many of a hundred do not pass.
    pub fn percentile(&self, percent: usize) -> Self {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        Self::of(sorted.get(at).copied().unwrap_or(f64::NAN))
    }

    /// The middle value, which one slow moment does not move. Not a number where nothing was measured: then every
    /// comparison with it fails.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
        if sorted.len() % 2 == 1 {
            return upper;
        }
        let lower = sorted.get((sorted.len() / 2).wrapping_sub(1)).copied().unwrap_or(f64::NAN);
        f64::midpoint(lower, upper)
    }

    /// The smallest value.
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The largest value.
    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }
}

impl Pairs {
    /// Adds a pair.
    pub fn add(&mut self, ours: f64, theirs: f64) {
        self.ours.add(ours);
        self.theirs.add(theirs);
    }

    /// Ours divided by theirs, pair by pair: what slows both at one time cancels out.
    pub fn ratios(&self) -> Series {
        Series(self.ours.0.iter().zip(&self.theirs.0).map(|(ours, theirs)| ours / theirs).collect())
    }
}
