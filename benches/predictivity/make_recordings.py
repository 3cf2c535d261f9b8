"""Writes small recordings in the formats that labs use, for the tests of their readers:

    crates/cords/tests/fixtures/assembly.nc     a Brain-Score assembly, as xarray writes netCDF4
    crates/cords/tests/fixtures/assembly.npz    the same responses, compressed
    crates/cords/tests/fixtures/units.nwb       spike times of units and a table of stimuli, as pynwb writes NWB
    crates/cords/tests/fixtures/recordings.json what must be read from them

    python benches/predictivity/make_recordings.py
"""

import datetime
import json
import pathlib

import numpy
import pynwb
import xarray

FOLDER = pathlib.Path(__file__).parents[2] / "crates/cords/tests/fixtures"
STIMULI, REPETITIONS, NEURONS, BINS = 7, 3, 5, 2
IDS = [f"im{i:03}" for i in (4, 0, 6, 2, 5, 1, 3)]
OBJECTS = {name: ["face", "car", "chair"][int(name[2:]) % 3] for name in IDS}
REGIONS = ["V4", "V4", "IT", "IT", "IT"]
random = numpy.random.RandomState(0)


def assembly():
    """Presentations in random order; one of them is missing, and one neuron lacks a value."""
    shown = [(s, r) for s in range(STIMULI) for r in range(REPETITIONS)]
    shown = [shown[i] for i in random.permutation(len(shown))][:-1]
    values = random.gamma(2.0, 3.0, (len(shown), NEURONS, BINS)).astype("float32")
    values[3, 1, 0] = numpy.nan
    presentation = {
        "stimulus_id": [IDS[s] for s, _ in shown],
        "object_name": [OBJECTS[IDS[s]] for s, _ in shown],
        "repetition": [r for _, r in shown],
    }
    coordinates = {name: ("presentation", column) for name, column in presentation.items()}
    coordinates["neuroid_id"] = ("neuroid", [f"chan_{n}" for n in range(NEURONS)])
    coordinates["region"] = ("neuroid", REGIONS)
    coordinates["time_bin_start"] = ("time_bin", [70, 170])
    coordinates["time_bin_end"] = ("time_bin", [170, 270])
    array = xarray.DataArray(values, coords=coordinates, dims=["presentation", "neuroid", "time_bin"])
    name = "__xarray_dataarray_variable__"
    array.to_netcdf(FOLDER / "assembly.nc", encoding={name: {"zlib": True, "complevel": 9}}, engine="netcdf4")
    numpy.savez_compressed(
        FOLDER / "assembly.npz",
        responses=values,
        **{key: numpy.array(column) for key, column in presentation.items()},
        neuroid_id=array.neuroid_id.values.astype(str),
        region=numpy.array(REGIONS),
        time_bin_start=numpy.array([70, 170]),
        time_bin_end=numpy.array([170, 270]),
    )
    expected = {}
    for place, (s, r) in enumerate(shown):
        row = [[None if numpy.isnan(v) else float(v) for v in neuron] for neuron in values[place]]
        expected[f"{IDS[s]}/{r}"] = row
    return expected


def units():
    """Onsets in seconds, spikes of three units; counts in bins of 0 to 50 and 50 to 150 ms as rates in spikes/s."""
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    nwb = pynwb.NWBFile("a small recording", "recordings-for-tests", start, file_create_date=start)
    device = nwb.create_device("array")
    regions = ["V4", "IT"]
    for number, region in enumerate(regions):
        group = nwb.create_electrode_group(f"shank{number}", "a shank", region, device)
        nwb.add_electrode(group=group, location=region)
    nwb.add_trial_column("stimulus_id", "name of the image")
    nwb.add_trial_column("object_name", "class of the image")
    order = [IDS[i % 4] for i in random.permutation(8)]
    onsets = 1.0 + 0.4 * numpy.arange(8)
    for onset, name in zip(onsets, order):
        nwb.add_trial(start_time=onset, stop_time=onset + 0.2, stimulus_id=name, object_name=OBJECTS[name])
    spikes = [numpy.sort(random.uniform(0.9, 4.2, count)) for count in (150, 0, 220)]
    for times, electrode in zip(spikes, (1, 0, 1)):
        nwb.add_unit(spike_times=times, electrodes=[electrode])
    with pynwb.NWBHDF5IO(str(FOLDER / "units.nwb"), "w") as file:
        file.write(nwb, cache_spec=False)
    bins, seen, expected = [(0.0, 0.05), (0.05, 0.15)], {}, {}
    for onset, name in zip(onsets, order):
        repetition = seen[name] = seen.get(name, -1) + 1
        rates = [
            [int(((times >= onset + a) & (times < onset + b)).sum()) / (b - a) for a, b in bins] for times in spikes
        ]
        expected[f"{name}/{repetition}"] = rates
    return expected


contents = {"objects": OBJECTS, "regions": REGIONS, "assembly": assembly(), "units": units()}
(FOLDER / "recordings.json").write_text(json.dumps(contents, indent=1) + "\n")
for name in ("assembly.nc", "assembly.npz", "units.nwb", "recordings.json"):
    print(name, (FOLDER / name).stat().st_size, "bytes")
