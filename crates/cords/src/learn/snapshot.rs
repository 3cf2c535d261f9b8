//! The state of a training as named lists of numbers, kept bit for bit.
//!
//! What is saved is read back exactly: numbers are never printed, rounded or converted. Files are in `checkpoint`.

use std::collections::BTreeMap;

use safetensors::tensor::Dtype;

use crate::Real;
use crate::device::Device;
use crate::net::Weights;

/// A number that a snapshot can hold.
pub(crate) trait Number: Copy {
    const DTYPE: Dtype;
    fn write(values: &[Self], bytes: &mut Vec<u8>);
    fn read(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! number {
    ($t:ty, $dtype:expr) => {
        impl Number for $t {
            const DTYPE: Dtype = $dtype;

            fn write(values: &[Self], bytes: &mut Vec<u8>) {
                bytes.reserve_exact(size_of_val(values));
                values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
            }

            fn read(bytes: &[u8]) -> Vec<Self> {
                let (values, _) = bytes.as_chunks();
                values.iter().map(|bytes| Self::from_le_bytes(*bytes)).collect()
            }
        }
    };
}
number!(f32, Dtype::F32);
number!(f64, Dtype::F64);
number!(u64, Dtype::U64);

/// A record of a training, which a snapshot holds as a row of float64 values.
pub(crate) trait Record: Sized {
    /// Values of a row.
    const VALUES: usize;
    fn values(&self) -> Vec<f64>;
    /// From a row of [`VALUES`](Self::VALUES).
    fn from_values(row: &[f64]) -> Self;
}

/// Makes a struct of numbers a [`Record`]; counts are exact below 2^53. Fields stand in rows in the order that they are
/// given here, which checkpoints rely on.
macro_rules! record {
    ($record:ident { $($field:ident),+ $(,)? }) => {
        impl $crate::learn::Record for $record {
            const VALUES: usize = [$(stringify!($field)),+].len();

            fn values(&self) -> Vec<f64> {
                let row: [f64; Self::VALUES] = [$(self.$field as _),+];
                row.to_vec()
            }

            fn from_values(row: &[f64]) -> Self {
                let mut row = row.iter().copied();
                let mut next = || row.next().unwrap_or(f64::NAN);
                Self { $($field: next() as _),+ }
            }
        }
    };
}
pub(crate) use record;

/// Why a snapshot is not the state of this training.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("it has no `{name}`")]
    Missing { name: String },
    #[error("its `{name}` is {found:?}, expected {expected:?}")]
    Type {
        name: String,
        found: Dtype,
        expected: Dtype,
    },
    #[error("its `{name}` has {found} values, expected {expected}")]
    Length {
        name: String,
        found: usize,
        expected: usize,
    },
    #[error("{problem}")]
    Content { problem: String },
}

/// Named lists of numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    dtype: Dtype,
    /// The values in row-major order, little-endian.
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Adds a list, or replaces the one of that name.
    pub(crate) fn put<N: Number>(&mut self, name: impl Into<String>, values: &[N]) {
        let mut bytes = Vec::new();
        N::write(values, &mut bytes);
        self.put_bytes(name.into(), N::DTYPE, bytes);
    }

    /// Adds a list in its stored form.
    pub(crate) fn put_bytes(&mut self, name: String, dtype: Dtype, bytes: Vec<u8>) {
        self.entries.insert(name, Entry { dtype, bytes });
    }

    /// The list of that name, whatever its length.
    pub(crate) fn list<N: Number>(&self, name: &str) -> Result<Vec<N>, SnapshotError> {
        let entry = self
            .entries
            .get(name)
            .ok_or_else(|| SnapshotError::Missing { name: name.to_owned() })?;
        if entry.dtype != N::DTYPE {
            return Err(SnapshotError::Type {
                name: name.to_owned(),
                found: entry.dtype,
                expected: N::DTYPE,
            });
        }
        Ok(N::read(&entry.bytes))
    }

    /// The list of that name, which must have `length` values.
    pub(crate) fn get<N: Number>(&self, name: &str, length: usize) -> Result<Vec<N>, SnapshotError> {
        let values = self.list(name)?;
        if values.len() != length {
            return Err(SnapshotError::Length {
                name: name.to_owned(),
                found: values.len(),
                expected: length,
            });
        }
        Ok(values)
    }

    /// Adds records, one row after the other.
    pub(crate) fn put_records<'r, R: Record + 'r>(&mut self, name: &str, records: impl IntoIterator<Item = &'r R>) {
        let values: Vec<f64> = records.into_iter().flat_map(R::values).collect();
        self.put(name, &values);
    }

    /// All records of that name.
    pub(crate) fn records<R: Record>(&self, name: &str) -> Result<Vec<R>, SnapshotError> {
        let values: Vec<f64> = self.list(name)?;
        let rows = values.chunks_exact(R::VALUES);
        if !rows.remainder().is_empty() {
            return Err(SnapshotError::Length {
                name: name.to_owned(),
                found: values.len(),
                expected: values.len() / R::VALUES * R::VALUES,
            });
        }
        Ok(rows.map(R::from_values).collect())
    }

    /// Adds all lists of another snapshot, with `prefix` before their names.
    pub(crate) fn put_all(&mut self, prefix: &str, other: Self) {
        let named = other
            .entries
            .into_iter()
            .map(|(name, entry)| (format!("{prefix}{name}"), entry));
        self.entries.extend(named);
    }

    /// The lists whose names begin with `prefix`, without it.
    pub(crate) fn part(&self, prefix: &str) -> Self {
        let own = self.entries.iter().filter_map(|(name, entry)| {
            let name = name.strip_prefix(prefix)?;
            Some((name.to_owned(), entry.clone()))
        });
        Self { entries: own.collect() }
    }

    /// Adds a parameter buffer of a device (or a moment of one).
    pub(crate) fn put_buffer<T: Real + Number, D: Device<T>>(&mut self, name: String, device: &D, buffer: &D::Buffer) {
        self.put(name, &device.download(buffer));
    }

    /// Overwrites such a buffer with the list of that name.
    pub(crate) fn fill_buffer<T: Real + Number, D: Device<T>>(
        &self,
        name: &str,
        device: &D,
        buffer: &mut D::Buffer,
    ) -> Result<(), SnapshotError> {
        let values: Vec<T> = self.get(name, device.download(buffer).len())?;
        *buffer = device.upload(&values);
        Ok(())
    }

    /// Adds all trained parameters.
    pub(crate) fn put_weights<T: Real + Number, D: Device<T>>(&mut self, device: &D, weights: &Weights<T, D>) {
        for (name, buffer) in weights.names.iter().zip(&weights.buffers) {
            self.put_buffer(format!("parameter.{name}"), device, buffer);
        }
    }

    /// Overwrites all trained parameters.
    pub(crate) fn fill_weights<T: Real + Number, D: Device<T>>(
        &self,
        device: &D,
        weights: &mut Weights<T, D>,
    ) -> Result<(), SnapshotError> {
        for (name, buffer) in weights.names.iter().zip(&mut weights.buffers) {
            self.fill_buffer(&format!("parameter.{name}"), device, buffer)?;
        }
        Ok(())
    }

    /// Names, types and little-endian bytes, in order of the names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Dtype, &[u8])> {
        let entries = self.entries.iter();
        entries.map(|(name, entry)| (name.as_str(), entry.dtype, entry.bytes.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_bit_for_bit() {
        let values = [0.1, -0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE / 3.0];
        let mut snapshot = Snapshot::default();
        snapshot.put("a", &values);
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&snapshot.get("a", 5).expect("held")), bits(&values));
        assert!(matches!(
            snapshot.get::<f64>("a", 4),
            Err(SnapshotError::Length {
                found: 5,
                expected: 4,
                ..
            })
        ));
        assert!(matches!(snapshot.list::<f32>("a"), Err(SnapshotError::Type { .. })));
        assert!(matches!(snapshot.list::<u64>("b"), Err(SnapshotError::Missing { .. })));
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Pair {
        count: usize,
        share: f64,
    }
    record!(Pair { share, count });

    #[test]
    fn records_are_rows_in_the_order_of_their_fields() {
        let pairs = [Pair { count: 3, share: 0.25 }, Pair { count: 0, share: -0.0 }];
        let mut snapshot = Snapshot::default();
        snapshot.put_records("pairs", &pairs);
        assert_eq!(snapshot.get::<f64>("pairs", 4).expect("held"), [0.25, 3.0, 0.0, 0.0]);
        assert_eq!(snapshot.records::<Pair>("pairs").expect("whole rows"), pairs);
        snapshot.put("pairs", &[0.25, 3.0, 0.5]);
        assert!(matches!(
            snapshot.records::<Pair>("pairs"),
            Err(SnapshotError::Length { .. })
        ));
    }
}
