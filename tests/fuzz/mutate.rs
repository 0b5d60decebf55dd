//! Changes to files: bits, figures, cuts, insertions, pieces of other files.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A reproducible source of changes.
pub struct Mutator(ChaCha8Rng);

/// Figures that readers trip over.
const FIGURES: [u64; 16] = [
    0,
    1,
    2,
    3,
    8,
    255,
    1 << 16,
    1 << 20,
    (1 << 20) + 1,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 61,
    i64::MAX as u64,
    u64::MAX,
];

impl Mutator {
    pub fn new(seed: u64, case: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(case);
        Self(rng)
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.0.random_range(0..of.len())]
    }

    /// One to four changes.
    pub fn mutate(&mut self, file: &[u8], other: &[u8]) -> Vec<u8> {
        let mut file = file.to_vec();
        for _ in 0..self.0.random_range(1..=4) {
            self.change(&mut file, other);
        }
        file
    }

    fn change(&mut self, file: &mut Vec<u8>, other: &[u8]) {
        let rng = &mut self.0;
        let at = rng.random_range(0..=file.len());
        let most = rng.random_range(0..=16.min(file.len() - at));
        match rng.random_range(0..10) {
            0 => file.truncate(at),
            1 => {
                let bytes: Vec<u8> = (0..rng.random_range(1..=16))
                    .map(|_| rng.random())
                    .collect();
                file.splice(at..at, bytes);
            }
            2 => drop(file.drain(at..at + most)),
            3 => {
                let again = file[at..at + most].to_vec();
                file.splice(at..at, again);
            }
            4 if !other.is_empty() => {
                let from = rng.random_range(0..other.len());
                let piece = &other[from..other.len().min(from + 32)];
                let end = file.len().min(at + piece.len());
                file.splice(at..end, piece.iter().copied());
            }
            5..=7 => {
                let size = *[1, 2, 4, 8].get(rng.random_range(0..4)).unwrap_or(&8);
                let figure = FIGURES[rng.random_range(0..FIGURES.len())];
                let end = file.len().min(at + size);
                let bytes = figure.to_le_bytes();
                file[at..end].copy_from_slice(&bytes[..end - at]);
            }
            _ if at < file.len() => file[at] ^= 1 << rng.random_range(0..8),
            _ => {}
        }
    }
}
