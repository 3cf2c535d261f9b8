//! Recordings from the formats that labs use, and simulated ones.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::Fixture;
use cords::neural::{NeuralError, Neuron, NwbOptions, Presentations, Recordings, from_presentations};
use serde_json::Value;

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
    let netcdf = Recordings::from_netcdf(&Fixture::path("assembly.nc"), None).expect("an assembly");
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
    let npz = Recordings::from_npz(&Fixture::path("assembly.npz"), None).expect("an archive");
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
    let found = message(Recordings::from_netcdf(&Fixture::path("units.nwb"), None));
    assert!(found.contains("units.nwb") && found.contains("presentation"), "{found}");
    let found = message(Recordings::from_npz(&Fixture::path("assembly.nc"), None));
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
    let error = Recordings::from_netcdf(&path, None).expect_err("damaged").to_string();
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
        Some("nc") => Recordings::from_netcdf(path, None),
        Some("npz") => Recordings::from_npz(path, None),
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
    let recordings = Recordings::from_netcdf(&Fixture::path("assembly.nc"), None).expect("an assembly");
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
            ..Neuron::default()
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

/// A folder with the files of an archive of fixtures.
fn unpacked(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let file = std::fs::File::open(Fixture::path(name)).expect("an archive");
    zip::ZipArchive::new(file)
        .expect("an archive")
        .extract(folder.path())
        .expect("unpacked");
    folder
}

/// The responses of `netcdf_variants.zip`: 12 presentations of 4 images in turn, 5 neurons, 2 time bins.
fn agrees(folder: &Path, name: &str, recordings: &Recordings, round: bool, hole: bool) {
    let bytes = std::fs::read(folder.join("reference.f64")).expect("a reference");
    let reference: Vec<f64> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| f64::from_le_bytes(*word))
        .collect();
    assert_eq!((recordings.stimuli.len(), recordings.repetitions), (4, 3), "{name}");
    assert_eq!(recordings.bins_ms, [[70.0, 120.0], [120.0, 170.0]], "{name}");
    let neurons: Vec<(String, &str)> = (0..5)
        .map(|n| (format!("n{n}"), if n < 2 { "V4" } else { "IT" }))
        .collect();
    let found: Vec<(String, &str)> = recordings
        .neurons
        .iter()
        .map(|n| (n.id.clone(), n.region.as_str()))
        .collect();
    assert_eq!(found, neurons, "{name}");
    assert_eq!(recordings.objects, ["cat", "dog", "cat", "dog"], "{name}");
    for (place, value) in reference.iter().enumerate() {
        let (presentation, neuron, bin) = (place / 10, place / 2 % 5, place % 2);
        let found = recordings.response(presentation % 4, presentation / 4, neuron, bin);
        if hole && place == 0 {
            assert!(found.is_nan(), "{name}: {found} where nothing was recorded");
        } else {
            let value = if round { value.round_ties_even() } else { *value };
            // As exact as 32 bits are.
            assert!((found - value).abs() < 2e-6, "{name} {place}: {found} for {value}");
        }
    }
}

#[test]
fn netcdf_packed_values_fill_values_filters_and_layouts_agree_with_the_reference() {
    let folder = unpacked("netcdf_variants.zip");
    let read = |name: &str, variable: Option<&str>| {
        Recordings::from_netcdf(&folder.path().join(format!("{name}.nc")), variable)
    };
    let holed = [
        "packed_int16_nan",
        "fill_value_1e20",
        "netcdf3_packed",
        "valid_range",
        "missing_value",
        "default_fill",
    ];
    let refused = ["dataset_error_first", "dataset_named_by_lab", "nan_ids", "edges_since"];
    let mut count = 0;
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        let file = entry.expect("a file").file_name().into_string().expect("a name");
        let Some(name) = file.strip_suffix(".nc").filter(|name| !refused.contains(name)) else {
            continue;
        };
        let recordings = read(name, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        agrees(
            folder.path(),
            name,
            &recordings,
            name == "uint8_counts",
            holed.contains(&name),
        );
        assert_eq!(recordings.neurons[4].animal, "Tito", "{name}");
        let ids: [&str; 4] = match name {
            "int64_ids" => [
                "9007199254740993",
                "9007199254740995",
                "9007199254740997",
                "9007199254740999",
            ],
            "unicode_ids" => ["bíld_0_猫", "bíld_1_猫", "bíld_2_猫", "bíld_3_猫"],
            _ => ["im0", "im1", "im2", "im3"],
        };
        assert_eq!(recordings.stimuli, ids, "{name}");
        count += 1;
    }
    assert_eq!(count, 35);
}

#[test]
fn netcdf_several_variables_of_responses_are_not_chosen_from_in_silence() {
    let folder = unpacked("netcdf_variants.zip");
    let path = folder.path().join("dataset_named_by_lab.nc");
    let message = Recordings::from_netcdf(&path, None)
        .expect_err("two of them")
        .to_string();
    for part in [
        "`spike_count_sem`",
        "`spike_count`",
        "`variable`",
        "dataset_named_by_lab.nc",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let chosen = Recordings::from_netcdf(&path, Some("spike_count")).expect("chosen");
    agrees(folder.path(), "chosen", &chosen, false, false);
    let sem = Recordings::from_netcdf(&path, Some("spike_count_sem")).expect("chosen");
    assert!(sem.responses.iter().all(|v| *v == 0.5));
    let message = Recordings::from_netcdf(&path, Some("rate"))
        .expect_err("not there")
        .to_string();
    assert!(
        message.contains("no variable `rate`") && message.contains("`spike_count`"),
        "{message}"
    );
    let message = Recordings::from_netcdf(&path, Some("region"))
        .expect_err("no responses")
        .to_string();
    assert!(
        message.contains("`region`") && message.contains("not over"),
        "{message}"
    );
    let path = folder.path().join("dataset_error_first.nc");
    assert!(Recordings::from_netcdf(&path, None).is_err());
    agrees(
        folder.path(),
        "responses",
        &Recordings::from_netcdf(&path, Some("responses")).expect("chosen"),
        false,
        false,
    );
}

#[test]
fn netcdf_ids_that_are_missing_and_times_that_are_dates_are_refused() {
    let folder = unpacked("netcdf_variants.zip");
    let message = |name: &str| {
        let read = Recordings::from_netcdf(&folder.path().join(name), None);
        read.expect_err("it cannot be read").to_string()
    };
    let found = message("nan_ids.nc");
    assert!(found.contains("`stimulus_id`: value 6 of 12 is missing"), "{found}");
    let found = message("edges_since.nc");
    assert!(
        found.contains("`time_bin_start`") && found.contains("ms since 2020-01-01"),
        "{found}"
    );
}

fn nwb(folder: &Path, name: &str) -> Result<Recordings, NeuralError> {
    let options = NwbOptions {
        bins_ms: vec![[0.0, 500.0]],
        ..NwbOptions::default()
    };
    Recordings::from_nwb(&folder.join(format!("{name}.nwb")), &options)
}

#[test]
fn nwb_trials_without_a_start_time_and_unobserved_bins_are_missing_not_silent() {
    let folder = unpacked("nwb_variants.zip");
    let of = |name: &str| nwb(folder.path(), name).unwrap_or_else(|error| panic!("{name}: {error}"));
    // Spikes of unit 0 in trial t: t, shown as stimulus t modulo 3.
    let counts = |recordings: &Recordings, unit: usize| -> Vec<Option<f64>> {
        (0..6)
            .map(|trial| recordings.response(trial % 3, trial / 3, unit, 0) * 0.5)
            .map(|count| (!count.is_nan()).then_some(count.round()))
            .collect()
    };
    let plain: Vec<Option<f64>> = (0..6).map(|t| Some(f64::from(t))).collect();
    assert_eq!(counts(&of("plain"), 0), plain);
    assert_eq!(counts(&of("plain"), 1), [Some(1.0); 6]);
    let without = |trial: usize, mut all: Vec<Option<f64>>| {
        all[trial] = None;
        all
    };
    assert_eq!(counts(&of("onset_nan"), 0), without(2, plain.clone()));
    // The trial that has neither onset nor stimulus is none: stimulus 2 was shown once.
    assert_eq!(counts(&of("trial_nan"), 0), without(5, plain.clone()));
    let observed = of("observed");
    assert_eq!(counts(&observed, 0), plain);
    assert_eq!(counts(&observed, 1), without(4, vec![Some(1.0); 6]));
}

#[test]
fn nwb_indices_ids_and_spike_times_that_contradict_themselves_are_named() {
    let folder = unpacked("nwb_variants.zip");
    let message = |name: &str| nwb(folder.path(), name).expect_err(name).to_string();
    for (name, parts) in [
        ("spike_nan", ["`/units/spike_times`", "spike 4 of unit `0`"]),
        ("spike_minus_nan", ["`/units/spike_times`", "spike 4 of unit `0`"]),
        ("index_negative", ["`/units/spike_times_index`", "ends at -5"]),
        ("index_decreases", ["`/units/spike_times_index`", "must not decrease"]),
        (
            "index_short",
            [
                "`/units/spike_times_index`",
                "ends at 31, but `/units/spike_times` has 33",
            ],
        ),
        ("index_long", ["`/units/spike_times_index`", "ends at 35"]),
        (
            "ids_nan",
            ["`/intervals/trials/stimulus_id`", "trial 3 (from 0) has none"],
        ),
        (
            "enumerated_beyond",
            ["`/intervals/trials/stimulus_id`", "none of its 3 elements"],
        ),
        ("electrode_beyond", ["`/units/electrodes`", "electrode 7 (from 0) of 2"]),
    ] {
        let found = message(name);
        assert!(parts.iter().all(|part| found.contains(part)), "{name}: {found}");
        assert!(found.contains(&format!("{name}.nwb")), "{found}");
    }
}

#[test]
fn nwb_enumerated_stimuli_large_ids_and_regions_of_electrode_groups_are_read() {
    let folder = unpacked("nwb_variants.zip");
    let of = |name: &str| nwb(folder.path(), name).unwrap_or_else(|error| panic!("{name}: {error}"));
    for name in ["enumerated_type", "enumerated_elements", "enumerated_elsewhere"] {
        assert_eq!(of(name).stimuli, ["cat", "dog", "tree"], "{name}");
    }
    let large = of("ids_large");
    assert_eq!(
        ids(&large.neurons),
        [("1152921504606846976", ""), ("1152921504606846977", "")]
    );
    assert_eq!(of("ids_unsigned").neurons[1].id, u64::MAX.to_string());
    for name in ["group_reference", "group_name", "electrodes"] {
        assert_eq!(ids(&of(name).neurons), [("0", "IT"), ("1", "V4")], "{name}");
    }
    let subject = of("subject");
    assert!(
        subject
            .neurons
            .iter()
            .all(|n| n.animal == "Tito" && n.session == "2020-01-02")
    );
}

/// 300 presentations, each of its own stimulus, with running numbers: as one repetition each, not as 300 x 300.
#[test]
fn running_trial_numbers_count_the_presentations_of_each_stimulus() {
    let neuron = || {
        vec![Neuron {
            id: "a".into(),
            ..Neuron::default()
        }]
    };
    let bins = vec![[0.0, 10.0]];
    let shown = |stimuli: &dyn Fn(usize) -> usize, count: usize| Presentations {
        stimuli: (0..count).map(|i| stimuli(i).to_string()).collect(),
        repetitions: (0..count).map(|i| (1000 + i).to_string()).collect(),
        objects: Vec::new(),
    };
    let single = from_presentations(&shown(&|i| i, 300), neuron(), bins.clone(), |p, _, _| p as f64);
    let single = single.expect("300 stimuli");
    assert_eq!(
        (single.stimuli.len(), single.repetitions, single.response(7, 0, 0, 0)),
        (300, 1, 7.0)
    );
    let thrice = from_presentations(&shown(&|i| i % 100, 300), neuron(), bins, |p, _, _| p as f64);
    let thrice = thrice.expect("100 stimuli");
    assert_eq!((thrice.stimuli.len(), thrice.repetitions), (100, 3));
    assert_eq!([0, 1, 2].map(|r| thrice.response(7, r, 0, 0)), [7.0, 107.0, 207.0]);
}

/// What would take an exbibyte is refused with its numbers before anything is reserved.
#[test]
fn sparse_recordings_are_planned_before_memory_is_taken() {
    let count = 1 << 20;
    let shown = Presentations {
        stimuli: vec!["s".into(); 2],
        ..Presentations::default()
    };
    let neurons: Vec<Neuron> = (0..count)
        .map(|n| Neuron {
            id: n.to_string(),
            ..Neuron::default()
        })
        .collect();
    let bins = (0..count).map(|b| [b as f64, b as f64 + 1.0]).collect();
    let message = from_presentations(&shown, neurons, bins, |_, _, _| 0.0)
        .expect_err("too much")
        .to_string();
    for part in [
        "2 presentations",
        "1 stimuli x 2 repetitions x 1048576 neurons x 1048576 time bins",
        "GiB",
    ] {
        assert!(message.contains(part), "{message}");
    }
}
