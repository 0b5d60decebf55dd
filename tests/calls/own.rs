//! Calls that one of the indexes has for itself.

use super::world::{Call, Full, Outcome, World};
use burn_ivf::{
    FlatMode, IndexFlat, IndexIvfFlat, IvfBackend, Knob, Parameter, ParameterSpace, TuneOptions,
};

fn new_flat<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let (d, metric) = (w.source.some(6), w.source.metric());
    w.say(format!("IndexFlat::new({d}, {metric:?})"));
    let index = IndexFlat::new(d, metric, &w.device)?;
    w.keep_flat(index);
    Ok(())
}

fn flat_settings<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let at = w.flat();
    let modes = [FlatMode::Auto, FlatMode::Matrix, FlatMode::Chunked];
    let (mode, bytes) = (w.source.pick(&modes), w.source.size());
    w.say(format!(
        "{at}.set_mode({mode}), set_auto_matrix_bytes_threshold({bytes})"
    ));
    let before = w.flats[at].mode();
    w.flats[at].set_mode(mode);
    let set = w.flats[at].set_auto_matrix_bytes_threshold(bytes);
    if set.is_err() {
        w.flats[at].set_mode(before);
    }
    set
}

fn build<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let same = w.ivfs[0].d();
    let d = if w.source.rarely(3) {
        w.source.size()
    } else {
        same
    };
    let nlist = w.source.some(5);
    let mut builder = IndexIvfFlat::<B>::builder(d).metric(w.source.metric());
    if !w.source.rarely(4) {
        builder = builder.nlist(nlist);
    }
    builder = builder.kmeans(w.source.kmeans(nlist, d.min(9)));
    if w.source.rarely(2) {
        builder = builder.nprobe(w.source.some(4)).mode(w.source.mode());
        builder = builder
            .auto_rule(w.source.rule())
            .seed(w.source.size() as u64);
        builder = builder.storage(w.source.storage());
        builder = builder.workspace_limit(w.source.workspace());
    }
    w.say(format!("build {builder:?}"));
    let index = builder.build(&w.device)?;
    w.keep_ivf(index);
    Ok(())
}

fn from_centroids<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let (metric, d) = (w.source.metric(), w.ivfs[0].d());
    let (x, words) = w.source.rows::<B>(d, &w.device);
    w.say(format!("from_centroids({words}, {metric:?})"));
    let index = IndexIvfFlat::from_centroids(x, metric)?;
    w.keep_ivf(index);
    Ok(())
}

fn train<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let at = w.ivf();
    let (x, words) = w.source.rows::<B>(w.ivfs[at].d(), &w.device);
    w.say(format!("{at}.train({words})"));
    w.ivfs[at].train(x).map(drop)
}

fn add_preassigned<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let at = w.ivf();
    let (x, words) = w.source.rows::<B>(w.ivfs[at].d(), &w.device);
    let n = x.dims()[0].min(50);
    let ids = w.source.rarely(2).then(|| w.source.ids(n));
    let most = w.ivfs[at].nlist().unwrap_or(3).min(9) + usize::from(w.source.rarely(9));
    let lists: Vec<u32> = (0..n + usize::from(w.source.rarely(12)))
        .map(|_| w.source.below(most) as u32)
        .collect();
    w.say(format!("{at}.add_preassigned({words}, {ids:?}, {lists:?})"));
    w.ivfs[at].add_preassigned(x, ids.as_deref(), &lists)
}

fn reset_all<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let at = w.ivf();
    if w.source.rarely(4) {
        w.say(format!("{at}.reset_all()"));
        w.ivfs[at].reset_all();
    }
    Ok(())
}

fn ivf_settings<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let at = w.ivf();
    match w.source.below(9) {
        0 => {
            let nprobe = w.source.some(5);
            w.say(format!("{at}.set_nprobe({nprobe})"));
            w.ivfs[at].set_nprobe(nprobe)
        }
        1 => {
            let limit = w.source.limit();
            w.say(format!("{at}.set_limit({limit:?})"));
            w.ivfs[at].set_limit(limit)
        }
        2 => {
            let rows = w.source.size();
            w.say(format!("{at}.set_max_codes({rows})"));
            w.ivfs[at].set_max_codes(rows);
            Ok(())
        }
        3 => {
            let ordering = w.source.ordering();
            w.say(format!("{at}.set_list_ordering({ordering})"));
            w.ivfs[at].set_list_ordering(ordering)
        }
        4 => {
            let on = w.source.rarely(2);
            w.say(format!("{at}.set_safe_pruning({on})"));
            w.ivfs[at].set_safe_pruning(on)
        }
        5 => {
            let rule = w.source.rule();
            w.say(format!("{at}.set_auto_rule({rule:?})"));
            w.ivfs[at].set_auto_rule(rule)
        }
        6 => {
            let mode = w.source.mode();
            w.say(format!("{at}.set_mode({mode})"));
            w.ivfs[at].set_mode(mode);
            Ok(())
        }
        _ => {
            let (knob, value) = (w.source.pick(&Knob::ALL), w.source.double() * 8.0);
            w.say(format!("{at}.set_tuning({}, {value})", knob.name()));
            let tuning = w.ivfs[at].tuning().clone().with(knob, value)?;
            w.ivfs[at].set_tuning(tuning);
            Ok(())
        }
    }
}

fn look_inside<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let (at, list) = (w.ivf(), w.source.some(4));
    w.say(format!("{at}.list_ids({list}), list_vectors({list})"));
    let index = &w.ivfs[at];
    let _ = (
        index.imbalance_factor(),
        index.memory_info(),
        index.nprobe(),
    );
    assert_eq!(index.centroids().is_some(), index.is_trained());
    let ids = index.list_ids(list);
    let vectors = index.list_vectors(list)?;
    assert_eq!(ids?.len(), vectors.dims()[0]);
    Ok(())
}

fn coarse<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let at = w.ivf();
    let (q, words) = w.source.rows::<B>(w.ivfs[at].d(), &w.device);
    let nprobe = w.source.some(5);
    w.say(format!("{at}.coarse({words}, {nprobe})"));
    w.ivfs[at].coarse(q, nprobe).map(drop)
}

fn search_preassigned<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let at = w.ivf();
    let (q, words) = w.source.rows::<B>(w.ivfs[at].d(), &w.device);
    let nq = q.dims()[0];
    let nlist = w.ivfs[at].nlist().unwrap_or(3).min(9);
    let (lists, which) = w.source.lists::<B>(nq.min(50), nlist, &w.device);
    let (k, (params, more)) = (w.source.k(nq), w.source.params(nq, false));
    w.say(format!(
        "{at}.search_preassigned({words}, {k}, {which}, {more})"
    ));
    let found = w.ivfs[at].search_preassigned(q, k, lists, &params)?;
    assert_eq!(found.labels.dims(), [nq, k]);
    Ok(())
}

fn explain<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let (at, nq) = (w.ivf(), w.source.size());
    let (k, (params, more)) = (w.source.k(0), w.source.params(3, false));
    w.say(format!("{at}.explain({nq}, {k}, {more})"));
    let plan = w.ivfs[at].explain(nq, k, &params)?;
    assert!(!plan.to_string().is_empty());
    Ok(())
}

fn faiss_options<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let (at, path, options) = (w.ivf(), w.path("ivf.faiss"), w.faiss_options());
    w.say(format!("{at}.write_faiss_with({path:?}, {options:?})"));
    let room = w.source.below(4000);
    w.ivfs[at].write_faiss_with(path, &options)?;
    w.ivfs[at].write_faiss_to(Full(room), &options)
}

fn tune<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let at = w.ivf();
    let (q, words) = w.source.rows::<B>(w.ivfs[at].d(), &w.device);
    let nq = q.dims()[0];
    let (k, target) = (w.source.k(nq), w.source.double());
    let (params, more) = w.source.params(nq, false);
    let mut options = TuneOptions {
        confidence: w.source.double(),
        repeats: w.source.pick(&[0, 1, 1, 2, 2, usize::MAX]),
        sample: w.source.some(5),
        params,
        parameter: w.source.pick(&Parameter::ALL),
        ..TuneOptions::default()
    };
    let calm = w.source.rarely(2);
    if calm {
        options = TuneOptions {
            repeats: 1,
            ..TuneOptions::default()
        };
    }
    options.further = w.source.rarely(2).then(|| w.source.size());
    options.batch = w.source.rarely(2).then(|| w.source.some(3));
    if !calm && w.source.rarely(3) {
        let width = w.source.some(9);
        let ids = (0..nq.min(50) * width.min(9)).map(|_| w.source.id());
        options.truth = Some(burn_ivf::GroundTruth {
            ids: ids.collect(),
            width,
        });
    }
    let shown = TuneOptions {
        params: burn_ivf::SearchParams::default(),
        ..options.clone()
    };
    w.say(format!(
        "{at}.tune({words}, {k}, {target}, {shown:?}, {more})"
    ));
    if w.source.rarely(2) {
        let report = w.ivfs[at].tune_for_recall(q, k, target, &options)?;
        assert!(!report.to_string().is_empty());
    } else {
        let space = ParameterSpace::new()
            .with(Parameter::Nprobe, [w.source.some(3), 1])
            .with(w.source.pick(&Parameter::ALL), [w.source.some(9)]);
        let points = w.ivfs[at].explore(q, k, &space, &options)?;
        assert!(!burn_ivf::pareto(&points).is_empty());
    }
    Ok(())
}

pub fn calls<B: IvfBackend>() -> Vec<Call<B>> {
    vec![
        ("new_flat", true, new_flat::<B>),
        ("flat_settings", true, flat_settings::<B>),
        ("build", true, build::<B>),
        ("from_centroids", true, from_centroids::<B>),
        ("train", true, train::<B>),
        ("train", true, train::<B>),
        ("add_preassigned", true, add_preassigned::<B>),
        ("reset_all", true, reset_all::<B>),
        ("ivf_settings", true, ivf_settings::<B>),
        ("ivf_settings", true, ivf_settings::<B>),
        ("look_inside", false, look_inside::<B>),
        ("coarse", false, coarse::<B>),
        ("search_preassigned", false, search_preassigned::<B>),
        ("search_preassigned", false, search_preassigned::<B>),
        ("explain", false, explain::<B>),
        ("faiss_options", false, faiss_options::<B>),
        ("tune", false, tune::<B>),
    ]
}
