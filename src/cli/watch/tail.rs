//! The file that a run writes, read as it grows. Whatever stands in it, no more is read of it and kept than has its
//! place there.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::line::FILE;
use super::live::Live;

/// Bytes of the file that are read; a run's own has at most a quarter of that.
const LARGEST: u64 = 16 << 20;
/// Bytes of a line; longer ones are no lines of a run.
const LONGEST: usize = 32 << 10;

/// Where the file was read up to, and what it said until there.
#[derive(Default)]
pub(super) struct Tail {
    path: PathBuf,
    /// Device and inode: the file is written anew once it has grown.
    identity: Option<(u64, u64)>,
    read: u64,
    pub(super) live: Live,
    /// When it was written or touched last.
    pub(super) touched: Option<SystemTime>,
    /// Whether there is more of it than is read.
    pub(super) is_too_large: bool,
}

impl Tail {
    pub(super) fn of(run_folder: &Path) -> Self {
        Self {
            path: run_folder.join(FILE),
            ..Self::default()
        }
    }

    /// Whether the run has such a file, as far as it was looked for.
    pub(super) fn exists(&self) -> bool {
        self.identity.is_some()
    }

    /// Reads what has come. A file that is not there, or cannot be read now, says nothing new.
    pub(super) fn refresh(&mut self) {
        let Ok(file) = dynvis_base::files::open(&self.path) else {
            return;
        };
        let mut file = file.into_parts().0;
        let Ok(metadata) = file.metadata() else {
            return;
        };
        self.touched = metadata.modified().ok();
        let identity = Some((metadata.dev(), metadata.ino()));
        if self.identity != identity || metadata.len() < self.read {
            (self.identity, self.read, self.live) = (identity, 0, Live::default());
        }
        self.is_too_large = metadata.len() > LARGEST;
        let room = LARGEST.saturating_sub(self.read);
        let mut bytes = Vec::new();
        let read = file
            .seek(SeekFrom::Start(self.read))
            .and_then(|_| file.take(room).read_to_end(&mut bytes));
        if read.is_err() {
            return;
        }
        // What is behind the last end of a line is still being written, or was cut off by a kill.
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        for line in bytes[..end]
            .split(|byte| *byte == b'\n')
            .filter(|line| line.len() <= LONGEST)
        {
            // One that cannot be read is cut off, or of a newer version.
            if let Ok(line) = serde_json::from_slice(line) {
                self.live.take(line);
            }
        }
        self.read += end as u64 + 1;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(done: u64) -> String {
        format!(
            r#"{{"at":{done}.5,"said":{{"progress":{{"stage":"net","place":{{"done":{done},"total":100,"unit":"batches","phase":"epoch 1/2","figures":[["loss",0.5]],"milestone":false,"left":null}}}}}}}}"#
        ) + "\n"
    }

    fn done(tail: &Tail) -> Option<u64> {
        Some(tail.live.stages.get("net")?.place.as_ref()?.1.done)
    }

    #[test]
    fn a_file_is_followed_as_it_grows_and_where_it_is_written_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut tail = Tail::of(folder.path());
        tail.refresh();
        assert!(!tail.exists());
        let path = folder.path().join(FILE);
        std::fs::write(&path, line(1)).expect("written");
        tail.refresh();
        assert_eq!(done(&tail), Some(1));
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("opened");
        let (second, third) = (line(2), line(3));
        let (start, end) = third.split_at(20);
        file.write_all((second + start).as_bytes()).expect("written");
        tail.refresh();
        assert_eq!(done(&tail), Some(2), "half a line waits for its other half");
        file.write_all(end.as_bytes()).expect("written");
        tail.refresh();
        assert_eq!(done(&tail), Some(3));
        assert_eq!(tail.live.stages["net"].points.len(), 3);
        let new = folder.path().join("new");
        std::fs::write(&new, line(9)).expect("written");
        std::fs::rename(&new, &path).expect("renamed");
        tail.refresh();
        assert_eq!((done(&tail), tail.live.stages["net"].points.len()), (Some(9), 1));
    }

    #[test]
    fn garbage_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let mut bytes: Vec<u8> = (0..200_000_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        bytes.push(b'\n');
        for text in [
            "{}",
            "null",
            "[[[[",
            r#"{"at":1e999,"said":{"waiting":{"stage":"x"}}}"#,
            r#"{"at":1,"said":{"of_a_newer_version":{}}}"#,
            r#"{"at":1,"said":{"stages":{"selected":-1}}}"#,
        ] {
            bytes.extend(text.bytes());
            bytes.push(b'\n');
        }
        let deep = "[".repeat(30_000);
        bytes.extend(format!("{deep}\n{}\n", "x".repeat(1 << 20)).bytes());
        bytes.extend(line(7).bytes());
        std::fs::write(&path, bytes).expect("written");
        let mut tail = Tail::of(folder.path());
        tail.refresh();
        assert_eq!(done(&tail), Some(7));
        assert_eq!(tail.live.stages.len(), 1);
        // A huge one is not read to its end.
        let file = std::fs::OpenOptions::new().append(true).open(&path).expect("opened");
        file.set_len(1 << 40).expect("a file with holes");
        tail.refresh();
        assert!(tail.is_too_large);
        assert_eq!(done(&tail), Some(7));
    }
}
