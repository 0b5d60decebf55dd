//! Tuned thresholds: whatever is legal changes the way, never the answer.

use super::support::*;
use burn_ivf::backend::tuning;
use burn_ivf::{Config, Counters, IvfBackend, Knob, SearchMode, SearchParams, Source, Tuning};
use rand::Rng;
use std::collections::BTreeSet;
use std::path::Path;

/// A random legal value, small ones more often: that is where ways part.
fn value(knob: Knob, rng: &mut impl Rng) -> f64 {
    let (least, most) = knob.bounds();
    let scale = [0.0, 0.2, 1.0, 30.0, 1e9][rng.random_range(0..5)];
    let value = (least + scale * rng.random::<f64>()).min(most);
    let fraction = least + 0.5;
    let value = if knob.allows(fraction) {
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

/// Where lists are read list by list whatever the load, tiny tiles and full queues give the same bits too.
pub fn list_major_in_tiny_tiles<B: IvfBackend>(device: &B::Device) {
    let mut rng = rng(64);
    let (base, queries) = (tied(900, 12, 4, 65), tied(40, 12, 4, 66));
    let mut index = preset::<B>(device, METRICS[0], &base.range(0..9), &base);
    let untouched = index.clone();
    for turn in 0..6 {
        let mut forced = index.tuning().clone();
        for knob in [
            Knob::CsrFromAvgGroup,
            Knob::ListMajorFromAvgGroup,
            Knob::ListMajorFromQueries,
            Knob::ListMajorFromBytes,
        ] {
            forced = forced.with(knob, 0.0).unwrap();
        }
        for knob in [
            Knob::ScanTileQueries,
            Knob::ScanQueuePairs,
            Knob::ScanRowsPerCube,
            Knob::ScanCubesPerProcessor,
            Knob::ScanUnits,
            Knob::ScanFilter,
        ] {
            let (least, most) = knob.bounds();
            let set = match turn {
                0 => least,
                1 => most,
                _ => value(knob, &mut rng),
            };
            forced = forced.with(knob, set).unwrap();
        }
        index.set_tuning(forced.clone());
        for (nq, k) in [(1, 9), (40, 40), (40, 300)] {
            let queries = queries.range(0..nq);
            let params = SearchParams::exact().with_nprobe(5);
            let found = search_ivf(&index, &queries, k, &params);
            let expected = search_ivf(&untouched, &queries, k, &params);
            assert_eq!(found.stats.order, "list-major", "{forced}");
            let plain = forced.get(Knob::ScanFilter) == 0.0 || !is_cube::<B>(device);
            let filtered = found.stats.filter.contains("products");
            assert_eq!(filtered, !plain, "{forced}");
            found.assert_same(&expected, &forced.to_string());
        }
    }
}

/// A search launches what is counted beforehand, step by step; nothing is counted on a CPU.
pub fn costs_are_counted<B: IvfBackend>(device: &B::Device) {
    let base = uniform(400, 6, 67);
    let mut index = preset::<B>(device, METRICS[0], &base.range(0..8), &base);
    let params = SearchParams::exact().with_nprobe(3);
    let cube = is_cube::<B>(device);
    for list_major in [0.0, 1e9] {
        let tuning = index.tuning().clone();
        let tuning = tuning.with(Knob::ListMajorFromBytes, 0.0).unwrap();
        let tuning = tuning.with(Knob::ListMajorFromAvgGroup, list_major);
        index.set_tuning(tuning.unwrap());
        for nq in [3, 60] {
            let costs = index.kernel_costs(nq, 7, &params, None).unwrap();
            let on = base.range(0..nq).on(device);
            let before = Counters::now();
            let hits = index.search_with(on, 7, &params).unwrap();
            let launched = Counters::now().since(before).launches;
            let counted: u64 = costs.iter().map(|cost| cost.launches).sum();
            assert_eq!(launched, counted, "{costs:?}");
            assert_eq!(costs.is_empty(), !cube);
            let own = costs.iter().filter(|cost| cost.step == "scan");
            let own: u64 = own.map(|cost| cost.launches).sum();
            assert_eq!(hits.stats.launches, own);
            for cost in &costs {
                assert!(cost.bytes > 0 && cost.flops >= cost.useful_flops, "{cost}");
            }
            // Two queries a list or ten: lists are probed as told.
            let probed = [nq as u64 * 3, 0, 0, 0, 0, 0, 0, 0];
            let told = index.kernel_costs(nq, 7, &params, Some(&probed)).unwrap();
            let all = |costs: &[burn_ivf::KernelCost]| {
                let of = costs.iter().filter(|cost| cost.step == "scan");
                of.map(|cost| cost.distinct_bytes).sum::<u64>()
            };
            assert!(!cube || all(&told) < all(&costs), "{told:?} {costs:?}");
        }
    }
    let wrong = [
        index.kernel_costs(3, 7, &params, Some(&[1])),
        index.kernel_costs(3, 0, &params, None),
        index.kernel_costs(3, 7, &params.clone().with_max_codes(5), None),
        index.kernel_costs(3, 7, &params.clone().with_safe_pruning(true), None),
    ];
    assert!(wrong.into_iter().all(|costs| costs.is_err()));
    let matrix = params.with_mode(SearchMode::Matrix);
    let none = index.kernel_costs(3, 7, &matrix, None).unwrap();
    assert_eq!(none, []);
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
