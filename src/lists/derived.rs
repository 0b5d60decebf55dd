//! What follows from the rows of a list and is kept once it was asked for: the order in which rows
//! are read near the centroid first, and the radius around the centroid that holds them all.
//!
//! Storage order stays insertion order. A list that changes forgets what followed from it
//! ([`InvertedLists::changed`]); results never depend on what is kept.

use super::InvertedLists;
use crate::{
    backend::{IvfBackend, ListOrder, ListStore, ReadingOrder, Slot, portable, read},
    error::Result,
    params::ListOrdering,
};
use burn::tensor::{Int, Tensor, TensorData};
use std::sync::{Arc, OnceLock};

/// What was derived of one list so far.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    residual: OnceLock<Residual>,
    projection: OnceLock<Arc<ListOrder>>,
}

#[derive(Debug)]
struct Residual {
    order: Arc<ListOrder>,
    /// No row is farther from the centroid.
    radius: f64,
}

impl<E: IvfBackend> InvertedLists<E> {
    /// The order in which the rows of every list are read; `None` as inserted.
    pub fn reading_order(
        &self,
        ordering: ListOrdering,
        centroids: &Tensor<E, 2>,
        workspace: usize,
    ) -> Result<Option<ReadingOrder>> {
        if ordering == ListOrdering::Insertion {
            return Ok(None);
        }
        self.derive(ordering, centroids, workspace)?;
        let of = |derived: &Arc<Derived>| match ordering {
            ListOrdering::Projection => derived.projection.get().cloned(),
            _ => derived.residual.get().map(|r| Arc::clone(&r.order)),
        };
        let lists = self.derived.iter().map(|d| of(d).unwrap_or_default());
        Ok(Some(ReadingOrder {
            lists: lists.collect(),
        }))
    }

    /// A radius around every centroid that holds all rows of its list.
    pub fn radii(&self, centroids: &Tensor<E, 2>, workspace: usize) -> Result<Vec<f64>> {
        self.derive(ListOrdering::ResidualNorm, centroids, workspace)?;
        let radius = |derived: &Arc<Derived>| derived.residual.get().map_or(0.0, |r| r.radius);
        Ok(self.derived.iter().map(radius).collect())
    }

    /// Bytes of what is kept.
    pub fn derived_bytes(&self) -> usize {
        let order = |order: &ListOrder| 2 * order.rows.capacity() * size_of::<u32>();
        let each = |derived: &Arc<Derived>| {
            derived.residual.get().map_or(0, |r| order(&r.order))
                + derived.projection.get().map_or(0, |o| order(o))
        };
        self.derived.iter().map(each).sum()
    }

    /// Fills what is missing, many lists at a time.
    fn derive(
        &self,
        ordering: ListOrdering,
        centroids: &Tensor<E, 2>,
        workspace: usize,
    ) -> Result<()> {
        let known = |derived: &Derived| match ordering {
            ListOrdering::Projection => derived.projection.get().is_some(),
            _ => derived.residual.get().is_some(),
        };
        let missing: Vec<usize> = (0..self.nlist())
            .filter(|&l| !known(&self.derived[l]))
            .collect();
        let at: Vec<Slot> = missing
            .iter()
            .flat_map(|&l| {
                (0..self.ids[l].len()).map(move |slot| Slot {
                    list: l as u32,
                    slot: slot as u32,
                })
            })
            .collect();
        let mut keys = Vec::with_capacity(at.len());
        let rows = (workspace / (8 * self.d * size_of::<f32>())).max(1);
        for at in at.chunks(rows) {
            keys.extend(self.keys(ordering, centroids, at)?);
        }
        let mut first = 0;
        for l in missing {
            let keys = &keys[first..first + self.ids[l].len()];
            first += keys.len();
            let order = Arc::new(ListOrder::ascending(keys));
            if ordering == ListOrdering::Projection {
                let _ = self.derived[l].projection.set(order);
            } else {
                // The square is summed in f32, from rounded differences.
                let most = keys.iter().copied().fold(0.0, f32::max);
                let slack = 1.0 + (self.d as f64 + 16.0) / f64::from(1 << 22);
                // Squares too small for an f32 were lost.
                let lost = 2.0 * self.d as f64 * f64::from(f32::MIN_POSITIVE);
                let radius = (f64::from(most) * slack + lost).sqrt();
                let _ = self.derived[l].residual.set(Residual { order, radius });
            }
        }
        Ok(())
    }

    /// What rows are ordered by, ascending: squared distances to the centroid or negated inner
    /// products with it, summed in an order that does not depend on the other rows.
    fn keys(
        &self,
        ordering: ListOrdering,
        centroids: &Tensor<E, 2>,
        at: &[Slot],
    ) -> Result<Vec<f32>> {
        let x = self.store.gather(at)?;
        let lists: Vec<i64> = at.iter().map(|at| i64::from(at.list)).collect();
        let lists: Tensor<E, 1, Int> =
            Tensor::from_data(TensorData::new(lists, [at.len()]), &x.device());
        let c = centroids.clone().select(0, lists);
        let terms = if ordering == ListOrdering::Projection {
            x * c.neg()
        } else {
            let difference = x - c;
            difference.clone() * difference
        };
        read(portable::tree_sum(terms))
    }
}
