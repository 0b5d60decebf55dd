//! Tuned thresholds: whatever is legal changes the way, never the answer.

use super::support::*;
use burn_ivf::backend::tuning;
use burn_ivf::{Config, IvfBackend, Knob, SearchMode, SearchParams, Source, Tuning};
use rand::Rng;
use std::collections::BTreeSet;
use std::path::Path;

/// A random legal value, small ones more often: that is where ways part.
fn value(knob: Knob, rng: &mut impl Rng) -> f64 {
    let scale = [0.0, 0.2, 1.0, 30.0, 1e9][rng.random_range(0..5)];
    let value = scale * rng.random::<f64>();
    let value = if knob.allows(0.5) {
        value
    } else {
        value.round()
    };
    assert!(knob.allows(value), "{knob} {value}");
    value
}

/// A random legal configuration: some knobs by the environment, some by a file.
fn config(device: &str, rng: &mut impl Rng) -> Config {
    let (mut environment, mut file) = (Vec::new(), String::new());
    for table in ["", device] {
        if !table.is_empty() {
            file += &format!("[device.\"{table}\"]\n");
        }
        for knob in Knob::ALL {
            if rng.random() {
                file += &format!("{knob} = {}\n", value(knob, rng));
            }
        }
    }
    for knob in Knob::ALL {
        if rng.random_range(0..4) == 0 {
            environment.push((knob.variable(), value(knob, rng).to_string()));
        }
    }
    let config = Config::parse(environment, Some((Path::new("burn-ivf.toml"), &file)));
    assert_eq!(config.warnings(), [""; 0], "{file}");
    config
}

/// Random legal configurations give the bits of the default one, in different ways.
pub fn any_legal_config_gives_the_same_bits<B: IvfBackend>(device: &B::Device) {
    let mut rng = rng(60);
    let key = B::device_key(device);
    let fused_scan = B::capabilities(device).fused_scan;
    let mut ways = BTreeSet::new();
    for (d, levels) in [(16, 3), (7, 50)] {
        let (base, queries) = (tied(400, d, levels, 61), tied(24, d, levels, 62));
        let mut index = preset::<B>(device, METRICS[d % 2], &base.range(0..12), &base);
        let untouched = index.clone();
        for _ in 0..sized::<B>(device, 60, 8) {
            let tuning = Tuning::resolve(&key, fused_scan, &config(&key.backend, &mut rng));
            index.set_tuning(tuning.clone());
            assert_eq!(index.tuning(), &tuning);
            let nq = [1, 2, 24][rng.random_range(0..3)];
            let queries = queries.range(0..nq);
            let nprobe = rng.random_range(1..=12);
            let params = SearchParams::exact().with_nprobe(nprobe);
            let found = search_ivf(&index, &queries, 9, &params);
            let expected = search_ivf(&untouched, &queries, 9, &params);
            found.assert_same(&expected, &tuning.to_string());
            let csr_from = tuning.get(Knob::CsrFromAvgGroup);
            let expected = if found.stats.avg_group >= csr_from {
                SearchMode::Csr
            } else {
                SearchMode::Matrix
            };
            assert_eq!(found.stats.mode, expected.to_string(), "{tuning}");
            ways.insert(found.stats.mode + " " + &found.stats.order);
        }
    }
    let orders = ["query-major", "list-major"];
    let csr = orders.iter().map(|order| format!("csr {order}"));
    let expected: BTreeSet<String> = csr.chain(["matrix ".to_owned()]).collect();
    assert_eq!(ways, expected, "every way was gone");
}

/// What a call sets holds for this index and its clones; a copy elsewhere asks its own device.
pub fn tuning_stays_with_the_device<B: IvfBackend>(device: &B::Device) {
    let base = uniform(60, 4, 63);
    let mut index = preset::<B>(device, METRICS[0], &base.range(0..4), &base);
    let own = tuning::<B>(device);
    assert_eq!(index.tuning(), &*own);
    assert_eq!(own.device(), &B::device_key(device));
    let never = (*own).clone().with(Knob::CsrFromAvgGroup, 1e9).unwrap();
    index.set_tuning(never.clone());
    let params = SearchParams::exact();
    let stats = search_ivf(&index, &base, 3, &params).stats;
    assert_eq!(stats.mode, "matrix");
    assert!(stats.reason.contains("set by a call"), "{}", stats.reason);
    assert_eq!(index.clone().tuning(), &never);
    assert_eq!(index.to_device(device).unwrap().tuning(), &*own);
    let knob = Knob::CsrFromAvgGroup;
    assert_eq!(never.source(knob), &Source::Call);
    // A mode that is asked for comes before any threshold.
    let stats = search_ivf(&index, &base, 3, &probing(2, SearchMode::Csr)).stats;
    assert_eq!((&*stats.mode, &*stats.reason), ("csr", "asked for"));
}
