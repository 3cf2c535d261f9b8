"""Trainings of a run for viewers of others: TensorBoard's event files, and JSON lines as Weights & Biases keeps them.

Written on demand from the tables `training` of a run; nothing needs to be installed for it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ._engine import DynvisError
from ._program import PathLike
from .project import Run, columns, runs, table, tables

__all__ = ["jsonl", "tensorboard"]


def tensorboard(
    folder: PathLike, *, run: str | Run = "@", project: PathLike | None = None, cache: PathLike | None = None
) -> list[Path]:
    """Writes an event file for each training of a run: `tensorboard --logdir FOLDER` shows them.

    Every column of the table `training` is a scalar of its name, at the step of its epoch. Files that are there are
    replaced.

    Args:
        folder: Where a folder for each stage is made.
        run: `@` (last run), `@-1`, a run's id or its first letters, or a `Run`.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.

    Returns:
        The files.

    Raises:
        DynvisError: Where no stage of the run is a training.
    """
    written = []
    for stage, started, rows in _trainings(run, project, cache):
        path = _place(folder, stage) / "events.out.tfevents.0.dynvis"
        with path.open("wb") as file:
            file.write(_record(_double(1, started) + _bytes(3, b"brain.Event:2")))
            for epoch, seconds, values in rows:
                scalars = b"".join(_bytes(1, _scalar(name, value)) for name, value in values.items())
                event = _double(1, started + seconds) + _integer(2, epoch) + _bytes(5, scalars)
                file.write(_record(event))
        written.append(path)
    return written


def jsonl(
    folder: PathLike, *, run: str | Run = "@", project: PathLike | None = None, cache: PathLike | None = None
) -> list[Path]:
    """Writes `wandb-history.jsonl` for each training of a run: an object an epoch, with `_step`, `_runtime` (s),
    `_timestamp` (s since 1970) and every column of the table `training`, as Weights & Biases keeps a run's history.

    To upload one: `for line in open(path): wandb.log(json.loads(line))`. Missing values and values that are not finite
    are left out.

    Args:
        folder: Where a folder for each stage is made.
        run: `@` (last run), `@-1`, a run's id or its first letters, or a `Run`.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.

    Returns:
        The files.

    Raises:
        DynvisError: Where no stage of the run is a training.
    """
    written = []
    for stage, started, rows in _trainings(run, project, cache):
        path = _place(folder, stage) / "wandb-history.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for epoch, seconds, values in rows:
                kept = {name: value for name, value in values.items() if np.isfinite(value)}
                line = {"_step": epoch, "_runtime": seconds, "_timestamp": started + seconds, **kept}
                file.write(json.dumps(line) + "\n")
        written.append(path)
    return written


def _trainings(
    run: str | Run, project: PathLike | None, cache: PathLike | None
) -> Iterator[tuple[str, float, list[tuple[int, float, dict[str, float]]]]]:
    """Name of each stage that trains, when its run started (s since 1970), and epoch, seconds and values of each row."""
    where: dict[str, Any] = {"run": run, "project": project, "cache": cache}
    names = tables(**where)
    stages = [name.removesuffix("/training") for name in names if name.endswith("/training")]
    if not stages:
        raise DynvisError("no stage of this run is a training")
    for stage in stages:
        found = table(f"{stage}/training", **where)
        keys = columns(f"{stage}/training", **where).filter(role="key")["name"]
        if "epoch" not in keys:
            continue
        # Other keys, areas for one, tell values of an epoch apart.
        others = [key for key in keys if key != "epoch"]
        speed = {}
        if f"{stage}/speed" in names:
            speed = {row["epoch"]: row["seconds"] for row in table(f"{stage}/speed", **where).iter_rows(named=True)}
        rows: dict[int, dict[str, float]] = {}
        for row in found.iter_rows(named=True):
            label = "".join(f"{key}={row[key]}/" for key in others)
            values = rows.setdefault(row["epoch"], {})
            for name, value in row.items():
                if name not in keys and isinstance(value, (int, float)):
                    values[label + name] = float(value)
        epochs = sorted(rows)
        seconds = np.cumsum([speed.get(epoch) or 0.0 for epoch in epochs])
        timed = [(epoch, float(second), rows[epoch]) for epoch, second in zip(epochs, seconds)]
        yield stage, _started(run, project, cache), timed


def _started(run: str | Run, project: PathLike | None, cache: PathLike | None) -> float:
    if isinstance(run, Run):
        return run.started.timestamp()
    past = runs(1_000_000, project=project, cache=cache)
    if run.startswith("@"):
        return past[int(run[1:] or 0) * -1].started.timestamp()
    return next(found for found in past if found.id.startswith(run)).started.timestamp()


def _place(folder: PathLike, stage: str) -> Path:
    place = Path(folder) / "".join(c if c.isalnum() or c in "@=,._-+" else "_" for c in stage)
    place.mkdir(parents=True, exist_ok=True)
    return place


# An event file is a row of records, each a message in the encoding of Protocol Buffers. `Event` has wall_time = 1
# (double), step = 2 (int64), file_version = 3 (string), summary = 5; `Summary` has value = 1, and its `Value` tag = 1
# (string) and simple_value = 2 (float).


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _scalar(tag: str, value: float) -> bytes:
    with np.errstate(over="ignore"):
        single = float(np.float32(value))
    return _bytes(1, tag.encode()) + _varint(2 << 3 | 5) + struct.pack("<f", single)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data))


def _table() -> list[int]:
    """Of CRC-32C, the polynomial of Castagnoli."""
    out = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        out.append(value)
    return out


_CRC = _table()


def _masked(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
