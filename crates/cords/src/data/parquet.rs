//! Image sets of Hugging Face in Parquet files: a column `image` (or `img`) of structs with the field `bytes`, which
//! hold JPEG or PNG files, or of such bytes themselves; and a column `label` (`labels`, `fine_label`, `cls`, `class`)
//! of whole numbers or text. Names of classes are taken from the schema's metadata (`huggingface`), where they are.
//!
//! Parts are told by names: `train-*.parquet` or `train/*.parquet`, `validation`, `test`. Images whose label is
//! negative have none and are passed over. One row group after the other is read into memory. Read are plain and
//! dictionary encoding, uncompressed or by Snappy, gzip or Zstandard, as Arrow's and Hugging Face's writers give them.

use super::DataError;
use super::archive::read_exact;
use super::encoded_files::name_within;
use super::shards;
use super::source::{Entry, Opened, Original, Part, Reader, Requirement};
use dynvis_base::guard::guard;
use dynvis_base::memory;
use polars_parquet_format::thrift::protocol::TCompactInputProtocol;
use polars_parquet_format::{
    CompressionCodec, Encoding, FieldRepetitionType, FileMetaData, PageHeader, PageType, SchemaElement, Type,
};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const ENDINGS: [&str; 1] = [".parquet"];
const IMAGE: [&str; 2] = ["image", "img"];
const LABEL: [&str; 5] = ["label", "labels", "fine_label", "cls", "class"];
/// First and last bytes of a file.
const MAGIC: &[u8; 4] = b"PAR1";
/// Columns within columns.
const DEEPEST: usize = 16;
/// Bytes of row groups that are kept, beside the last two.
const KEPT: usize = 256 << 20;

pub(crate) fn requirements(folder: &Path) -> Vec<Requirement> {
    vec![shards::requirement(folder, &ENDINGS)]
}

pub(crate) fn inputs(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    Ok(shards::list(folder, &ENDINGS)?
        .into_iter()
        .map(|(_, path)| path)
        .collect())
}

/// Page of a value, where it begins there, and its bytes.
type Slice = (u32, u32, u32);

/// A column of a row group: where its pages lie.
#[derive(Clone)]
struct Chunk {
    codec: CompressionCodec,
    kind: Type,
    place: Range<u64>,
    /// Bytes of its pages without compression, as the file says.
    unpacked: u64,
    rows: usize,
    /// Most levels above a value that may be absent.
    levels: u32,
}

/// A row group of a file.
struct Group {
    /// Which of the files.
    file: usize,
    /// Row of the file at which it begins.
    first_row: usize,
    images: Chunk,
}

struct Parquet {
    folder: PathBuf,
    files: Vec<PathBuf>,
    groups: Vec<Group>,
    /// Group of each image, and its row there.
    images: Vec<(u32, u32)>,
    /// The row groups that were read last.
    kept: Mutex<VecDeque<(u32, Arc<Column>)>>,
}

impl Parquet {
    fn group(&self, number: u32) -> Result<Arc<Column>, DataError> {
        // Held while it is read: other threads ask for the same group.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, column)) = kept.iter().find(|(group, _)| *group == number) {
            return Ok(Arc::clone(column));
        }
        let group = &self.groups[number as usize];
        let column = Arc::new(group.images.read(&self.files[group.file])?);
        let mut size: usize = kept.iter().map(|(_, column)| column.size()).sum();
        while size + column.size() > KEPT && kept.len() > 1 {
            size -= kept.pop_front().map_or(0, |(_, column)| column.size());
        }
        kept.push_back((number, Arc::clone(&column)));
        Ok(column)
    }
}

impl Reader for Parquet {
    fn original(&self, i: usize) -> Result<Original<'_>, DataError> {
        let (group, row) = self.images[i];
        let column = self.group(group)?;
        let bytes = column.bytes(row as usize).ok_or_else(|| {
            let what = "the row holds no bytes of an image";
            DataError::damaged(&self.path(i), 0, what)
        })?;
        Ok(Original::Encoded(Cow::Owned(bytes.to_vec())))
    }

    fn file(&self, i: usize) -> String {
        let (group, row) = self.images[i];
        let group = &self.groups[group as usize];
        let name = name_within(&self.folder, &self.files[group.file]);
        format!("{name}[{}]", group.first_row + row as usize)
    }

    fn path(&self, i: usize) -> PathBuf {
        self.folder.join(self.file(i))
    }
}

/// What one file gives.
struct Listed {
    groups: Vec<(usize, Chunk)>,
    /// Label of every row.
    labels: Labels,
    /// Names of classes from its metadata.
    names: Option<Vec<String>>,
}

enum Labels {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
}

pub(crate) fn open(folder: &Path) -> Result<Opened, DataError> {
    let paths = shards::list(folder, &ENDINGS)?;
    let (mut files, mut groups, mut images, mut problems) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut called: Vec<(Part, String)> = Vec::new();
    let mut names: Option<Vec<String>> = None;
    let mut unlabelled = 0;
    for (part, path) in paths {
        let listed = guard(|| list(&path)).unwrap_or_else(|panicked| Err(DataError::panicked(&path, &panicked)));
        let listed = match listed {
            Ok(listed) => listed,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if names
            .as_ref()
            .zip(listed.names.as_ref())
            .is_some_and(|(first, names)| first != names)
        {
            problems.push(DataError::labels(
                &path,
                None,
                "names of classes other than those of the files before it",
            ));
        }
        names = names.or(listed.names);
        let mut row = 0;
        for (first_row, chunk) in listed.groups {
            for in_group in 0..chunk.rows {
                let class = match &listed.labels {
                    Labels::Numbers(numbers) => numbers[row].map(|number| number.to_string()),
                    Labels::Texts(texts) => texts[row].clone(),
                };
                row += 1;
                match class {
                    Some(class) if !class.starts_with('-') || matches!(listed.labels, Labels::Texts(_)) => {
                        images.push((groups.len() as u32, in_group as u32));
                        called.push((part, class));
                    }
                    _ => unlabelled += 1,
                }
            }
            groups.push(Group {
                file: files.len(),
                first_row,
                images: chunk,
            });
        }
        files.push(path);
    }
    if let Some(error) = DataError::all(problems) {
        return Err(error);
    }
    let (classes, label_of) = match names {
        Some(names) => {
            let path = files.first().cloned().unwrap_or_default();
            shards::check_names(&path, &names)?;
            let label_of = (0..names.len() as u32)
                .map(|label| (label.to_string(), label))
                .collect();
            (names, label_of)
        }
        None => shards::classes(called.iter().map(|(_, class)| class), None)?,
    };
    let mut entries = Vec::with_capacity(called.len());
    for (image, (part, class)) in called.into_iter().enumerate() {
        let Some(&label) = label_of.get(&class) else {
            let (group, _): (u32, u32) = images[image];
            let path = &files[groups[group as usize].file];
            let what = format!("label {class}, and there are {} names of classes", classes.len());
            return Err(DataError::labels(path, None, what));
        };
        entries.push(Entry { label, part });
    }
    shards::test_what_is_there(&mut entries);
    let notes = match unlabelled {
        0 => Vec::new(),
        n => vec![format!("skipped {n} images without a label")],
    };
    Ok(Opened {
        name: "parquet",
        classes,
        attribution: "",
        entries,
        reader: Box::new(Parquet {
            folder: folder.to_owned(),
            files,
            groups,
            images,
            kept: Mutex::default(),
        }),
        described: "image set in Parquet files",
        notes,
    })
}

/// Reads what a file says of itself, and its labels.
fn list(path: &Path) -> Result<Listed, DataError> {
    let file = dynvis_base::files::open(path)?;
    let length = file.metadata()?.len();
    let damaged = |at: u64, what: String| DataError::damaged(path, at, what);
    let mut tail = [0; 8];
    if length < 12 {
        return Err(damaged(length, format!("no Parquet file: {length} bytes")));
    }
    read_exact(path, file.file(), length - 8, &mut tail)?;
    if &tail[4..] != MAGIC {
        return Err(damaged(
            length - 4,
            "no Parquet file, or truncated: it does not end with `PAR1`".to_owned(),
        ));
    }
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    let start = (length - 8).checked_sub(footer).filter(|start| *start >= 4);
    let start = start.ok_or_else(|| damaged(length - 8, format!("metadata of {footer} bytes in {length}")))?;
    // Its lists are larger in memory.
    memory::check_room(footer.saturating_mul(64)).map_err(|room| DataError::too_large(path, room))?;
    let mut bytes = vec![0; footer as usize];
    read_exact(path, file.file(), start, &mut bytes)?;
    let mut protocol = TCompactInputProtocol::new(bytes.as_slice(), bytes.len() * 32 + 1024);
    let metadata = FileMetaData::read_from_in_protocol(&mut protocol)
        .map_err(|error| damaged(start, format!("damaged metadata ({error})")))?;
    if metadata.encryption_algorithm.is_some() {
        return Err(damaged(start, "an encrypted file, which is not read".to_owned()));
    }

    let columns = leaves(&metadata.schema).ok_or_else(|| damaged(start, "a damaged schema".to_owned()))?;
    let find = |paths: &[Vec<&str>]| {
        let at = |path: &Vec<&str>| columns.iter().position(|column| column.path == *path);
        paths.iter().find_map(at)
    };
    let image = find(&IMAGE.map(|name| vec![name, "bytes"])).or_else(|| find(&IMAGE.map(|name| vec![name])));
    let label = find(&LABEL.map(|name| vec![name]));
    let names = || {
        let all: Vec<String> = columns.iter().map(|column| column.path.join(".")).collect();
        all.join("`, `")
    };
    let (Some(image), Some(label)) = (image, label) else {
        let what = format!(
            "no column `image` with a field `bytes`, or no column `label`: it has `{}`",
            names()
        );
        return Err(damaged(start, what));
    };
    for (column, kinds) in [
        (&columns[image], &[Type::BYTE_ARRAY][..]),
        (&columns[label], &[Type::INT64, Type::INT32, Type::BYTE_ARRAY]),
    ] {
        if column.repeated || !kinds.contains(&column.kind) {
            let what = format!("column `{}` is a list or of another type", column.path.join("."));
            return Err(damaged(start, what));
        }
    }

    let mut groups = Vec::new();
    let mut label_chunks = Vec::new();
    let mut first_row = 0usize;
    for (number, group) in metadata.row_groups.iter().enumerate() {
        let wrong = |what: &str| damaged(start, format!("row group {number}: {what}"));
        let rows = usize::try_from(group.num_rows).map_err(|_| wrong("a negative number of rows"))?;
        if group.columns.len() != columns.len() || u32::try_from(rows).is_err() {
            return Err(wrong("its columns or rows are not those of the file"));
        }
        let chunk = |column: usize| {
            let meta = group.columns[column]
                .meta_data
                .as_ref()
                .ok_or_else(|| wrong("a column in another file"))?;
            let first = match meta.dictionary_page_offset {
                Some(dictionary) if dictionary > 0 => dictionary.min(meta.data_page_offset),
                _ => meta.data_page_offset,
            };
            let place = u64::try_from(first).ok().and_then(|first| {
                let end = first.checked_add(u64::try_from(meta.total_compressed_size).ok()?)?;
                (end <= start).then_some(first..end)
            });
            if group.columns[column].file_path.is_some() || meta.num_values != group.num_rows {
                return Err(wrong("a column in another file, or of another length"));
            }
            Ok(Chunk {
                codec: meta.codec,
                kind: meta.type_,
                place: place.ok_or_else(|| wrong("a column that lies outside the file: truncated"))?,
                unpacked: u64::try_from(meta.total_uncompressed_size).unwrap_or(u64::MAX),
                rows,
                levels: columns[column].levels,
            })
        };
        groups.push((first_row, chunk(image)?));
        label_chunks.push(chunk(label)?);
        first_row = first_row.checked_add(rows).ok_or_else(|| wrong("too many rows"))?;
    }

    // Rows that a short run can stand for.
    memory::check_room((first_row as u64).saturating_mul(64)).map_err(|room| DataError::too_large(path, room))?;
    let labels = if columns[label].kind == Type::BYTE_ARRAY {
        let mut texts = Vec::new();
        for chunk in label_chunks {
            let column = chunk.read(path)?;
            let text = |row| {
                column
                    .bytes(row)
                    .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            };
            texts.extend((0..chunk.rows).map(text));
        }
        Labels::Texts(texts)
    } else {
        let mut numbers = Vec::new();
        for chunk in label_chunks {
            let column = chunk.read(path)?;
            numbers.extend((0..chunk.rows).map(|row| column.number(row)));
        }
        Labels::Numbers(numbers)
    };
    let names = match labels {
        Labels::Numbers(_) => class_names(&metadata, &columns[label].path[0]),
        Labels::Texts(_) => None,
    };
    Ok(Listed { groups, labels, names })
}

/// Names of classes that Hugging Face's library leaves in the metadata.
fn class_names(metadata: &FileMetaData, label: &str) -> Option<Vec<String>> {
    let pairs = metadata.key_value_metadata.as_ref()?;
    let text = pairs.iter().find(|pair| pair.key == "huggingface")?.value.as_ref()?;
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let names = json
        .get("info")?
        .get("features")?
        .get(label)?
        .get("names")?
        .as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// A column that holds values.
struct Leaf {
    path: Vec<String>,
    kind: Type,
    /// Levels on its path that may be absent.
    levels: u32,
    /// Whether it is in a list.
    repeated: bool,
}

/// The columns that hold values, in the order of row groups. `None` where the schema is no tree.
fn leaves(schema: &[SchemaElement]) -> Option<Vec<Leaf>> {
    let (root, rest) = schema.split_first()?;
    let mut out = Vec::new();
    let mut rest = rest.iter();
    // Children that are still to come, and the path above them, from the root down.
    let mut above = vec![(usize::try_from(root.num_children?).ok()?, Vec::new(), 0, false)];
    while let Some((left, path, levels, repeated)) = above.last_mut() {
        if *left == 0 {
            above.pop();
            continue;
        }
        *left -= 1;
        let element = rest.next()?;
        let mut path: Vec<String> = path.clone();
        path.push(element.name.clone());
        let repetition = element.repetition_type.unwrap_or(FieldRepetitionType::REQUIRED);
        let repeated = *repeated || repetition == FieldRepetitionType::REPEATED;
        let levels = *levels + u32::from(repetition != FieldRepetitionType::REQUIRED);
        match element.num_children.filter(|children| *children > 0) {
            Some(children) if above.len() < DEEPEST => {
                above.push((usize::try_from(children).ok()?, path, levels, repeated));
            }
            Some(_) => return None,
            None => out.push(Leaf {
                path,
                kind: element.type_?,
                levels,
                repeated,
            }),
        }
    }
    rest.next().is_none().then_some(out)
}

/// The values of a column of a row group.
#[derive(Default)]
struct Column {
    /// Content of pages.
    pages: Vec<Vec<u8>>,
    /// The value of each row; `None` where it is absent.
    values: Vec<Option<Slice>>,
}

impl Column {
    fn bytes(&self, row: usize) -> Option<&[u8]> {
        let (page, start, length) = (*self.values.get(row)?)?;
        self.pages
            .get(page as usize)?
            .get(start as usize..)?
            .get(..length as usize)
    }

    fn number(&self, row: usize) -> Option<i64> {
        match self.bytes(row)? {
            bytes @ [_, _, _, _] => Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?))),
            bytes => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
        }
    }

    /// Bytes that it takes in memory.
    fn size(&self) -> usize {
        self.pages.iter().map(Vec::len).sum::<usize>() + self.values.len() * size_of::<Option<Slice>>()
    }
}

impl Chunk {
    /// Reads the pages of the chunk.
    fn read(&self, path: &Path) -> Result<Column, DataError> {
        let file = dynvis_base::files::open(path)?;
        let read = || self.read_pages(path, file.file());
        guard(read).unwrap_or_else(|panicked| Err(DataError::panicked(path, &panicked)))
    }

    fn read_pages(&self, path: &Path, file: &File) -> Result<Column, DataError> {
        let room = self.unpacked.saturating_add(self.rows as u64 * 16);
        memory::check_room(room).map_err(|room| DataError::too_large(path, room))?;
        let mut column = Column::default();
        let mut dictionary: Vec<Slice> = Vec::new();
        let mut at = self.place.start;
        let mut unpacked = 0u64;
        while column.values.len() < self.rows {
            let damaged = |what: &str| DataError::damaged(path, at, what);
            let (header, head) = self.page_header(path, file, at)?;
            let start = at + head;
            let compressed = u64::try_from(header.compressed_page_size).ok();
            let end = compressed
                .and_then(|size| start.checked_add(size))
                .filter(|end| *end <= self.place.end);
            let end = end.ok_or_else(|| damaged("a page that is longer than its column"))?;
            let size =
                usize::try_from(header.uncompressed_page_size).map_err(|_| damaged("a page of negative size"))?;
            unpacked = unpacked.saturating_add(size as u64);
            // Heads are counted with the column's pages, so that these are never more.
            if unpacked > self.unpacked {
                return Err(damaged("pages of more bytes than their column"));
            }
            let mut raw = vec![0; (end - start) as usize];
            read_exact(path, file, start, &mut raw)?;
            if let Some(sum) = header.crc {
                let mut crc = flate2::Crc::new();
                crc.update(&raw);
                if crc.sum() != sum.cast_unsigned() {
                    return Err(damaged("a page whose checksum is wrong"));
                }
            }
            let left = self.rows - column.values.len();
            let page = column.pages.len() as u32;
            match header.type_ {
                PageType::DICTIONARY_PAGE => {
                    let head = header
                        .dictionary_page_header
                        .ok_or_else(|| damaged("a page without its head"))?;
                    let count = usize::try_from(head.num_values).map_err(|_| damaged("a negative dictionary"))?;
                    let bytes = self.unpack(&raw, size).map_err(|what| damaged(&what))?;
                    dictionary = self
                        .plain(page, &bytes, 0, count)
                        .ok_or_else(|| damaged("a damaged dictionary"))?;
                    column.pages.push(bytes);
                }
                PageType::DATA_PAGE => {
                    let head = header
                        .data_page_header
                        .ok_or_else(|| damaged("a page without its head"))?;
                    let count = usize::try_from(head.num_values).ok().filter(|count| *count <= left);
                    let count = count.ok_or_else(|| damaged("a page of more rows than its row group"))?;
                    let bytes = self.unpack(&raw, size).map_err(|what| damaged(&what))?;
                    let (levels, values) = if self.levels == 0 {
                        (0..0, 0)
                    } else {
                        let length = bytes.get(..4).and_then(|four| <[u8; 4]>::try_from(four).ok());
                        let length = length.map(|four| u32::from_le_bytes(four) as usize);
                        let end = length
                            .and_then(|length| length.checked_add(4))
                            .filter(|end| *end <= bytes.len());
                        let end = end.ok_or_else(|| damaged("a page that ends within its levels"))?;
                        (4..end, end)
                    };
                    let page = Page {
                        number: page,
                        levels: &bytes[levels],
                        bytes: &bytes,
                        values,
                        count,
                        encoding: head.encoding,
                    };
                    let values = self.values(&page, &dictionary).map_err(|what| damaged(&what))?;
                    column.values.extend(values);
                    column.pages.push(bytes);
                }
                PageType::DATA_PAGE_V2 => {
                    let head = header
                        .data_page_header_v2
                        .ok_or_else(|| damaged("a page without its head"))?;
                    let count = usize::try_from(head.num_values).ok().filter(|count| *count <= left);
                    let count = count.ok_or_else(|| damaged("a page of more rows than its row group"))?;
                    let before = |length: i32| usize::try_from(length).ok();
                    let repetitions = before(head.repetition_levels_byte_length);
                    let levels = before(head.definition_levels_byte_length);
                    let place = repetitions.zip(levels).and_then(|(repetitions, levels)| {
                        let end = repetitions.checked_add(levels)?;
                        (end <= raw.len() && end <= size).then_some(repetitions..end)
                    });
                    let place = place.ok_or_else(|| damaged("a page that ends within its levels"))?;
                    let packed = &raw[place.end..];
                    let bytes = match head.is_compressed {
                        Some(false) => packed.to_vec(),
                        _ => self.unpack(packed, size - place.end).map_err(|what| damaged(&what))?,
                    };
                    let page = Page {
                        number: page,
                        levels: &raw[place],
                        bytes: &bytes,
                        values: 0,
                        count,
                        encoding: head.encoding,
                    };
                    let values = self.values(&page, &dictionary).map_err(|what| damaged(&what))?;
                    column.values.extend(values);
                    column.pages.push(bytes);
                }
                _ => {}
            }
            at = end;
        }
        Ok(column)
    }

    /// The head of the page at `at`, and its bytes. It may hold the least and the greatest value.
    fn page_header(&self, path: &Path, file: &File, at: u64) -> Result<(PageHeader, u64), DataError> {
        const LONGEST: u64 = 16 << 20;
        let left = self.place.end.saturating_sub(at);
        let mut window = 1 << 12;
        loop {
            let mut bytes = vec![0; left.min(window) as usize];
            read_exact(path, file, at, &mut bytes)?;
            let mut rest = bytes.as_slice();
            let mut protocol = TCompactInputProtocol::new(&mut rest, 2 * bytes.len() + 1024);
            match PageHeader::read_from_in_protocol(&mut protocol) {
                Ok(header) => {
                    drop(protocol);
                    return Ok((header, (bytes.len() - rest.len()) as u64));
                }
                Err(_) if window < left.min(LONGEST) => window *= 16,
                Err(error) => {
                    let what = match left {
                        0 => "a column with fewer rows than its row group".to_owned(),
                        _ => format!("a damaged head of a page ({error})"),
                    };
                    return Err(DataError::damaged(path, at, what));
                }
            }
        }
    }

    /// Decompresses a page to its `size` bytes.
    fn unpack(&self, raw: &[u8], size: usize) -> Result<Vec<u8>, String> {
        let all = |stream: &mut dyn Read| {
            let mut bytes = Vec::new();
            memory::read_to_end(stream, size as u64, &mut bytes).map_err(|error| error.to_string())?;
            Ok(bytes)
        };
        let bytes = match self.codec {
            CompressionCodec::UNCOMPRESSED => Ok(raw.to_vec()),
            CompressionCodec::SNAPPY => match snap::raw::decompress_len(raw) {
                Ok(length) if length == size => {
                    memory::check_room(size as u64).map_err(|room| room.to_string())?;
                    snap::raw::Decoder::new()
                        .decompress_vec(raw)
                        .map_err(|error| error.to_string())
                }
                Ok(length) => Err(format!("{length} bytes")),
                Err(error) => Err(error.to_string()),
            },
            CompressionCodec::GZIP => all(&mut flate2::read::MultiGzDecoder::new(raw)),
            CompressionCodec::ZSTD => match zstd::stream::read::Decoder::new(raw) {
                Ok(mut decoder) => all(&mut decoder),
                Err(error) => Err(error.to_string()),
            },
            CompressionCodec::BROTLI | CompressionCodec::LZ4 | CompressionCodec::LZ4_RAW | CompressionCodec::LZO => {
                return Err(
                    "a page compressed by Brotli, LZ4 or LZO, which are not read; write the file with Snappy or \
                            Zstandard"
                        .to_owned(),
                );
            }
            _ => Err("an unknown compression".to_owned()),
        };
        match bytes {
            Ok(bytes) if bytes.len() == size => Ok(bytes),
            Ok(bytes) => Err(format!("a page of {} bytes, and its head says {size}", bytes.len())),
            Err(what) => Err(format!("a page that cannot be decompressed to {size} bytes ({what})")),
        }
    }

    /// Values in plain encoding from `at` on.
    fn plain(&self, page: u32, bytes: &[u8], mut at: usize, count: usize) -> Option<Vec<Slice>> {
        let mut values = Vec::new();
        for _ in 0..count {
            let length = match self.kind {
                Type::INT32 => 4,
                Type::INT64 => 8,
                _ => {
                    let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
                    at += 4;
                    u32::from_le_bytes(four) as usize
                }
            };
            let end = at.checked_add(length).filter(|end| *end <= bytes.len())?;
            values.push((page, u32::try_from(at).ok()?, length as u32));
            at = end;
        }
        Some(values)
    }

    /// The values of a page's rows.
    fn values(&self, page: &Page<'_>, dictionary: &[Slice]) -> Result<Vec<Option<Slice>>, String> {
        let present: Vec<bool> = if self.levels == 0 {
            vec![true; page.count]
        } else {
            let width = u32::BITS - self.levels.leading_zeros();
            let levels = runs(page.levels, width, page.count).ok_or("a page with damaged levels")?;
            levels.into_iter().map(|level| level == self.levels).collect()
        };
        let count = present.iter().filter(|present| **present).count();
        let values = match page.encoding {
            Encoding::PLAIN => self
                .plain(page.number, page.bytes, page.values, count)
                .ok_or("a page that ends within its values")?,
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY if count == 0 => Vec::new(),
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                let width = page.bytes.get(page.values).copied().filter(|width| *width <= 32);
                let width = width.ok_or("a page without the width of its values")?;
                let indices = runs(&page.bytes[page.values + 1..], u32::from(width), count);
                let indices = indices.ok_or("a page that ends within its values")?;
                let value = |index: u32| dictionary.get(index as usize).copied();
                let values: Option<Vec<_>> = indices.into_iter().map(value).collect();
                values.ok_or("a value that is not in the dictionary")?
            }
            other => {
                return Err(format!(
                    "values in encoding {}, which is not read; write the file with plain or dictionary encoding",
                    other.0
                ));
            }
        };
        let mut values = values.into_iter();
        Ok(present
            .into_iter()
            .map(|present| if present { values.next() } else { None })
            .collect())
    }
}

/// A page of data, decompressed.
struct Page<'a> {
    number: u32,
    /// Definition levels in runs.
    levels: &'a [u8],
    bytes: &'a [u8],
    /// Where its values begin.
    values: usize,
    count: usize,
    encoding: Encoding,
}

/// Numbers of `width` bits in runs of repeated and of bit-packed values. `None` where they end before `count`.
fn runs(mut bytes: &[u8], width: u32, count: usize) -> Option<Vec<u32>> {
    let mut out = Vec::new();
    if width == 0 {
        return Some(vec![0; count]);
    }
    while out.len() < count {
        let mut header = 0u64;
        for shift in (0..).step_by(7) {
            let (byte, rest) = bytes.split_first()?;
            bytes = rest;
            header |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            if shift >= 35 {
                return None;
            }
        }
        let left = count - out.len();
        if header & 1 == 0 {
            let (value, rest) = bytes.split_at_checked(width.div_ceil(8) as usize)?;
            bytes = rest;
            let value = value
                .iter()
                .rev()
                .fold(0u32, |value, byte| value << 8 | u32::from(*byte));
            let run = usize::try_from(header >> 1).ok()?;
            if run == 0 {
                return None;
            }
            out.resize(out.len() + run.min(left), value);
        } else {
            let groups = usize::try_from(header >> 1).ok()?;
            let packed = groups.checked_mul(width as usize)?;
            // The last group of a page need not be whole.
            let (packed, rest) = bytes.split_at(packed.min(bytes.len()));
            bytes = rest;
            let whole = (packed.len() * 8 / width as usize).min(left).min(groups * 8);
            if whole == 0 {
                return None;
            }
            let bit = |at: usize| u32::from(packed[at / 8] >> (at % 8) & 1);
            let width = width as usize;
            let value = |at: usize| (0..width).fold(0, |value, place| value | bit(at * width + place) << place);
            out.extend((0..whole).map(value));
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_both_kinds() {
        // Four times 5 in 3 bits; then 0 to 7 bit-packed, as the format's description has them.
        let bytes = [8, 5, 3, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(runs(&bytes, 3, 12), Some(vec![5, 5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(runs(&bytes, 3, 7), Some(vec![5, 5, 5, 5, 0, 1, 2]));
        assert_eq!(runs(&bytes, 3, 13), None);
        assert_eq!(runs(&[], 0, 2), Some(vec![0, 0]));
        // A run without end in its length, of no values, and far more values than are asked for.
        assert_eq!(runs(&[0xff; 8], 3, 1), None);
        assert_eq!(runs(&[0, 1], 1, 1), None);
        assert_eq!(runs(&[0xfe, 0xff, 0xff, 0xff, 0x0f, 1], 1, 3), Some(vec![1, 1, 1]));
    }
}
