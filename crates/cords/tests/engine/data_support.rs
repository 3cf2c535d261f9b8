//! Writers of the formats under test, from their specifications, and shorthands for preparing.

use cords::data::*;
use std::io::Write;
use std::path::Path;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

pub(crate) fn idx_images(count: u32, height: u32, width: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = [0x803, count, height, width]
        .iter()
        .flat_map(|n| n.to_be_bytes())
        .collect();
    bytes.extend((0..count * height * width).map(|i| (i * 7 % 251) as u8));
    bytes
}

pub(crate) fn idx_labels(labels: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = [0x801, labels.len() as u32]
        .iter()
        .flat_map(|n| n.to_be_bytes())
        .collect();
    bytes.extend(labels);
    bytes
}

/// 30 training and 20 test images of 6 x 5 pixels, three and two a class, the four usual names.
pub(crate) fn mnist(dir: &Path) {
    let labels = |n: u8| (0..n).map(|i| i % 10).collect::<Vec<_>>();
    put(dir, "train-images-idx3-ubyte.gz", &gzip(&idx_images(30, 6, 5)));
    put(dir, "train-labels.idx1-ubyte", &idx_labels(&labels(30)));
    put(dir, "t10k-images-idx3-ubyte", &idx_images(20, 6, 5));
    put(dir, "t10k-labels-idx1-ubyte.gz", &gzip(&idx_labels(&labels(20))));
}

/// CIFAR records; pixel (y, x) of channel c of record i has level i + c + y.
pub(crate) fn cifar_records(labels: &[&[u8]]) -> Vec<u8> {
    let record = |(i, labels): (usize, &&[u8])| {
        let mut bytes = labels.to_vec();
        bytes.extend((0..3 * 1024).map(|at| (i + at / 1024 + at % 1024 / 32) as u8));
        bytes
    };
    labels.iter().enumerate().flat_map(record).collect()
}

pub(crate) fn cifar10(dir: &Path) {
    let all: Vec<Vec<u8>> = (0..10).map(|label| vec![label]).collect();
    let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    for i in 1..=5 {
        put(dir, &format!("data_batch_{i}.bin"), &cifar_records(&all));
    }
    put(dir, "test_batch.bin", &cifar_records(&all));
}

/// A POSIX ustar archive of regular files.
pub(crate) fn tar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    tar_of(0, members)
}

/// A POSIX ustar archive whose members are of the type with this letter.
pub(crate) fn tar_of(kind: u8, members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in members {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[257..262].copy_from_slice(b"ustar");
        header[156] = kind;
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(header);
        out.extend(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

pub(crate) fn png(path: &Path, width: u32, height: u32, color: image::ColorType, bytes: &[u8]) {
    fs_err::create_dir_all(path.parent().expect("has a folder")).expect("can write");
    image::save_buffer_with_format(path, bytes, width, height, color, image::ImageFormat::Png).expect("can write");
}

/// A baseline JPEG whose 8 x 8 blocks are flat: only the direct-current coefficient of each is coded, with steps of
/// 1, so that decoding is exact. One component makes it grey; with three, they are Y, Cb, Cr.
pub(crate) fn jpeg(blocks_across: usize, blocks_down: usize, components: &[&dyn Fn(usize, usize) -> u8]) -> Vec<u8> {
    let mut out = vec![0xFF, 0xD8];
    let segment = |marker: u8, body: &[u8]| {
        let mut bytes = vec![0xFF, marker];
        bytes.extend((body.len() as u16 + 2).to_be_bytes());
        bytes.extend(body);
        bytes
    };
    let mut table = vec![0];
    table.extend([1; 64]);
    out.extend(segment(0xDB, &table));
    let n = components.len() as u8;
    let mut frame = vec![8];
    frame.extend((8 * blocks_down as u16).to_be_bytes());
    frame.extend((8 * blocks_across as u16).to_be_bytes());
    frame.push(n);
    for id in 1..=n {
        frame.extend([id, 0x11, 0]);
    }
    out.extend(segment(0xC0, &frame));
    // Direct current: sixteen codes of 4 bits would use up all codes, so categories 0..=11 have 4 bits each.
    let mut huffman = vec![0x00, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    huffman.extend(0..12u8);
    out.extend(segment(0xC4, &huffman));
    // Alternating current: end of block only, code 0.
    let mut huffman = vec![0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    huffman.push(0);
    out.extend(segment(0xC4, &huffman));
    let mut scan = vec![n];
    for id in 1..=n {
        scan.extend([id, 0x00]);
    }
    scan.extend([0, 63, 0]);
    out.extend(segment(0xDA, &scan));
    let mut bits: Vec<bool> = Vec::new();
    let mut put = |value: u32, length: u32| bits.extend((0..length).rev().map(|bit| value >> bit & 1 == 1));
    let mut last = vec![0i32; components.len()];
    for y in 0..blocks_down {
        for x in 0..blocks_across {
            for (component, last) in components.iter().zip(&mut last) {
                let level = 8 * (i32::from(component(y, x)) - 128);
                let difference = level - *last;
                *last = level;
                let category = 32 - difference.unsigned_abs().leading_zeros();
                put(category, 4);
                let value = if difference < 0 {
                    difference + (1 << category) - 1
                } else {
                    difference
                };
                put(value as u32, category);
                put(0, 1);
            }
        }
    }
    bits.resize(bits.len().next_multiple_of(8), true);
    for byte in bits.chunks(8) {
        let byte = byte.iter().fold(0u8, |byte, bit| byte << 1 | u8::from(*bit));
        out.push(byte);
        if byte == 0xFF {
            out.push(0);
        }
    }
    out.extend([0xFF, 0xD9]);
    out
}

pub(crate) fn put(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    fs_err::create_dir_all(path.parent().expect("has a folder")).expect("can write");
    fs_err::write(path, bytes).expect("can write");
}

pub(crate) fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("can make a folder")
}

pub(crate) fn config(source: ImageSource, side: usize, channels: usize) -> PrepareConfig {
    PrepareConfig {
        seed: 1,
        ..PrepareConfig::new(source, channels, side)
    }
}

pub(crate) fn run(config: &PrepareConfig) -> Result<(Summary, ImageSet, tempfile::TempDir), DataError> {
    let out = temp();
    let summary = prepare(config, out.path(), &mut |_, _| {})?;
    let set = ImageSet::open(out.path())?;
    Ok((summary, set, out))
}

pub(crate) fn error(config: &PrepareConfig) -> DataError {
    run(config).map(|(summary, ..)| summary).expect_err("must fail")
}

/// Images of 8 x 8 pixels in colour from a folder, all of them for training.
pub(crate) fn folder(dir: &Path) -> PrepareConfig {
    PrepareConfig {
        validation_fraction: Some(0.0),
        test_fraction: Some(0.0),
        ..config(ImageSource::new(SourceName::ImageFolder, dir), 8, 3)
    }
}
