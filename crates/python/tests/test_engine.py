"""The engine: simulation, gradients, steady states and spectra, and what is said of wrong input."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dynvis
import numpy as np
import pytest
from conftest import close


def test_what_a_network_is(net: dynvis.Network, feedback: dynvis.Network) -> None:
    assert net.image_shape == (1, 32, 32)
    assert list(net.area_shapes.values()) == [(8, 8, 8), (8, 8, 8), (16, 4, 4), (16, 4, 4)]
    assert (net.dt_ms, net.spontaneous_ms, net.stimulus_ms, net.negative_slope) == (5, 100, 100, 0)
    assert net.classes == tuple("0123456789")
    assert [projection["name"] for projection in net.description["projections"]].count("area_conv.3") == 1
    assert feedback.area_names == ("v1", "v2")
    assert feedback.tau_ms["v1"].shape == (8,)
    assert feedback.tau_ms["v2"].tolist() == [10]


def test_simulation(net: dynvis.Network, digits: dynvis.ImageSet) -> None:
    images = digits.unit(range(19))
    found = net.simulate(images, [0, 5, 100, 200])
    assert found.activity[net.area_names[2]].shape == (19, 4, 16, 4, 4)
    assert found.logits.shape == (19, 4, 10)
    assert found.times_ms.tolist() == [0, 5, 100, 200]
    assert {found.logits.dtype, *(values.dtype for values in found.activity.values())} == {np.dtype(np.float32)}
    for values in found.activity.values():
        # No image has been seen yet; all differ later.
        assert (values[:, 0] == values[0, 0]).all()
        assert (values[1:, 2] != values[0, 2]).any(axis=(1, 2, 3)).all()
        assert values.min() >= 0
    # An image's activity does not depend on those beside it, nor on what else is kept.
    last = net.area_names[3]
    alone = net.simulate(images[17], 100, areas=3)
    np.testing.assert_array_equal(alone.activity[last][0, 0], found.activity[last][17, 2])
    np.testing.assert_array_equal(alone.answers[0, 0], found.answers[17, 2])
    # The image is gone after the stimulus, unless it is held.
    held = net.simulate(images, [100, 200], stimulus_ms=200)
    np.testing.assert_array_equal(held.logits[:, 0], found.logits[:, 2])
    assert (held.logits[:, 1] != found.logits[:, 3]).any()
    default = net.simulate(images)
    np.testing.assert_array_equal(default.logits[:, 0], found.logits[:, 2])
    named = found.to_xarray()
    assert named[last].dims[:2] == ("image", "time")
    assert named["logits"].sel(time=5, **{"class": "3"}).shape == (19,)


def test_images_of_every_kind(net: dynvis.Network, digits: dynvis.ImageSet) -> None:
    images = digits.unit(range(6))
    expected = net.simulate(images).logits
    wide = np.zeros((6, 1, 32, 64), np.float32)
    wide[..., ::2] = images
    flipped = np.ascontiguousarray(images[:, :, ::-1])[:, :, ::-1]
    assert digits.images is not None
    for same in (images.astype(np.float64), wide[..., ::2], flipped, np.asfortranarray(images), images.tolist()):
        if isinstance(same, list):
            same = np.asarray(same)
        np.testing.assert_array_equal(net.simulate(same).logits, expected)
    close(net.simulate(digits.images[:6]).logits, expected, 1e-6)
    normalised = digits.normalised(range(6))
    normalised.flags.writeable = False
    close(net.simulate(normalised, normalised=True).logits, expected, 1e-6)
    none = net.simulate(images[:0], [0, 50])
    assert none.logits.shape == (0, 2, 10)
    assert net.image_gradient(images[:0], {0: np.zeros((0, 1, 8, 8, 8))}).shape == (0, 1, 32, 32)
    assert net.steady_states(images[:0]) == []


def test_a_large_batch_is_the_same_as_small_ones(net: dynvis.Network, digits: dynvis.ImageSet) -> None:
    images = digits.unit(range(1700))
    whole = net.simulate(images, [20, 100], areas=[])
    assert whole.activity == {}
    parts = [net.simulate(images[first : first + 100], [20, 100]).logits for first in range(0, 1700, 100)]
    np.testing.assert_array_equal(whole.logits, np.concatenate(parts))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"images": np.zeros((2, 3, 32, 32), np.float32)}, ValueError, r"takes \(batch, 1, 32, 32\)"),
        ({"images": np.zeros((32, 32), np.float32)}, ValueError, r"shape \(32, 32\)"),
        ({"images": np.zeros((1, 1, 1, 32, 32), np.float32)}, ValueError, "shape"),
        ({"images": np.zeros((1, 1, 32, 32), np.int64)}, TypeError, "float32 or float64 is needed, not int64"),
        ({"images": np.zeros((1, 1, 32, 32), np.complex64)}, TypeError, "complex64"),
        ({"images": np.zeros((1, 1, 32, 32), np.uint8), "normalised": True}, TypeError, "uint8"),
        ({"images": np.full((1, 1, 32, 32), np.nan, np.float32)}, ValueError, r"at \(0, 0, 0, 0\) is not finite"),
        ({"images": np.full((1, 1, 32, 32), 1e300)}, ValueError, "is not finite"),
        ({"times_ms": []}, ValueError, "one time or several"),
        ({"times_ms": [20, 20]}, ValueError, "not a later step of 5 ms"),
        ({"times_ms": [-5]}, ValueError, "no length of time"),
        ({"times_ms": [np.nan]}, ValueError, "no length of time"),
        ({"times_ms": 1e12}, ValueError, "beyond the 1000000 steps"),
        ({"areas": 4}, ValueError, "areas 0 to 3"),
        ({"areas": -1}, ValueError, "areas 0 to 3"),
        ({"areas": ["v9"]}, ValueError, "area `v9`: this network has"),
        ({"areas": [1, 1]}, ValueError, "twice"),
        ({"spontaneous_ms": -1}, ValueError, "spontaneous_ms"),
        ({"stimulus_ms": np.inf}, ValueError, "stimulus_ms"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_wrong_input_of_a_simulation(net: dynvis.Network, change: dict, error: type, text: str) -> None:
    arguments = {"images": np.zeros((1, 1, 32, 32), np.float32), **change}
    with pytest.raises(error, match=text):
        net.simulate(**arguments)


def test_activity_that_has_no_room(net: dynvis.Network) -> None:
    images = np.zeros((1000, 1, 32, 32), np.float32)
    with pytest.raises(MemoryError, match="1000 images at 1000000 times"):
        net.simulate(images, np.arange(1, 1_000_001) * 5.0)


def test_image_gradient(net: dynvis.Network, digits: dynvis.ImageSet) -> None:
    images = digits.unit(range(11))
    generator = np.random.default_rng(0)
    weights = {1: generator.normal(size=(11, 2, 8, 8, 8)), net.area_names[3]: generator.normal(size=(16, 4, 4))}
    gradient = net.image_gradient(images, weights, [30, 100])
    assert (gradient.shape, gradient.dtype) == (images.shape, np.float32)

    def loss(images: np.ndarray) -> np.ndarray:
        found = net.simulate(images, [30, 100], areas=[1, 3])
        return sum(
            (found.activity[net.area_names[number]].astype(float) * weights[key]).sum(axis=(1, 2, 3, 4))
            for number, key in ((1, 1), (3, net.area_names[3]))
        )

    # Along the gradient of each image, by a step within which few units change their side of 0.
    by = 1e-3
    direction = gradient / np.sqrt((gradient**2).sum(axis=(1, 2, 3), keepdims=True))
    difference = (loss(images + by * direction) - loss(images - by * direction)) / (2 * by)
    close((gradient * direction).sum(axis=(1, 2, 3), dtype=float), difference, 1e-2)
    # An image's gradient has nothing of others; of normalised ones it is that by normalised values.
    one = net.image_gradient(images[10], {1: weights[1][10:], 3: weights[net.area_names[3]]}, [30, 100])
    np.testing.assert_array_equal(one[0], gradient[10])
    shown = (images - net.mean[:, None, None]) / net.std[:, None, None]
    by_normalised = net.image_gradient(shown, weights, [30, 100], normalised=True)
    close(by_normalised / net.std[0], gradient, 1e-6)


def test_wrong_input_of_a_gradient(net: dynvis.Network) -> None:
    image = np.zeros((1, 1, 32, 32), np.float32)
    for weights, times, text in [
        ({}, 50, "a mapping"),
        (np.ones(3), 50, "a mapping"),
        ({7: 1.0}, 50, "areas 0 to 3"),
        ({0: np.ones((3, 8, 8))}, 50, r"shape \(3, 8, 8\), needed is \(1, 1, 8, 8, 8\)"),
        ({0: np.full((8, 8, 8), np.inf)}, 50, "not finite"),
        ({0: np.ones((8, 8, 8)), net.area_names[0]: np.ones((8, 8, 8))}, 50, "twice"),
        ({0: np.ones((8, 8, 8))}, 0, "depends on no image"),
    ]:
        with pytest.raises(ValueError, match=text):
            net.image_gradient(image, weights, times)
    with pytest.raises(TypeError, match="int64"):
        net.image_gradient(image, {0: np.ones((8, 8, 8), np.int64)})


@pytest.mark.parametrize("method", ["newton_krylov", "anderson", "simulation"])
def test_steady_states(net: dynvis.Network, feedback: dynvis.Network, digits: dynvis.ImageSet, method: str) -> None:
    images = digits.unit([0, 1])
    for network in (net, feedback):
        found = network.steady_states(images, method=method, tolerance=1e-6)
        assert all(steady.converged for steady in found)
        # Where a long simulation ends, too, as these networks have learnt to come to rest.
        shown = network.simulate(images, 4000, stimulus_ms=4000)
        for number, steady in enumerate(found):
            areas = steady.areas()
            assert areas["area"].to_list() == list(network.area_names)
            assert areas["residual"].max() <= 1e-6
            for name, activity in steady.activity.items():
                assert activity.dtype == np.float64
                close(shown.activity[name][number, 0].astype(float), activity, 1e-3)
            close(shown.logits[number, 0].astype(float), steady.logits, 1e-3)
        spontaneous = network.spontaneous_state(method=method)
        assert spontaneous.areas()["distance"].to_list() == [0.0] * len(network.area_names)


def test_spectrum(net: dynvis.Network, feedback: dynvis.Network, digits: dynvis.ImageSet) -> None:
    (steady,) = net.steady_states(digits.unit([3]))
    found = steady.spectrum(3, modes=5, by_magnitude=3, vectors=True)
    assert found.converged
    assert found.areas == (net.area_names[3],)
    assert (found.units, found.stable) == (256, True)
    assert (np.diff(found.real_per_ms) <= 1e-12).all()
    np.testing.assert_allclose(found.time_constant_ms, -1 / found.real_per_ms)
    assert found.by_magnitude["real_per_ms"].shape == (3,)
    for rank, vector in found.vectors.items():
        assert vector.shape == (16, 4, 4)
        assert abs(np.linalg.norm(vector) - 1) < 1e-6
        assert rank < len(found.real_per_ms)
    (steady,) = feedback.steady_states(digits.unit([3]))
    both = steady.spectrum("v2", modes=3)
    assert both.areas == ("v1", "v2")
    # With the adaptation of the second area.
    assert both.units == 8 * 64 + 2 * 12 * 16
    for wrong in ({"area": 9}, {"modes": -1}, {"tolerance": 0}, {"by_magnitude": 0.5}):
        with pytest.raises(ValueError):
            steady.spectrum(**wrong)
    with pytest.raises(ValueError, match="`newton_krylov`"):
        net.steady_states(digits.unit([3]), method="newton")  # type: ignore[arg-type]
    (unsettled,) = net.steady_states(digits.unit([3]), method="simulation", max_products=1, joint_ms=0)
    assert not unsettled.converged


def test_other_threads_run_meanwhile(net: dynvis.Network, digits: dynvis.ImageSet) -> None:
    images = digits.unit(range(200))
    found: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: found.append(net.simulate(images, 400, stimulus_ms=400).logits))
    count = 0
    thread.start()
    while thread.is_alive():
        count += 1
    assert count > 100
    threads = [
        threading.Thread(target=lambda: found.append(net.simulate(images, 400, stimulus_ms=400).logits))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 5
    for logits in found:
        np.testing.assert_array_equal(logits, found[0])


def test_a_forked_process_has_threads_of_its_own(net: dynvis.Network, digits: dynvis.ImageSet) -> None:
    images = digits.unit(range(20))
    expected = net.simulate(images).logits
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=lambda: queue.put(net.simulate(images).logits))
    process.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected)
    process.join()
    np.testing.assert_array_equal(net.simulate(images).logits, expected)


CALLS = {
    "simulate": "net.simulate(images, 5e6, stimulus_ms=5e6, areas=[])",
    "gradient": "net.image_gradient(np.repeat(images, 1000, 0), {3: np.ones((16, 4, 4))}, [4000])",
    "steady": "net.steady_states(images, method='simulation', tolerance=1e-300, max_products=10**12)",
}


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c(project: Path, call: str) -> None:
    code = (
        "import sys, dynvis, numpy as np\n"
        "net = dynvis.network('cordsnet', project=sys.argv[1])\n"
        "images = dynvis.dataset('digits', project=sys.argv[1]).unit(range(8))\n"
        "print('begins', flush=True)\n"
        "try:\n"
        f"    {CALLS[call]}\n"
        "except KeyboardInterrupt:\n"
        # The network is what it was.
        "    print('interrupted', net.simulate(images).logits.shape, flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(project)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    assert said == "interrupted (8, 1, 10)\n"
