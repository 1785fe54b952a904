//! Finite unions of shapes, and their order. A shape is a set that is given by patterns; a union keeps the shapes that no
//! other of its own covers, so that equal sets have equal unions.
//!
//! This is exact because every pattern is either one value or has a member that no other pattern singles out: a label, a
//! port, a method, a segment that nobody wrote. What holds that member covers the whole pattern, so a shape is covered by
//! a union exactly where one shape of the union covers it.

use std::collections::BTreeSet;

/// A set that is given by patterns.
pub trait Shape: Clone + Ord {
    /// Whether every member of the other is one of this.
    fn covers(&self, other: &Self) -> bool;

    /// The members of both, where there are any.
    fn meet(&self, other: &Self) -> Option<Self>;
}

/// The members of any of some shapes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Union<S: Ord>(BTreeSet<S>);

impl<S: Shape> Union<S> {
    /// No member.
    pub const EMPTY: Self = Self(BTreeSet::new());

    /// The union of these.
    pub fn of(shapes: impl IntoIterator<Item = S>) -> Self {
        let mut union = Self::EMPTY;
        for shape in shapes {
            union.insert(shape);
        }
        union
    }

    /// Adds the members of a shape.
    pub fn insert(&mut self, shape: S) {
        if self.holds(&shape) {
            return;
        }
        self.0.retain(|it| !shape.covers(it));
        self.0.insert(shape);
    }

    /// The members of either.
    pub fn join(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).cloned())
    }

    /// The members of both.
    pub fn meet(&self, other: &Self) -> Self {
        let mut both = Self::EMPTY;
        for left in &self.0 {
            for right in &other.0 {
                if let Some(shape) = left.meet(right) {
                    both.insert(shape);
                }
            }
        }
        both
    }

    /// Whether every member is one of the other.
    pub fn le(&self, other: &Self) -> bool {
        self.0.iter().all(|it| other.holds(it))
    }

    /// Whether every member of the shape is one of these.
    pub fn holds(&self, shape: &S) -> bool {
        self.0.contains(shape) || self.0.iter().any(|it| it.covers(shape))
    }

    /// The shapes, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        self.0.iter()
    }

    /// How many shapes it takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
