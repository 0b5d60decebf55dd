//! A fuzz target for one kind of file.

/// The target that reads `Kind::$kind`.
macro_rules! reader {
    ($kind:ident, $name:literal) => {
        static SCRATCH: std::sync::LazyLock<targets::Scratch> =
            std::sync::LazyLock::new(targets::Scratch::new);

        libfuzzer_sys::fuzz_target!(
            init: {
                // Threads and tables are made before anything is counted.
                targets::run(&SCRATCH, targets::Kind::$kind, &[]);
                targets::sparse_ivf(40);
            },
            |file: &[u8]| targets::run(&SCRATCH, targets::Kind::$kind, file).check(file, $name)
        );
    };
}
