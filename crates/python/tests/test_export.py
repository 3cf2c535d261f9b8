"""ONNX, TensorBoard and JSON lines, read by those whose formats they are."""

from __future__ import annotations

import json
import math
from pathlib import Path

import dynvis
import numpy as np
import pytest
from conftest import close


@pytest.mark.parametrize("stage", ["cordsnet", "feedback"])
def test_onnx(project: Path, digits: dynvis.ImageSet, tmp_path: Path, stage: str) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from dynvis.onnx import export

    net = dynvis.network(stage, project=project)
    images = digits.unit(range(5))
    shown = (images - net.mean[:, None, None]) / net.std[:, None, None]

    trial = runtime.InferenceSession(export(stage, tmp_path / "trial.onnx", project=project))
    found = dict(zip((output.name for output in trial.get_outputs()), trial.run(None, {"images": shown})))
    expected = net.simulate(images)
    close(found.pop("logits"), expected.logits[:, 0], 1e-5)
    assert found.keys() == {f"activity.{name}" for name in net.area_names}
    for name in net.area_names:
        close(found[f"activity.{name}"], expected.activity[name][:, 0], 1e-5)

    step = runtime.InferenceSession(export(net, tmp_path / "step.onnx", form="step"))
    given = {
        value.name: np.zeros((5, *value.shape[1:]), np.float32) for value in step.get_inputs() if value.name != "images"
    }
    for _ in range(round(net.stimulus_ms / net.dt_ms)):
        found = dict(zip((output.name for output in step.get_outputs()), step.run(None, {"images": shown, **given})))
        given = {name.removeprefix("next."): values for name, values in found.items() if name != "logits"}
    from_zero = net.simulate(images, spontaneous_ms=0)
    close(found["logits"], from_zero.logits[:, 0], 1e-5)
    for name in net.area_names:
        close(given[f"activity.{name}"], from_zero.activity[name][:, 0], 1e-5)


def test_onnx_of_what_is_none(project: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from dynvis.onnx import export

    with pytest.raises(dynvis.EngineError, match="CordsNet is needed"):
        export("cnn", tmp_path / "cnn.onnx", project=project)
    with pytest.raises(ValueError, match="`step` and `trial`"):
        export("cordsnet", tmp_path / "x.onnx", form="loop", project=project)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one step"):
        export("cordsnet", tmp_path / "x.onnx", stimulus_ms=0, project=project)
    assert list(tmp_path.iterdir()) == []


def test_json_lines(project: Path, tmp_path: Path) -> None:
    files = dynvis.logs.jsonl(tmp_path, project=project)
    assert [file.parent.name for file in files] == ["cordsnet", "feedback", "cnn"]
    for file in files:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        training = dynvis.table(f"{file.parent.name}/training", project=project)
        assert [line["_step"] for line in lines] == training["epoch"].to_list()
        assert [line["loss"] for line in lines] == training["loss"].to_list()
        assert all(line["_runtime"] > 0 and math.isfinite(line["_timestamp"]) for line in lines)
    (project / "pipelines/images.yaml").write_text("name: images\nstages: { digits: { dataset: { use: dataset/digits } } }\n")
    images = dynvis.run("pipelines/images.yaml", project=project, progress=False)
    with pytest.raises(dynvis.DynvisError, match="no stage of this run is a training"):
        dynvis.logs.jsonl(tmp_path, run=images, project=project)
    dynvis.run("pipelines/small.yaml", project=project, progress=False)


def test_tensorboard(project: Path, tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    files = dynvis.logs.tensorboard(tmp_path, run=dynvis.runs(1, project=project)[0], project=project)
    assert len(files) == 3
    events = list(loader.EventFileLoader(str(files[0])).Load())
    assert events[0].file_version == "brain.Event:2"
    training = dynvis.table("cordsnet/training", project=project)
    values = {value.tag: value.tensor.float_val[0] for value in events[1].summary.value}
    assert events[1].step == 1
    assert values.keys() == set(training.columns) - {"epoch"}
    assert values["loss"] == np.float32(training["loss"][0])
