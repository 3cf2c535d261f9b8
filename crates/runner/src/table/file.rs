//! Table files: Parquet with the schema in its metadata, so that any Parquet tool reads it.
//!
//! The bytes of a Parquet file depend on schema and values alone: no dates, one compression, one thread layout.
//! A file without our metadata is read too: the columns before its first float column then count as keys.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use dynvis_base::guard::guard;
use polars::prelude::{
    ArrowDataType, Column, DataFrame, DataType, KeyValueMetadata, NamedFrom, ParallelStrategy, ParquetCompression,
    ParquetReader, ParquetWriter, SerReader, Series,
};
use polars_parquet::parquet::metadata::SchemaDescriptor;
use polars_parquet::parquet::schema::types::{
    IntegerType, ParquetType, PrimitiveConvertedType, PrimitiveLogicalType, PrimitiveType,
};
use serde::{Deserialize, Serialize};

use super::csv::from_csv;
use super::schema::{ColumnSchema, DType, Role, TableSchema};
use super::{Table, TableError, Value};

/// Key of the schema in the Parquet file's key-value metadata.
pub(super) const METADATA_KEY: &str = "dynvis.table";

/// Version of the JSON under [`METADATA_KEY`]; raised when an older reader would misread a newer file.
pub(super) const FORMAT: u64 = 1;

/// Marks the seal: this and a blake3 hash of all other bytes of the file stand right before the Parquet footer, where
/// readers, which go by the footer's offsets, do not look. Parquet itself has no checksum that polars would verify, and
/// its decoder can abort the process on a flipped bit.
const SEAL: &[u8; 16] = b"dynvis:blake3:1\n";

#[derive(Deserialize)]
struct FormatOnly {
    format: u64,
}

#[derive(Serialize, Deserialize)]
struct Metadata<S> {
    format: u64,
    table: S,
}

impl Table {
    /// The table as a Parquet file. Equal tables give equal bytes.
    ///
    /// # Errors
    /// [`TableError::Encode`], [`TableError::Json`]; neither is expected of a valid table.
    pub fn to_parquet(&self) -> Result<Vec<u8>, TableError> {
        let encode = |source| TableError::Encode {
            table: self.schema.name.clone(),
            source,
        };
        let metadata = serde_json::to_string(&Metadata {
            format: FORMAT,
            table: &self.schema,
        })?;
        // A table whose roles were guessed stays without a description: the guess is not to become a statement.
        let metadata = match self.inferred {
            true => None,
            false => Some(KeyValueMetadata::from_static(vec![(METADATA_KEY.to_owned(), metadata)])),
        };
        let columns = self
            .schema
            .columns
            .iter()
            .zip(&self.columns)
            .map(|(column, values)| to_series(column, values));
        let mut frame = DataFrame::new(self.height(), columns.collect()).map_err(encode)?;
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes)
            .with_compression(ParquetCompression::Zstd(None))
            .with_key_value_metadata(metadata)
            .finish(&mut frame)
            .map_err(encode)?;
        seal(&mut bytes);
        Ok(bytes)
    }

    /// Writes the Parquet file, replacing what was there.
    ///
    /// # Errors
    /// Those of [`Table::to_parquet`], and [`TableError::Io`] naming the path.
    pub fn write_parquet(&self, path: &Path) -> Result<(), TableError> {
        Ok(fs_err::write(path, self.to_parquet()?)?)
    }

    /// Reads a `.parquet`, `.csv` or `.tsv` file. One without our metadata gets its name from the file, and its columns
    /// before the first float column count as keys; a column without any value counts as float, NaN as missing. Columns
    /// of types that tables do not have are passed over: it is an error to ask for one.
    ///
    /// # Errors
    /// An unknown extension, an unreadable or damaged file.
    pub fn read(path: &Path) -> Result<Table, TableError> {
        let ending = path.extension().and_then(|extension| extension.to_str());
        match ending.map(str::to_ascii_lowercase).as_deref() {
            Some("parquet") => {
                let bytes = dynvis_base::files::read(path)?;
                if !seal_holds(&bytes) {
                    return Err(TableError::Damaged { path: path.to_owned() });
                }
                from_parquet(path, &bytes)
            }
            Some("csv" | "tsv") => from_csv(path, dynvis_base::files::read(path)?),
            _ => Err(TableError::UnknownExtension { path: path.to_owned() }),
        }
    }
}

/// Puts the seal in front of the footer, whose length stands in the eighth to fifth bytes from the end.
fn seal(bytes: &mut Vec<u8>) {
    let hash = blake3::hash(bytes);
    let (_, length) = bytes
        .split_last_chunk::<8>()
        .map_or((&[][..], [0; 8]), |(rest, tail)| (rest, *tail));
    let footer = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let place = bytes.len().saturating_sub(8 + footer);
    bytes.splice(place..place, SEAL.iter().chain(hash.as_bytes()).copied());
}

/// Whether the bytes are those that were sealed, or carry no seal because another program wrote them.
fn seal_holds(bytes: &[u8]) -> bool {
    let Some(place) = bytes.windows(SEAL.len()).rposition(|window| window == SEAL) else {
        return true;
    };
    let (before, after) = (&bytes[..place], &bytes[place + SEAL.len()..]);
    let Some((hash, after)) = after.split_first_chunk::<{ blake3::OUT_LEN }>() else {
        return false;
    };
    blake3::Hasher::new().update(before).update(after).finalize() == *hash
}

fn to_series(column: &ColumnSchema, values: &[Value]) -> Column {
    let name = column.name.as_str().into();
    /// Other variants cannot occur: the writer and the readers keep a column to one type.
    macro_rules! collect {
        ($variant:ident) => {
            values.iter().map(|value| {
                if let Value::$variant(value) = value {
                    Some(value.to_owned())
                } else {
                    None
                }
            })
        };
    }
    let series = match column.dtype {
        DType::Int => Series::new(name, collect!(Int).collect::<Vec<_>>()),
        DType::Float => Series::new(name, collect!(Float).collect::<Vec<_>>()),
        DType::Bool => Series::new(name, collect!(Bool).collect::<Vec<_>>()),
        DType::Text => Series::new(name, collect!(Text).collect::<Vec<_>>()),
    };
    series.into()
}

fn from_parquet(path: &Path, bytes: &[u8]) -> Result<Table, TableError> {
    let Frame {
        frame,
        ours: metadata,
        scales,
        passed_over,
    } = read_frame(path, bytes)?;
    let scale = |column: &Column| {
        scales
            .iter()
            .find(|(name, _)| name == column.name().as_str())
            .map(|(_, s)| *s)
    };
    let columns = frame
        .columns()
        .iter()
        .map(|column| from_series(path, column, scale(column)));
    let columns = columns.collect::<Result<Vec<(DType, Vec<Value>)>, TableError>>()?;
    let names: Vec<String> = frame.columns().iter().map(|column| column.name().to_string()).collect();

    let Some(json) = metadata else {
        let mut table = infer(path, names, columns)?;
        table.passed_over = passed_over;
        return Ok(table);
    };
    let damaged = |source| TableError::Metadata {
        path: path.to_owned(),
        source,
    };
    // The version comes first and alone, so that a newer description is not called damaged.
    let FormatOnly { format } = serde_json::from_str(&json).map_err(damaged)?;
    if format > FORMAT {
        return Err(TableError::NewerFormat {
            path: path.to_owned(),
            found: format,
            supported: FORMAT,
        });
    }
    let schema = serde_json::from_str::<Metadata<TableSchema>>(&json)
        .map_err(damaged)?
        .table;
    schema.check()?;
    let found: Vec<String> = names
        .iter()
        .zip(&columns)
        .map(|(name, (dtype, _))| format!("{name}: {dtype}"))
        .collect();
    let described: Vec<String> = schema
        .columns
        .iter()
        .map(|column| format!("{}: {}", column.name, column.dtype))
        .collect();
    if found != described {
        return Err(TableError::SchemaMismatch {
            path: path.to_owned(),
            found,
            described,
        });
    }
    let columns = columns.into_iter().map(|(_, values)| values).collect();
    let table = Table {
        schema,
        columns,
        inferred: false,
        lines: Vec::new(),
        passed_over,
    };
    table.check_keys()?;
    Ok(table)
}

/// What a Parquet file holds, as far as tables can.
struct Frame {
    frame: DataFrame,
    /// Our description, as JSON text, not yet understood.
    ours: Option<String>,
    /// Digits after the point of columns of decimals.
    scales: Vec<(String, usize)>,
    passed_over: Vec<(String, String)>,
}

/// Decodes the file. Its own types count, not those that pandas or polars had in memory (categories, small integers).
fn read_frame(path: &Path, bytes: &[u8]) -> Result<Frame, TableError> {
    let parquet = |source| TableError::Parquet {
        path: path.to_owned(),
        source,
    };
    let unreadable = |problem: String| TableError::Unreadable {
        path: path.to_owned(),
        problem,
    };
    let read = || {
        let mut reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None);
        let mut metadata = reader.get_metadata().map_err(parquet)?.as_ref().clone();
        let entries = metadata.key_value_metadata.iter().flatten();
        let ours = entries
            .filter(|entry| entry.key == METADATA_KEY)
            .find_map(|entry| entry.value.clone());
        metadata.key_value_metadata = None;
        let mut scales = Vec::new();
        let fields = metadata
            .schema_descr
            .fields()
            .iter()
            .map(|field| plain(field, &mut scales));
        metadata.schema_descr = SchemaDescriptor::new("schema".into(), fields.collect());
        // Damaged counts can ask for more memory than there is, which ends the process: no page unpacks a million
        // times.
        const UNPACKED: usize = 1 << 20;
        let rows = metadata
            .row_groups
            .iter()
            .try_fold(0_usize, |sum, group| sum.checked_add(group.num_rows()));
        if rows != Some(metadata.num_rows) || metadata.num_rows > bytes.len().saturating_mul(UNPACKED) {
            return Err(unreadable("its counts of rows contradict each other".to_owned()));
        }
        reader.set_metadata(Arc::new(metadata));
        // Before decoding, because polars panics on types that it was built without.
        let (mut wanted, mut passed_over) = (Vec::new(), Vec::new());
        for field in reader.schema().map_err(parquet)?.iter_values() {
            let name = field.name.to_string();
            if is_readable(&field.dtype) || scales.iter().any(|(decimal, _)| *decimal == name) {
                wanted.push(name);
            } else {
                passed_over.push((name, format!("{:?}", field.dtype)));
            }
        }
        let frame = reader.with_columns(Some(wanted)).finish().map_err(parquet)?;
        Ok(Frame {
            frame,
            ours,
            scales,
            passed_over,
        })
    };
    // The seal keeps damaged files of ours from getting here, but other programs' files have none, and polars meets
    // some damage with a panic. Nothing is shared with the closure but the bytes.
    let found = guard(read).map_err(|panicked| unreadable(panicked.to_string()))??;
    let uneven = found
        .frame
        .columns()
        .iter()
        .any(|column| column.len() != found.frame.height());
    if uneven {
        return Err(unreadable("its columns are of different lengths".to_owned()));
    }
    Ok(found)
}

/// The column without what its numbers stand for: small integers as the integers that they are stored as, decimals
/// as whole numbers, whose digits after the point go to `scales`.
fn plain(field: &ParquetType, scales: &mut Vec<(String, usize)>) -> ParquetType {
    let ParquetType::PrimitiveType(primitive) = field else {
        return field.clone();
    };
    use PrimitiveConvertedType as C;
    use PrimitiveLogicalType as L;
    let small = matches!(
        primitive.logical_type,
        Some(L::Integer(
            IntegerType::Int8 | IntegerType::Int16 | IntegerType::UInt8 | IntegerType::UInt16
        ))
    ) || matches!(
        primitive.converted_type,
        Some(C::Int8 | C::Int16 | C::Uint8 | C::Uint16)
    );
    let scale = match (primitive.logical_type, primitive.converted_type) {
        (Some(L::Decimal(_, scale)), _) | (_, Some(C::Decimal(_, scale))) => Some(scale),
        _ => None,
    };
    if let Some(scale) = scale {
        scales.push((primitive.field_info.name.to_string(), scale));
    }
    match small || scale.is_some() {
        false => field.clone(),
        true => ParquetType::PrimitiveType(PrimitiveType {
            logical_type: None,
            converted_type: None,
            ..primitive.clone()
        }),
    }
}

/// The types that [`from_series`] converts, among those that the polars features in use can decode.
fn is_readable(dtype: &ArrowDataType) -> bool {
    use ArrowDataType as A;
    match dtype {
        A::Null | A::Boolean | A::Int32 | A::Int64 | A::UInt32 | A::UInt64 | A::Float32 | A::Float64 => true,
        A::Utf8 | A::LargeUtf8 | A::Utf8View => true,
        A::Dictionary(_, values, _) => matches!(**values, A::Utf8 | A::LargeUtf8 | A::Utf8View),
        _ => false,
    }
}

/// A decimal that is stored as bytes: a whole number, the highest byte first, in two's complement.
fn whole_number(bytes: &[u8]) -> Option<f64> {
    let fill = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        0xff
    } else {
        0
    };
    let mut all = [fill; 16];
    let extra = bytes.len().saturating_sub(16);
    if bytes[..extra].iter().any(|byte| *byte != fill) {
        return None;
    }
    let kept = &bytes[extra..];
    all[16 - kept.len()..].copy_from_slice(kept);
    Some(i128::from_be_bytes(all) as f64)
}

/// One column as ours: every integer type as int, both float types as float, strings as text.
fn from_series(path: &Path, column: &Column, scale: Option<usize>) -> Result<(DType, Vec<Value>), TableError> {
    let (series, parquet) = (column.as_materialized_series(), |source| TableError::Parquet {
        path: path.to_owned(),
        source,
    });
    if let Some(scale) = scale {
        // Divided as decimal text is read: 0.1 is the nearest number to a tenth.
        let unit = 10_f64.powi(i32::try_from(scale).unwrap_or(i32::MAX));
        let numbers: Vec<Option<f64>> = match series.dtype() {
            DataType::Binary => {
                let bytes = series.binary().map_err(parquet)?;
                bytes.iter().map(|value| value.and_then(whole_number)).collect()
            }
            _ => {
                let whole = series.strict_cast(&DataType::Int64).map_err(parquet)?;
                whole
                    .i64()
                    .map_err(parquet)?
                    .iter()
                    .map(|value| value.map(|v| v as f64))
                    .collect()
            }
        };
        let values = numbers.into_iter().map(|value| Value::finite(value.map(|v| v / unit)));
        return Ok((DType::Float, values.collect()));
    }
    let (dtype, values): (DType, Vec<Value>) = match series.dtype() {
        found if found.is_integer() => {
            let series = series.strict_cast(&DataType::Int64).map_err(parquet)?;
            (
                DType::Int,
                series.i64().map_err(parquet)?.iter().map(Value::from).collect(),
            )
        }
        found if found.is_float() => {
            let series = series.strict_cast(&DataType::Float64).map_err(parquet)?;
            let number = |value: Option<f64>| Value::from(value.filter(|value| !value.is_nan()));
            (
                DType::Float,
                series.f64().map_err(parquet)?.iter().map(number).collect(),
            )
        }
        DataType::Boolean => (
            DType::Bool,
            series.bool().map_err(parquet)?.iter().map(Value::from).collect(),
        ),
        DataType::Null => (DType::Float, vec![Value::Null; series.len()]),
        // Text, or a dictionary of text.
        _ => {
            let series = series.strict_cast(&DataType::String).map_err(parquet)?;
            (
                DType::Text,
                series.str().map_err(parquet)?.iter().map(Value::from).collect(),
            )
        }
    };
    Ok((dtype, values))
}

/// A table of a file that says nothing of roles.
pub(super) fn infer(path: &Path, names: Vec<String>, columns: Vec<(DType, Vec<Value>)>) -> Result<Table, TableError> {
    let first_float = columns
        .iter()
        .position(|(dtype, _)| *dtype == DType::Float)
        .unwrap_or(columns.len());
    let name = path
        .file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let mut schema = TableSchema::new(name, "");
    for (place, (name, (dtype, _))) in names.into_iter().zip(&columns).enumerate() {
        let role = if place < first_float { Role::Key } else { Role::Value };
        let mut column = ColumnSchema::new(name, role, *dtype, "");
        column.allow_missing = true;
        schema.columns.push(column);
    }
    schema.check()?;
    Ok(Table {
        schema,
        columns: columns.into_iter().map(|(_, values)| values).collect(),
        inferred: true,
        lines: Vec::new(),
        passed_over: Vec::new(),
    })
}
