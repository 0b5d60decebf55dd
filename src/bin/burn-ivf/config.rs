//! `config`: the tuning in force.

use crate::{Context, output::Done};
use burn_ivf::{IvfBackend, Knob, backend::tuning, dump_config};
use serde_json::{Value, json};

/// Runs the command.
pub fn run<B: IvfBackend>(context: &mut Context, device: &B::Device) -> Done {
    let tuning = tuning::<B>(device);
    let knob = |knob: Knob| {
        json!({
            "name": knob.name(), "variable": knob.variable(), "value": tuning.get(knob),
            "unit": knob.unit(), "legal": knob.legal(), "source": tuning.source(knob).to_string(),
        })
    };
    let key = tuning.device();
    let value = json!({
        "backend": key.backend, "architecture": key.architecture, "name": key.name,
        "knobs": Knob::ALL.map(knob).into_iter().collect::<Value>(),
    });
    context.out.report(&value, dump_config::<B>(device))
}
