//! The values of candle's tensors.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Storage, Tensor};
use unimodel_model::error::ModelError;

/// A tensor's values in row-major order, where they are if they lie so: tables of many items are large.
pub(super) enum Values<'a> {
    InPlace { storage: Box<dyn Deref<Target = Storage> + Sync + 'a>, range: Range<usize> },
    Copied(Vec<f32>),
}

/// The values of a tensor of floats in this machine's memory, or an error that says what it is.
pub(super) fn values(tensor: &Tensor) -> Result<Values<'_>, ModelError> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => {
            Ok(Values::InPlace { storage: Box::new(storage), range: start..end })
        }
        _ => Ok(Values::Copied(floats(tensor)?)),
    }
}

/// The same, copied.
pub(super) fn floats(tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Copied(values) => values,
            Self::InPlace { storage, range } => match &***storage {
                Storage::Cpu(CpuStorage::F32(values)) => &values[range.clone()],
                _ => unreachable!("`values` has looked"),
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn values_are_the_same_in_place_and_copied() {
        let all = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((3, 4)).unwrap();
        let part = all.narrow(0, 1, 2).unwrap();
        for (tensor, in_place) in [(all.clone(), true), (part, true), (all.t().unwrap(), false)] {
            let values = values(&tensor).unwrap();
            assert_eq!(matches!(values, Values::InPlace { .. }), in_place, "{tensor}");
            assert_eq!(*values, floats(&tensor).unwrap(), "{tensor}");
        }
        assert!(values(&all.to_dtype(DType::U32).unwrap()).is_err());
    }
}
