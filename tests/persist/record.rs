//! Indexes as fields of Burn models: recorded with them, moved with them, no parameters.

use super::{bytes, numbers};
use burn::{
    backend::{Autodiff, NdArray},
    module::{AutodiffModule, Module},
    nn::{Linear, LinearConfig},
    optim::{GradientsParams, Optimizer, SgdConfig},
    record::{
        BinBytesRecorder, BinFileRecorder, DoublePrecisionSettings, FileRecorder,
        FullPrecisionSettings, HalfPrecisionSettings, NamedMpkBytesRecorder, NamedMpkFileRecorder,
        PrettyJsonFileRecorder, Recorder,
    },
    tensor::{Tensor, TensorData},
};
use burn_ivf::{IndexFlat, IndexIvfFlat, IndexModule, IvfBackend, Metric};

/// What makes embeddings, and two indexes of them.
#[derive(Module, Debug)]
struct Model<B: IvfBackend> {
    linear: Linear<B>,
    ivf: IndexModule<IndexIvfFlat<B>>,
    flat: IndexModule<IndexFlat<B>>,
}

const D: usize = 6;

fn on<B: IvfBackend>(n: usize, seed: u64) -> Tensor<B, 2> {
    Tensor::from_data(
        TensorData::new(numbers(n, D, seed), [n, D]),
        &Default::default(),
    )
}

/// Values that f16 would lose, ids that i16 and i32 would.
fn model<B: IvfBackend>() -> Model<B> {
    let device = Default::default();
    let mut ivf = IndexIvfFlat::<B>::builder(D)
        .nlist(4)
        .nprobe(2)
        .build(&device)
        .unwrap();
    ivf.train(on(200, 1)).unwrap();
    let ids: Vec<i64> = (0..200).map(|i| (1 << 40) + i * 12_345).collect();
    ivf.add_with_ids(on(200, 1) + 1e-4, &ids).unwrap();
    let mut flat = IndexFlat::<B>::new(D, Metric::InnerProduct, &device).unwrap();
    flat.add_with_ids(on(50, 2) * 1.000_01, &ids[..50]).unwrap();
    Model {
        linear: LinearConfig::new(D, D).init(&device),
        ivf: ivf.into(),
        flat: flat.into(),
    }
}

/// A model with nothing in it yet.
fn blank<B: IvfBackend>() -> Model<B> {
    let device = Default::default();
    Model {
        linear: LinearConfig::new(D, D).init(&device),
        ivf: IndexIvfFlat::builder(1).build(&device).unwrap().into(),
        flat: IndexFlat::new(1, Metric::L2, &device).unwrap().into(),
    }
}

fn assert_same<A: IvfBackend, B: IvfBackend>(a: &Model<A>, b: &Model<B>) {
    assert!(bytes!(a.ivf) == bytes!(b.ivf), "inverted files differ");
    assert!(bytes!(a.flat) == bytes!(b.flat), "flat indexes differ");
    let a = a.ivf.search(on(9, 3), 7).unwrap().to_vecs();
    assert_eq!(a, b.ivf.search(on(9, 3), 7).unwrap().to_vecs());
    assert!(a.1.iter().all(|&id| id >= 1 << 40));
}

fn through_file<B: IvfBackend, R: FileRecorder<B>>(recorder: &R) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let model = model::<B>();
    model.clone().save_file(&path, recorder).unwrap();
    let loaded = blank::<B>()
        .load_file(&path, recorder, &Default::default())
        .unwrap();
    assert_same(&model, &loaded);
}

fn every_recorder<B: IvfBackend>() {
    through_file::<B, _>(&NamedMpkFileRecorder::<HalfPrecisionSettings>::new());
    through_file::<B, _>(&NamedMpkFileRecorder::<FullPrecisionSettings>::new());
    through_file::<B, _>(&BinFileRecorder::<HalfPrecisionSettings>::new());
    through_file::<B, _>(&BinFileRecorder::<DoublePrecisionSettings>::new());
    through_file::<B, _>(&PrettyJsonFileRecorder::<HalfPrecisionSettings>::new());
}

#[test]
fn no_recorder_narrows_an_index() {
    every_recorder::<NdArray>();
    every_recorder::<Autodiff<NdArray>>();
}

#[test]
fn records_in_memory() {
    let device = burn::tensor::Device::<NdArray>::default();
    let model = model::<NdArray>();
    let recorder = BinBytesRecorder::<HalfPrecisionSettings>::new();
    let bytes = recorder.record(model.clone().into_record(), ()).unwrap();
    let record: ModelRecord<NdArray> = recorder.load(bytes, &device).unwrap();
    assert_same(&model, &blank().load_record(record));
    // straight from record to record, and the typed way
    let index = model.ivf.clone().into_record().into_index().unwrap();
    assert_eq!(bytes!(index), bytes!(model.ivf));
}

/// Damaged bytes are the recorder's error, before any module sees them.
#[test]
fn damaged_records_are_errors() {
    let device = burn::tensor::Device::<NdArray>::default();
    let model = model::<NdArray>();
    let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::new();
    type Field = IndexModule<IndexIvfFlat<NdArray>>;
    type Record = <Field as Module<NdArray>>::Record;
    let record = |index: &Field| -> Vec<u8> {
        let record: Record = index.clone().into_record();
        Recorder::<NdArray>::record(&recorder, record, ()).unwrap()
    };
    let good = record(&model.ivf);
    let load = |bytes: Vec<u8>| -> Result<Record, _> {
        Recorder::<NdArray>::load(&recorder, bytes, &device)
    };
    load(good.clone()).unwrap();
    for at in (good.len() / 4..good.len() - 40).step_by(97) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        let error = load(bad).map(drop).unwrap_err().to_string();
        assert!(
            error.contains("damaged") || error.contains("file"),
            "{error}"
        );
    }
    // the record of a flat index is none of an inverted file
    let flat = model.flat.into_record();
    let bytes = Recorder::<NdArray>::record(&recorder, flat, ()).unwrap();
    assert!(
        load(bytes)
            .map(drop)
            .unwrap_err()
            .to_string()
            .contains("IndexFlat")
    );
}

#[test]
fn optimizers_see_no_parameters() {
    type B = Autodiff<NdArray>;
    let model = model::<B>();
    assert_eq!(model.num_params(), model.linear.num_params());
    assert_eq!(model.ivf.num_params(), 0);
    let before = bytes!(model.ivf);
    let gradients = model.linear.forward(on(8, 4)).sum().backward();
    let gradients = GradientsParams::from_grads(gradients, &model);
    let weight = model.linear.weight.val().into_data();
    let mut optimizer = SgdConfig::new().init();
    let model: Model<B> = optimizer.step(0.5, model, gradients);
    assert_ne!(
        model.linear.weight.val().into_data(),
        weight,
        "the model learns"
    );
    assert_eq!(bytes!(model.ivf), before, "the index stays");
}

#[test]
fn autodiff_comes_and_goes() {
    let model = model::<Autodiff<NdArray>>();
    let valid = model.valid();
    assert_same(&model, &valid);
    let back: Model<Autodiff<NdArray>> = valid.clone().train();
    assert_same(&back, &valid);
    // they share vectors until one changes
    let mut valid = valid;
    valid.ivf.add(on(3, 5)).unwrap();
    assert_eq!((model.ivf.ntotal(), valid.ivf.ntotal()), (200, 203));
}

#[test]
fn moves_and_shows_itself() {
    let model = model::<NdArray>();
    let device = burn::tensor::Device::<NdArray>::default();
    assert_eq!(model.devices(), [device]);
    let moved = model.clone().to_device(&device).fork(&device).no_grad();
    assert_same(&model, &moved);
    let shown = model.to_string();
    assert!(
        shown.contains("ntotal: 200") && shown.contains("metric: l2"),
        "{shown}"
    );
}
