//! One run in one file, a ZIP archive: what people read under names that they know, and what dynvis needs to take the
//! results into a cache. Bytes that are both lie there once.
//!
//! ```text
//! README.txt               what is what
//! sha256.txt               of every other file, for `sha256sum -c`
//! pipeline/                the pipeline and the presets that it names
//! tables/ pictures/ models/  as `export` writes them
//! dynvis/run.json          the record of the run
//! dynvis/results/KEY.json  a result: its outputs, files and hashes
//! dynvis/blobs/HASH        files that have no name above
//! dynvis/bundle.json       which file has the bytes of which hash
//! ```

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use dynvis_runner::key::{ContentHash, StageKey};
use dynvis_runner::store::{Elsewhere, ElsewhereError, Parcel, RunRecord};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const RUN: &str = "dynvis/run.json";
const INDEX: &str = "dynvis/bundle.json";
const RESULTS: &str = "dynvis/results/";
const BLOBS: &str = "dynvis/blobs/";
/// Version of the form of bundles.
const VERSION: u32 = 1;
/// Longest text that is read into memory.
const LONGEST_TEXT: u64 = 1 << 28;

/// Which file has which bytes.
#[derive(Serialize, Deserialize)]
struct Index {
    version: u32,
    /// Every result that is there.
    results: Vec<StageKey>,
    /// Names of files within the bundle by the hash of their bytes.
    blobs: BTreeMap<ContentHash, String>,
}

/// A file that goes into a bundle.
pub(crate) enum Source {
    Text(String),
    File(PathBuf),
}

/// What a bundle is made of.
pub(crate) struct Contents<'a> {
    pub(crate) run: &'a RunRecord,
    pub(crate) readme: String,
    /// Files for people, by their names within.
    pub(crate) named: BTreeMap<String, Source>,
    /// Each result with the files that are to be there.
    pub(crate) results: Vec<(Parcel, Vec<(ContentHash, PathBuf)>)>,
}

/// Writes a bundle. The same contents give the same bytes.
pub(crate) fn write(path: &Path, contents: Contents) -> std::io::Result<u64> {
    let mut files: BTreeMap<String, Source> = contents.named;
    let mut blobs: BTreeMap<ContentHash, String> = BTreeMap::new();
    let mut by_hash: BTreeMap<String, String> = BTreeMap::new();
    for (name, source) in &files {
        if let Source::File(path) = source {
            by_hash.entry(hash_file(path)?).or_insert_with(|| name.clone());
        }
    }
    let mut results = Vec::new();
    for (parcel, of_result) in contents.results {
        for (hash, path) in of_result {
            let name = match by_hash.get(hash.as_str()) {
                Some(name) => name.clone(),
                None => {
                    let name = format!("{BLOBS}{}", hash.as_str());
                    files.insert(name.clone(), Source::File(path));
                    name
                }
            };
            blobs.insert(hash, name);
        }
        files.insert(
            format!("{RESULTS}{}.json", parcel.key.as_str()),
            Source::Text(parcel.to_text()),
        );
        results.push(parcel.key);
    }
    results.sort();
    let index = Index {
        version: VERSION,
        results,
        blobs,
    };
    files.insert(RUN.into(), Source::Text(pretty(contents.run)));
    files.insert(INDEX.into(), Source::Text(pretty(&index)));
    let draft = Draft::open(path)?;
    let failed = RefCell::new(None);
    let mut out = Remembering::new(BufWriter::new(&draft.file), &failed);
    let mut zip = ZipWriter::new(&mut out);
    let sum = add(&mut zip, "README.txt", &Source::Text(contents.readme))?;
    let mut sums = format!("{sum}  README.txt\n");
    for (name, source) in files.iter().take_while(|_| failed.borrow().is_none()) {
        let sum = add(&mut zip, name, source)?;
        sums += &format!("{sum}  {name}\n");
    }
    add(&mut zip, "sha256.txt", &Source::Text(sums))?;
    zip.finish()?;
    out.flush()?;
    drop(out);
    if let Some(error) = failed.take() {
        return Err(error);
    }
    draft.file.sync_data()?;
    let bytes = draft.file.metadata()?.len();
    draft.persist(path)?;
    Ok(bytes)
}

/// A bundle that is being written, beside its place and under one name, so that what a killed process has left is
/// overwritten by the next one.
struct Draft {
    path: PathBuf,
    file: File,
    /// Whether it has the name of a draft.
    is_left: bool,
}

impl Draft {
    fn open(target: &Path) -> std::io::Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.part"));
        let Some(file) = dynvis_base::files::open_part(&path)? else {
            let text = format!("another process writes it at this moment, as `{}`", path.display());
            return Err(std::io::Error::other(text));
        };
        let file = file.into_file();
        file.set_len(0)?;
        Ok(Self {
            path,
            file,
            is_left: true,
        })
    }

    fn persist(mut self, target: &Path) -> std::io::Result<()> {
        fs_err::rename(&self.path, target)?;
        self.is_left = false;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.is_left {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Keeps the first error and writes nothing from then on, as if all went well: the archive's writer would print an error
/// of its own when it is dropped.
struct Remembering<'a, W> {
    inner: W,
    error: &'a RefCell<Option<std::io::Error>>,
    place: u64,
    length: u64,
}

impl<'a, W> Remembering<'a, W> {
    fn new(inner: W, error: &'a RefCell<Option<std::io::Error>>) -> Self {
        Self {
            inner,
            error,
            place: 0,
            length: 0,
        }
    }

    fn unless_failed(&mut self, act: impl FnOnce(&mut W) -> std::io::Result<()>) {
        let mut error = self.error.borrow_mut();
        if error.is_none() {
            *error = act(&mut self.inner).err();
        }
    }
}

impl<W: Write> Write for Remembering<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.unless_failed(|inner| inner.write_all(bytes));
        self.place += bytes.len() as u64;
        self.length = self.length.max(self.place);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.unless_failed(Write::flush);
        Ok(())
    }
}

impl<W: Seek> Seek for Remembering<'_, W> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::Current(by) => self.place.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.place = place.ok_or(std::io::ErrorKind::InvalidInput)?;
        let place = self.place;
        self.unless_failed(|inner| inner.seek(SeekFrom::Start(place)).map(|_| ()));
        Ok(place)
    }
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(dynvis_base::files::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Adds a file; gives its SHA-256.
fn add<W: Write + Seek>(zip: &mut ZipWriter<W>, name: &str, source: &Source) -> std::io::Result<String> {
    // What is compressed by its own format does not get smaller, and compression would be all the work.
    const PACKED: [&str; 7] = [".parquet", ".png", ".pdf", ".safetensors", ".jpg", ".npz", ".zip"];
    let is_text = matches!(source, Source::Text(_));
    let is_packed = PACKED.iter().any(|ending| name.ends_with(ending)) || name.starts_with(BLOBS);
    let size = match source {
        Source::Text(text) => text.len() as u64,
        Source::File(path) => fs_err::metadata(path)?.len(),
    };
    let method = match is_packed && !is_text {
        true => CompressionMethod::Stored,
        false => CompressionMethod::Deflated,
    };
    let options = SimpleFileOptions::default()
        .compression_method(method)
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o644)
        .large_file(size >= u64::from(u32::MAX) / 2);
    zip.start_file(name, options)?;
    let mut hasher = Sha256::new();
    let mut reader: Box<dyn Read> = match source {
        Source::Text(text) => Box::new(text.as_bytes()),
        Source::File(path) => Box::new(dynvis_base::files::open(path)?),
    };
    let mut block = vec![0; 1 << 17];
    loop {
        match reader.read(&mut block)? {
            0 => break,
            count => {
                hasher.update(&block[..count]);
                zip.write_all(&block[..count])?;
            }
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A bundle that is read.
pub(crate) struct Bundle {
    name: String,
    zip: Mutex<ZipArchive<BufReader<File>>>,
    index: Index,
    run: RunRecord,
}

impl Bundle {
    /// Opens a bundle and reads what it says of itself.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let file = dynvis_base::files::open(path).map_err(|error| error.to_string())?;
        let no_bundle = |error: String| format!("it is no bundle of dynvis, or only the beginning of one: {error}");
        let mut zip =
            ZipArchive::new(BufReader::new(file.into_file())).map_err(|error| no_bundle(error.to_string()))?;
        let index = text_of(&mut zip, INDEX).map_err(no_bundle)?;
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let damaged = |error: serde_json::Error| format!("`{INDEX}` in it cannot be read: {error}");
        let found: Versioned = serde_json::from_str(&index).map_err(damaged)?;
        if found.version != VERSION {
            return Err(format!("it is of another version of dynvis ({})", found.version));
        }
        let index: Index = serde_json::from_str(&index).map_err(damaged)?;
        let run = RunRecord::parse(&text_of(&mut zip, RUN)?).map_err(|reason| format!("`{RUN}` in it: {reason}"))?;
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            name,
            zip: Mutex::new(zip),
            index,
            run,
        })
    }

    pub(crate) fn run(&self) -> &RunRecord {
        &self.run
    }

    /// Every result that it has, of the run or not.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &StageKey> {
        let of_run: BTreeSet<&StageKey> = self.run.stages.iter().filter_map(|stage| stage.key.as_ref()).collect();
        self.index.results.iter().filter(move |key| of_run.contains(key))
    }

    /// Files of the pipeline, by their names.
    pub(crate) fn pipeline_files(&self) -> Result<Vec<(String, String)>, String> {
        let mut zip = self.zip.lock().map_err(|_| "it was lost".to_owned())?;
        let names = zip.file_names().filter_map(Result::ok).map(Cow::into_owned);
        let names: Vec<String> = names.collect();
        let mut texts = Vec::new();
        for name in names {
            let is_name = |file: &str| !file.is_empty() && !file.starts_with('.') && !file.contains(['/', '\\', '\0']);
            if let Some(file) = name.strip_prefix("pipeline/").filter(|file| is_name(file)) {
                texts.push((file.to_owned(), text_of(&mut zip, &name)?));
            }
        }
        texts.sort();
        Ok(texts)
    }

    /// Reads every byte that results need and holds it against its hash, before anything is changed.
    pub(crate) fn verify(&self) -> Result<u64, String> {
        let mut seen = BTreeSet::new();
        let mut bytes = 0;
        for key in self.keys() {
            let parcel = self.find(key).map_err(|error| error.message)?;
            let parcel = parcel.ok_or_else(|| format!("it names the result {} and has none", key.short()))?;
            for (hash, size) in parcel.blobs() {
                if seen.insert(hash.clone()) {
                    self.extract(hash, size, &mut std::io::sink())?;
                    bytes += size;
                }
            }
        }
        Ok(bytes)
    }

    /// The bytes of a hash, which they are held against.
    fn extract(&self, hash: &ContentHash, size: u64, to: &mut dyn Write) -> Result<(), String> {
        let name = self.index.blobs.get(hash);
        let name = name.ok_or_else(|| format!("the bytes of {} are not in it", hash.short()))?;
        let mut zip = self.zip.lock().map_err(|_| "it was lost".to_owned())?;
        let entry = zip.by_name(name).map_err(|error| format!("`{name}` in it: {error}"))?;
        let broken = |error: std::io::Error| format!("`{name}` in it is damaged: {error}");
        // One byte more than there should be is enough to know.
        let mut reader = entry.take(size.saturating_add(1));
        let mut hasher = blake3::Hasher::new();
        let mut count = 0;
        let mut block = vec![0; 1 << 17];
        loop {
            let read = match reader.read(&mut block).map_err(broken)? {
                0 => break,
                read => read,
            };
            hasher.update(&block[..read]);
            to.write_all(&block[..read])
                .map_err(|error| format!("cannot write what is unpacked: {error}"))?;
            count += read as u64;
        }
        match count == size && hasher.finalize().to_hex().as_str() == hash.as_str() {
            true => Ok(()),
            false => Err(format!(
                "`{name}` in it is damaged: its bytes are not those of the result"
            )),
        }
    }
}

fn text_of(zip: &mut ZipArchive<BufReader<File>>, name: &str) -> Result<String, String> {
    let entry = zip.by_name(name).map_err(|error| format!("`{name}` in it: {error}"))?;
    let mut bytes = Vec::new();
    let mut reader = entry.take(LONGEST_TEXT + 1);
    let read = reader.read_to_end(&mut bytes);
    read.map_err(|error| format!("`{name}` in it is damaged: {error}"))?;
    if bytes.len() as u64 > LONGEST_TEXT {
        return Err(format!("`{name}` in it is longer than any such text"));
    }
    String::from_utf8(bytes).map_err(|_| format!("`{name}` in it is no text"))
}

impl Elsewhere for Bundle {
    fn name(&self) -> &str {
        &self.name
    }

    fn find(&self, key: &StageKey) -> Result<Option<Parcel>, ElsewhereError> {
        if !self.index.results.contains(key) {
            return Ok(None);
        }
        let refused =
            |reason: String| ElsewhereError::of_content(format!("the result {} in it: {reason}", key.short()));
        let mut zip = self.zip.lock().map_err(|_| refused("it was lost".into()))?;
        let text = text_of(&mut zip, &format!("{RESULTS}{}.json", key.as_str())).map_err(refused)?;
        Parcel::parse(&text, key).map(Some).map_err(refused)
    }

    fn bring(&self, parcel: &Parcel, folder: &Path) -> Result<(), ElsewhereError> {
        for (hash, size) in parcel.blobs() {
            let path = folder.join(hash.as_str());
            let cannot = |error: std::io::Error| ElsewhereError {
                message: format!("cannot write `{}`: {error}", path.display()),
                advice: String::new(),
                is_about_content: false,
            };
            let file = dynvis_base::files::temporary(folder).map_err(cannot)?;
            let mut out = BufWriter::new(file.as_file());
            self.extract(hash, size, &mut out).map_err(ElsewhereError::of_content)?;
            out.flush().map_err(cannot)?;
            drop(out);
            file.persist(&path).map_err(|error| cannot(error.error))?;
        }
        Ok(())
    }
}
