"""Six trials of three stimuli and two units, in NWB files that are as they should be or wrong in one way each, for the
tests of the reader:

    crates/cords/tests/fixtures/nwb_variants.zip

    python benches/predictivity/make_nwb_variants.py
"""

import os
import pathlib
import tempfile
import zipfile

import h5py
import numpy as np

TARGET = pathlib.Path(__file__).resolve().parents[2] / "crates/cords/tests/fixtures/nwb_variants.zip"
os.chdir(tempfile.mkdtemp())
# Trial t starts at t s. Unit 0 fires t times within its first 0.5 s, unit 1 once in each trial; each once more after
# 0.7 s.
first = [t + 0.1 + 0.01 * k for t in range(6) for k in range(t)] + [t + 0.7 for t in range(6)]
second = [t + 0.2 for t in range(6)] + [t + 0.7 for t in range(6)]
TIMES = np.concatenate([np.sort(first), np.sort(second)])
ENDS = np.array([len(first), len(first) + len(second)])


def make(name, change=lambda file: None):
    with h5py.File(f"{name}.nwb", "w") as file:
        trials = file.create_group("intervals/trials")
        trials["start_time"] = np.arange(6) * 1.0
        trials["stimulus_id"] = np.arange(6) % 3
        units = file.create_group("units")
        units["spike_times"], units["spike_times_index"], units["id"] = TIMES, ENDS, np.arange(2)
        change(file)


def put(path, values, **attributes):
    def change(file):
        if path in file:
            del file[path]
        file[path] = values
        for key, value in attributes.items():
            file[path].attrs[key] = value

    return change


def both(*changes):
    return lambda file: [change(file) for change in changes]


def nan_at(path, place, value=np.nan):
    def change(file):
        values = file[path][...].astype(float)
        values[place] = value
        put(path, values)(file)

    return change


make("plain")
make("onset_nan", nan_at("intervals/trials/start_time", 2))
make("spike_minus_nan", nan_at("units/spike_times", 3, np.copysign(np.nan, -1)))
make("spike_nan", nan_at("units/spike_times", 3))
make("index_negative", put("units/spike_times_index", np.array([-5, ENDS[1]])))
make("index_decreases", put("units/spike_times_index", np.array([ENDS[1], ENDS[0]])))
make("index_short", put("units/spike_times_index", ENDS - 2))
make("index_long", put("units/spike_times_index", ENDS + 2))
make("ids_nan", put("intervals/trials/stimulus_id", np.array([0.1, 0.2, 0.1, np.nan, 0.2, np.nan])))
# A trial without onset and stimulus is none.
make("trial_nan", both(nan_at("intervals/trials/start_time", 5), nan_at("intervals/trials/stimulus_id", 5)))
make("ids_large", put("units/id", np.array([2**60, 2**60 + 1])))
make("ids_unsigned", put("units/id", np.array([2**64 - 2, 2**64 - 1], dtype=np.uint64)))
kind = h5py.enum_dtype({"cat": 7, "dog": 8, "tree": 9}, basetype="u1")
make("enumerated_type", put("intervals/trials/stimulus_id", np.array([7, 8, 9, 7, 8, 9], dtype=kind)))


def elements(file, name="stimulus_id_elements"):
    trials = file["intervals/trials"]
    del trials["stimulus_id"]
    trials[name] = np.array(["cat", "dog", "tree"], dtype=h5py.string_dtype())
    trials["stimulus_id"] = np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)
    trials["stimulus_id"].attrs["elements"] = trials[name].ref


make("enumerated_elements", elements)
make("enumerated_elsewhere", lambda file: elements(file, "names"))
make("enumerated_beyond", both(elements, nan_at("intervals/trials/stimulus_id", 4, 5)))


def groups(file):
    ephys = file.create_group("general/extracellular_ephys")
    for name, location in (("probe0", "V4"), ("probe1", "IT")):
        ephys.create_group(name).attrs["location"] = location


def by_reference(file):
    groups(file)
    ephys = file["general/extracellular_ephys"]
    references = [ephys["probe1"].ref, ephys["probe0"].ref]
    file["units"].create_dataset("electrode_group", data=references, dtype=h5py.ref_dtype)


def by_name(file):
    groups(file)
    file["units/electrode_group"] = np.array(["probe1", "probe0"], dtype=h5py.string_dtype())


def electrodes(file, rows=(1, 0)):
    table = file.create_group("general/extracellular_ephys/electrodes")
    table["location"] = np.array(["V4", "IT"], dtype=h5py.string_dtype())
    file["units/electrodes"], file["units/electrodes_index"] = np.array(rows), np.array([1, 2])


make("group_reference", by_reference)
make("group_name", by_name)
make("electrodes", electrodes)
make("electrode_beyond", lambda file: electrodes(file, (1, 7)))


def observed(file):
    # Unit 1 was lost during trial 4.
    file["units/obs_intervals"] = np.array([[0.0, 10.0], [0.0, 4.2], [5.0, 10.0]])
    file["units/obs_intervals_index"] = np.array([1, 3])


make("observed", observed)
make("subject", both(put("general/subject/subject_id", "Tito"), put("general/session_id", "2020-01-02")))

with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    for file in sorted(pathlib.Path().glob("*.nwb")):
        archive.write(file)
print(len(list(pathlib.Path().glob("*.nwb"))), TARGET.stat().st_size)
