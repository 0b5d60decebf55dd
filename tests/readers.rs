//! Files of vectors: what is read, what is written, what is refused and how.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking and says what it skips"
)]

use burn_ivf::{
    Error,
    io::{Element, VectorFile, VectorFormat, write_ids, write_vectors},
};
use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/data")
        .join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
    }
    path.exists().then_some(path)
}

/// A file of NumPy with this description and these bytes.
fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    let pad = 64 - (10 + text.len() + 1) % 64;
    let text = format!("{text}{}\n", " ".repeat(pad));
    let len = u16::try_from(text.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &len[..], text.as_bytes(), data].concat()
}

fn open(bytes: Vec<u8>, format: VectorFormat) -> Result<VectorFile<Cursor<Vec<u8>>>, Error> {
    VectorFile::from_reader(Cursor::new(bytes), format)
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, words: &[&str]) -> Error {
    let Err(error) = result else {
        panic!("it was accepted");
    };
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
    error
}

fn le<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| bytes(value)).collect()
}

#[test]
fn npy_of_every_type() {
    let floats = [1.5_f32, -2.0, 0.25, 4096.0, 0.0, -0.5];
    let halves = le(&floats, |x| half::f16::from_f32(x).to_le_bytes());
    let doubles = le(&floats, |x| f64::from(x).to_le_bytes());
    for (descr, data, element) in [
        ("<f4", le(&floats, f32::to_le_bytes), Element::F32),
        ("<f2", halves, Element::F16),
        ("<f8", doubles, Element::F64),
    ] {
        let mut file = open(npy(descr, false, "(3, 2)", &data), VectorFormat::Npy).unwrap();
        assert_eq!((file.len(), file.d(), file.element()), (3, 2, element));
        assert_eq!(file.read_block(0, 3).unwrap(), floats);
        assert_eq!(file.read_block(1, 1).unwrap(), floats[2..4]);
        assert!(file.read_block(3, 0).unwrap().is_empty());
        refused(file.read_ids(0, 1), &["floats", "i64"]);
    }
    let ids = [7_i64, -1, 1 << 40, 0];
    let mut file = open(
        npy("<i8", false, "(4,)", &le(&ids, i64::to_le_bytes)),
        VectorFormat::Npy,
    )
    .unwrap();
    assert_eq!((file.len(), file.d(), file.element()), (4, 1, Element::I64));
    assert_eq!(file.read_ids(0, 4).unwrap(), ids);
    assert_eq!(file.read_block(0, 2).unwrap(), [7.0, -1.0]);
    let ints = [3_i32, -9];
    let file = npy("<i4", false, "(2, 1)", &le(&ints, i32::to_le_bytes));
    let mut file = open(file, VectorFormat::Npy).unwrap();
    assert_eq!(file.read_ids(0, 2).unwrap(), [3, -9]);
    let mut file = open(
        npy("|u1", false, "(1, 3)", &[0, 128, 255]),
        VectorFormat::Npy,
    )
    .unwrap();
    assert_eq!(file.read_block(0, 1).unwrap(), [0.0, 128.0, 255.0]);
    assert_eq!(file.read_ids(0, 1).unwrap(), [0, 128, 255]);
    let empty = open(npy("<f4", false, "(0, 5)", &[]), VectorFormat::Npy).unwrap();
    assert_eq!((empty.len(), empty.d(), empty.is_empty()), (0, 5, true));
}

#[test]
fn npy_that_is_refused() {
    let npy = |descr, fortran, shape, data: &[u8]| {
        open(npy(descr, fortran, shape, data), VectorFormat::Npy)
    };
    let error = refused(
        npy("<f4", true, "(2, 2)", &[0; 16]),
        &["Fortran", "ascontiguousarray"],
    );
    assert!(matches!(error, Error::Unsupported { .. }));
    // one row or one column has no order
    assert_eq!(npy("<f4", true, "(2, 1)", &[0; 8]).unwrap().len(), 2);
    for (descr, shape) in [("<f4", "()"), ("<f4", "(1, 1, 1)"), ("<f4", "(1, 1, 1, 1)")] {
        refused(
            npy(descr, false, shape, &[0; 4]),
            &["one or two dimensions"],
        );
    }
    for descr in [">f4", "<c8", "|b1", "|S4", "<i2", "<M8[ns]"] {
        refused(npy(descr, false, "(1, 1)", &[0; 8]), &[descr, "astype"]);
    }
    refused(
        npy("<f4", false, "(2, 0)", &[]),
        &["2 rows of 0 components"],
    );
    // too short, too long, overflowing
    refused(
        npy("<f4", false, "(3, 2)", &[0; 17]),
        &["24 bytes", "17 follow", "row 1"],
    );
    refused(
        npy("<f4", false, "(3, 2)", &[0; 25]),
        &["24 bytes", "25 follow"],
    );
    let huge = "(9223372036854775807, 9223372036854775807)";
    refused(npy("<f8", false, huge, &[0; 8]), &["9223372036854775807"]);
    refused(npy("<f4", false, "(-1, 2)", &[0; 8]), &["shape"]);
    refused(
        npy("<f4", false, "(18446744073709551616, 1)", &[0; 8]),
        &["shape"],
    );
    refused(
        npy("<f4", false, "(0xFFFFFFFFFFFF, 0xFFFFFFFFFFFF)", &[0; 8]),
        &[],
    );
    refused(npy("<f4", false, "(1", &[0; 8]), &["header"]);
    refused(
        open(b"\x93NUMPX\x01\0".to_vec(), VectorFormat::Npy),
        &["byte 0"],
    );
    // a header that claims four gigabytes
    let claim = [&b"\x93NUMPY\x02\x00"[..], &u32::MAX.to_le_bytes()].concat();
    refused(open(claim, VectorFormat::Npy), &["4294967295"]);
}

#[test]
fn vecs_of_every_type() {
    let fvecs: Vec<u8> = [[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]]
        .iter()
        .flat_map(|row| [2_i32.to_le_bytes().to_vec(), le(row, f32::to_le_bytes)].concat())
        .collect();
    let mut file = open(fvecs.clone(), VectorFormat::Fvecs).unwrap();
    assert_eq!((file.len(), file.d(), file.element()), (3, 2, Element::F32));
    assert_eq!(file.read_block(1, 2).unwrap(), [3.0, 4.0, 5.0, 6.0]);
    assert_eq!(file.read_block(0, 1).unwrap(), [1.0, 2.0]);
    let blocks: Vec<Vec<f32>> = file.blocks(2).map(Result::unwrap).collect();
    assert_eq!(blocks, [vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0]]);
    refused(file.read_block(2, 2), &["2 from row 2, of 3 rows"]);
    refused(file.read_block(usize::MAX, 2), &["of 3 rows"]);

    let bvecs = vec![3, 0, 0, 0, 1, 2, 255, 3, 0, 0, 0, 4, 5, 6];
    let mut file = open(bvecs, VectorFormat::Bvecs).unwrap();
    assert_eq!((file.len(), file.d()), (2, 3));
    assert_eq!(
        file.read_block(0, 2).unwrap(),
        [1.0, 2.0, 255.0, 4.0, 5.0, 6.0]
    );
    let ivecs: Vec<u8> = le(&[2_i32, -7, i32::MAX], i32::to_le_bytes);
    let mut file = open(ivecs, VectorFormat::Ivecs).unwrap();
    assert_eq!(file.read_ids(0, 1).unwrap(), [-7, i64::from(i32::MAX)]);
}

/// The row and the place of what is wrong.
#[test]
fn vecs_that_are_refused() {
    let row = |d: i32, n: usize| [d.to_le_bytes().to_vec(), vec![0; 4 * n]].concat();
    let fvecs = |rows: &[Vec<u8>]| open(rows.concat(), VectorFormat::Fvecs);
    refused(fvecs(&[]), &["empty"]);
    refused(fvecs(&[row(0, 0)]), &["row 0 has dimension 0", "byte 0"]);
    refused(fvecs(&[row(-2, 2)]), &["row 0 has dimension -2"]);
    refused(fvecs(&[row(i32::MAX, 2)]), &["row 0 is cut off after 12"]);
    refused(fvecs(&[vec![2, 0, 0]]), &["1 the dimension of a row"]);
    // cut within a row, within a dimension
    refused(
        fvecs(&[row(2, 2), row(2, 1)]),
        &["row 1 is cut off after 8 of 12", "byte 12"],
    );
    refused(
        fvecs(&[row(2, 2), vec![2, 0]]),
        &["row 1 is cut off after 2 of 12"],
    );
    // another dimension: seen at once where the length shows it, else with its block
    refused(
        fvecs(&[row(2, 2), row(2, 2), row(3, 3)]),
        &["row 2 has dimension 3", "byte 24"],
    );
    let mut file = fvecs(&[row(2, 2), row(5, 5), row(2, 2)]).unwrap();
    assert_eq!(file.len(), 4);
    assert_eq!(file.read_block(0, 1).unwrap(), [0.0; 2]);
    let error = refused(
        file.read_block(0, 4),
        &["row 1 has dimension 5", "have 2", "byte 12"],
    );
    assert!(matches!(error, Error::Malformed { offset: 12, .. }));
    // nothing comes after an error, but the file can still be read
    let mut blocks = file.blocks(1);
    assert_eq!(blocks.next().unwrap().unwrap(), [0.0; 2]);
    refused(blocks.next().unwrap(), &["row 1"]);
    assert!(blocks.next().is_none());
    assert_eq!(file.read_block(0, 1).unwrap(), [0.0; 2]);
}

#[test]
fn written_files_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<f32> = (0..21).map(|x| x as f32 / 3.0).collect();
    let ids: Vec<i64> = (0..12).map(|x| x * 1000 - 3).collect();
    for name in ["a.npy", "b.fvecs", "C.NPY"] {
        let path = folder.path().join(name);
        write_vectors(&path, &rows, 7).unwrap();
        let mut file = VectorFile::open(&path).unwrap();
        assert_eq!((file.len(), file.d(), file.element()), (3, 7, Element::F32));
        assert_eq!(file.read_block(0, 3).unwrap(), rows);
    }
    for name in ["d.npy", "e.ivecs"] {
        let path = folder.path().join(name);
        write_ids(&path, &ids, 4).unwrap();
        let mut file = VectorFile::open(&path).unwrap();
        assert_eq!((file.len(), file.d()), (3, 4));
        assert_eq!(file.read_ids(0, 3).unwrap(), ids);
    }
    let at = |name: &str| folder.path().join(name);
    refused(write_vectors(at("f.bvecs"), &rows, 7), &["bvecs", "fvecs"]);
    refused(write_ids(at("f.fvecs"), &ids, 4), &["fvecs", "ivecs"]);
    refused(write_vectors(at("f.txt"), &rows, 7), &["txt", "npy"]);
    refused(VectorFile::open(at("f")), &["extension", "npy"]);
    refused(write_vectors(at("f.npy"), &rows, 4), &["21"]);
    refused(write_vectors(at("f.npy"), &rows, 0), &["d = 0"]);
    let error = refused(write_ids(at("f.ivecs"), &[0, 1, 1 << 40, 3], 2), &[]);
    assert_eq!(
        error,
        Error::IdOutOfRange {
            row: 1,
            id: 1 << 40
        }
    );
    assert!(!at("f.ivecs").exists());
    let error = refused(VectorFile::open(at("none.npy")), &[]);
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

/// One set in three formats.
#[test]
fn real_files_agree() {
    let Some(folder) = shared("bigann10k-128-l2") else {
        return;
    };
    let open = |name: &str| VectorFile::open(folder.join(name)).unwrap();
    let (mut npy, mut fvecs, mut bvecs) =
        (open("base.npy"), open("base.fvecs"), open("base.bvecs"));
    assert_eq!(
        (npy.len(), npy.d(), npy.element()),
        (9000, 128, Element::U8)
    );
    let blocks = npy
        .blocks(1024)
        .zip(fvecs.blocks(1024))
        .zip(bvecs.blocks(1024));
    let mut rows = 0;
    for ((a, b), c) in blocks {
        let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
        assert!(a == b && b == c);
        rows += a.len() / 128;
    }
    assert_eq!(rows, 9000);
    let mut truth = open("groundtruth.ivecs");
    let mut ids = open("gt_l2_ids.npy");
    assert_eq!((truth.len(), truth.d()), (500, 100));
    assert_eq!(
        truth.read_ids(0, 500).unwrap(),
        ids.read_ids(0, 500).unwrap()
    );
    if let Some(path) = shared("wordnet-minilm-384-ip/base.npy") {
        let mut file = VectorFile::open(path).unwrap();
        assert_eq!(
            (file.len(), file.d(), file.element()),
            (50_000, 384, Element::F16)
        );
        let row = file.read_block(49_999, 1).unwrap();
        let norm: f32 = row.iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 2e-3, "{norm}");
    }
}
