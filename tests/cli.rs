//! The command line, as a shell sees it: every command on small files, what it prints as text and JSON,
//! exit codes, and errors that say what to do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use burn_ivf::io::{VectorFile, write_ids, write_vectors};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

const N: usize = 1200;
const D: usize = 8;
const NQ: usize = 50;

/// A folder with `base.npy` and `queries.fvecs`: the first queries are rows of the base.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        // a fixed linear congruence, upper bits: reproducible anywhere
        let mut state = 7_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let base: Vec<f32> = (0..N * D).map(|_| next()).collect();
        write_vectors(folder.path("base.npy"), &base, D).unwrap();
        write_vectors(folder.path("queries.fvecs"), &base[..NQ * D], D).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn call(&self, args: &str) -> Output {
        program()
            .current_dir(self.0.path())
            .args(args.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// A call that must succeed: stdout.
    fn good(&self, args: &str) -> String {
        let output = self.call(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{args}: {out}{err}");
        assert_eq!(err, "", "{args}: stderr is no terminal, so it stays empty");
        out
    }

    /// A call that must succeed: its JSON values.
    fn json(&self, args: &str) -> Vec<Value> {
        let out = self.good(&format!("{args} --json"));
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// A call that must fail with this code; stderr holds all of these words, stdout nothing.
    fn bad(&self, code: i32, args: &str, words: &[&str]) {
        let output = self.call(args);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args}: {err}");
        assert_eq!(text(&output.stdout), "", "{args}");
        assert!(!err.contains("panicked"), "{args}: {err}");
        for word in words {
            assert!(err.contains(word), "{args}: no {word:?} in {err}");
        }
    }

    fn build(&self) -> Vec<Value> {
        self.json("build base.npy -o a.ivf --nlist 12 --nprobe 3")
    }
}

/// The program without this library's variables, of which a shell may hold some.
fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_burn-ivf"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BURN_IVF_") {
            program.env_remove(name);
        }
    }
    program
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn ids(path: &Path) -> Vec<i64> {
    let mut file = VectorFile::open(path).unwrap();
    let n = file.len();
    file.read_ids(0, n).unwrap()
}

fn svg(path: &Path, words: &[&str]) {
    let picture = std::fs::read_to_string(path).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    for word in words {
        assert!(picture.contains(word), "{}: no {word:?}", path.display());
    }
}

#[test]
fn builds_and_searches() {
    let folder = Folder::new();
    let built = folder.build();
    assert_eq!(built.len(), 1);
    assert_eq!((&built[0]["n"], &built[0]["d"]), (&N.into(), &D.into()));
    assert_eq!(
        (&built[0]["nlist"], &built[0]["nprobe"]),
        (&12.into(), &3.into())
    );
    assert_eq!(built[0]["metric"], "l2");
    assert!(built[0]["file_bytes"].as_u64().unwrap() > (N * D * 4) as u64);

    // every query finds itself, on stdout in both forms and in files
    let lines = folder.good("search a.ivf queries.fvecs -k 2 --params nprobe=12");
    let first: Vec<Vec<&str>> = lines.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(first.len(), 2 * NQ);
    assert_eq!(first[0], ["0", "0", "0", "0"]);
    assert_eq!(&first[2 * 7][..3], ["7", "0", "7"]);
    let values = folder.json("search a.ivf queries.fvecs -k 2 --batch 7");
    assert_eq!(values.len(), NQ);
    assert_eq!(values[7]["query"], 7);
    assert_eq!(values[7]["ids"][0], 7);
    assert_eq!(values[7]["distances"].as_array().unwrap().len(), 2);
    folder.good("search a.ivf queries.fvecs -k 3 --ids found.npy --distances found.fvecs");
    let found = ids(&folder.path("found.npy"));
    assert_eq!(found.len(), 3 * NQ);
    assert!(
        found
            .chunks(3)
            .enumerate()
            .all(|(i, row)| row[0] == i as i64)
    );
    assert_eq!(
        VectorFile::open(folder.path("found.fvecs")).unwrap().len(),
        NQ
    );

    // the file itself gives the same answer as the loaded index
    folder.good("search a.ivf queries.fvecs -k 3 --ids mapped.ivecs --mmap");
    assert_eq!(ids(&folder.path("mapped.ivecs")), found);
    let all = "--params nprobe=12";
    folder.good(&format!(
        "search a.ivf queries.fvecs -k 3 --ids all.npy {all}"
    ));
    folder.good(&format!(
        "search a.ivf queries.fvecs -k 3 --ids map.npy {all} --mmap"
    ));
    assert_eq!(ids(&folder.path("map.npy")), ids(&folder.path("all.npy")));
}

#[test]
fn builds_flat_with_ids_and_by_rule() {
    let folder = Folder::new();
    let own: Vec<i64> = (0..N as i64).map(|i| 5000 - i).collect();
    write_ids(folder.path("ids.ivecs"), &own, 1).unwrap();
    let built =
        folder.json("build base.npy -o b.flat --flat --ids ids.ivecs --metric ip --storage f32");
    assert_eq!(
        (&built[0]["kind"], &built[0]["metric"]),
        (&"flat".into(), &"ip".into())
    );
    let info = &folder.json("info b.flat")[0];
    assert_eq!(info["storage"], "f32");
    let values = folder.json("search b.flat queries.fvecs -k 1");
    assert!(values[0]["ids"][0].as_i64().unwrap() > 5000 - N as i64);
    // auto: at most n / 39 lists
    let built =
        &folder.json("build base.npy -o c.ivf --nlist auto --train-size 700 --iterations 2")[0];
    assert_eq!(built["nlist"], N / 39);
    assert_eq!(built["train_rows"], 700);
    assert_eq!(built["train_iterations"], 2);
    assert!(
        folder
            .good("build base.npy -o c.ivf --nlist 4")
            .contains("4 lists")
    );
}

/// J6 in processes of their own: environment, file, default.
#[test]
fn j6_prints_the_tuning_in_force() {
    let folder = Folder::new();
    let below = folder.path("below");
    std::fs::create_dir(&below).unwrap();
    let call = |variables: &[(&str, &str)]| {
        let output = program()
            .current_dir(&below)
            .envs(variables.iter().copied())
            .args(["config", "--json"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        let knobs = value["knobs"].as_array().unwrap();
        let name = "list_major_from_queries";
        let knob = knobs.iter().find(|knob| knob["name"] == name).unwrap();
        (knob.clone(), text(&output.stderr))
    };
    let (knob, err) = call(&[]);
    assert_eq!((&knob["value"], &*err), (&2.0.into(), ""));
    assert_eq!(knob["unit"], "queries");
    std::fs::write(folder.path("burn-ivf.toml"), "list_major_from_queries = 5").unwrap();
    let (knob, err) = call(&[]);
    assert_eq!((&knob["value"], &*err), (&5.0.into(), ""));
    assert!(knob["source"].as_str().unwrap().starts_with("file "));
    let (knob, err) = call(&[("BURN_IVF_LIST_MAJOR_FROM_QUERIES", "7")]);
    assert_eq!((&knob["value"], &*err), (&7.0.into(), ""));
    let variable = "environment BURN_IVF_LIST_MAJOR_FROM_QUERIES";
    assert_eq!(knob["source"], variable);
    let (knob, err) = call(&[("BURN_IVF_LIST_MAJOR_FROM_QUERIES", "x")]);
    assert_eq!(knob["value"], 5.0);
    assert!(err.starts_with("warning: BURN_IVF_LIST_MAJOR_FROM_QUERIES = x"));
    let lines = folder.good("config");
    for word in [
        "tuning for cpu",
        "csr_from_avg_group",
        "file ",
        "queries per list",
    ] {
        assert!(lines.contains(word), "{word}: {lines}");
    }
}

#[test]
fn tells_what_a_file_holds() {
    let folder = Folder::new();
    folder.build();
    let info = &folder.json("info a.ivf --plot sizes.svg")[0];
    assert_eq!(info["format"], "burn-ivf");
    assert_eq!((&info["kind"], &info["nlist"]), (&"ivf".into(), &12.into()));
    assert_eq!((&info["n"], &info["d"]), (&N.into(), &D.into()));
    let median = info["lists"]["median"].as_u64().unwrap();
    assert!((40..200).contains(&median), "{median}");
    assert!(info["memory"]["total"].as_u64().unwrap() > (N * D * 4) as u64);
    svg(
        &folder.path("sizes.svg"),
        &["12 lists", "vectors in a list"],
    );
    assert!(folder.good("info a.ivf").contains("1,200 x 8"));
}

#[test]
fn converts_there_and_back() {
    let folder = Folder::new();
    folder.good("convert base.npy b.fvecs");
    folder.good("convert b.fvecs back.npy");
    let bytes = |name: &str| std::fs::read(folder.path(name)).unwrap();
    assert_eq!(bytes("back.npy"), bytes("base.npy"));
    let whole: Vec<f32> = (0..60).map(|i| (i * 4) as f32).collect();
    write_vectors(folder.path("w.npy"), &whole, 6).unwrap();
    folder.good("convert w.npy w.bvecs");
    folder.good("convert w.bvecs u8.npy");
    let mut file = VectorFile::open(folder.path("u8.npy")).unwrap();
    assert_eq!(file.element(), burn_ivf::io::Element::U8);
    assert_eq!(file.read_block(0, 10).unwrap(), whole);
    write_ids(folder.path("i.npy"), &[1, -1, 1 << 31, 4], 2).unwrap();
    folder.bad(1, "convert i.npy i.ivecs", &["row 1", "2147483648"]);
    assert!(
        !folder.path("i.ivecs").exists(),
        "nothing is left of a failure"
    );
    write_ids(folder.path("i.npy"), &[1, -1, 9, (1 << 24) + 1], 2).unwrap();
    folder.bad(1, "convert i.npy i.fvecs", &["row 1", "16777217", ".npy"]);
    write_ids(folder.path("i.npy"), &[1, -1, 9, 4], 2).unwrap();
    folder.good("convert i.npy i.fvecs");
    let mut file = VectorFile::open(folder.path("i.fvecs")).unwrap();
    assert_eq!(file.read_block(0, 2).unwrap(), [1.0, -1.0, 9.0, 4.0]);
    folder.good("convert i.npy i.ivecs");
    assert_eq!(ids(&folder.path("i.ivecs")), [1, -1, 9, 4]);
    #[cfg(unix)]
    {
        use std::{fs, os::unix::fs::PermissionsExt};
        let mode = |name: &str| {
            fs::metadata(folder.path(name))
                .unwrap()
                .permissions()
                .mode()
        };
        let usual = mode("back.npy");
        fs::set_permissions(folder.path("w.npy"), PermissionsExt::from_mode(0o444)).unwrap();
        folder.good("convert w.npy again.fvecs");
        assert_eq!(mode("again.fvecs"), usual, "as any new file");
        // A link is followed.
        std::os::unix::fs::symlink("back.npy", folder.path("link.npy")).unwrap();
        folder.good("convert w.npy link.npy");
        assert!(folder.path("link.npy").is_symlink());
        assert_eq!(bytes("back.npy"), bytes("w.npy"));
        folder.good("convert base.npy back.npy");
    }
    folder.bad(
        1,
        "convert base.npy b.bvecs",
        &["row 0", "0 to 255", ".fvecs"],
    );

    // an index through faiss's format and back answers the same
    folder.build();
    let value = &folder.json("convert a.ivf a.faiss")[0];
    assert_eq!(value["to_format"], "faiss");
    assert_eq!(&bytes("a.faiss")[..4], b"IwFl");
    assert_eq!(folder.json("info a.faiss")[0]["format"], "faiss");
    folder.good("convert a.faiss again.ivf");
    folder.good("search a.ivf queries.fvecs --ids one.npy --params nprobe=3");
    folder.good("search again.ivf queries.fvecs --ids two.npy --params nprobe=3");
    assert_eq!(bytes("one.npy"), bytes("two.npy"));
    folder.bad(2, "convert a.ivf x.npy", &["no file of vectors"]);
}

/// What cannot be written, or would replace what is read, is said before the work, and harms nothing.
#[test]
fn outputs_are_looked_at_first() {
    let folder = Folder::new();
    folder.build();
    std::fs::create_dir(folder.path("folder.svg")).unwrap();
    let bytes = |name: &str| std::fs::read(folder.path(name)).unwrap();
    let before = ["base.npy", "queries.fvecs", "a.ivf"].map(bytes);
    for (code, args, words) in [
        (2, "build base.npy -o base.npy", &["base.npy", ".ivf"][..]),
        (2, "build base.npy -o x.faiss", &["x.faiss", "convert"]),
        (2, "build base.npy -o x.fvecs --flat", &["x.fvecs"]),
        (
            2,
            "convert base.npy ./base.npy",
            &["base.npy", "another file"],
        ),
        (
            2,
            "search a.ivf queries.fvecs --ids a.txt",
            &["--ids", ".npy or .ivecs"],
        ),
        (
            2,
            "search a.ivf queries.fvecs --ids a.fvecs",
            &["--ids", ".ivecs"],
        ),
        (
            2,
            "search a.ivf queries.fvecs --distances queries.ivecs",
            &["--distances", ".npy or .fvecs"],
        ),
        (
            2,
            "search a.ivf queries.fvecs --distances queries.fvecs",
            &["queries.fvecs is read"],
        ),
        (
            2,
            "search a.ivf queries.fvecs --ids x.npy --distances ./x.npy",
            &["x.npy", "twice"],
        ),
        (2, "info a.ivf --plot a.ivf", &["a.ivf"]),
        (
            2,
            "bench a.ivf queries.fvecs --nq 10000001",
            &["10,000,000"],
        ),
        (
            1,
            "eval a.ivf queries.fvecs --plot no/x.svg",
            &["no/x.svg", "folder"],
        ),
        (
            1,
            "eval a.ivf queries.fvecs --plot folder.svg",
            &["folder.svg", "regular"],
        ),
        (
            1,
            "tune a.ivf queries.fvecs --target 0.9 --save --plot no/x.svg",
            &["no/x.svg"],
        ),
        (1, "info folder.svg", &["folder.svg", "regular file"]),
    ] {
        folder.bad(code, args, words);
    }
    for (name, before) in ["base.npy", "queries.fvecs", "a.ivf"].iter().zip(before) {
        assert!(bytes(name) == before, "{name} is what it was");
    }
    assert!(!folder.path("x.npy").exists());
    let left = std::fs::read_dir(folder.0.path()).unwrap();
    assert_eq!(left.count(), 4, "nothing is left beside them");
}

#[test]
fn evaluates() {
    let folder = Folder::new();
    folder.build();
    folder.good("search a.ivf queries.fvecs -k 5 --params nprobe=12 --ids truth.ivecs");
    let params = "--params nprobe=1 --params nprobe=12";
    let by_file = folder.json(&format!(
        "eval a.ivf queries.fvecs -k 5 --truth truth.ivecs {params}"
    ));
    let own = folder.json(&format!(
        "eval a.ivf queries.fvecs -k 5 {params} --plot r.svg"
    ));
    assert_eq!(by_file.len(), 2);
    for (one, two) in by_file.iter().zip(&own) {
        assert_eq!(one["recall"], two["recall"]);
        let latency = |p: &str| one["latency_ms"][p].as_f64().unwrap();
        assert!(0.0 < latency("p50") && latency("p50") <= latency("p95"));
        assert!(latency("p95") <= latency("p99"));
        assert!(one["qps"].as_f64().unwrap() > 0.0);
        assert_eq!(one["latency_queries"], NQ);
    }
    let low = by_file[0]["recall"].as_f64().unwrap();
    assert!((0.2..0.999).contains(&low), "{low}");
    assert_eq!(by_file[1]["recall"], 1.0);
    svg(
        &folder.path("r.svg"),
        &["numbers: nprobe", "recall@5", "queries per second"],
    );
    let grid = folder.json("eval a.ivf queries.fvecs --grid");
    let nprobes: Vec<u64> = grid.iter().map(|v| v["nprobe"].as_u64().unwrap()).collect();
    assert_eq!(nprobes, [1, 2, 4, 8]);
    let mapped = folder.json("eval a.ivf queries.fvecs --mmap --params nprobe=4");
    assert_eq!(mapped[0]["recall"], grid[2]["recall"]);
    assert!(
        folder
            .good("eval a.ivf queries.fvecs")
            .contains("nprobe=3 (index)")
    );
}

#[test]
fn tunes() {
    let folder = Folder::new();
    folder.build();
    let all = &folder.json("tune a.ivf queries.fvecs --target 0.9 --k 5 --save --plot t.svg")[0];
    let value = all["value"].as_u64().unwrap();
    assert!((2..=12).contains(&value), "{value}");
    assert_eq!(all["params"], format!("nprobe={value}"));
    assert!(all["promise"].as_f64().unwrap() >= 0.9);
    assert!(!all["pareto"].as_array().unwrap().is_empty());
    assert_eq!(folder.json("info a.ivf")[0]["nprobe"], value);
    svg(&folder.path("t.svg"), &["recall@5"]);
    let text = folder.good("tune a.ivf queries.fvecs --target 0.5");
    assert!(
        text.starts_with("nprobe=") && text.contains("promised"),
        "{text}"
    );
}

#[test]
fn benches_and_draws() {
    let folder = Folder::new();
    folder.build();
    let records = folder.json("bench a.ivf queries.fvecs --nq 1,4,200 --repeat 2");
    let nq: Vec<u64> = records.iter().map(|r| r["nq"].as_u64().unwrap()).collect();
    assert_eq!(nq, [1, 4, 200]);
    assert!(
        records
            .iter()
            .all(|r| r["library"] == "burn-ivf" && r["qps"].as_f64() > Some(0.0))
    );
    let lines: String = records.iter().map(|r| format!("{r}\n")).collect();
    let other = lines.replace("\"burn-ivf\"", "\"another\"");
    std::fs::write(folder.path("other.jsonl"), other).unwrap();
    folder.good("bench a.ivf queries.fvecs --nq 1,4 --repeat 1 --plot b.svg --beside other.jsonl");
    svg(
        &folder.path("b.svg"),
        &["burn-ivf", "another", "queries at once"],
    );
    folder.good("plot other.jsonl -o p.svg");
    svg(&folder.path("p.svg"), &["another", "queries per second"]);
    std::fs::write(folder.path("empty.jsonl"), "{}\n").unwrap();
    folder.bad(1, "plot empty.jsonl -o q.svg", &["bench --json"]);
}

#[test]
fn serves_the_shell() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = folder.good(&format!("completions {shell}"));
        assert!(
            script.contains("tune") && script.contains("burn-ivf"),
            "{shell}"
        );
    }
    assert!(folder.good("man").contains(".TH burn-ivf"));
    folder.good("man --out pages");
    assert!(folder.path("pages/burn-ivf-tune.1").exists());
    assert!(folder.good("--help").contains("Exit codes"));
}

#[test]
fn usage_errors_are_2() {
    let folder = Folder::new();
    folder.build();
    for (args, words) in [
        ("", &["Usage"][..]),
        ("fetch", &["fetch"]),
        ("build base.npy", &["--out"]),
        ("build base.npy -o x --metric hamming", &["hamming", "ip"]),
        ("build base.npy -o x --nlist 0", &["auto"]),
        (
            "build base.npy -o x --flat --nlist 4",
            &["--flat", "--nlist"],
        ),
        (
            "search a.ivf queries.fvecs --params nprob=3",
            &["nprob", "nprobe"],
        ),
        ("search a.ivf queries.fvecs -k 0", &["from 1 on"]),
        (
            "search a.ivf queries.fvecs --mmap --params mode=csr",
            &["--mmap", "nprobe"],
        ),
        ("tune a.ivf queries.fvecs --target 2", &["at most 1"]),
        ("info a.ivf --device tpu", &["tpu", "ndarray"]),
    ] {
        folder.bad(2, args, words);
    }
    if !cfg!(feature = "rocm") {
        let words = ["rocm is not compiled in", "ndarray", "--features cli,rocm"];
        folder.bad(2, "info a.ivf --device rocm", &words);
    }
}

#[test]
fn failures_are_1_and_say_what_to_do() {
    let folder = Folder::new();
    folder.build();
    folder.good("build base.npy -o b.flat --flat");
    write_vectors(folder.path("wide.npy"), &[0.5; 18], 9).unwrap();
    write_vectors(folder.path("few.npy"), &[0.5; 24], 8).unwrap();
    let mut rows = vec![0.5; 80];
    rows[25] = f32::NAN;
    write_vectors(folder.path("nan.npy"), &rows, 8).unwrap();
    write_ids(folder.path("three.npy"), &[1, 2, 3], 1).unwrap();
    write_vectors(folder.path("flat.npy"), &[0.5; 8], 1).unwrap();
    let mut padding: Vec<i64> = (0..N as i64).collect();
    padding[700] = -1;
    write_ids(folder.path("padding.npy"), &padding, 1).unwrap();
    write_ids(folder.path("truth.npy"), &vec![0; 2 * NQ], 2).unwrap();
    std::fs::write(folder.path("text.txt"), "no index at all").unwrap();
    std::fs::write(folder.path("broken.fvecs"), [8, 0, 0, 0, 1, 2]).unwrap();
    let whole = std::fs::read(folder.path("a.ivf")).unwrap();
    std::fs::write(folder.path("cut.ivf"), &whole[..whole.len() / 2]).unwrap();
    for (args, words) in [
        ("build none.npy -o x", &["none.npy"][..]),
        ("build text.txt -o x", &["text.txt", "npy", "fvecs"]),
        ("build broken.fvecs -o x", &["broken.fvecs", "byte"]),
        (
            "build few.npy -o x --nlist 7",
            &["3", "7", "--nlist", "--train-size"],
        ),
        ("build nan.npy -o x --nlist 1", &["nan.npy", "NaN"]),
        ("build nan.npy -o x --flat", &["nan.npy", "row 3"]),
        (
            "build base.npy -o x --ids three.npy",
            &["three.npy", "1200", "one id per vector"],
        ),
        ("build base.npy -o no/folder/x", &["no/folder/x"]),
        (
            "build base.npy -o x --flat --ids padding.npy",
            &["padding.npy", "row 700"],
        ),
        ("search a.ivf flat.npy", &["flat.npy", "[1, 8]"]),
        ("search a.ivf wide.npy", &["wide.npy", "9", "d = 8"]),
        ("search b.flat queries.fvecs --params nprobe=3", &["nprobe"]),
        (
            "search text.txt queries.fvecs",
            &["text.txt", "burn-ivf build"],
        ),
        ("search none.ivf queries.fvecs", &["none.ivf"]),
        ("info cut.ivf", &["cut.ivf", "another copy"]),
        (
            "eval a.ivf queries.fvecs --truth truth.npy",
            &["truth.npy", "--k 2"],
        ),
        ("eval a.ivf wide.npy", &["9"]),
        (
            "eval a.ivf queries.fvecs --truth three.npy",
            &["three.npy", "50"],
        ),
        (
            "tune b.flat queries.fvecs --target 0.9",
            &["b.flat", "--flat"],
        ),
        ("info b.flat --plot x.svg", &["b.flat", "lists"]),
    ] {
        folder.bad(1, args, words);
        assert!(!folder.path("x").exists(), "{args}");
    }
}

/// `burn-ivf search .. | head -1` ends quietly.
#[test]
fn a_closed_pipe_is_no_failure() {
    use std::io::Read;
    let folder = Folder::new();
    folder.build();
    let mut child = Command::new(env!("CARGO_BIN_EXE_burn-ivf"))
        .current_dir(folder.0.path())
        .args([
            "search",
            "a.ivf",
            "queries.fvecs",
            "-k",
            "1000",
            "--batch",
            "5",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 10]).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}
