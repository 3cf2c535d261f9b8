"""The PyTorch modules against the engine: trajectories, gradients, Jacobians, and files of `dynvis export`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dynvis
import numpy as np
import pytest
from conftest import close

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("stage", ["cordsnet", "feedback"])
def test_trajectories_and_gradients(project: Path, digits: dynvis.ImageSet, stage: str) -> None:
    model, net = dynvis.model(stage, project=project), dynvis.network(stage, project=project)
    images = digits.unit(range(9))
    times = [0, 5, 50, 100]
    shown = torch.tensor(images, requires_grad=True)
    activity, logits = model.simulate(model.normalise(shown), times)
    found = net.simulate(images, times)
    # Sums in another order, over 40 steps of float32: roundings of 6e-8 that the leak keeps from growing.
    for name, values in activity.items():
        close(found.activity[name], values.detach().numpy(), 1e-5)
    close(found.logits, logits.detach().numpy(), 1e-5)
    np.testing.assert_array_equal(model(model.normalise(shown)).detach(), logits[:, -1].detach())
    generator = np.random.default_rng(1)
    weights = {name: generator.normal(size=values[:, 1:].shape) for name, values in activity.items()}
    loss = sum((values[:, 1:] * torch.tensor(weights[name])).sum() for name, values in activity.items())
    loss.backward()
    # As above, and a sum of some 1e4 such products.
    close(net.image_gradient(images, weights, times[1:]), shown.grad.numpy(), 1e-4)


def test_spectrum_is_that_of_the_jacobian(project: Path, digits: dynvis.ImageSet, net: dynvis.Network) -> None:
    """In float64, by automatic differentiation of one step of one area."""
    model = dynvis.model("cordsnet", project=project).double()
    image = digits.unit([5])
    (steady,) = net.steady_states(image, tolerance=1e-10)
    state = [torch.tensor(steady.activity[name][None]) for name in net.area_names]
    with torch.no_grad():
        given = model.currents(model.embed(model.normalise(torch.tensor(image, dtype=torch.float64))))

    def step(r: torch.Tensor) -> torch.Tensor:
        areas = (*state[:3], r.reshape(state[3].shape))
        return model.step(type(model.zeros(1))(areas, (None,) * 4), given).areas[3].flatten()

    jacobian = (torch.autograd.functional.jacobian(step, state[3].flatten()) - torch.eye(256)) / net.dt_ms
    expected = np.linalg.eigvals(jacobian.numpy())
    expected = expected[np.lexsort((-expected.imag, -expected.real))]
    found = steady.spectrum(3, modes=6).eigenvalues_per_ms
    np.testing.assert_allclose(found, expected[: len(found)], rtol=0, atol=1e-7)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_exported_files_load_strictly(project: Path, tmp_path: Path, ending: str) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    for stage in ("cordsnet", "cnn"):
        file = tmp_path / f"{stage}.{ending}"
        command = [dynvis.program(), "export", stage, "--out", file]
        subprocess.run(command, cwd=project, check=True, capture_output=True)
        read = safetensors.load_file if ending == "safetensors" else torch.load
        model = dynvis.model(stage, project=project)
        expected = {name: values.clone() for name, values in model.state_dict().items()}
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        model.load_state_dict(read(file), strict=True)
        for name, values in model.state_dict().items():
            assert torch.equal(values, expected[name]), name


def test_the_twin(project: Path, digits: dynvis.ImageSet) -> None:
    twin, folded = dynvis.model("cnn", project=project), dynvis.model("folded", project=project)
    part = digits.split("validation")
    images = torch.tensor(digits.normalised(part))
    with torch.no_grad():
        answers = twin(images)
        close(folded(images).numpy(), answers.numpy(), 1e-5)
        for activity, other in zip(twin.activity(images).values(), folded.activity(images).values()):
            close(other.numpy(), activity.numpy(), 1e-5)
    right = (answers.argmax(1).numpy() == digits.labels[part]).mean()
    training = dynvis.table("cnn/training", project=project)
    assert abs(right - training["validation_accuracy"][-1]) < 1e-9


def test_wrong_times(project: Path) -> None:
    model = dynvis.model("cordsnet", project=project)
    for times in ([], [50, 50], [-10, 20]):
        with pytest.raises(ValueError, match="times_ms"):
            model.simulate(torch.zeros(1, 1, 32, 32), times)
