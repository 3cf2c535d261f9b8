//! Images as their source has them, packed into a few files. What is asked of one is decoded, cropped and resized then.
//!
//! Beside the manifest lie `originals.index` and the packs `originals-00000`, `originals-00001`, ... The index has 32
//! bytes for each image, little-endian: where it begins in its pack (u64), how long it is, number of the pack, width,
//! height, channels, and what it is: 0 for the bytes of a JPEG or PNG file, 1 for levels `[height, width, channels]`
//! (all u32). Where packs end depends on the images alone.

use super::{MANIFEST, Manifest, map};
use crate::data::DataError;
use crate::data::decode::{Decoder, Pixels, View, decode_view};
use crate::data::resize::{self, Resizer, Rule};
use crate::data::source::Place;
use dynvis_base::files::persist;
use fs_err::File;
use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};

const INDEX: &str = "originals.index";
/// A pack is complete once it has so many bytes. After a stop, writing goes on from the last complete one.
pub(crate) const PACK: u64 = 256 << 20;
/// Images of so many bytes begin at a multiple of [`BLOCK`], so that file systems that can let files share blocks
/// (Btrfs, XFS) share them with the source's.
const LARGE: u64 = 64 << 10;
const BLOCK: u64 = 4096;
/// What is being written, so that it can be taken up after a stop.
const STATE: &str = "state.json";

fn pack_name(pack: usize) -> String {
    format!("originals-{pack:05}")
}

/// What the bytes of an image are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A JPEG or PNG file.
    Encoded,
    /// Levels, `[height, width, channels]`.
    Levels,
}

/// An image's place in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    offset: u64,
    length: u32,
    pack: u32,
    /// In pixels, as it is shown.
    width: u32,
    height: u32,
    channels: u32,
    form: Form,
}

impl Record {
    const BYTES: usize = 32;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.offset.to_le_bytes());
        let form = u32::from(self.form == Form::Levels);
        for value in [self.length, self.pack, self.width, self.height, self.channels, form] {
            out.extend(value.to_le_bytes());
        }
    }

    /// None where it is of no known form.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk::<8>()?;
        let mut values = [0; 6];
        for (value, bytes) in values.iter_mut().zip(rest.chunks_exact(4)) {
            *value = u32::from_le_bytes(bytes.try_into().ok()?);
        }
        let [length, pack, width, height, channels, form] = values;
        let form = [Form::Encoded, Form::Levels].get(form as usize)?;
        Some(Self {
            offset: u64::from_le_bytes(*offset),
            length,
            pack,
            width,
            height,
            channels,
            form: *form,
        })
    }

    /// The image that `bytes` are, where they are levels.
    fn levels(&self, bytes: &[u8]) -> Pixels {
        Pixels {
            width: self.width as usize,
            height: self.height as usize,
            channels: self.channels as usize,
            data: bytes.to_vec(),
        }
    }

    /// Whether it is an image that lies within its pack.
    fn fits(&self, packs: &[Mmap]) -> bool {
        let pack = packs.get(self.pack as usize).map_or(0, |pack| pack.len() as u64);
        let end = self.offset.checked_add(u64::from(self.length));
        let levels = u64::from(self.width) * u64::from(self.height) * u64::from(self.channels);
        end.is_some_and(|end| end <= pack)
            && levels > 0
            && matches!(self.channels, 1 | 3)
            && (self.form == Form::Encoded || levels == u64::from(self.length))
    }
}

/// What a set of originals has beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Originals {
    /// Number of files that hold the images.
    pub packs: usize,
    /// How images are shown.
    pub shown: Shown,
}

/// How originals are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// Length of the shorter side before the centre crop, for evaluation.
    pub resize: usize,
    /// Whether they are turned and mirrored as their EXIF or XMP data say.
    pub upright: bool,
}

/// An image to be packed.
pub(crate) struct Packed<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) form: Form,
    /// Where the bytes lie in a file of the source, from which a file system may take them over.
    pub(crate) place: Option<&'a Place>,
    /// Width and height in pixels, as it is shown.
    pub(crate) size: [usize; 2],
    pub(crate) channels: usize,
}

/// A rectangle of an image in whole pixels of the original: left, top, width, height.
pub(crate) type Window = [usize; 4];

/// The packs of a set, memory-mapped.
#[derive(Debug)]
pub(super) struct Packs {
    paths: Vec<PathBuf>,
    maps: Vec<Mmap>,
    index: Mmap,
    shown: Shown,
}

impl Packs {
    pub(super) fn open(folder: &Path, originals: &Originals, manifest: &Manifest) -> Result<Self, DataError> {
        let (Originals { packs, shown }, images) = (originals, manifest.images);
        if shown.resize < manifest.side {
            return Err(DataError::NotAnImageSet {
                file: folder.join(MANIFEST),
                what: format!(
                    "images are resized to {} and cropped to {}",
                    shown.resize, manifest.side
                ),
            });
        }
        let index_path = folder.join(INDEX);
        let fail = |what: String| DataError::NotAnImageSet {
            file: index_path.clone(),
            what,
        };
        let index = map(&index_path)?;
        if Some(index.len()) != images.checked_mul(Record::BYTES) {
            return Err(fail(format!("{} bytes for {images} images", index.len())));
        }
        let paths: Vec<PathBuf> = (0..*packs).map(|pack| folder.join(pack_name(pack))).collect();
        let maps = paths.iter().map(|path| map(path)).collect::<Result<Vec<_>, _>>()?;
        let wrong = index
            .chunks_exact(Record::BYTES)
            .position(|bytes| !Record::read(bytes).is_some_and(|record| record.fits(&maps)));
        if let Some(image) = wrong {
            return Err(fail(format!("the entry of image {image} fits no pack")));
        }
        Ok(Self {
            paths,
            maps,
            index,
            shown: *shown,
        })
    }

    /// Width and height in pixels, as it is shown.
    pub(super) fn size(&self, i: usize) -> [usize; 2] {
        let record = self.record(i);
        [record.width, record.height].map(|length| length as usize)
    }

    fn record(&self, i: usize) -> Record {
        let bytes = &self.index[i * Record::BYTES..][..Record::BYTES];
        // Looked at when the set was opened.
        Record::read(bytes).expect("an entry of the index")
    }

    fn bytes(&self, record: &Record) -> &[u8] {
        &self.maps[record.pack as usize][record.offset as usize..][..record.length as usize]
    }

    /// A view of an encoded image: `[channels, height, width]`.
    fn decoded(&self, i: usize, record: &Record, view: &View) -> Result<Vec<u8>, DataError> {
        let path = &self.paths[record.pack as usize];
        let decoded = DECODER.with_borrow_mut(|decoder| decode_view(decoder, path, self.bytes(record), view));
        let pixels = decoded.map_err(|error| DataError::NotAnImageSet {
            file: path.clone(),
            what: format!("image {i}, at byte {}: {error}", record.offset),
        })?;
        Ok(pixels.into_planes())
    }

    /// The view for evaluation: `[channels, side, side]`.
    pub(super) fn evaluated(&self, i: usize, channels: usize, side: usize) -> Result<Vec<u8>, DataError> {
        let (record, resize) = (self.record(i), self.shown.resize);
        match record.form {
            Form::Levels => {
                let pixels = record.levels(self.bytes(&record)).with_channels(channels);
                Ok(resize::fit(&mut Resizer::default(), pixels, resize, side, Rule::Arrays))
            }
            Form::Encoded => {
                let size = (record.width as usize, record.height as usize);
                let view = View::of_centre(size, resize, side, channels, self.shown.upright);
                self.decoded(i, &record, &view)
            }
        }
    }

    /// A window of image `i`, resized to `[channels, side, side]`.
    pub(super) fn window(&self, i: usize, window: Window, channels: usize, side: usize) -> Result<Vec<u8>, DataError> {
        let record = self.record(i);
        match record.form {
            Form::Levels => {
                let part = record
                    .levels(self.bytes(&record))
                    .cropped(window)
                    .with_channels(channels);
                Ok(resize::square(&mut Resizer::default(), part, side).into_planes())
            }
            Form::Encoded => {
                let view = View::of_window(window, side, channels, self.shown.upright);
                self.decoded(i, &record, &view)
            }
        }
    }
}

thread_local! {
    /// Buffers for the images that a thread decodes one after another.
    static DECODER: RefCell<Decoder> = RefCell::default();
}

/// Bytes that stand before an image of `length` bytes where its pack has `pack_length` already.
fn padding(pack_length: u64, length: u64) -> u64 {
    match length >= LARGE {
        true => pack_length.next_multiple_of(BLOCK) - pack_length,
        false => 0,
    }
}

/// Bytes of packs and index that images of such lengths take, in this order.
pub(crate) fn packed_bytes(lengths: impl Iterator<Item = u64>) -> u64 {
    packed_bytes_with(lengths, PACK)
}

/// The same with packs of other sizes.
fn packed_bytes_with(lengths: impl Iterator<Item = u64>, complete: u64) -> u64 {
    let (mut packs, mut pack, mut index) = (0u64, 0u64, 0u64);
    for length in lengths {
        pack += padding(pack, length) + length;
        index += Record::BYTES as u64;
        if pack >= complete {
            packs += pack;
            pack = 0;
        }
    }
    packs + pack + index
}

/// Writes packs and index.
#[derive(Debug)]
pub(super) struct Packer {
    folder: PathBuf,
    /// Bytes that complete a pack.
    pack: u64,
    /// The pack that is not complete.
    file: Option<File>,
    /// Bytes of it, those that wait included.
    length: u64,
    hasher: blake3::Hasher,
    /// Bytes that are not written yet.
    waiting: Vec<u8>,
    complete: Vec<CompletePack>,
    index: Vec<u8>,
}

/// A pack that nothing is added to any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct CompletePack {
    /// BLAKE3 of its content.
    hash: String,
}

/// What is on disk when a pack is complete.
#[derive(Debug, Serialize, Deserialize)]
struct State<P> {
    version: u32,
    packs: Vec<CompletePack>,
    /// BLAKE3 of the index.
    index: String,
    progress: P,
}

impl Packer {
    pub(super) fn begin(folder: &Path, pack: u64) -> Result<Self, DataError> {
        fs_err::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            pack,
            file: None,
            length: 0,
            hasher: blake3::Hasher::new(),
            waiting: Vec::new(),
            complete: Vec::new(),
            index: Vec::new(),
        })
    }

    /// Takes up what was complete when the writer was stopped, with what [`save`](Self::save) was given then. None where
    /// there is nothing, or it is not as it was left.
    pub(super) fn resume<P: serde::de::DeserializeOwned>(folder: &Path, pack: u64) -> Option<(Self, P)> {
        let text = fs_err::read(folder.join(STATE)).ok()?;
        let state: State<P> = serde_json::from_slice(&text).ok()?;
        let index = fs_err::read(folder.join(INDEX)).ok()?;
        let packs: Vec<PathBuf> = (0..state.packs.len())
            .map(|pack| folder.join(pack_name(pack)))
            .collect();
        let unchanged = state.version == 1
            && blake3::hash(&index).to_hex().as_str() == state.index
            && (packs.par_iter().zip(&state.packs))
                .all(|(path, complete)| hash_of(path).is_ok_and(|hash| hash == complete.hash));
        let packer = Self {
            folder: folder.to_owned(),
            pack,
            file: None,
            length: 0,
            hasher: blake3::Hasher::new(),
            waiting: Vec::new(),
            complete: state.packs,
            index,
        };
        unchanged.then_some((packer, state.progress))
    }

    pub(super) fn images(&self) -> usize {
        self.index.len() / Record::BYTES
    }

    /// Appends an image; true where that completed a pack.
    pub(super) fn push(&mut self, original: &Packed<'_>) -> Result<bool, DataError> {
        let Packed { bytes, form, place, .. } = *original;
        let length = u32::try_from(bytes.len())
            .map_err(|_| DataError::option("image", format!("{} bytes; at most 2^32 - 1 are kept", bytes.len())))?;
        let is_large = u64::from(length) >= LARGE;
        if is_large {
            let padding = padding(self.length, u64::from(length));
            let padded = self.waiting.len() + padding as usize;
            self.hasher.update(&[0; BLOCK as usize][..padding as usize]);
            self.waiting.resize(padded, 0);
            self.length += padding;
        }
        let record = Record {
            offset: self.length,
            length,
            pack: self.complete.len() as u32,
            width: original.size[0] as u32,
            height: original.size[1] as u32,
            channels: original.channels as u32,
            form,
        };
        if is_large {
            self.flush()?;
            let shared = place.map_or(Ok(0), |place| self.share(place, bytes.len() as u64))?;
            self.open()?.write_all(&bytes[shared..])?;
        } else {
            self.waiting.extend(bytes);
            if self.waiting.len() as u64 >= LARGE {
                self.flush()?;
            }
        }
        record.write(&mut self.index);
        self.hasher.update(bytes);
        self.length += u64::from(length);
        if self.length < self.pack {
            return Ok(false);
        }
        self.complete()?;
        Ok(true)
    }

    fn open(&mut self) -> Result<&mut File, DataError> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => {
                let path = self.folder.join(pack_name(self.complete.len()));
                Ok(none.insert(File::create(path)?))
            }
        }
    }

    fn flush(&mut self) -> Result<(), DataError> {
        // A pack begins with its first image.
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.open()?.write_all(&waiting)?;
        self.waiting = waiting;
        self.waiting.clear();
        Ok(())
    }

    /// Lets the file system copy the image, which shares blocks where it can. Bytes that were copied so.
    fn share(&mut self, place: &Place, length: u64) -> Result<usize, DataError> {
        let source = dynvis_base::files::open(&place.path)?;
        let target = self.open()?;
        let mut from = place.offset;
        let end = place.offset + length;
        while from < end {
            let rest = (end - from) as usize;
            // Other file systems and old kernels refuse; then bytes are written as they were read.
            match dynvis_base::platform::copy_within_system(source.file(), &mut from, target.file(), rest) {
                Ok(copied) if copied > 0 => {}
                _ => break,
            }
        }
        Ok((from - place.offset) as usize)
    }

    fn complete(&mut self) -> Result<(), DataError> {
        self.flush()?;
        if let Some(file) = self.file.take() {
            file.sync_all()?;
            let hash = std::mem::take(&mut self.hasher).finalize().to_hex().to_string();
            self.complete.push(CompletePack { hash });
            self.length = 0;
        }
        Ok(())
    }

    /// Makes durable what is complete, with how far the caller is.
    pub(super) fn save<P: Serialize>(&self, progress: &P) -> Result<(), DataError> {
        let state = State {
            version: 1,
            packs: self.complete.clone(),
            index: blake3::hash(&self.index).to_hex().to_string(),
            progress,
        };
        persist(&self.folder.join(INDEX), &self.index)?;
        let text = serde_json::to_vec(&state).map_err(std::io::Error::other)?;
        Ok(persist(&self.folder.join(STATE), &text)?)
    }

    /// Completes the last pack and moves all files into `dir`. The number of packs.
    pub(super) fn finish(mut self, dir: &Path) -> Result<usize, DataError> {
        self.complete()?;
        fs_err::write(self.folder.join(INDEX), &self.index)?;
        let packs = self.complete.len();
        if self.folder != dir {
            fs_err::create_dir_all(dir)?;
            for name in (0..packs).map(pack_name).chain([INDEX.to_owned()]) {
                move_file(&self.folder.join(&name), &dir.join(&name))?;
            }
        }
        match fs_err::remove_file(self.folder.join(STATE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(packs),
        }
    }
}

fn hash_of(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(dynvis_base::files::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Renames a file, or copies it where the other place is on another file system.
fn move_file(from: &Path, to: &Path) -> std::io::Result<()> {
    match fs_err::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            fs_err::copy(from, to)?;
            fs_err::remove_file(from)
        }
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_packs_are_told_before_they_are_written() {
        const SIDE: usize = 300;
        let folder = tempfile::tempdir().expect("folder");
        // Rows of small and large images, so that some begin at a multiple of a block and some do not.
        let rows = [1, 300, 7, 250, 250, 2, 219, 3, 300, 1];
        let complete = 4 * LARGE;
        let mut packer = Packer::begin(folder.path(), complete).expect("begun");
        for rows in rows {
            let packed = Packed {
                bytes: &vec![7; rows * SIDE],
                form: Form::Levels,
                place: None,
                size: [SIDE, rows],
                channels: 1,
            };
            packer.push(&packed).expect("pushed");
        }
        let packs = packer.finish(folder.path()).expect("finished");
        assert!(packs > 1, "{packs}");
        let files = fs_err::read_dir(folder.path()).expect("a folder");
        let written: u64 = files
            .map(|file| file.expect("a file").metadata().expect("a file").len())
            .sum();
        let lengths = rows.iter().map(|rows| (rows * SIDE) as u64);
        assert_eq!(packed_bytes_with(lengths, complete), written);
    }
}
