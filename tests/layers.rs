//! The layers of the source tree (`docs/architecture.md`), checked, so that the picture cannot rot.
//!
//! * A module imports only from layers below its own: train, tune → index → persist → engine → lists, cluster,
//!   result → backend → plan → error, metric, params, selector, stats → the kernels crate.
//! * Only `backend` names the kernels crate; `metric` re-exports how it compares, `error` wraps
//!   its errors.
//! * The kernels crate knows nothing of Burn.
//! * Only `src/backend` holds `cfg`s about backends (and `device.rs` of the command line).
//! * Every case of the suite is mounted.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, highest first. Modules on one line may not import each other, but for the last,
/// which is one vocabulary.
const LAYERS: [&[&str]; 8] = [
    &["train", "tune"],
    &["index"],
    &["persist"],
    &["engine"],
    &["lists", "cluster", "result"],
    &["backend"],
    &["plan"],
    &["error", "metric", "params", "selector", "spans", "stats"],
];

/// Modules beside `backend` that may name the kernels crate, and what for.
const KERNEL_WORDS: [(&str, &[&str]); 2] = [
    ("metric", &["Metric", "pairwise"]),
    ("error", &["KernelError"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

/// The files below `folder`, each as its module path and its code without comments.
fn sources(folder: &str) -> Vec<(Vec<String>, String)> {
    let folder = root().join(folder);
    let mut files = Vec::new();
    rust_files(&folder, &mut files);
    assert!(!files.is_empty(), "no sources in {}", folder.display());
    let module = |path: &Path| {
        let mut parts: Vec<String> = path
            .strip_prefix(&folder)
            .unwrap()
            .with_extension("")
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        if parts
            .last()
            .is_some_and(|last| last == "mod" || last == "lib")
        {
            parts.pop();
        }
        parts
    };
    files
        .iter()
        .map(|path| (module(path), code(&fs::read_to_string(path).unwrap())))
        .collect()
}

/// Source text without comments, strings and characters (all replaced by spaces).
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with('"') {
            string_end(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            0
        };
        if skip > 0 {
            let newlines = rest[..skip].matches('\n').count();
            out.push(' ');
            out.extend(std::iter::repeat_n('\n', newlines));
            at += skip;
        } else {
            let next = rest.chars().next().unwrap();
            out.push(next);
            at += next.len_utf8();
        }
    }
    out
}

/// Bytes of the string literal that `text` begins with.
fn string_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Whether `text` at `at` begins a word of its own.
fn word_starts(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Places where `word` stands as a word.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| {
            let after = text[at + word.len()..].chars().next();
            word_starts(text, at) && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
}

/// The first path segments that follow: one, or those of a braced group.
fn heads(after: &str) -> Vec<String> {
    let ident = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let after = after.trim_start();
    let Some(group) = after.strip_prefix('{') else {
        return vec![ident(after)];
    };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(ident(group[start..at].trim_start()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(ident(group[start..at].trim_start()));
                start = at + 1;
            }
            _ => {}
        }
    }
    found.retain(|head| !head.is_empty());
    found
}

/// Modules of this crate that a file names, by `crate::` or by climbing with `super::`.
///
/// Inline modules (tests) make `super` one level deeper than it looks; they may only name more of
/// their own module, so such a path is read as the nearer of the two.
fn imports(module: &[String], text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for at in words(text, "crate") {
        if let Some(after) = text[at + 5..].trim_start().strip_prefix("::") {
            found.extend(heads(after));
        }
    }
    for at in words(text, "super") {
        if text[..at].trim_end().ends_with("super::") || text[..at].trim_end().ends_with("in") {
            continue; // counted with its first `super`, or a visibility
        }
        let mut after = &text[at..];
        let mut climbs = 0;
        while let Some(rest) = after.strip_prefix("super::") {
            (after, climbs) = (rest, climbs + 1);
        }
        if climbs > 0 && climbs >= module.len() {
            let top = heads(after);
            let known = |head: &String| LAYERS.iter().any(|layer| layer.contains(&head.as_str()));
            found.extend(top.into_iter().filter(known));
        }
    }
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn modules_import_only_from_below() {
    let mut wrong = Vec::new();
    for (module, text) in sources("src") {
        let Some(top) = module.first() else {
            continue; // lib.rs re-exports from everywhere
        };
        if top == "bin" {
            continue; // a crate of its own, over the public items
        }
        let own = layer(top).unwrap_or_else(|| panic!("module {top} has no layer: add it here"));
        for name in imports(&module, &text) {
            let Some(theirs) = layer(&name) else {
                // an item re-exported by lib.rs hides where it comes from
                wrong.push(format!("{} names crate::{name}", module.join("::")));
                continue;
            };
            let vocabulary = own == LAYERS.len() - 1 && theirs == own;
            if &name != top && theirs <= own && !vocabulary {
                wrong.push(format!("{} imports {name}", module.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_backend_names_the_kernels() {
    for (module, text) in sources("src") {
        let top = module.first().map_or("lib", String::as_str);
        if top == "backend" {
            continue;
        }
        for at in words(&text, "burn_ivf_kernels") {
            let names = text[at..].strip_prefix("burn_ivf_kernels::").map(heads);
            let names = names.unwrap_or_default();
            let allowed = KERNEL_WORDS.iter().find(|(module, _)| *module == top);
            let fine = allowed.is_some_and(|(_, words)| {
                !names.is_empty() && names.iter().all(|name| words.contains(&name.as_str()))
            });
            assert!(
                fine,
                "{} names burn_ivf_kernels::{names:?}",
                module.join("::")
            );
        }
    }
}

#[test]
fn plan_and_vocabulary_know_no_backend() {
    for (module, text) in sources("src") {
        let top = module.first().map_or("lib", String::as_str);
        if top == "plan" || ["error", "metric", "params"].contains(&top) {
            let tensors = ["Tensor", "Backend", "burn"];
            let found = tensors
                .iter()
                .find(|word| words(&text, word).next().is_some());
            assert!(found.is_none(), "{} names {found:?}", module.join("::"));
        }
    }
}

#[test]
fn kernels_know_no_burn() {
    for (module, text) in sources("kernels/src") {
        for word in [
            "burn",
            "burn_cubecl",
            "burn_ndarray",
            "burn_tensor",
            "burn_ivf",
        ] {
            let found = words(&text, word).next();
            assert!(
                found.is_none(),
                "kernels: {} names {word}",
                module.join("::")
            );
        }
    }
    let manifest = fs::read_to_string(root().join("kernels/Cargo.toml")).unwrap();
    let dependency = |line: &&str| line.starts_with("burn") && !line.starts_with("burn-ivf");
    assert_eq!(manifest.lines().find(dependency), None);
}

#[test]
fn only_backend_holds_backend_cfgs() {
    let features = [
        "ndarray", "flex", "wgpu", "vulkan", "metal", "webgpu", "cuda", "rocm", "autodiff",
        "fusion", "cube",
    ];
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    for path in files {
        let inside = path.strip_prefix(root().join("src")).unwrap();
        // the command line picks a backend by name in one file
        if inside.starts_with("backend") || inside.ends_with("burn-ivf/device.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        // a README tested as a doctest needs a backend, and what debug builds compile ahead
        // (`index/instances.rs`) names one: neither is a matter of the library
        let matters = |line: &&str| {
            line.contains("cfg") && !line.contains("doctest") && !line.contains("debug_assertions")
        };
        for line in lines.filter(matters) {
            let named = |name: &&&str| line.contains(&format!("\"{name}\""));
            let found = features.iter().find(named);
            assert!(found.is_none(), "{}: {line}", inside.display());
        }
    }
}

/// A case that nobody mounts would look tested.
#[test]
fn every_case_is_mounted() {
    let folder = root().join("tests/suite");
    let mounted = fs::read_to_string(folder.join("mod.rs")).unwrap();
    let mut files = Vec::new();
    rust_files(&folder, &mut files);
    let mut cases = 0;
    for path in files {
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        if ["mod", "support", "oracle", "open", "sets"].contains(&module.as_str()) {
            continue;
        }
        let list = mounted
            .split_once(&format!("cases!({module}:"))
            .unwrap_or_else(|| panic!("module {module} is not mounted"))
            .1;
        let list = &list[..list.find(");").unwrap()];
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let name = line
                .strip_prefix("pub fn ")
                .and_then(|rest| rest.split_once("<B: IvfBackend>(device: &B::Device) {"));
            if let Some((name, _)) = name {
                cases += 1;
                let found = words(list, name).next().is_some();
                assert!(found, "{module}::{name} is not mounted");
            }
        }
    }
    assert!(
        cases > 80,
        "only {cases} cases found: has their form changed?"
    );
}

#[test]
fn the_scanner_works() {
    let text = code(
        "use crate::{a::X, b, c::{d, e}}; // crate::no\nlet s = \"crate::not\";\ncrate::f::g();",
    );
    assert_eq!(imports(&["m".into()], &text), ["a", "b", "c", "f"]);
    assert_eq!(code("a /* b */ c"), "a   c");
    assert_eq!(code("\"x\\\"y\" z"), "  z");
}

/// `docs/reliability.md` says how much `unsafe` there is, and where.
#[test]
fn unsafe_is_counted() {
    let all = || sources("src").into_iter().chain(sources("kernels/src"));
    let count = |words: &str| {
        let squeezed = |code: &str| code.split_whitespace().collect::<Vec<_>>().join(" ");
        all()
            .map(|(_, code)| squeezed(&code).matches(words).count())
            .sum::<usize>()
    };
    let (blocks, functions) = (count("unsafe {"), count("unsafe fn"));
    let text = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let said = format!("{blocks} blocks of `unsafe`, none in `src`, and {functions} functions");
    assert!(
        text.contains(&said),
        "docs/reliability.md does not say: {said}"
    );
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|line| line.split('|').nth(2)?.trim().parse::<usize>().ok());
    assert_eq!(
        cells.sum::<usize>(),
        blocks,
        "the table of docs/reliability.md"
    );
}
