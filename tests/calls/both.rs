//! Calls that both indexes have.

use super::world::{Call, Full, Outcome, World};
use burn::{
    module::Module,
    record::{HalfPrecisionSettings, NamedMpkBytesRecorder, Recorder},
};
use burn_ivf::{IndexFlat, IndexIvfFlat, IndexModule, IvfBackend, Missing};

/// The calls on one kind of index: `$which` picks one, `$all` holds them, `$keep` takes a new one in.
macro_rules! calls {
    ($name:ident, $index:ident, $which:ident, $all:ident, $keep:ident, $flat:literal) => {
        pub mod $name {
            use super::*;

            fn add<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let (x, words) = w.source.rows::<B>(w.$all[at].d(), &w.device);
                w.say(format!("{at}.add({words})"));
                w.$all[at].add(x)
            }

            fn add_with_ids<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let (x, words) = w.source.rows::<B>(w.$all[at].d(), &w.device);
                let ids = w.source.ids(x.dims()[0]);
                w.say(format!("{at}.add_with_ids({words}, {ids:?})"));
                w.$all[at].add_with_ids(x, &ids)
            }

            fn update<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let (x, words) = w.source.rows::<B>(w.$all[at].d(), &w.device);
                let ids = w.source.ids(x.dims()[0]);
                let missing = w.source.pick(&[Missing::Insert, Missing::Error]);
                w.say(format!("{at}.update_vectors({ids:?}, {words}, {missing:?})"));
                w.$all[at].update_vectors(&ids, x, missing).map(drop)
            }

            fn remove<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let (ids, words) = w.source.selector(0);
                w.say(format!("{at}.remove_ids({words})"));
                w.$all[at].remove_ids(&ids).map(drop)
            }

            fn merge<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let from = w.$which();
                let add_id = w.source.id();
                // A refused merge leaves both as they are; one with itself is one with its clone.
                if from == at || w.source.rarely(2) {
                    w.say(format!("{at}.merge_from(clone of {from}, {add_id})"));
                    let mut other = w.$all[from].clone();
                    let held = other.ntotal();
                    let merged = w.$all[at].merge_from(&mut other, add_id);
                    assert_eq!(other.ntotal(), if merged.is_ok() { 0 } else { held });
                    merged
                } else {
                    w.say(format!("{at}.merge_from({from}, {add_id})"));
                    let [this, other] = w.$all.get_disjoint_mut([at, from]).unwrap();
                    this.merge_from(other, add_id)
                }
            }

            fn reserve<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let n = w.source.some(100);
                // Not what a system may give: it would be copied when the list grows.
                let n = if n == (1 << 31) - 1 { 5000 } else { n };
                w.say(format!("{at}.reserve({n})"));
                w.$all[at].reserve(n)?;
                w.$all[at].shrink_to_fit().map(drop)
            }

            fn shrink<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                w.say(format!("{at}.shrink_to_fit()"));
                w.$all[at].shrink_to_fit()?;
                let _ = w.$all[at].memory_info().total();
                Ok(())
            }

            fn reset<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                if w.source.rarely(3) {
                    w.say(format!("{at}.reset()"));
                    w.$all[at].reset();
                }
                Ok(())
            }

            fn storage<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let storage = w.source.storage();
                w.say(format!("{at}.set_storage({storage})"));
                w.$all[at].set_storage(storage)
            }

            fn workspace<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let bytes = w.source.workspace();
                w.say(format!("{at}.set_workspace_limit({bytes})"));
                w.$all[at].set_workspace_limit(bytes)
            }

            fn search<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let (q, words) = w.source.rows::<B>(w.$all[at].d(), &w.device);
                let nq = q.dims()[0];
                let k = w.source.k(nq);
                w.say(format!("{at}.search({words}, {k})"));
                let found = w.$all[at].search(q, k)?;
                assert_eq!(found.distances.dims(), [nq, k]);
                assert_eq!(found.labels.dims(), [nq, k]);
                let _ = found.to_vecs();
                Ok(())
            }

            fn search_with<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let (q, words) = w.source.rows::<B>(w.$all[at].d(), &w.device);
                let nq = q.dims()[0];
                let (k, (params, more)) = (w.source.k(nq), w.source.params(nq, $flat));
                w.say(format!("{at}.search_with({words}, {k}, {more})"));
                let found = w.$all[at].search_with(q, k, &params)?;
                assert_eq!(found.labels.dims(), [nq, k]);
                let _ = found.to_vecs();
                Ok(())
            }

            fn range_search<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let (q, words) = w.source.rows::<B>(w.$all[at].d(), &w.device);
                let (nq, radius) = (q.dims()[0], w.source.float() * 10.0);
                let (params, more) = w.source.range_params(nq, $flat);
                let index = &w.$all[at];
                if w.source.rarely(2) {
                    w.log.push(format!("{at}.range_search_with({words}, {radius}, {more})"));
                    let found = index.range_search_with(q, radius, &params)?;
                    assert_eq!(found.lims.len(), nq + 1);
                    assert_eq!(found.to_vecs().1.len(), found.len());
                } else {
                    let most = w.source.some(9);
                    let all = format!("{words}, {radius}, {most}, {more}");
                    w.log.push(format!("{at}.range_search_max_results({all})"));
                    let (_, found) = index.range_search_max_results(q, radius, most, &params)?;
                    assert!(found.len() <= most);
                }
                Ok(())
            }

            fn search_and_reconstruct<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let (q, words) = w.source.rows::<B>(w.$all[at].d(), &w.device);
                let nq = q.dims()[0];
                let (k, (params, more)) = (w.source.k(nq), w.source.params(nq, $flat));
                w.say(format!("{at}.search_and_reconstruct({words}, {k}, {more})"));
                let (_, x) = w.$all[at].search_and_reconstruct(q, k, &params)?;
                assert_eq!(x.dims(), [nq, k, w.$all[at].d()]);
                Ok(())
            }

            fn reconstruct<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let id = w.source.id();
                let index = &w.$all[at];
                match w.source.below(3) {
                    0 => {
                        w.log.push(format!("{at}.reconstruct({id})"));
                        index.reconstruct(id).map(drop)
                    }
                    1 => {
                        let n = w.source.below(5);
                        let ids = w.source.ids(n);
                        w.log.push(format!("{at}.reconstruct_batch({ids:?})"));
                        index.reconstruct_batch(&ids).map(drop)
                    }
                    _ => {
                        let n = w.source.some(3);
                        w.log.push(format!("{at}.reconstruct_n({id}, {n})"));
                        index.reconstruct_n(id, n).map(drop)
                    }
                }
            }

            fn copies<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let way = w.source.below(4);
                w.say(format!("{at} copied, way {way}"));
                let index = &w.$all[at];
                let copy = match way {
                    0 => index.clone(),
                    1 => index.to_device(&w.device)?,
                    2 => index.to_backend::<B>(&w.device)?,
                    _ => {
                        let module = IndexModule::from(index.clone());
                        let recorder = NamedMpkBytesRecorder::<HalfPrecisionSettings>::default();
                        let record = Module::<B>::into_record(module);
                        let bytes = Recorder::<B>::record(&recorder, record, ()).unwrap();
                        let record: burn_ivf::IndexRecord<$index<B>> =
                            Recorder::<B>::load(&recorder, bytes, &w.device).unwrap();
                        record.into_index()?
                    }
                };
                w.$keep(copy);
                Ok(())
            }

            fn copy_subset<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let subset = w.source.subset(w.$all[at].ntotal(), 4);
                w.say(format!("{at}.copy_subset({subset:?})"));
                let copy = w.$all[at].copy_subset(&subset)?;
                w.$keep(copy);
                Ok(())
            }

            fn save<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let (at, path) = (w.$which(), w.path(concat!(stringify!($name), ".index")));
                w.say(format!("{at}.save({path:?})"));
                w.$all[at].save(path)
            }

            fn load<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let path = w.path(concat!(stringify!($name), ".index"));
                w.say(format!(concat!(stringify!($index), "::load({:?})"), path));
                let index = $index::load(path, &w.device)?;
                w.$keep(index);
                Ok(())
            }

            fn load_mmap<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let path = w.path(concat!(stringify!($name), ".index"));
                let d = w.$all[0].d();
                let (q, words) = w.source.rows::<B>(d, &w.device);
                let (nprobe, k) = (w.source.some(4), w.source.k(q.dims()[0]));
                let what = concat!(stringify!($index), "::load_mmap");
                w.say(format!("{what}({path:?}), nprobe {nprobe}, search({words}, {k})"));
                let mut mapped = $index::<B>::load_mmap(path, &w.device)?;
                mapped.verify()?;
                mapped.set_nprobe(nprobe)?;
                mapped.search(q, k).map(drop)
            }

            fn streams<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let at = w.$which();
                let room = w.source.below(2000);
                w.say(format!("{at}.write_to(stream of {room} bytes), read_from(damaged)"));
                let mut bytes = Vec::new();
                w.$all[at].write_to(&mut bytes)?;
                w.source.damage(&mut bytes);
                let read = $index::<B>::read_from(&bytes[..], &w.device).map(drop);
                w.$all[at].write_to(Full(room)).and(read)
            }

            fn write_faiss<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let (at, path) = (w.$which(), w.path(concat!(stringify!($name), ".faiss")));
                w.say(format!("{at}.write_faiss({path:?})"));
                w.$all[at].write_faiss(path)
            }

            fn read_faiss<B: IvfBackend>(w: &mut World<B>) -> Outcome {
                let path = w.path(concat!(stringify!($name), ".faiss"));
                w.say(format!(concat!(stringify!($index), "::read_faiss({:?})"), path));
                let index = $index::read_faiss(path, &w.device)?;
                w.$keep(index);
                Ok(())
            }

            pub fn calls<B: IvfBackend>() -> Vec<Call<B>> {
                macro_rules! named {
                    ($changes:literal: $call:ident) => {
                        (concat!(stringify!($name), "::", stringify!($call)), $changes, $call::<B>)
                    };
                }
                vec![
                    named!(true: add),
                    named!(true: add),
                    named!(true: add_with_ids),
                    named!(true: add_with_ids),
                    named!(true: update),
                    named!(true: remove),
                    named!(true: merge),
                    named!(true: reserve),
                    named!(true: shrink),
                    named!(true: reset),
                    named!(true: storage),
                    named!(true: workspace),
                    named!(false: search),
                    named!(false: search_with),
                    named!(false: search_with),
                    named!(false: search_with),
                    named!(false: range_search),
                    named!(false: range_search),
                    named!(false: search_and_reconstruct),
                    named!(false: reconstruct),
                    named!(true: copies),
                    named!(true: copy_subset),
                    named!(false: save),
                    named!(true: load),
                    named!(false: load_mmap),
                    named!(false: streams),
                    named!(false: write_faiss),
                    named!(true: read_faiss),
                ]
            }
        }
    };
}

calls!(flat, IndexFlat, flat, flats, keep_flat, true);
calls!(ivf, IndexIvfFlat, ivf, ivfs, keep_ivf, false);
