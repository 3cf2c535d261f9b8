//! Files that carry the names of stages.

use std::path::{Path, PathBuf};

/// A stage's name as a file name: no two names share one, and none is longer than file systems allow.
pub(super) fn file_name(stage: &str) -> String {
    /// Most file systems take 255 bytes; endings are added.
    const LONGEST: usize = 200;
    let mut name = String::new();
    for byte in stage.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() => name.push(char::from(b)),
            b'@' | b'=' | b',' | b'.' | b'-' | b'_' => name.push(char::from(byte)),
            other => name += &format!("%{other:02x}"),
        }
    }
    if name.len() > LONGEST {
        let hash = blake3::hash(stage.as_bytes()).to_hex();
        name.truncate(LONGEST - 17);
        name += &format!("-{}", &hash[..16]);
    }
    name
}

/// Where a stage's log stands in a run's folder.
pub fn log_path(run_folder: &Path, stage: &str) -> PathBuf {
    run_folder.join("logs").join(format!("{}.log", file_name(stage)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_never_share_a_file() {
        assert_eq!(file_name("net@seed=0,x=1.5"), "net@seed=0,x=1.5");
        let long = "é".repeat(300);
        let names = ["a/b", "a_b", "a b", "a%20b", "a%2fb", &long, &long[2..]].map(file_name);
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|n| n.len() <= 200 && !n.contains('/')), "{names:?}");
    }
}
