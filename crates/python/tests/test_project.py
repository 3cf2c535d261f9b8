"""Runs, tables and other results, by way of the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dynvis
import numpy as np
import polars as pl
import pytest
from conftest import close


def test_program_is_on_the_path_and_of_this_version() -> None:
    said = subprocess.run([dynvis.program(), "--version"], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["dynvis", dynvis.__version__]


def test_run_is_cached_and_recorded(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = dynvis.runs(project=project)[-1]
    assert {stage.outcome for stage in first.stages} == {"ran"}
    again = dynvis.run("pipelines/small.yaml", project=project)
    assert {stage.outcome for stage in again.stages} == {"cached"}
    assert "cordsnet: cached" in capfd.readouterr().err
    assert dynvis.runs(1, project=project)[0].id == again.id
    assert again.stages[1].outputs["model"] == "model"
    changed = dynvis.run("pipelines/small.yaml", "record", set={"record.times": [0, 40]}, project=project)
    assert [stage.outcome for stage in changed.stages if stage.name == "record"] == ["ran"]
    assert dynvis.activity("record", run=changed, project=project).time.values.tolist() == [0, 40]
    assert dynvis.activity("record", run=first, project=project).time.values.tolist() == [0, 20, 100]
    # The last run is again the whole pipeline.
    dynvis.run("pipelines/small.yaml", project=project, progress=False)


def test_a_pipeline_is_the_projects_own_where_both_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name / "pipelines").mkdir(parents=True)
        text = f"name: {name}\nstages:\n  digits:\n    dataset: {{ source: digits, limit_per_class: 2 }}\n"
        (tmp_path / name / "pipelines/p.yaml").write_text(text)
    monkeypatch.chdir(tmp_path / "here")
    run = dynvis.run("pipelines/p.yaml", project=tmp_path / "there", progress=False)
    assert run.pipeline == "there"
    assert not (tmp_path / "here/cache").exists()


def test_tables(project: Path) -> None:
    names = dynvis.tables(project=project)
    assert "cordsnet/training" in names
    assert names == dynvis.tables(run=dynvis.runs(1, project=project)[0], project=project)
    table = dynvis.table("record/summary", project=project)
    assert table["area"].to_list() == [1, 1, 1, 3, 3, 3]
    some = dynvis.table("record/summary", where=["area=3", "time>0"], project=project)
    assert some.equals(table.filter((pl.col("area") == 3) & (pl.col("time") > 0)))
    pandas = dynvis.table("record/summary", library="pandas", project=project)
    assert pandas["mean_rate"].tolist() == table["mean_rate"].to_list()
    meanings = dynvis.columns("record/summary", project=project)
    assert meanings.filter(name="time").row(0, named=True)["unit"] == "ms"
    file = next(project.glob("cache/objects/*/*/summary.parquet"))
    assert dynvis.table(file).width > 3


def test_dataset(digits: dynvis.ImageSet) -> None:
    assert (len(digits), digits.channels, digits.side, len(digits.classes)) == (1797, 1, 32, 10)
    parts = [digits.split(part) for part in ("train", "validation", "test")]
    assert sorted(np.concatenate(parts)) == list(range(1797))
    assert digits.images is not None
    for array in (digits.images, digits.labels, parts[0]):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    np.testing.assert_array_equal(digits.unit([3]) * 255, digits.images[[3]])
    assert abs(digits.normalised(parts[0]).mean()) < 1e-3
    with pytest.raises(IndexError):
        digits.unit(1797)
    with pytest.raises(ValueError, match="`train`, `validation` and `test`"):
        digits.split("dev")  # type: ignore[arg-type]


def test_activity_is_what_the_engine_simulates(project: Path, digits: dynvis.ImageSet, net: dynvis.Network) -> None:
    recorded = dynvis.activity("record", project=project)
    shown = net.simulate(digits.unit(recorded.image.values), recorded.time.values, areas=[1, 3])
    # The program may have other code for the same kernels than the module: to a rounding.
    for name, area in zip(shown.activity, ("area.1", "area.3")):
        close(shown.activity[name], recorded[area].values, 1e-5)
    close(shown.logits, recorded["logits"].values, 1e-5)
    np.testing.assert_array_equal(recorded.label.values, digits.labels[recorded.image.values])
    pooled = dynvis.activity("pooled/activity", project=project)
    assert pooled["area.3"].dims == ("image", "time", "channel.3")
    with pytest.raises(ValueError, match="read-only"):
        recorded["area.1"].values[0] = 0


def test_model_as_arrays(project: Path, net: dynvis.Network) -> None:
    arrays = dynvis.model("cordsnet/model", library="numpy", project=project)
    assert not any(array.flags.writeable for array in arrays.values())
    parameters = net.parameters()
    assert parameters.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(parameters[name], array)


def test_what_is_wrong_is_said(project: Path, tmp_path: Path) -> None:
    def refused(call, error, text: str) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(error, match=text):
            call()

    command = dynvis.CommandError
    refused(lambda: dynvis.table("nosuch/table", project=project), command, "has no table `nosuch/table`")
    refused(lambda: dynvis.table("record/summary", run="zzzz", project=project), command, "no run `zzzz`")
    refused(lambda: dynvis.table("record/activity", project=project), dynvis.DynvisError, "is no table")
    refused(lambda: dynvis.table(tmp_path / "no.parquet"), FileNotFoundError, "is no file")
    refused(lambda: dynvis.table("record/summary", library="numpy", project=project), ValueError, "polars")  # type: ignore[call-overload]
    refused(lambda: dynvis.table("record/summary", where="area>x", project=project), command, "is not a number")
    refused(lambda: dynvis.output("record/summary", project=project), dynvis.DynvisError, "is a table")
    refused(lambda: dynvis.network("digits/images", project=project), dynvis.DynvisError, "is no model")
    refused(lambda: dynvis.network("cnn", project=project), dynvis.EngineError, "CordsNet is needed")
    refused(lambda: dynvis.Network.load(tmp_path / "no"), FileNotFoundError, "no")
    refused(lambda: dynvis.dataset("cnn/model", project=project), dynvis.DynvisError, "no images")
    refused(lambda: dynvis.run("no.yaml", project=project), command, "cannot read `no.yaml`: no such file")
    refused(lambda: dynvis.run("no.yaml", project=tmp_path / "no"), NotADirectoryError, "is no folder")
    wrong = {"cordsnet.epochs": "many"}
    refused(lambda: dynvis.run("pipelines/small.yaml", set=wrong, project=project), command, "expected")
    # A folder that is no project: nothing has run there.
    assert dynvis.runs(project=tmp_path) == []
    refused(lambda: dynvis.table("a/b", project=tmp_path), command, "no run `@`")
    damaged = tmp_path / "damaged.safetensors"
    for content in (b"", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]"):
        damaged.write_bytes(content)
        refused(lambda: dynvis.Network.load(damaged), dynvis.EngineError, "not a model file")
        refused(lambda: dynvis.model(damaged, library="numpy"), dynvis.DynvisError, "not a safetensors file")
    with pytest.raises(dynvis.CommandError) as caught:
        dynvis.table("nosuch/table", project=project)
    assert (caught.value.exit_code, caught.value.command[0]) == (2, "show")


def test_a_failed_stage_is_an_exception_with_its_message(project: Path) -> None:
    text = (project / "pipelines/small.yaml").read_text()
    (project / "pipelines/failing.yaml").write_text(text.replace("images: 10, times: [0", "indices: [5000], times: [0"))
    with pytest.raises(dynvis.CommandError, match="`indices`: image 5000 of a dataset of 1797") as caught:
        dynvis.run("pipelines/failing.yaml", "record", project=project, progress=False)
    assert caught.value.exit_code == 100
    assert dynvis.runs(1, project=project)[0].status == "failed"
    dynvis.run("pipelines/small.yaml", project=project, progress=False)


def test_ctrl_c_interrupts_a_run(project: Path) -> None:
    """As in a notebook: the signal comes to this process alone."""
    code = (
        "import dynvis, sys\n"
        "dynvis.run('pipelines/small.yaml', 'cordsnet', set={'cordsnet.epochs': 10000}, project=sys.argv[1])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(project)], stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    while not any(run.status == "running" for run in dynvis.runs(1, project=project)):
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert dynvis.runs(1, project=project)[0].status == "interrupted"
    dynvis.run("pipelines/small.yaml", project=project, progress=False)


def test_calls_from_several_threads(project: Path) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(dynvis.table("digits/counts", project=project).height))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [30] * 4
