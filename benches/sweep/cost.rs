//! What one search asks of the device, in numbers and in words. Knows no backend.

use burn_ivf::{Counters, KernelCost};
use std::fmt;

/// What a search asks of the device: as it was launched, and kernel by kernel as counted beforehand.
pub struct Cost {
    pub spent: Counters,
    pub kernels: Vec<KernelCost>,
    /// Bytes of queries and of results.
    pub queries: usize,
    pub results: usize,
    /// Mode and kernel.
    pub how: String,
}

impl Cost {
    /// Launches, bytes, bytes each once, operations, useful ones of all kernels.
    pub fn sums(&self) -> KernelCost {
        let mut all = KernelCost {
            step: "all".to_owned(),
            ..KernelCost::default()
        };
        for cost in &self.kernels {
            all.launches += cost.launches;
            all.bytes += cost.bytes;
            all.distinct_bytes += cost.distinct_bytes;
            all.flops += cost.flops;
            all.useful_flops += cost.useful_flops;
        }
        all
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spent = self.spent;
        write!(
            out,
            "  {}: {} launches, {} blocking reads, {} bytes uploaded beside the queries' {}, {} bytes \
             of results",
            self.how,
            spent.launches,
            spent.blocking_reads,
            spent.uploaded,
            self.queries,
            self.results
        )?;
        for cost in &self.kernels {
            write!(out, "\n  {cost}")?;
        }
        if !self.kernels.is_empty() {
            write!(out, "\n  {}", self.sums())?;
        }
        Ok(())
    }
}
