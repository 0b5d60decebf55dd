//! `Fusion<B>`: indexes live on the wrapped backend.
//!
//! A query tensor is resolved (which runs what the fusion queue still holds for it, without
//! waiting for the device) and results are registered again, so searches give the same bits as on
//! `B`, and users keep their `Fusion<..>` types.

use super::{
    Capabilities, Groups, Hits, IvfBackend, Probing, RangeHits, Reads, Scan, Slot,
    shared::InnerLists,
};
use crate::{error::Result, plan::DeviceKey};
use burn::tensor::{DType, Int, Shape, Tensor, TensorPrimitive};
use burn_fusion::{
    Fusion, FusionBackend, FusionTensor, NoOp, get_client, stream::OperationStreams,
};
use burn_ir::{InitOperationIr, OperationIr, OperationOutput};

/// Hands a computed tensor of `B` to the fusion client of its device.
fn register<B: FusionBackend>(
    handle: B::Handle,
    shape: Shape,
    dtype: DType,
    device: &B::Device,
) -> FusionTensor<B::FusionRuntime> {
    let client = get_client::<B>(device);
    let init = InitOperationIr::create(shape, dtype, || client.register_tensor_handle(handle));
    client
        .register(
            OperationStreams::default(),
            OperationIr::Init(init),
            NoOp::<B>::new(),
        )
        .output()
}

impl<B: FusionBackend + IvfBackend<Inner = B>> IvfBackend for Fusion<B> {
    type Inner = B;

    forward_to_inner!();

    fn lower<const D: usize>(tensor: Tensor<Self, D>) -> Tensor<B, D> {
        let tensor = tensor.into_primitive().tensor();
        let client = tensor.client.clone();
        Tensor::from_primitive(TensorPrimitive::Float(
            client.resolve_tensor_float::<B>(tensor),
        ))
    }

    fn lower_int<const D: usize>(tensor: Tensor<Self, D, Int>) -> Tensor<B, D, Int> {
        let tensor = tensor.into_primitive();
        let client = tensor.client.clone();
        Tensor::from_primitive(client.resolve_tensor_int::<B>(tensor))
    }

    fn lift<const D: usize>(tensor: Tensor<B, D>) -> Tensor<Self, D> {
        let (shape, dtype, device) = (tensor.shape(), tensor.dtype(), tensor.device());
        let handle = B::float_tensor_handle(tensor.into_primitive().tensor());
        Tensor::from_primitive(TensorPrimitive::Float(register::<B>(
            handle, shape, dtype, &device,
        )))
    }

    fn lift_int<const D: usize>(tensor: Tensor<B, D, Int>) -> Tensor<Self, D, Int> {
        let (shape, dtype, device) = (tensor.shape(), tensor.dtype(), tensor.device());
        let handle = B::int_tensor_handle(tensor.into_primitive());
        Tensor::from_primitive(register::<B>(handle, shape, dtype, &device))
    }
}
