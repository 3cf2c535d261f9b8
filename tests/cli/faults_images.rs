//! Faults found in use, about images and weights: each test is named after the fault.

use serde_json::json;

use crate::harness::{Project, Ran};

const STIMULI: &str = r#"
name: stimuli
stages:
  stimuli:
    dataset: { source: image_folder, path: pictures, side: 8, resize: 8, channels: 1, validation: 0, test: 0 }
"#;

/// A grey picture of 8 x 8 pixels as PNG, without compression.
fn png(level: impl Fn(usize) -> u8) -> Vec<u8> {
    let mut raw = Vec::new();
    for row in 0..8 {
        raw.push(0);
        raw.extend((0..8).map(|column| level(row * 8 + column)));
    }
    // zlib with one stored block.
    let mut data = vec![0x78, 0x01, 0x01];
    data.extend((raw.len() as u16).to_le_bytes());
    data.extend((!(raw.len() as u16)).to_le_bytes());
    data.extend(&raw);
    let (a, b) = raw.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    data.extend(((b << 16) | a).to_be_bytes());
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0xEDB8_8320))
        })
    };
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = [8u32.to_be_bytes(), 8u32.to_be_bytes()].concat();
    header.extend([8, 0, 0, 0, 0]);
    for (name, content) in [(b"IHDR", header), (b"IDAT", data), (b"IEND", Vec::new())] {
        let chunk = [name.as_slice(), &content].concat();
        out.extend((content.len() as u32).to_be_bytes());
        out.extend(&chunk);
        out.extend(crc(&chunk).to_be_bytes());
    }
    out
}

pub fn picture(project: &Project, name: &str, level: impl Fn(usize) -> u8) {
    let path = project.path(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, png(level)).expect("written");
}

#[test]
fn every_dataset_says_which_image_is_which_file() {
    let project = Project::with_presets();
    project.write("p.yaml", STIMULI);
    // im10 sorts before im2.
    for i in 1..=12 {
        picture(&project, &format!("pictures/all/im{i}.png"), |at| (at * i) as u8);
    }
    project.write("pictures/all/notes.txt", "whose they are");
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let shown = project
        .dynvis(&["show", "@", "stimuli/files", "--format", "json"])
        .expect(0);
    let rows = shown.json()["rows"].clone();
    assert_eq!(
        rows[1],
        json!({ "index": 1, "file": "all/im10.png", "class": "all", "split": "train" })
    );
    assert_eq!(rows.as_array().map(Vec::len), Some(12));
}

#[test]
fn black_images_are_told_with_parameters_that_exist() {
    let project = Project::with_presets();
    project.write("p.yaml", STIMULI);
    for i in 0..3 {
        picture(&project, &format!("pictures/all/{i}.png"), |_| 0);
    }
    let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
    assert!(ran.stderr.contains("are the images black"), "{}", ran.stderr);
    assert!(ran.stderr.contains("normalisation: published"), "{}", ran.stderr);
    project.write(
        "p.yaml",
        &STIMULI.replace("channels: 1", "channels: 3, normalisation: published"),
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
}

const RECORD: &str = r#"
name: record
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 6, side: 16 }
  cordsnet:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 1, warmup: 0, batch: 16 }
  record:
    record: { model: cordsnet, data: digits, times: [100], pooled: true, CHOICE }
"#;

#[test]
fn record_takes_all_images_and_ranges() {
    let project = Project::with_presets();
    let recorded = |choice: &str| {
        project.write("p.yaml", &RECORD.replace("CHOICE", choice));
        project.dynvis(&["run", "p.yaml"]).expect(0);
        let folder = project.dynvis(&["show", "@", "record/activity"]).expect(0).stdout;
        let activity =
            std::fs::read(std::path::Path::new(folder.trim()).join("activity.safetensors")).expect("the file");
        let length = u64::from_le_bytes(activity[..8].try_into().expect("8 bytes")) as usize;
        let header: serde_json::Value = serde_json::from_slice(&activity[8..8 + length]).expect("a header");
        header["area.1"]["shape"][0].as_u64().expect("a count")
    };
    assert_eq!(recorded("split: all"), 60);
    assert_eq!(recorded(r#"indices: ["0..9", 59]"#), 11);
    let refused = |choice: &str, code: i32| {
        project.write("p.yaml", &RECORD.replace("CHOICE", choice));
        project.dynvis(&["run", "p.yaml"]).expect(code).stderr
    };
    let text = refused(r#"indices: ["0..4294967295"]"#, 100);
    assert!(text.contains("image 4294967295 of a dataset of 60"), "{text}");
    let text = refused(r#"indices: ["9..0"]"#, 2);
    assert!(text.contains("`9..0` is not a range of images"), "{text}");
}

/// Files of 5 MB that unpack to 1 GiB, where so much memory cannot be had, or not twice.
#[test]
fn what_unpacks_beyond_memory_is_refused_by_name() {
    let project = Project::new();
    std::fs::create_dir(project.path("m")).expect("a folder");
    let images = (1u32 << 30) / 784;
    for part in ["train", "t10k"] {
        let mut packed = Vec::new();
        let header = [0x803u32, images, 28, 28].map(u32::to_be_bytes).concat();
        // One archive behind the other is one file.
        packed.extend(gzip(&header));
        let zeros = gzip(&vec![0u8; 1 << 20]);
        (0..1024).for_each(|_| packed.extend_from_slice(&zeros));
        std::fs::write(project.path(&format!("m/{part}-images-idx3-ubyte.gz")), packed).expect("written");
        let mut labels = [0x801u32, images].map(u32::to_be_bytes).concat();
        labels.resize(labels.len() + images as usize, 0);
        std::fs::write(project.path(&format!("m/{part}-labels-idx1-ubyte")), labels).expect("written");
    }
    project.write(
        "p.yaml",
        "name: x\nstages:\n  d: { dataset: { source: mnist, path: m, side: 16 } }\n",
    );
    for limit in ["1000000", "1500000"] {
        let script = format!("ulimit -v {limit}; exec \"$0\" run p.yaml");
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_dynvis")])
            .current_dir(project.path("."))
            .env("NO_COLOR", "1")
            .env("RAYON_NUM_THREADS", "2")
            .env_remove("DYNVIS_CACHE");
        let ran = Ran::from(command.output().expect("a shell"));
        assert_eq!(ran.code, 100, "{limit}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("train-images-idx3-ubyte.gz"),
            "{limit}: {}",
            ran.stderr
        );
        assert!(
            ran.stderr.contains("GiB (half of what is free)"),
            "{limit}: {}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("allocation"), "{limit}: {}", ran.stderr);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut child = std::process::Command::new("gzip")
        .args(["-1", "-c"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("gzip");
    let mut input = child.stdin.take().expect("a pipe");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let packed = child.wait_with_output().expect("gzip ends").stdout;
    writer.join().expect("no panic").expect("written");
    packed
}
