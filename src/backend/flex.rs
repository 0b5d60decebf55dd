//! The flex CPU backend: tensors seen through `FlexTensor::as_slice`, copied only when strided.

use super::{
    Capabilities, Groups, Hits, IvfBackend, Probing, RangeHits, Reads, Scan, Slot,
    host::{self, HostLists, HostTensors},
    portable,
};
use crate::{error::Result, plan::DeviceKey};
use burn::tensor::{DType, Int, Tensor, TensorPrimitive};
use burn_flex::Flex;

impl HostTensors for Flex {
    fn with_slice<R>(tensor: Tensor<Self, 2>, f: impl FnOnce(&[f32]) -> R) -> R {
        let tensor = tensor.into_primitive().tensor().to_contiguous();
        if let Some(slice) = tensor.as_slice::<f32>() {
            return f(slice);
        }
        let tensor = Tensor::<Self, 2>::from_primitive(TensorPrimitive::Float(tensor));
        f(&tensor.into_data().iter::<f32>().collect::<Vec<_>>())
    }

    fn with_ints<R>(tensor: Tensor<Self, 2, Int>, f: impl FnOnce(&[i64]) -> R) -> R {
        let tensor = tensor.into_primitive().to_contiguous();
        if tensor.dtype() == DType::I64
            && let Some(slice) = tensor.as_slice::<i64>()
        {
            return f(slice);
        }
        let tensor = Tensor::<Self, 2, Int>::from_primitive(tensor);
        f(&tensor.into_data().iter::<i64>().collect::<Vec<_>>())
    }
}

impl IvfBackend for Flex {
    host_backend!();
}
