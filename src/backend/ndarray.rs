//! The ndarray CPU backend: tensors seen through `NdArrayTensor`'s view, without a copy.

use super::{
    Capabilities, Groups, Hits, IvfBackend, Probing, RangeHits, Reads, Scan, Slot,
    host::{self, HostLists, HostTensors},
    portable,
};
use crate::{error::Result, plan::DeviceKey};
use burn::tensor::{Int, Tensor, TensorPrimitive};
use burn_ndarray::{
    FloatNdArrayElement, IntNdArrayElement, NdArray, NdArrayTensor, QuantElement, SharedArray,
};

impl<E: FloatNdArrayElement, I: IntNdArrayElement, Q: QuantElement> HostTensors for NdArray<E, I, Q>
where
    NdArrayTensor: From<SharedArray<E>> + From<SharedArray<I>>,
{
    fn with_slice<R>(tensor: Tensor<Self, 2>, f: impl FnOnce(&[f32]) -> R) -> R {
        let tensor = match tensor.into_primitive() {
            TensorPrimitive::Float(tensor) => tensor,
            quantized @ TensorPrimitive::QFloat(_) => quantized.tensor(),
        };
        if let NdArrayTensor::F32(storage) = &tensor {
            let view = storage.view();
            let standard = view.as_standard_layout();
            if let Some(slice) = standard.as_slice() {
                return f(slice);
            }
        }
        let tensor = Tensor::<Self, 2>::from_primitive(TensorPrimitive::Float(tensor));
        f(&tensor.into_data().iter::<f32>().collect::<Vec<_>>())
    }

    fn with_ints<R>(tensor: Tensor<Self, 2, Int>, f: impl FnOnce(&[i64]) -> R) -> R {
        let tensor = tensor.into_primitive();
        if let NdArrayTensor::I64(storage) = &tensor {
            let view = storage.view();
            let standard = view.as_standard_layout();
            if let Some(slice) = standard.as_slice() {
                return f(slice);
            }
        }
        let tensor = Tensor::<Self, 2, Int>::from_primitive(tensor);
        f(&tensor.into_data().iter::<i64>().collect::<Vec<_>>())
    }
}

impl<E: FloatNdArrayElement, I: IntNdArrayElement, Q: QuantElement> IvfBackend for NdArray<E, I, Q>
where
    NdArrayTensor: From<SharedArray<E>> + From<SharedArray<I>>,
{
    host_backend!();
}
