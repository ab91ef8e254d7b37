//! The weights of a version in their file, read tensor by tensor: tables of many items go where they are needed, with no
//! copy of the whole file in between.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::ModelError;
use crate::network::{Tensors, check_shapes};
use crate::schema::Schema;

/// The longest header that is read, in bytes: a hundred thousand tensors' names and shapes.
const LONGEST_HEADER: u64 = 10 << 20;

/// Weights in a file of the [safetensors format](https://github.com/huggingface/safetensors#format), all of them f32.
#[derive(Debug)]
pub struct Weights {
    file: File,
    metadata: Metadata,
    /// Where the first tensor begins in the file.
    data: u64,
}

impl Weights {
    /// Reads the names and shapes of the tensors.
    ///
    /// # Errors
    /// A file that cannot be read or is not of the format: one that is shorter than its header says, for one.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let failed = |source| ModelError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).map_err(failed)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER.min(size - 8) {
            let problem = format!("its header is said to have {length} bytes, in a file of {size}");
            return Err(ModelError::Weights(problem));
        }
        let mut header = vec![0; length as usize];
        file.read_exact_at(&mut header, 8).map_err(failed)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|e| ModelError::Weights(format!("its header: {e}")))?;
        let (data, expected) = (8 + length, 8 + length + metadata.data_len() as u64);
        if size != expected {
            return Err(ModelError::Weights(format!("it has {size} bytes; its header asks for {expected}")));
        }
        Ok(Self { file, metadata, data })
    }

    /// Whether these are the tensors of a schema over a catalogue of so many items.
    ///
    /// # Errors
    /// Names the first tensor that is missing or of another shape.
    pub fn check(&self, schema: &Schema, items: usize) -> Result<(), ModelError> {
        check_shapes(|name| self.metadata.info(name).map(|info| info.shape.as_slice()), schema, items)
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn shape(&self, name: &str) -> Result<&[usize], ModelError> {
        Ok(&self.info(name)?.shape)
    }

    /// A tensor's values in row-major order.
    ///
    /// # Errors
    /// There is none of that name, it is of another type, or the file cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let mut values = vec![0.0; self.shape(name)?.iter().product()];
        self.read_at(name, 0, &mut values)?;
        Ok(values)
    }

    /// So many of a tensor's values as `into` takes, from the one at `first` on in row-major order.
    ///
    /// # Errors
    /// As [`Weights::read`], and a tensor that has fewer.
    pub fn read_at(&self, name: &str, first: usize, into: &mut [f32]) -> Result<(), ModelError> {
        let info = self.info(name)?;
        if info.dtype != Dtype::F32 {
            return Err(ModelError::Weights(format!("tensor `{name}` is {:?}, expected F32", info.dtype)));
        }
        let (start, end) = info.data_offsets;
        let (from, bytes) = (start + first * size_of::<f32>(), size_of_val(into));
        if from + bytes > end {
            let (count, wanted) = ((end - start) / size_of::<f32>(), first + into.len());
            return Err(ModelError::Weights(format!("tensor `{name}` has {count} values, not {wanted}")));
        }
        let read = self.file.read_exact_at(bytemuck::cast_slice_mut(into), self.data + from as u64);
        read.map_err(|e| ModelError::Weights(format!("cannot read tensor `{name}`: {e}")))?;
        // The format is little-endian.
        into.iter_mut().for_each(|x| *x = f32::from_bits(u32::from_le(x.to_bits())));
        Ok(())
    }

    /// All tensors, on a device.
    ///
    /// # Errors
    /// A tensor that is of another type or cannot be read.
    pub fn tensors(&self, device: &Device) -> Result<Tensors, ModelError> {
        let all = self.metadata.tensors().into_iter();
        all.map(|(name, info)| {
            let tensor = Tensor::from_vec(self.read(&name)?, info.shape.clone(), device)?;
            Ok((name, tensor))
        })
        .collect()
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, ModelError> {
        self.metadata.info(name).ok_or_else(|| ModelError::Weights(format!("tensor `{name}` is missing")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn written(tensors: &[(&str, Tensor)]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let tensors: HashMap<&str, Tensor> = tensors.iter().cloned().collect();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        (dir, path)
    }

    #[test]
    fn values_are_read_as_candle_wrote_them_whole_and_in_part() {
        let table = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((4, 3)).unwrap();
        let (_dir, path) =
            written(&[("table", table.clone()), ("log_scale", Tensor::new(&[0.5f32], &Device::Cpu).unwrap())]);
        let weights = Weights::open(&path).unwrap();
        assert_eq!(weights.shape("table").unwrap(), [4, 3]);
        assert_eq!(weights.read("log_scale").unwrap(), [0.5]);
        let mut rows = [0.0; 6];
        weights.read_at("table", 3, &mut rows).unwrap();
        assert_eq!(rows, [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let tensors = weights.tensors(&Device::Cpu).unwrap();
        assert_eq!(tensors["table"].to_vec2::<f32>().unwrap(), table.to_vec2::<f32>().unwrap());

        let said = |result: Result<(), ModelError>| result.unwrap_err().to_string();
        assert_eq!(
            said(weights.read_at("table", 9, &mut rows)),
            "model.safetensors: tensor `table` has 12 values, not 15"
        );
        assert_eq!(said(weights.read("tabel").map(drop)), "model.safetensors: tensor `tabel` is missing");
    }

    #[test]
    fn other_types_are_named() {
        let (_dir, path) = written(&[("ids", Tensor::new(&[1u32, 2], &Device::Cpu).unwrap())]);
        let error = Weights::open(&path).unwrap().read("ids").unwrap_err().to_string();
        assert_eq!(error, "model.safetensors: tensor `ids` is U32, expected F32");
    }

    #[test]
    fn what_is_no_such_file_is_an_error_whatever_its_length_says() {
        let (_dir, path) = written(&[("table", Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap())]);
        let whole = std::fs::read(&path).unwrap();
        let error = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Weights::open(&path).unwrap_err().to_string()
        };
        for length in 0..whole.len() {
            error(&whole[..length]);
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(error(&longer).contains("its header asks for"), "{}", error(&longer));
        for length in [u64::MAX, 1 << 40, whole.len() as u64] {
            let mut wrong = whole.clone();
            wrong[..8].copy_from_slice(&length.to_le_bytes());
            assert!(error(&wrong).contains("its header is said to have"), "{}", error(&wrong));
        }
    }
}
