//! Tensors: their data as lists, whatever the form they came in.

use bytes::Bytes;

use crate::error::RankError;
use crate::request::Ids;

/// A tensor of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) data: Data,
}

/// A tensor's elements in row order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    /// BYTES.
    Text(Ids),
    /// INT32, INT64.
    Integers(Vec<i64>),
    /// FP32, FP64.
    Numbers(Vec<f64>),
}

/// The data types that tensors of a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataType {
    Bytes,
    Int32,
    Int64,
    Fp32,
    Fp64,
}

impl DataType {
    /// # Errors
    /// [`RankError::InvalidTensor`] where the name is of another type.
    pub(crate) fn parse(tensor: &str, name: &str) -> Result<Self, RankError> {
        Ok(match name {
            "BYTES" => Self::Bytes,
            "INT32" => Self::Int32,
            "INT64" => Self::Int64,
            "FP32" => Self::Fp32,
            "FP64" => Self::Fp64,
            _ => {
                return Err(invalid(tensor, format!("data type `{name}`; give BYTES, INT64, INT32, FP32 or FP64")));
            }
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bytes => "BYTES",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
        }
    }
}

impl Data {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(ids) => ids.len(),
            Self::Integers(numbers) => numbers.len(),
            Self::Numbers(numbers) => numbers.len(),
        }
    }

    /// What an error calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "BYTES",
            Self::Integers(_) => "integers",
            Self::Numbers(_) => "floating-point numbers",
        }
    }

    /// Reads the raw form: little-endian numbers, or byte strings each after its length as a 32-bit number.
    ///
    /// # Errors
    /// [`RankError::InvalidTensor`] where bytes are missing, left over, or not UTF-8.
    pub(crate) fn from_raw(tensor: &str, kind: DataType, raw: &[u8]) -> Result<Self, RankError> {
        Ok(match kind {
            DataType::Bytes => Self::Text(strings(tensor, raw)?),
            DataType::Int32 => {
                Self::Integers(numbers(tensor, kind, raw)?.map(|b| i64::from(i32::from_le_bytes(b))).collect())
            }
            DataType::Int64 => Self::Integers(numbers(tensor, kind, raw)?.map(i64::from_le_bytes).collect()),
            DataType::Fp32 => {
                Self::Numbers(numbers(tensor, kind, raw)?.map(|b| f64::from(f32::from_le_bytes(b))).collect())
            }
            DataType::Fp64 => Self::Numbers(numbers(tensor, kind, raw)?.map(f64::from_le_bytes).collect()),
        })
    }

    /// Reads byte strings.
    ///
    /// # Errors
    /// [`RankError::InvalidTensor`] where one is not UTF-8.
    pub(crate) fn from_strings(tensor: &str, strings: &[Bytes]) -> Result<Self, RankError> {
        let mut ids = Ids::with_capacity(strings.len(), strings.iter().map(Bytes::len).sum());
        for string in strings {
            ids.push(utf8(tensor, string)?);
        }
        Ok(Self::Text(ids))
    }
}

impl Tensor {
    /// # Errors
    /// [`RankError::InvalidTensor`] where the shape is not that of a list ([N] or [1, N]) of as many elements as there
    /// are.
    pub(crate) fn new(name: String, shape: &[i64], data: Data) -> Result<Self, RankError> {
        let fits = match *shape {
            [n] | [1, n] => usize::try_from(n).is_ok_and(|n| n == data.len()),
            _ => false,
        };
        if !fits {
            let shape: Vec<_> = shape.iter().take(8).collect();
            let problem = format!("shape {shape:?} with {len} elements; give [{len}]", len = data.len());
            return Err(invalid(&name, problem));
        }
        Ok(Self { name, data })
    }
}

/// Writes byte strings in the raw form.
pub(crate) fn raw_strings(ids: &Ids) -> Vec<u8> {
    let mut raw = Vec::with_capacity(ids.bytes() + 4 * ids.len());
    for id in ids.iter() {
        // No body is as long as 4 GiB, so no id is.
        raw.extend_from_slice(&u32::try_from(id.len()).unwrap_or(u32::MAX).to_le_bytes());
        raw.extend_from_slice(id.as_bytes());
    }
    raw
}

/// Writes numbers in the raw form.
pub(crate) fn raw_numbers(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

pub(crate) fn invalid(tensor: &str, problem: impl Into<String>) -> RankError {
    RankError::InvalidTensor { tensor: tensor.to_owned(), problem: problem.into() }
}

fn numbers<'a, const SIZE: usize>(
    tensor: &str,
    kind: DataType,
    raw: &'a [u8],
) -> Result<impl Iterator<Item = [u8; SIZE]> + 'a, RankError> {
    let (numbers, rest) = raw.as_chunks::<SIZE>();
    if !rest.is_empty() {
        let problem = format!("{} bytes are no whole number of {} elements of {SIZE} bytes", raw.len(), kind.name());
        return Err(invalid(tensor, problem));
    }
    Ok(numbers.iter().copied())
}

fn strings(tensor: &str, mut raw: &[u8]) -> Result<Ids, RankError> {
    let mut ids = Ids::default();
    while !raw.is_empty() {
        let (len, rest) =
            raw.split_first_chunk().ok_or_else(|| invalid(tensor, "a length of four bytes breaks off"))?;
        let len = u32::from_le_bytes(*len) as usize;
        let (string, rest) = rest
            .split_at_checked(len)
            .ok_or_else(|| invalid(tensor, format!("a string of {len} bytes breaks off after {}", rest.len())))?;
        ids.push(utf8(tensor, string)?);
        raw = rest;
    }
    Ok(ids)
}

fn utf8<'a>(tensor: &str, bytes: &'a [u8]) -> Result<&'a str, RankError> {
    std::str::from_utf8(bytes).map_err(|error| invalid(tensor, format!("a string is not UTF-8: {error}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn raw_strings_come_back(texts in prop::collection::vec(".{0,8}", 0..20)) {
            let ids: Ids = texts.iter().collect();
            let raw = raw_strings(&ids);
            prop_assert_eq!(Data::from_raw("x", DataType::Bytes, &raw).unwrap(), Data::Text(ids));
        }

        #[test]
        fn raw_numbers_come_back(numbers in prop::collection::vec(-1e9_f32..1e9, 0..20)) {
            let wide = numbers.iter().map(|x| f64::from(*x)).collect();
            prop_assert_eq!(Data::from_raw("x", DataType::Fp32, &raw_numbers(&numbers)).unwrap(), Data::Numbers(wide));
        }

        #[test]
        fn any_raw_bytes_are_read_or_refused(raw in prop::collection::vec(any::<u8>(), 0..64)) {
            for kind in [DataType::Bytes, DataType::Int32, DataType::Int64, DataType::Fp32, DataType::Fp64] {
                let _ = Data::from_raw("x", kind, &raw);
            }
        }
    }

    #[test]
    fn a_shape_is_a_list_of_as_many_elements() {
        let data = || Data::Integers(vec![1, 2]);
        for shape in [&[2][..], &[1, 2]] {
            assert!(Tensor::new("x".into(), shape, data()).is_ok());
        }
        for shape in [&[][..], &[3], &[-1], &[2, 1], &[1, 1, 2], &[i64::MAX, i64::MAX]] {
            assert!(Tensor::new("x".into(), shape, data()).is_err());
        }
    }

    #[test]
    fn what_breaks_off_is_refused() {
        let problem = |raw: &[u8]| Data::from_raw("x", DataType::Bytes, raw).unwrap_err().to_string();
        assert!(problem(&[5, 0, 0]).contains("breaks off"));
        assert!(problem(&[255, 255, 255, 255, 1]).contains("breaks off after 1"));
        assert!(problem(&[1, 0, 0, 0, 0xff]).contains("not UTF-8"));
        assert!(Data::from_raw("x", DataType::Fp32, &[0; 7]).unwrap_err().to_string().contains("7 bytes"));
    }
}
