"""One small assembly (12 presentations of 4 images, 5 neuroids, 2 time bins) written in the ways in which xarray, h5py
and netCDF4-python write it, for the tests of the reader:

    crates/cords/tests/fixtures/netcdf_variants.zip
    crates/cords/tests/fixtures/two_variables.nc     one of them

    python benches/predictivity/make_netcdf_variants.py
"""

import os
import pathlib
import shutil
import tempfile
import zipfile

import h5py
import netCDF4
import numpy as np
import xarray as xr

TARGET = pathlib.Path(__file__).resolve().parents[2] / "crates/cords/tests/fixtures/netcdf_variants.zip"
os.chdir(tempfile.mkdtemp())
rng = np.random.default_rng(1)
P, N, B = 12, 5, 2
r = np.round(rng.normal(20, 5, (P, N, B)), 1)
coords = {
    "stimulus_id": ("presentation", [f"im{i % 4}" for i in range(P)]),
    "object_name": ("presentation", [["cat", "dog"][i % 2] for i in range(P)]),
    "repetition": ("presentation", [i // 4 for i in range(P)]),
    "neuroid_id": ("neuroid", [f"n{i}" for i in range(N)]),
    "region": ("neuroid", ["V4", "V4", "IT", "IT", "IT"]),
    "animal": ("neuroid", ["Chabo", "Chabo", "Tito", "Tito", "Tito"]),
    "time_bin_start": ("time_bin", [70.0, 120.0]),
    "time_bin_end": ("time_bin", [120.0, 170.0]),
}
da = xr.DataArray(r, dims=("presentation", "neuroid", "time_bin"), coords=coords, name="responses")
hole = da.copy()
hole[0, 0, 0] = np.nan


def put(name, obj, **options):
    obj.to_netcdf(f"{name}.nc", **options)


def encoded(**encoding):
    return dict(encoding={"responses": encoding})


put("plain", da)
put("packed_int16", da, **encoded(dtype="int16", scale_factor=0.1, add_offset=20.0, _FillValue=-32767))
put("packed_int16_nan", hole, **encoded(dtype="int16", scale_factor=0.1, add_offset=20.0, _FillValue=-32767))
edges = dict(dtype="int8", scale_factor=10.0, _FillValue=-1)
put("packed_bin_edges", da, encoding={"time_bin_start": edges, "time_bin_end": edges})
put("float32", da.astype("float32"))
put("uint8_counts", da.round().astype("uint8"))
put("fill_value_1e20", hole, **encoded(dtype="float32", _FillValue=np.float32(1e20)))
chunks = dict(chunksizes=(5, 2, 1))
put("zlib", da, **encoded(zlib=True, complevel=4, shuffle=True, fletcher32=True, **chunks))
put("unlimited", da, unlimited_dims=["presentation"], **encoded(chunksizes=(4, 5, 2)))
put("netcdf3", da, format="NETCDF3_64BIT", engine="scipy")
put("netcdf3_classic", da, format="NETCDF3_CLASSIC")
put("netcdf4_classic", da, format="NETCDF4_CLASSIC")
put("h5netcdf_like_transposed", da.transpose("neuroid", "presentation", "time_bin"))
for compression in ("zstd", "bzip2", "szip"):
    put(compression, da, **encoded(compression=compression, **chunks))
put("dataset_error_first", xr.Dataset({"error": da * 0 + 0.5, "responses": da}))
put("dataset_named_by_lab", xr.Dataset({"spike_count_sem": da * 0 + 0.5, "spike_count": da}))
put("with_dimension_coordinate", da.assign_coords(presentation=np.arange(P), neuroid=np.arange(N)))
put("time_bin_as_index", da.assign_coords(time_bin=[95, 145]))
texts = ("stimulus_id", "object_name", "neuroid_id", "region")
put("char_ids", da, format="NETCDF4", encoding={name: {"dtype": "S1"} for name in texts})
put("unicode_ids", da.assign_coords(stimulus_id=("presentation", [f"bíld_{i % 4}_猫" for i in range(P)])))
put("int64_ids", da.assign_coords(stimulus_id=("presentation", [9007199254740993 + 2 * (i % 4) for i in range(P)])))


def recode(target, libver, chunks=None, maxshape=None, **options):
    """The file as other versions of HDF5 lay it out."""
    with h5py.File("plain.nc") as source, h5py.File(f"{target}.nc", "w", libver=libver) as out:
        sizes = {"presentation": P, "neuroid": N, "time_bin": B}
        for name, size in sizes.items():
            scale = out.create_dataset(name, (size,), "f4")
            scale.make_scale("This is a netCDF dimension but not a netCDF variable.%10d" % size)
        for name, data in source.items():
            if name in sizes:
                continue
            own = dict(options, chunks=chunks, maxshape=maxshape) if name == "responses" else {}
            copy = out.create_dataset(name, data=data[()], dtype=data.dtype, **own)
            for place, size in enumerate(data.shape):
                copy.dims[place].attach_scale(out[next(d for d, n in sizes.items() if n == size)])


recode("hdf5_latest", "latest")
recode("hdf5_latest_fixed_array", "latest", chunks=(5, 2, 1))
recode("hdf5_latest_extensible_array", "latest", chunks=(1, 2, 1), maxshape=(None, N, B))
recode("hdf5_latest_btree2", "latest", chunks=(2, 2, 1), maxshape=(None, None, B))
recode("hdf5_v108", ("earliest", "v108"), chunks=(5, 2, 1), compression="gzip")
recode("hdf5_lzf", "earliest", chunks=(5, 2, 1), compression="lzf")

# Beyond what xarray writes by itself: the same values by other attributes.
put("netcdf3_packed", hole, format="NETCDF3_CLASSIC", **encoded(dtype="int16", scale_factor=0.1, _FillValue=-1))
put("edges_in_seconds", da)
put("edges_as_timedelta", da)
put("edges_since", da)


def change(name, make):
    with netCDF4.Dataset(f"{name}.nc", "a") as file:
        file.set_auto_maskandscale(False)
        make(file)


def only_new(name, dtype, values, **attributes):
    put(name, da.to_dataset().drop_vars("responses"))
    with netCDF4.Dataset(f"{name}.nc", "a") as file:
        made = file.createVariable("responses", dtype, ("presentation", "neuroid", "time_bin"))
        made.set_auto_maskandscale(False)
        made.setncatts(attributes)
        made[:] = values


holed = np.where(np.isnan(hole), -999.0, r)
only_new("valid_range", "f8", np.where(np.isnan(hole), -500.0, r), valid_range=np.array([-100.0, 100.0]))
only_new("missing_value", "f8", holed, missing_value=-999.0)
# 10 r + 40,000 in 16 bits without a sign, stored with one.
packed = np.round(10 * r + 40000).astype(np.uint16).astype(np.int16)
only_new("unsigned", "i2", packed, _Unsigned="true", scale_factor=0.1, add_offset=-4000.0)
only_new("default_fill", "f8", np.where(np.isnan(hole), netCDF4.default_fillvals["f8"], r))
units = {
    "edges_in_seconds": ("s", 1e-3),
    "edges_as_timedelta": ("microseconds", 1e3),
    "edges_since": ("ms since 2020-01-01", 1),
}
for name, (unit, scale) in units.items():

    def times(file):
        for edge in ("time_bin_start", "time_bin_end"):
            file[edge][:] = file[edge][:] * scale
            file[edge].units = unit

    change(name, times)
numbers = np.array([i % 4 for i in range(P)], dtype=float)
numbers[5] = np.nan
put("nan_ids", da.assign_coords(stimulus_id=("presentation", numbers)))
put("enum_ids", da.to_dataset().drop_vars("stimulus_id"))
with netCDF4.Dataset("enum_ids.nc", "a") as file:
    kind = file.createEnumType(np.uint8, "image", {f"im{i}": i + 3 for i in range(4)})
    file.createVariable("stimulus_id", kind, ("presentation",))[:] = np.array([i % 4 + 3 for i in range(P)], np.uint8)

with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    for file in sorted(pathlib.Path().glob("*.nc")):
        archive.write(file)
    archive.writestr("reference.f64", r.astype("<f8").tobytes())
shutil.copy("dataset_named_by_lab.nc", TARGET.parent / "two_variables.nc")
print(len(list(pathlib.Path().glob("*.nc"))), TARGET.stat().st_size)
