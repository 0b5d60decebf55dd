//! `Autodiff<B>`: indexes live on the wrapped backend; queries leave their graph behind and
//! results carry none.

use super::{
    Capabilities, Groups, Hits, IvfBackend, Probing, RangeHits, Reads, Scan, Slot,
    shared::InnerLists,
};
use crate::{error::Result, plan::DeviceKey};
use burn::tensor::{Int, Tensor};
use burn_autodiff::{Autodiff, checkpoint::strategy::CheckpointStrategy};

impl<B: IvfBackend, C: CheckpointStrategy> IvfBackend for Autodiff<B, C> {
    type Inner = B::Inner;

    forward_to_inner!();

    fn lower<const D: usize>(tensor: Tensor<Self, D>) -> Tensor<B::Inner, D> {
        B::lower(tensor.inner())
    }

    fn lower_int<const D: usize>(tensor: Tensor<Self, D, Int>) -> Tensor<B::Inner, D, Int> {
        B::lower_int(tensor.inner())
    }

    fn lift<const D: usize>(tensor: Tensor<B::Inner, D>) -> Tensor<Self, D> {
        Tensor::from_inner(B::lift(tensor))
    }

    fn lift_int<const D: usize>(tensor: Tensor<B::Inner, D, Int>) -> Tensor<Self, D, Int> {
        Tensor::from_inner(B::lift_int(tensor))
    }
}
