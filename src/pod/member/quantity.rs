//! Quantities of Kubernetes: `100m`, `1.5`, `64Mi`, `1e3`. Exact: integers of 10⁻⁹.

/// A quantity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

impl Quantity {
    /// Reads one; more than nine decimals are rounded away from zero.
    #[must_use]
    pub fn parse(_text: &str) -> Option<Self> {
        None
    }

    /// In thousandths, rounded up.
    #[must_use]
    pub fn milli(self) -> i64 {
        0
    }

    /// In units, rounded up.
    #[must_use]
    pub fn value(self) -> i64 {
        0
    }
}
