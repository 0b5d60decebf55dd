//! The rule behind `SearchMode::Auto`.

use super::{IvfProblem, Knob, Mode};
use crate::params::AutoRule;

/// Average queries per list.
pub(super) fn avg_group(nq: usize, nprobe: usize, nlist: usize) -> f64 {
    nq as f64 * nprobe.min(nlist) as f64 / nlist.max(1) as f64
}

/// torch-ivf's threshold on the average group, which grows with nlist; 0 under another rule.
pub(super) fn torch_ivf_threshold(rule: AutoRule, nlist: usize) -> f64 {
    match rule {
        AutoRule::TorchIvf {
            avg_group_threshold,
        } => avg_group_threshold * nlist as f64 / 512.0,
        AutoRule::Measured => 0.0,
    }
}

/// Chooses a mode, with the reason.
pub(super) fn ivf(p: &IvfProblem<'_>, rule: AutoRule, avg_group: f64) -> (Mode, String) {
    match rule {
        AutoRule::TorchIvf { .. } if p.host => (
            Mode::Matrix,
            "torch-ivf's rule: a CPU takes matrix".to_owned(),
        ),
        AutoRule::TorchIvf { .. } => {
            let threshold = torch_ivf_threshold(rule, p.nlist);
            let mode = if avg_group >= threshold {
                Mode::Csr
            } else {
                Mode::Matrix
            };
            let reason =
                format!("torch-ivf's rule: average group {avg_group:.2}, threshold {threshold:.2}");
            (mode, reason)
        }
        AutoRule::Measured => {
            let from = p.tuning.get(Knob::CsrFromAvgGroup);
            let mode = if avg_group >= from {
                Mode::Csr
            } else {
                Mode::Matrix
            };
            let source = p.tuning.source(Knob::CsrFromAvgGroup);
            let reason = format!("average group {avg_group:.2}, csr from {from} ({source})");
            (mode, reason)
        }
    }
}
