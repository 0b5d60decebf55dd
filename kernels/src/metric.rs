//! The metric: which distance, and which direction is better.

use core::{fmt, str::FromStr};

/// How two vectors are compared.
///
/// The names `"l2"` and `"ip"` are read and written by [`FromStr`] and [`fmt::Display`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// **Squared** Euclidean distance, smaller is better (faiss `METRIC_L2`).
    #[default]
    #[serde(rename = "l2")]
    L2,
    /// Inner product, larger is better (faiss `METRIC_INNER_PRODUCT`).
    #[serde(rename = "ip")]
    InnerProduct,
}

/// A metric name that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown metric {0:?}; the metrics are \"l2\" and \"ip\"")]
pub struct UnknownMetric(pub String);

impl Metric {
    /// Every metric, in the order of faiss's numbers.
    pub const ALL: [Self; 2] = [Self::L2, Self::InnerProduct];

    /// The distance reported for a missing result: `+inf` for L2, `-inf` for inner product.
    pub const fn padding(self) -> f32 {
        match self {
            Self::L2 => f32::INFINITY,
            Self::InnerProduct => f32::NEG_INFINITY,
        }
    }

    /// Whether a larger value is better.
    pub const fn larger_is_better(self) -> bool {
        matches!(self, Self::InnerProduct)
    }

    /// Turns a distance into a key of which smaller is always better, and back (its own inverse).
    #[inline]
    pub fn key(self, distance: f32) -> f32 {
        match self {
            Self::L2 => distance,
            Self::InnerProduct => 0.0 - distance,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::L2 => "l2",
            Self::InnerProduct => "ip",
        })
    }
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        match name.to_ascii_lowercase().as_str() {
            "l2" => Ok(Self::L2),
            "ip" | "inner_product" => Ok(Self::InnerProduct),
            _ => Err(UnknownMetric(name.to_owned())),
        }
    }
}
