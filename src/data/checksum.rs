//! Checksums as they are published, of bytes that come one after the other.

use std::io::Read;
use std::path::Path;

use md5::Md5;
use sha2::{Digest, Sha256};

/// A published checksum, in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Checksum {
    Md5(&'static str),
    Sha256(&'static str),
}

impl Checksum {
    /// What kind it is.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Md5(_) => "MD5",
            Self::Sha256(_) => "SHA-256",
        }
    }

    pub(crate) fn digits(self) -> &'static str {
        match self {
            Self::Md5(digits) | Self::Sha256(digits) => digits,
        }
    }
}

/// A checksum that bytes do not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) expected: Checksum,
    /// Digits of the same kind.
    pub(crate) found: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, digits) = (self.expected.kind(), self.expected.digits());
        write!(f, "{kind} {digits} was expected and {} found", self.found)
    }
}

enum State {
    Md5(Md5),
    Sha256(Sha256),
}

/// The checksums that a file must have, while its bytes come in.
pub(crate) struct Hashing(Vec<(Checksum, State)>);

impl Hashing {
    pub(crate) fn new(expected: &[Checksum]) -> Self {
        let state = |checksum: &Checksum| match checksum {
            Checksum::Md5(_) => State::Md5(Md5::new()),
            Checksum::Sha256(_) => State::Sha256(Sha256::new()),
        };
        Self(expected.iter().map(|checksum| (*checksum, state(checksum))).collect())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for (_, state) in &mut self.0 {
            match state {
                State::Md5(state) => state.update(bytes),
                State::Sha256(state) => state.update(bytes),
            }
        }
    }

    /// The first checksum that the bytes do not have.
    pub(crate) fn check(self) -> Result<(), Mismatch> {
        for (expected, state) in self.0 {
            let found = match state {
                State::Md5(state) => hexadecimal(&state.finalize()),
                State::Sha256(state) => hexadecimal(&state.finalize()),
            };
            if !found.eq_ignore_ascii_case(expected.digits()) {
                return Err(Mismatch { expected, found });
            }
        }
        Ok(())
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gives all bytes of a reader to `take`, some at a time. `take` may stop it.
///
/// # Errors
/// Those of reading, and those of `take`.
pub(crate) fn each_block(
    mut reader: impl Read,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut block = vec![0; 1 << 17];
    loop {
        match reader.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&block[..count])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The BLAKE3 hash of a file.
///
/// # Errors
/// Those of reading, with the path.
pub(crate) fn blake3_of(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    each_block(dynvis_base::files::open(path)?, |block| {
        hasher.update(block);
        Ok(())
    })?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_that_are_published_for_known_texts() {
        let md5 = Checksum::Md5("900150983cd24fb0d6963f7d28e17f72");
        let sha256 = Checksum::Sha256("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD");
        let mut hashing = Hashing::new(&[md5, sha256]);
        hashing.update(b"a");
        hashing.update(b"bc");
        assert_eq!(hashing.check(), Ok(()));
        let mut hashing = Hashing::new(&[sha256, md5]);
        hashing.update(b"abd");
        let mismatch = hashing.check().expect_err("other bytes");
        assert_eq!(mismatch.expected, sha256);
        assert_eq!(mismatch.found.len(), 64);
        assert!(mismatch.to_string().starts_with("SHA-256 BA78"), "{mismatch}");
    }
}
