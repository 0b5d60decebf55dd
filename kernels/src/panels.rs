//! The layout of a list: panels of [`PANEL`] vectors, dimension-major inside a panel.
//!
//! Component `t` of row `s` lies at `(s / PANEL) * PANEL * d + t * PANEL + s % PANEL`, so one
//! vector register holds one component of several rows and distances come out one per lane. Rows
//! keep the order in which they were pushed. The unused lanes of the last panel are zero.

use aligned_vec::{AVec, ConstAlign};

/// Rows per panel: one AVX-512 register of f32.
pub const PANEL: usize = 16;

/// A growable list of `f32` vectors in panel layout; values come back bit for bit.
#[derive(Debug, Clone)]
pub struct Panels {
    d: usize,
    len: usize,
    data: AVec<f32, ConstAlign<64>>,
}

impl Panels {
    /// An empty list of vectors of `d` components.
    pub fn new(d: usize) -> Self {
        Self {
            d,
            len: 0,
            data: AVec::new(64),
        }
    }

    /// Components of a vector.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Vectors held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no vector is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The panels, `[len.div_ceil(PANEL), d, PANEL]`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.data.capacity() * size_of::<f32>()
    }

    /// Makes room for `additional` more vectors: exactly, when the list is empty; otherwise the
    /// allocation grows by at least an eighth, so that many small appends stay linear in all.
    pub fn reserve(&mut self, additional: usize) {
        let needed = (self.len + additional).div_ceil(PANEL) * PANEL * self.d;
        if needed > self.data.capacity() {
            let grown = self.data.capacity() + self.data.capacity() / 8;
            self.data.reserve_exact(needed.max(grown) - self.data.len());
        }
    }

    /// Appends one vector of `d` components.
    ///
    /// # Panics
    /// When `row` does not have `d` components.
    pub fn push(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.d, "a row must have d components");
        let lane = self.len % PANEL;
        if lane == 0 {
            self.reserve(1);
            self.data.resize(self.data.len() + PANEL * self.d, 0.0);
        }
        let base = (self.len / PANEL) * PANEL * self.d;
        let panel = &mut self.data[base..];
        for (line, &value) in panel.chunks_exact_mut(PANEL).zip(row) {
            line[lane] = value;
        }
        self.len += 1;
    }

    /// Copies row `slot` into `out`.
    ///
    /// # Panics
    /// When there is no such row, or `out` does not have `d` components.
    pub fn copy_row(&self, slot: usize, out: &mut [f32]) {
        assert!(slot < self.len, "row {slot} of a list of {}", self.len);
        assert_eq!(out.len(), self.d, "a row has d components");
        let base = (slot / PANEL) * PANEL * self.d;
        let panel = &self.data[base..base + PANEL * self.d];
        for (value, line) in out.iter_mut().zip(panel.chunks_exact(PANEL)) {
            *value = line[slot % PANEL];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_bit_for_bit() {
        for d in [1, 3, 16, 33] {
            let mut panels = Panels::new(d);
            let rows: Vec<Vec<f32>> = (0..50)
                .map(|i| {
                    (0..d)
                        .map(|t| f32::from_bits((i * 977 + t) as u32))
                        .collect()
                })
                .collect();
            for row in &rows {
                panels.push(row);
            }
            assert_eq!(panels.data().len(), 64 * d);
            let mut out = vec![0.0; d];
            for (slot, row) in rows.iter().enumerate() {
                panels.copy_row(slot, &mut out);
                assert!(out.iter().zip(row).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }

    #[test]
    fn growth_is_amortised() {
        let mut panels = Panels::new(4);
        let mut moves = 0;
        for _ in 0..100_000 {
            let before = panels.data().as_ptr();
            panels.push(&[1.0; 4]);
            moves += usize::from(panels.data().as_ptr() != before);
        }
        assert!(moves < 120, "{moves} reallocations");
    }
}
