//! Selectors as bits over the rows of every list.

use super::InvertedLists;
use crate::{
    backend::{IvfBackend, Masks},
    selector::{IdSelector, Selection},
};
use rayon::prelude::*;

impl<E: IvfBackend> InvertedLists<E> {
    /// The rows whose id is selected, for the queries in `range`; every selector is looked at once.
    pub fn masks(&self, selection: &Selection, range: core::ops::Range<usize>) -> Masks {
        let mut starts = Vec::with_capacity(self.nlist() + 1);
        starts.push(0);
        for ids in &self.ids {
            starts.push(starts[starts.len() - 1] + ids.len().div_ceil(32));
        }
        let (selectors, of): (Vec<&IdSelector>, Vec<u32>) = match selection {
            Selection::Shared(selector) => (vec![selector], Vec::new()),
            Selection::PerQuery { selectors, of } => {
                // Only those that a query of the range names, in order of their first use.
                let mut place = vec![u32::MAX; selectors.len()];
                let mut used = Vec::new();
                let of = of[range].iter().map(|&selector| {
                    let place = &mut place[selector as usize];
                    if *place == u32::MAX {
                        *place = used.len() as u32;
                        used.push(&selectors[selector as usize]);
                    }
                    *place
                });
                let of = of.collect();
                (used, of)
            }
        };
        let mask = |selector: &&IdSelector| {
            let compiled = selector.compile();
            let mut words = vec![0; starts[self.nlist()]];
            let mut rest = &mut words[..];
            let mut lists = Vec::with_capacity(self.nlist());
            for ids in &self.ids {
                let (words, after) = rest.split_at_mut(ids.len().div_ceil(32));
                lists.push((ids, words));
                rest = after;
            }
            lists
                .into_par_iter()
                .for_each(|(ids, words)| compiled.select(ids, words));
            words
        };
        Masks {
            masks: selectors.par_iter().map(mask).collect(),
            starts,
            of,
        }
    }

    /// Words of one mask.
    pub fn mask_words(&self) -> usize {
        self.ids.iter().map(|ids| ids.len().div_ceil(32)).sum()
    }
}
