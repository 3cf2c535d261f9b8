"""A small project that is run once: networks by the published rule and with feedback, their twin, and recordings."""

from __future__ import annotations

import shutil
from pathlib import Path

import dynvis
import numpy as np
import pytest


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    dynvis.init("quickstart", folder)
    shutil.copy(Path(__file__).parent / "small.yaml", folder / "pipelines")
    run = dynvis.run(folder / "pipelines/small.yaml", project=folder, progress=False)
    assert run.status == "done"
    return folder


@pytest.fixture(scope="session")
def digits(project: Path) -> dynvis.ImageSet:
    return dynvis.dataset("digits", project=project)


@pytest.fixture(scope="session")
def net(project: Path) -> dynvis.Network:
    return dynvis.network("cordsnet", project=project)


@pytest.fixture(scope="session")
def feedback(project: Path) -> dynvis.Network:
    return dynvis.network("feedback", project=project)


def close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """The largest difference is at most so much of the largest value."""
    assert found.shape == expected.shape
    largest = np.abs(expected).max()
    assert largest > 0
    assert np.abs(found - expected).max() <= tolerance * largest
