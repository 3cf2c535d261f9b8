//! `activity.safetensors`: written in place, value by value, and read back in parts.
//!
//! `times` `[time]` F64 (ms after image onset), `images` `[image]` I64 (index in the image set), `labels` `[image]`
//! I64, `logits` `[image, time, class]` F32, and `area.L` F32: `[image, time, channel, height, width]`, or pooled
//! `[image, time, channel]`.

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use fs_err::{File, OpenOptions};
use serde_json::{Map, Value, json};

/// Place of a tensor `[image, time, values]` of f32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    start: u64,
    times: usize,
    /// Values of one image at one time.
    pub(super) len: usize,
}

impl Block {
    fn offset(&self, image: usize, time: usize) -> u64 {
        self.start + 4 * (self.len as u64) * (image * self.times + time) as u64
    }
}

/// The file being written.
pub(super) struct ActivityFile {
    file: File,
    pub(super) logits: Block,
    /// Per recorded area, in order.
    pub(super) areas: Vec<Block>,
}

/// What the file holds besides activity.
pub(super) struct Contents<'a> {
    pub(super) times_ms: &'a [f64],
    pub(super) images: &'a [u32],
    pub(super) labels: &'a [u32],
    pub(super) classes: usize,
    /// Number of each recorded area, and the extents of its values: `[channel, height, width]` or `[channel]`.
    pub(super) areas: &'a [(usize, Vec<usize>)],
}

impl ActivityFile {
    /// Makes the file in its full length and writes all but activity and logits.
    pub(super) fn create(path: &Path, contents: &Contents<'_>) -> std::io::Result<Self> {
        let (images, times) = (contents.images.len(), contents.times_ms.len());
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "cords.activity": "1" }));
        let mut end = 0u64;
        let mut place = |name: String, number: &str, bytes: u64, shape: Vec<usize>| {
            let start = end;
            end += bytes * shape.iter().map(|n| *n as u64).product::<u64>();
            let entry = json!({ "dtype": number, "shape": shape, "data_offsets": [start, end] });
            header.insert(name, entry);
            start
        };
        place("times".to_owned(), "F64", 8, vec![times]);
        place("images".to_owned(), "I64", 8, vec![images]);
        place("labels".to_owned(), "I64", 8, vec![images]);
        let logits = place("logits".to_owned(), "F32", 4, vec![images, times, contents.classes]);
        let starts: Vec<u64> = contents
            .areas
            .iter()
            .map(|(area, extents)| {
                let shape = [images, times].into_iter().chain(extents.iter().copied()).collect();
                place(format!("area.{area}"), "F32", 4, shape)
            })
            .collect();
        let mut head = Value::Object(header).to_string().into_bytes();
        // The data start at a multiple of 8, as the format wants it.
        head.resize(head.len().next_multiple_of(8), b' ');
        let data = 8 + head.len() as u64;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        file.set_len(data + end)?;
        file.write_all(&(head.len() as u64).to_le_bytes())?;
        file.write_all(&head)?;
        let integers = contents.images.iter().chain(contents.labels).map(|n| i64::from(*n));
        let mut small: Vec<u8> = contents.times_ms.iter().flat_map(|t| t.to_le_bytes()).collect();
        small.extend(integers.flat_map(i64::to_le_bytes));
        file.write_all(&small)?;
        let block = |start: u64, len: usize| Block {
            start: data + start,
            times,
            len,
        };
        Ok(Self {
            file,
            logits: block(logits, contents.classes),
            areas: starts
                .into_iter()
                .zip(contents.areas)
                .map(|(start, (_, extents))| block(start, extents.iter().product()))
                .collect(),
        })
    }

    /// Writes one image's values at one time.
    pub(super) fn write(&mut self, block: Block, image: usize, time: usize, values: &[f32]) -> std::io::Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.file.seek(SeekFrom::Start(block.offset(image, time)))?;
        self.file.write_all(&bytes)
    }

    /// Reads part of one image's values at one time.
    pub(super) fn read(
        &mut self,
        block: Block,
        image: usize,
        time: usize,
        range: Range<usize>,
        out: &mut [f32],
    ) -> std::io::Result<()> {
        let start = block.offset(image, time) + 4 * range.start as u64;
        let mut bytes = vec![0; 4 * out.len()];
        self.file.seek(SeekFrom::Start(start))?;
        self.file.read_exact(&mut bytes)?;
        for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }
}
