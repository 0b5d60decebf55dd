//! A16, H2: vectors stored in 16 bits. Everything is as if the rounded vectors had been added, and takes
//! half the memory; a device without the type says so.

use super::support::*;
use burn::tensor::DType;
use burn_ivf::{
    Error, IdSelector, IndexFlat, IndexIvfFlat, IvfBackend, Metric, Missing, SearchMode, Storage,
};
use half::{bf16, f16};

const HALVES: [Storage; 2] = [Storage::F16, Storage::Bf16];

fn nearest(storage: Storage, x: f32) -> f32 {
    match storage {
        Storage::F16 => f16::from_f32(x).to_f32(),
        _ => bf16::from_f32(x).to_f32(),
    }
}

/// The storages the device has; of the others it is checked that they are refused.
fn present<B: IvfBackend>(device: &B::Device) -> Vec<Storage> {
    let stores = |storage: &Storage| B::capabilities(device).stores(*storage);
    for storage in HALVES.iter().filter(|storage| !stores(storage)) {
        let mut index = IndexFlat::<B>::new(3, Metric::L2, device).unwrap();
        let builder = IndexIvfFlat::<B>::builder(3).nlist(2).storage(*storage);
        for error in [
            refused(index.set_storage(*storage)),
            refused(builder.build(device)),
        ] {
            assert!(matches!(error, Error::Storage { .. }), "{error}");
            assert!(error.to_string().contains("no such type"), "{error}");
            assert!(error.to_string().contains("auto"), "{error}");
        }
        assert_eq!(index.storage(), Storage::Auto);
    }
    HALVES.into_iter().filter(stores).collect()
}

fn stored<B: IvfBackend>(
    device: &B::Device,
    metric: Metric,
    base: &Rows,
    storage: Storage,
) -> (IndexFlat<B>, IndexIvfFlat<B>) {
    let mut exhaustive = IndexFlat::new(base.d, metric, device).unwrap();
    exhaustive.set_storage(storage).unwrap();
    exhaustive.add(base.on(device)).unwrap();
    let none = Rows::new(Vec::new(), base.d);
    let mut ivf = preset::<B>(device, metric, &base.range(0..9), &none);
    ivf.set_storage(storage).unwrap();
    // The same lists as those of the rounded vectors: what is near a border may change sides.
    let to: Vec<u32> = (0..base.n() as u32).map(|i| i * 7 % 9).collect();
    ivf.add_preassigned(base.on(device), None, &to).unwrap();
    (exhaustive, ivf)
}

/// All answers have the bits of an index of the rounded vectors.
pub fn a16_answers_are_those_of_the_rounded<B: IvfBackend>(device: &B::Device) {
    for storage in present::<B>(device) {
        for (d, metric) in [(1, Metric::L2), (7, Metric::InnerProduct), (64, Metric::L2)] {
            let n = sized::<B>(device, 2000, 600);
            let (base, queries) = (normal(n, d, 1), normal(20, d, 3));
            let rounded = base.map(|x| nearest(storage, x));
            let (exhaustive, ivf) = stored::<B>(device, metric, &base, storage);
            let (flat_of, ivf_of) = stored::<B>(device, metric, &rounded, Storage::Auto);
            assert_eq!((exhaustive.storage(), ivf.storage()), (storage, storage));
            let what = format!("{storage} d={d} {metric}");
            let expected = search_flat(&flat_of, &queries, 12);
            search_flat(&exhaustive, &queries, 12).assert_same(&expected, &what);
            for (mode, nprobe) in IVF_MODES.into_iter().flat_map(|m| [(m, 3), (m, 9)]) {
                let params = probing(nprobe, mode);
                let found = search_ivf(&ivf, &queries, 12, &params);
                found.assert_same(&search_ivf(&ivf_of, &queries, 12, &params), &what);
                // One query, which other kernels read.
                let one = search_ivf(&ivf, &queries.range(4..5), 12, &params);
                assert_eq!(one.row(0), found.row(4), "{what}");
            }
            let some = probing(9, SearchMode::Auto).with_selector(IdSelector::range(5..300));
            let found = search_ivf(&ivf, &queries, 12, &some);
            found.assert_same(&search_ivf(&ivf_of, &queries, 12, &some), &what);
            let radius = expected.row(0).0[11];
            let (a, b) = (
                ivf.range_search(queries.on(device), radius).unwrap(),
                ivf_of.range_search(queries.on(device), radius).unwrap(),
            );
            assert_eq!((a.lims.clone(), a.to_vecs()), (b.lims.clone(), b.to_vecs()));
            let back = floats(ivf.reconstruct_batch(&[17, 0]).unwrap());
            assert_eq!(back, [rounded.row(17), rounded.row(0)].concat(), "{what}");
        }
    }
}

/// Against brute force in f64 over the rounded vectors; distances are f32.
pub fn a16_brute_force<B: IvfBackend>(device: &B::Device) {
    for storage in present::<B>(device) {
        let (base, queries) = (normal(2000, 64, 11), normal(30, 64, 12));
        let (exhaustive, _) = stored::<B>(device, Metric::L2, &base, storage);
        let hits = exhaustive.search(queries.on(device), 10).unwrap();
        assert_eq!(hits.distances.dtype(), DType::F32);
        let found = Answer::read(&hits);
        let mut right = 0;
        for i in 0..queries.n() {
            let mut all: Vec<(f64, i64)> = (0..base.n())
                .map(|row| {
                    let pairs = base.row(row).iter().zip(queries.row(i));
                    let square = |(x, q): (&f32, &f32)| {
                        (f64::from(nearest(storage, *x)) - f64::from(*q)).powi(2)
                    };
                    (pairs.map(square).sum(), row as i64)
                })
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (distances, labels) = found.row(i);
            for (((exact, id), d), label) in all.iter().zip(distances).zip(labels) {
                right += usize::from(id == label);
                assert!((f64::from(*d) - exact).abs() <= 1e-6 * exact, "{d} {exact}");
            }
        }
        assert!(right >= 297, "{right} of 300 ids");
    }
}

/// Two bytes a component, really.
pub fn a16_half_the_bytes<B: IvfBackend>(device: &B::Device) {
    for storage in present::<B>(device) {
        let base = uniform(3000, 64, 4);
        let (half, _) = stored::<B>(device, Metric::L2, &base, storage);
        let (whole, _) = stored::<B>(device, Metric::L2, &base, Storage::Auto);
        let share = half.memory_info().vectors as f64 / whole.memory_info().vectors as f64;
        assert!((0.45..0.55).contains(&share), "{storage}: {share}");
        let bytes = |index: &IndexFlat<B>| {
            let mut bytes = Vec::new();
            index.write_to(&mut bytes).unwrap();
            bytes.len()
        };
        // Sections begin at multiples of 64 bytes.
        let saved = bytes(&whole) - bytes(&half);
        assert!(saved.abs_diff(3000 * 64 * 2) <= 128, "{storage}: {saved}");
    }
}

/// H2: saved and loaded as what it is, in the bytes it takes; copies keep it.
pub fn h2_files_keep_halves<B: IvfBackend>(device: &B::Device) {
    for storage in present::<B>(device) {
        let (base, queries) = (normal(500, 24, 7), normal(9, 24, 8));
        let (exhaustive, ivf) = stored::<B>(device, Metric::L2, &base, storage);
        let params = probing(9, SearchMode::Auto);
        let expected = search_ivf(&ivf, &queries, 5, &params);
        let mut bytes = Vec::new();
        ivf.write_to(&mut bytes).unwrap();
        let loaded = IndexIvfFlat::<B>::read_from(&bytes[..], device).unwrap();
        assert_eq!(loaded.storage(), storage);
        let whole = 500 * 24 * size_of::<f32>();
        assert!(loaded.memory_info().vectors < whole, "half, with slack");
        search_ivf(&loaded, &queries, 5, &params).assert_same(&expected, "loaded");
        let mut again = Vec::new();
        loaded.write_to(&mut again).unwrap();
        assert_eq!(bytes, again, "save, load, save");
        let mut bytes = Vec::new();
        exhaustive.write_to(&mut bytes).unwrap();
        let loaded = IndexFlat::<B>::read_from(&bytes[..], device).unwrap();
        assert_eq!(loaded.storage(), storage);
        let expected = search_flat(&exhaustive, &queries, 5);
        search_flat(&loaded, &queries, 5).assert_same(&expected, "loaded flat");
        let copy = exhaustive.to_device(device).unwrap();
        assert_eq!(copy.storage(), storage);
        let copy = exhaustive.to_backend::<B>(device).unwrap();
        assert_eq!(copy.storage(), storage);
        search_flat(&copy, &queries, 5).assert_same(&expected, "copied");
        // A file is searched where it lies only in f32.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("half.index");
        exhaustive.save(&path).unwrap();
        let error = refused(IndexFlat::<B>::load_mmap(&path, device));
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("load()"), "{error}");
    }
}

/// What changes an index rounds what it brings, and refuses what does not fit.
pub fn halves_stay_halves<B: IvfBackend>(device: &B::Device) {
    for storage in present::<B>(device) {
        let base = normal(300, 10, 5);
        let (mut index, _) = stored::<B>(device, Metric::L2, &base.range(0..200), storage);
        let others = base.range(200..300);
        let mut other = flat::<B>(device, Metric::L2, &others);
        index.merge_from(&mut other, 200).unwrap();
        index.remove_ids(&IdSelector::range(50..120)).unwrap();
        let new = normal(2, 10, 6);
        let updated = index.update_vectors(&[7, 250], new.on(device), Missing::Error);
        assert_eq!(updated.unwrap(), 2);
        let ids: Vec<i64> = (0..300).filter(|i| !(50..120).contains(i)).collect();
        let values = floats(index.reconstruct_batch(&ids).unwrap());
        for (value, &id) in values.chunks(10).zip(&ids) {
            let row = match id {
                7 => new.row(0),
                250 => new.row(1),
                _ => base.row(id as usize),
            };
            let expected: Vec<f32> = row.iter().map(|&x| nearest(storage, x)).collect();
            assert_eq!(value, expected, "{storage}: id {id}");
        }
        // In f32 again the values are the rounded ones.
        let mut wide = index.clone();
        wide.set_storage(Storage::Auto).unwrap();
        assert_eq!(floats(wide.reconstruct_batch(&ids).unwrap()), values);
        // The largest magnitude that is kept, and the first that is not.
        let limit = match storage {
            Storage::F16 => 65_520.0_f32,
            _ => f32::from_bits(0x7F7F_8000),
        };
        let mut large = base.range(0..3);
        large.row_mut(1)[4] = -limit;
        let before = index.ntotal();
        for error in [
            refused(index.add(large.on(device))),
            refused(index.update_vectors(&[0, 1, 2], large.on(device), Missing::Error)),
            refused(index.merge_from(&mut flat::<B>(device, Metric::L2, &large), 900)),
            refused(flat::<B>(device, Metric::L2, &large).set_storage(storage)),
        ] {
            let Error::Overflow { row, component, .. } = error else {
                panic!("{error}");
            };
            assert_eq!((row, component), (1, 4));
            assert_names(&error, &[1, 4]);
        }
        assert_eq!(index.ntotal(), before);
        large.row_mut(1)[4] = -limit.next_down();
        index
            .add_with_ids(large.on(device), &[900, 901, 902])
            .unwrap();
        let back = floats(index.reconstruct(901).unwrap());
        assert_eq!(back[4], nearest(storage, -limit.next_down()));
        assert!(back[4].is_finite());
        if storage == Storage::F16 {
            // Squares at the end of bf16 leave the range of f32.
            let hits = index.search(large.range(1..2).on(device), 1).unwrap();
            assert_eq!(hits.to_vecs().1, [901]);
        }
    }
}

/// Cosine rows are scaled first and rounded then.
pub fn halves_of_cosine<B: IvfBackend>(device: &B::Device) {
    for storage in present::<B>(device) {
        let base = normal(200, 33, 9).map(|x| x * 1e5);
        let (index, ivf) = stored::<B>(device, Metric::Cosine, &base, storage);
        let found = search_flat(&index, &base.range(0..20), 1);
        assert_eq!(found.i, (0..20).collect::<Vec<i64>>());
        assert!(found.d.iter().all(|d| (d - 1.0).abs() < 4e-3), "{found:?}");
        let params = probing(9, SearchMode::Auto);
        search_ivf(&ivf, &base.range(0..20), 1, &params).assert_same(&found, "ivf");
    }
}
