//! Recordings from the formats that labs use, and simulated ones.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use cords::neural::{NeuralError, Neuron, NwbOptions, Recordings};
use serde_json::Value;
use support::Fixture;

fn expected() -> Value {
    let path = Fixture::path("recordings.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("what to expect")).expect("JSON")
}

/// Every response is where its stimulus, repetition, neuron and bin say, and missing ones are missing.
fn holds(recordings: &Recordings, expected: &Value, objects: &Value) {
    let rows: &serde_json::Map<String, Value> = expected.as_object().expect("rows");
    let mut seen = 0;
    for (s, stimulus) in recordings.stimuli.iter().enumerate() {
        assert_eq!(recordings.objects[s], objects[stimulus].as_str().expect("a class"));
        for r in 0..recordings.repetitions {
            let row = rows.get(&format!("{stimulus}/{r}"));
            seen += usize::from(row.is_some());
            for n in 0..recordings.neurons.len() {
                for b in 0..recordings.bins_ms.len() {
                    let found = recordings.response(s, r, n, b);
                    match row.and_then(|row| row[n][b].as_f64()) {
                        Some(value) => assert!((found - value).abs() <= 1e-12 * value.abs(), "{stimulus}/{r}"),
                        None => assert!(found.is_nan(), "{stimulus}/{r} {n} {b}: {found}"),
                    }
                }
            }
        }
    }
    assert_eq!(seen, rows.len());
}

fn ids(neurons: &[Neuron]) -> Vec<(&str, &str)> {
    neurons.iter().map(|n| (n.id.as_str(), n.region.as_str())).collect()
}

#[test]
fn an_assembly_of_xarray_and_an_npz_are_read_whole() {
    let expected = expected();
    let netcdf = Recordings::from_netcdf(&Fixture::path("assembly.nc")).expect("an assembly");
    holds(&netcdf, &expected["assembly"], &expected["objects"]);
    assert_eq!(netcdf.stimuli.len(), 7);
    assert!(netcdf.stimuli.is_sorted());
    assert_eq!(netcdf.repetitions, 3);
    assert_eq!(netcdf.bins_ms, [[70.0, 170.0], [170.0, 270.0]]);
    let neurons = [
        ("chan_0", "V4"),
        ("chan_1", "V4"),
        ("chan_2", "IT"),
        ("chan_3", "IT"),
        ("chan_4", "IT"),
    ];
    assert_eq!(ids(&netcdf.neurons), neurons);
    let npz = Recordings::from_npz(&Fixture::path("assembly.npz")).expect("an archive");
    holds(&npz, &expected["assembly"], &expected["objects"]);
    assert_eq!(ids(&npz.neurons), neurons);
}

#[test]
fn an_nwb_file_of_pynwb_is_counted_in_bins() {
    let expected = expected();
    let options = NwbOptions {
        bins_ms: vec![[0.0, 50.0], [50.0, 150.0]],
        ..NwbOptions::default()
    };
    let recordings = Recordings::from_nwb(&Fixture::path("units.nwb"), &options).expect("an NWB file");
    holds(&recordings, &expected["units"], &expected["objects"]);
    assert_eq!(ids(&recordings.neurons), [("0", "IT"), ("1", "V4"), ("2", "IT")]);
    let total: f64 = recordings.responses.iter().filter(|v| v.is_finite()).sum();
    assert!(total > 0.0, "there are spikes");
}

#[test]
fn files_that_lack_something_say_what() {
    let message = |result: Result<Recordings, NeuralError>| result.expect_err("it lacks something").to_string();
    let other = NwbOptions {
        table: "images_presentations".to_owned(),
        ..NwbOptions::default()
    };
    let found = message(Recordings::from_nwb(&Fixture::path("units.nwb"), &other));
    assert!(
        found.contains("`/intervals/images_presentations/start_time`"),
        "{found}"
    );
    let found = message(Recordings::from_netcdf(&Fixture::path("units.nwb")));
    assert!(found.contains("units.nwb") && found.contains("presentation"), "{found}");
    let found = message(Recordings::from_npz(&Fixture::path("assembly.nc")));
    assert!(found.contains("assembly.nc: is not an archive"), "{found}");
}

/// Damage within the compressed responses, and a file cut short, end in an error that names the variable or the file.
#[test]
fn damage_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let damaged = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(Fixture::path(name)).expect("a file");
        change(&mut bytes);
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a copy");
        path
    };
    // The compressed chunk of the responses starts with a zlib header of level 9, after everything that describes it.
    let path = damaged("assembly.nc", &|bytes| {
        let chunk = bytes
            .windows(2)
            .rposition(|pair| pair == [0x78, 0xda])
            .expect("a chunk");
        bytes[chunk + 20..chunk + 40].fill(0xff);
    });
    let error = Recordings::from_netcdf(&path).expect_err("damaged").to_string();
    assert!(
        error.contains("`__xarray_dataarray_variable__`: cannot be read"),
        "{error}"
    );
    for name in ["assembly.nc", "units.nwb", "assembly.npz"] {
        let path = damaged(name, &|bytes| bytes.truncate(bytes.len() / 2));
        let error = read_any(&path).expect_err("cut short").to_string();
        assert!(error.contains(name), "{error}");
    }
}

fn read_any(path: &Path) -> Result<Recordings, NeuralError> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("nc") => Recordings::from_netcdf(path),
        Some("npz") => Recordings::from_npz(path),
        _ => Recordings::from_nwb(path, &NwbOptions::default()),
    }
}

/// Whatever byte is wrong, a reader answers; it never ends the process.
#[test]
fn no_damage_ends_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut outcomes: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    for name in ["assembly.nc", "units.nwb", "assembly.npz"] {
        let bytes = std::fs::read(Fixture::path(name)).expect("a file");
        let path = folder.path().join(name);
        let step = bytes.len() / 150;
        for place in (0..bytes.len()).step_by(step.max(1)) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x55;
            std::fs::write(&path, damaged).expect("a copy");
            *outcomes.entry((name, read_any(&path).is_ok())).or_default() += 1;
        }
        assert!(
            outcomes.contains_key(&(name, false)),
            "some damage is noticed: {outcomes:?}"
        );
    }
}

#[test]
fn recordings_come_back_from_their_own_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("recordings.safetensors");
    let recordings = Recordings::from_netcdf(&Fixture::path("assembly.nc")).expect("an assembly");
    recordings.save(&path).expect("written");
    let again = Recordings::open(&path).expect("read");
    let bits = |r: &Recordings| r.responses.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&again), bits(&recordings));
    assert_eq!(
        (&again.stimuli, &again.objects),
        (&recordings.stimuli, &recordings.objects)
    );
    assert_eq!(
        (&again.neurons, &again.bins_ms),
        (&recordings.neurons, &recordings.bins_ms)
    );
    let mut bytes = std::fs::read(&path).expect("the file");
    bytes.truncate(bytes.len() - 8);
    std::fs::write(&path, bytes).expect("cut short");
    assert!(Recordings::open(&path).is_err());
}

#[test]
fn windows_are_means_of_the_bins_within() {
    let recordings = Recordings {
        stimuli: vec!["10".into(), "9".into()],
        objects: Vec::new(),
        neurons: vec![Neuron {
            id: "a".into(),
            region: String::new(),
        }],
        bins_ms: vec![[0.0, 10.0], [10.0, 20.0], [20.0, 40.0]],
        repetitions: 1,
        responses: vec![1.0, 2.0, 8.0, 10.0, 20.0, 80.0],
    };
    let recordings = recordings.new().expect("recordings");
    assert_eq!(recordings.stimuli, ["9", "10"], "numbers are in the order of numbers");
    let windows = recordings.windows(&[[0.0, 20.0], [10.0, 30.0]]).expect("windows");
    // The second takes all of bin 2 and half of bin 3.
    assert_eq!(windows.responses, [15.0, (20.0 + 40.0) / 1.5, 1.5, (2.0 + 4.0) / 1.5]);
    assert!(recordings.windows(&[[50.0, 60.0]]).is_err());
    let mut overlapping = recordings.clone();
    overlapping.bins_ms[1] = [5.0, 20.0];
    let message = overlapping
        .windows(&[[0.0, 20.0]])
        .expect_err("they overlap")
        .to_string();
    assert!(message.contains("count some time twice"), "{message}");
}
