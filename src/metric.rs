//! The metric: how vectors are compared, and which direction is better.

use crate::error::{Error, Result, illegal};
pub use burn_ivf_kernels::{Metric as ScanMetric, pairwise::Measure};
use core::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};
use serde::{Deserialize, Serialize};

/// How two vectors are compared.
///
/// `L2`, `InnerProduct` and `Cosine` are fast everywhere: their scans rank by a filter and compare
/// exactly what passes it. The others compare every pair as it is, on
/// [`IndexFlat`](crate::IndexFlat), [`knn`](crate::knn) and
/// [`pairwise_distance`](crate::pairwise_distance); `L1` and `Linf` on
/// [`IndexIvfFlat`](crate::IndexIvfFlat) too. Values are faiss's: no root is taken.
///
/// [`FromStr`], [`fmt::Display`] and serde read and write names: `"l2"`, `"ip"`, `"cosine"`,
/// `"l1"`, `"linf"`, `"lp:3"`, `"canberra"`, `"bray_curtis"`, `"jensen_shannon"`, `"jaccard"`,
/// `"nan_euclidean"`, `"gower"`; faiss's names (`"METRIC_L1"`, `"BrayCurtis"`, ...) are read too.
///
/// ```
/// use burn_ivf::Metric;
/// assert_eq!("lp:3".parse::<Metric>()?, Metric::Lp(3.0));
/// assert_eq!("METRIC_BrayCurtis".parse::<Metric>()?, Metric::BrayCurtis);
/// assert!(Metric::Jaccard.larger_is_better());
/// # Ok::<(), burn_ivf::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Metric {
    /// **Squared** Euclidean distance, smaller is better (faiss `METRIC_L2`).
    #[default]
    L2,
    /// Inner product, larger is better (faiss `METRIC_INNER_PRODUCT`).
    InnerProduct,
    /// Cosine of the angle, -1 to 1 up to rounding, larger is better; 0 with a zero vector. Indexes
    /// keep vectors scaled to length 1; one that has length 1 up to rounding is kept bit for bit.
    Cosine,
    /// `Σ |q - x|`, smaller is better (faiss `METRIC_L1`).
    L1,
    /// `max |q - x|`, smaller is better (faiss `METRIC_Linf`).
    Linf,
    /// `Σ |q - x|ᵖ` without a root, for a finite p above 0, smaller is better (faiss `METRIC_Lp`).
    Lp(f32),
    /// `Σ |q - x| / (|q| + |x|)`, 0 / 0 being 0, smaller is better (faiss `METRIC_Canberra`).
    Canberra,
    /// `Σ |q - x| / Σ |q + x|`, 0 / 0 being 0, smaller is better (faiss `METRIC_BrayCurtis`).
    BrayCurtis,
    /// `½ Σ q ln(q / m) + x ln(x / m)` with `m = (q + x) / 2`, 0 ln 0 being 0, smaller is better
    /// (faiss `METRIC_JensenShannon`). For components of at least 0; a vector with others has no
    /// distance (NaN).
    JensenShannon,
    /// `Σ min(q, x) / Σ max(q, x)`, 0 / 0 being 1, **larger** is better (faiss `METRIC_Jaccard`).
    /// Meant for components of at least 0.
    Jaccard,
    /// Squared Euclidean distance over the components that neither vector has as NaN, times `d`
    /// over their number; NaN where there is none. Smaller is better (faiss `METRIC_NaNEuclidean`).
    NanEuclidean,
    /// Gower's distance of mixed data: the mean over the components that neither vector has as NaN,
    /// where numbers in `0..=1` differ by `|q - x|` and categories (below 0) by 0 or 1. NaN where a
    /// number meets a category or is above 1. Smaller is better (faiss `METRIC_GOWER`).
    Gower,
}

/// The names, for errors.
const NAMES: &str = "\"l2\", \"ip\", \"cosine\", \"l1\", \"linf\", \"lp:<p>\" (e.g. \"lp:3\"), \"canberra\", \"bray_curtis\", \"jensen_shannon\", \"jaccard\", \"nan_euclidean\" and \"gower\"";

/// Legal values of p.
const P: &str = "a finite number above 0";

/// Which kernels compare vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Compare {
    /// List scans.
    Scan(ScanMetric),
    /// Every pair as it is, then a selection.
    Pairs(Measure),
}

impl Metric {
    /// One of every kind, in the order of faiss's numbers, cosine third (`Lp` with p = 3).
    pub const ALL: [Self; 12] = [
        Self::L2,
        Self::InnerProduct,
        Self::Cosine,
        Self::L1,
        Self::Linf,
        Self::Lp(3.0),
        Self::Canberra,
        Self::BrayCurtis,
        Self::JensenShannon,
        Self::Jaccard,
        Self::NanEuclidean,
        Self::Gower,
    ];

    /// The distance reported for a missing result: `+inf`, or `-inf` where larger is better.
    pub const fn padding(self) -> f32 {
        if self.larger_is_better() {
            f32::NEG_INFINITY
        } else {
            f32::INFINITY
        }
    }

    /// Whether a larger value is better: for inner products, cosine and Jaccard similarity.
    pub const fn larger_is_better(self) -> bool {
        matches!(self, Self::InnerProduct | Self::Cosine | Self::Jaccard)
    }

    /// Whether vectors may hold NaN, which then stands for a missing component.
    pub const fn accepts_nan(self) -> bool {
        matches!(self, Self::NanEuclidean | Self::Gower)
    }

    /// Whether an inverted file can use it.
    pub const fn is_for_ivf(self) -> bool {
        matches!(
            self,
            Self::L2 | Self::InnerProduct | Self::Cosine | Self::L1 | Self::Linf
        )
    }

    /// Turns a distance into a key of which smaller is always better, and back (its own inverse).
    pub(crate) fn key(self, distance: f32) -> f32 {
        if self.larger_is_better() {
            0.0 - distance
        } else {
            distance
        }
    }

    /// What a list scan compares by, [`Cosine`](Self::Cosine) on vectors of length 1.
    ///
    /// # Errors
    /// [`Error::NotApplicable`] for a metric that compares every pair as it is.
    pub(crate) fn scanned(self) -> Result<ScanMetric> {
        match self.compare() {
            Compare::Scan(metric) => Ok(metric),
            Compare::Pairs(_) => Err(Error::NotApplicable {
                what: "a metric other than l2, ip and cosine",
                instead: "a file is searched in place by these three; load() the index",
            }),
        }
    }

    /// How pairs are compared, [`Cosine`](Self::Cosine) on vectors of length 1.
    pub(crate) const fn measure(self) -> Measure {
        match self {
            Self::L2 => Measure::L2,
            Self::InnerProduct | Self::Cosine => Measure::InnerProduct,
            Self::L1 => Measure::L1,
            Self::Linf => Measure::Linf,
            Self::Lp(p) => Measure::Lp(p),
            Self::Canberra => Measure::Canberra,
            Self::BrayCurtis => Measure::BrayCurtis,
            Self::JensenShannon => Measure::JensenShannon,
            Self::Jaccard => Measure::Jaccard,
            Self::NanEuclidean => Measure::NanEuclidean,
            Self::Gower => Measure::Gower,
        }
    }

    /// Which kernels search by it, [`Cosine`](Self::Cosine) on vectors of length 1.
    pub(crate) const fn compare(self) -> Compare {
        match self {
            Self::L2 => Compare::Scan(ScanMetric::L2),
            Self::InnerProduct | Self::Cosine => Compare::Scan(ScanMetric::InnerProduct),
            _ => Compare::Pairs(self.measure()),
        }
    }

    /// Itself, when its argument is legal.
    pub(crate) fn check(self) -> Result<Self> {
        match self {
            Self::Lp(p) if !(p > 0.0 && p.is_finite()) => Err(illegal("p of metric lp", p, P)),
            metric => Ok(metric),
        }
    }

    /// Itself, when an inverted file can use it.
    pub(crate) fn check_ivf(self) -> Result<Self> {
        if self.is_for_ivf() {
            Ok(self)
        } else {
            Err(Error::Metric { metric: self })
        }
    }

    /// What makes two metrics equal: the kind and the bits of its argument.
    fn parts(self) -> (core::mem::Discriminant<Self>, u32) {
        let argument = if let Self::Lp(p) = self { p } else { 0.0 };
        (core::mem::discriminant(&self), argument.to_bits())
    }
}

impl From<ScanMetric> for Metric {
    fn from(metric: ScanMetric) -> Self {
        match metric {
            ScanMetric::L2 => Self::L2,
            ScanMetric::InnerProduct => Self::InnerProduct,
        }
    }
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Metric {}

impl Hash for Metric {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::L2 => "l2",
            Self::InnerProduct => "ip",
            Self::Cosine => "cosine",
            Self::L1 => "l1",
            Self::Linf => "linf",
            Self::Lp(p) => return f.pad(&format!("lp:{p}")),
            Self::Canberra => "canberra",
            Self::BrayCurtis => "bray_curtis",
            Self::JensenShannon => "jensen_shannon",
            Self::Jaccard => "jaccard",
            Self::NanEuclidean => "nan_euclidean",
            Self::Gower => "gower",
        })
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let unknown = || Error::UnknownName {
            what: "metric",
            name: name.to_owned(),
            expected: NAMES,
        };
        let plain = name.to_ascii_lowercase().replace(['_', '-'], "");
        let plain = plain.strip_prefix("metric").unwrap_or(&plain);
        Ok(match plain {
            "l2" => Self::L2,
            "ip" | "innerproduct" => Self::InnerProduct,
            "cosine" => Self::Cosine,
            "l1" => Self::L1,
            "linf" => Self::Linf,
            "canberra" => Self::Canberra,
            "braycurtis" => Self::BrayCurtis,
            "jensenshannon" => Self::JensenShannon,
            "jaccard" => Self::Jaccard,
            "naneuclidean" => Self::NanEuclidean,
            "gower" => Self::Gower,
            _ => {
                let p = name.to_ascii_lowercase();
                let p = p.strip_prefix("lp:").ok_or_else(unknown)?;
                let p: f32 = p.parse().map_err(|_| unknown())?;
                return Self::Lp(p).check();
            }
        })
    }
}

impl TryFrom<String> for Metric {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}
