//! The embedded digits: 1,797 images of 8 x 8 pixels with 17 grey levels (UCI "Optical Recognition of Handwritten
//! Digits", test part), one image a line: 64 levels from 0 to 16, row by row, then the label.

use super::DataError;
use super::decode::Pixels;
use super::source::{Entry, Opened, Original, Part, Reader, gunzip};
use std::path::{Path, PathBuf};

const ARCHIVE: &[u8] = include_bytes!("../../data/digits/optdigits.csv.gz");
const SIDE: usize = 8;
const LEVELS: u32 = 16;
const CLASSES: u32 = 10;

struct Digits {
    levels: Vec<u8>,
}

impl Reader for Digits {
    fn original(&self, i: usize) -> Result<Original<'_>, DataError> {
        let data = self.levels[i * SIDE * SIDE..][..SIDE * SIDE].to_vec();
        Ok(Original::Pixels(Pixels {
            width: SIDE,
            height: SIDE,
            channels: 1,
            data,
        }))
    }

    fn file(&self, i: usize) -> String {
        format!("optdigits[{i}]")
    }

    fn path(&self, i: usize) -> PathBuf {
        self.file(i).into()
    }

    fn length(&self, _i: usize) -> Result<Option<u64>, DataError> {
        Ok(Some((SIDE * SIDE) as u64))
    }
}

pub(crate) fn open() -> Result<Opened, DataError> {
    let file = Path::new("optdigits.csv.gz (embedded)");
    let (labels, levels) = parse(file, &gunzip(file, ARCHIVE)?)?;
    Ok(Opened {
        name: "digits",
        classes: (0..CLASSES).map(|digit| digit.to_string()).collect(),
        attribution: "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits (test part), UCI Machine \
                      Learning Repository, 1998, doi 10.24432/C50P49, CC BY 4.0",
        entries: labels
            .into_iter()
            .map(|label| Entry {
                label,
                part: Part::Train,
            })
            .collect(),
        reader: Box::new(Digits { levels }),
        described: "embedded digits",
        notes: Vec::new(),
    })
}

/// Labels, and levels scaled from 0..16 to 0..255 (rounded).
fn parse(file: &Path, text: &[u8]) -> Result<(Vec<u32>, Vec<u8>), DataError> {
    let mut labels = Vec::new();
    let mut levels = Vec::new();
    let mut offset = 0u64;
    for (image, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let fail = |what: String| DataError::damaged(file, offset, format!("image {image}: {what}"));
        let line_text = std::str::from_utf8(line)
            .map_err(|error| fail(error.to_string()))?
            .trim_end();
        let values = line_text
            .split(',')
            .map(|field| {
                field
                    .parse::<u32>()
                    .map_err(|_| fail(format!("`{field}` is not a whole number")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let [pixels @ .., label] = values.as_slice() else {
            return Err(fail("empty line".to_owned()));
        };
        if pixels.len() != SIDE * SIDE {
            return Err(fail(format!("{} levels instead of {}", pixels.len(), SIDE * SIDE)));
        }
        if let Some(level) = pixels.iter().find(|level| **level > LEVELS) {
            return Err(fail(format!("level {level} is above {LEVELS}")));
        }
        if *label >= CLASSES {
            return Err(DataError::LabelOutOfRange {
                file: file.to_owned(),
                offset,
                image,
                label: *label,
                max: CLASSES - 1,
            });
        }
        labels.push(*label);
        levels.extend(pixels.iter().map(|level| ((level * 255 + LEVELS / 2) / LEVELS) as u8));
        offset += line.len() as u64;
    }
    Ok((labels, levels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: &str) -> String {
        ["16"; 64].join(",") + "," + label + "\n"
    }

    #[test]
    fn embedded_images_are_complete() {
        let opened = open().expect("the embedded archive is sound");
        assert_eq!(opened.entries.len(), 1797);
        // First line of the archive: a zero whose first row is 0,0,5,13,9,1,0,0.
        assert_eq!(opened.entries[0].label, 0);
        let first = opened.reader.original(0).expect("in memory");
        let first = first.decode(&opened.reader.path(0), false).expect("pixels");
        assert_eq!(first.data[..8], [0, 0, 80, 207, 143, 16, 0, 0]);
        // 178 zeros, as the data set's own description counts them.
        assert_eq!(opened.entries.iter().filter(|entry| entry.label == 0).count(), 178);
    }

    #[test]
    fn bad_lines_are_located() {
        let file = Path::new("x.csv");
        let (labels, levels) = parse(file, line("9").as_bytes()).expect("a good line");
        assert_eq!((labels, levels[0]), (vec![9], 255));
        let second = line("1").len() as u64;
        let bad = |text: String| parse(file, (line("1") + &text).as_bytes()).expect_err("a bad line");
        assert!(
            matches!(bad(line("10")), DataError::LabelOutOfRange { image: 1, label: 10, offset, .. } if offset == second)
        );
        assert!(matches!(bad("1,2,3\n".to_owned()), DataError::Damaged { offset, .. } if offset == second));
        assert!(matches!(bad(line("1").replace("16", "17")), DataError::Damaged { .. }));
        assert!(matches!(bad(line("x")), DataError::Damaged { .. }));
    }
}
