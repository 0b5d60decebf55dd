//! The metric, which the kernels define.

pub use burn_ivf_kernels::Metric;
