"""The engine: networks simulated on images of one's own, gradients, steady states and spectra.

Everything is computed on the processor, by as many threads as it has or as `RAYON_NUM_THREADS` says, while other Python
threads run; Ctrl-C ends a call within a step. Processes that are forked get threads of their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _engine
from ._program import PathLike

if TYPE_CHECKING:
    import polars
    import xarray

__all__ = ["Network", "Simulation", "Spectrum", "SteadyState"]

Area = Union[int, str]
"""An area by its number, from 0, or its name."""

MOST_STEPS = 1_000_000
"""Steps that are simulated at most."""


@dataclass(frozen=True)
class Simulation:
    """Activity of a network at some times after image onset.

    Attributes:
        times_ms: The times in ms, `(times,)`; 0 is the spontaneous state.
        activity: Activity of each area by its name, dimensionless, `(batch, times, channels, side, side)`, float32.
        logits: What the readout makes of it, `(batch, times, classes)`, float32.
        classes: Names of the classes, by label; empty where the model does not know them.
    """

    times_ms: NDArray[np.float64]
    activity: Mapping[str, NDArray[np.float32]]
    logits: NDArray[np.float32]
    classes: tuple[str, ...]

    @property
    def answers(self) -> NDArray[np.int64]:
        """Label with the largest logit, `(batch, times)`."""
        return np.asarray(self.logits.argmax(axis=-1))

    def to_xarray(self) -> xarray.Dataset:
        """The same with named axes; the arrays are not copied. Needs xarray."""
        from .results import _xarray

        maps = ("channel", "height", "width")
        variables: dict[str, Any] = {
            name: (("image", "time", *(f"{axis}.{name}" for axis in maps)), values)
            for name, values in self.activity.items()
        }
        variables["logits"] = (("image", "time", "class"), self.logits)
        coordinates: dict[str, Any] = {"time": ("time", self.times_ms, {"units": "ms"})}
        if self.classes:
            coordinates["class"] = list(self.classes)
        made: xarray.Dataset = _xarray().Dataset(variables, coordinates)
        return made


@dataclass(frozen=True)
class Spectrum:
    """Leading modes of the Jacobian J = (-1 + D W)/tau of an area at a steady state.

    Attributes:
        areas: The areas that the modes belong to: several where they drive each other.
        real_per_ms: Real part of each eigenvalue in 1/ms, largest first, `(modes,)`.
        imaginary_per_ms: Imaginary part in 1/ms, `(modes,)`.
        residual_per_ms: |J v - lambda v| with |v| = 1, in 1/ms, `(modes,)`.
        time_constant_ms: -1/real part: ms in which the mode decays to 1/e; NaN where it does not decay.
        frequency_hz: |imaginary part|/2 pi in Hz, `(modes,)`.
        euler_factor: |1 + dt lambda|, the factor per Euler step, `(modes,)`.
        participation: Share of the units that the mode lives in, `(modes,)`; NaN for units without coupling.
        by_magnitude: The same columns of the modes of largest magnitude, where they were asked for.
        vectors: Eigenvectors by the rank of their mode, `(channels, side, side)`, complex; of several areas one after
            the other, `(units,)`.
        converged: Whether all modes reached the tolerance.
        stable: Whether the slowest mode decays; None where `converged` is false.
        euler_stable: Whether it does under the simulated Euler steps; likewise.
        euler_radius: Largest factor per Euler step, over the whole spectrum.
        stability: `stable_node`, `stable_focus`, `marginal`, `saddle`, `saddle_or_unstable` or `unstable`; None where
            `converged` is false.
        units: Units of the areas.
        coupled_units: Those whose derivative phi'(u) is not 0.
        products: Products with the recurrent convolution that it took.
    """

    areas: tuple[str, ...]
    real_per_ms: NDArray[np.float64]
    imaginary_per_ms: NDArray[np.float64]
    residual_per_ms: NDArray[np.float64]
    time_constant_ms: NDArray[np.float64]
    frequency_hz: NDArray[np.float64]
    euler_factor: NDArray[np.float64]
    participation: NDArray[np.float64]
    by_magnitude: Mapping[str, NDArray[np.float64]]
    vectors: Mapping[int, NDArray[np.complex128]]
    converged: bool
    stable: bool | None
    euler_stable: bool | None
    euler_radius: float
    stability: str | None
    units: int
    coupled_units: int
    products: int

    @property
    def eigenvalues_per_ms(self) -> NDArray[np.complex128]:
        """The eigenvalues in 1/ms, `(modes,)`."""
        return self.real_per_ms + 1j * self.imaginary_per_ms


class SteadyState:
    """Where a network's activity settles for one image, or for none. Computed in float64.

    Attributes:
        activity: Activity of each area by its name, `(channels, side, side)`, float64.
        logits: What the readout makes of it, `(classes,)`, float64.
        converged: Whether every area reached the tolerance.
    """

    def __init__(self, network: Network, found: _engine.SteadyState) -> None:
        self._network, self._found = network, found
        self.activity: Mapping[str, NDArray[np.float64]] = {
            name: found.activity(area) for area, name in enumerate(network.area_names)
        }
        self.logits: NDArray[np.float64] = found.logits()
        self.converged: bool = all(area["converged"] for area in found.areas())

    def areas(self) -> polars.DataFrame:
        """Residual, convergence and size of every area.

        Columns: `area`; `converged` and `diverged`; `residual`, max |phi(u) - r|; `relative_residual`, |phi(u) - r|/|r|;
        `speed_per_ms`, |dr/dt| in 1/ms; `products` with the recurrent convolution; `norm`, |r|; `distance` and
        `relative_distance` from the spontaneous state; `active_fraction` of the units.
        """
        import polars

        rows = self._found.areas()
        return polars.DataFrame([{"area": name, **row} for name, row in zip(self._network.area_names, rows)])

    def spectrum(
        self,
        area: Area = 0,
        *,
        modes: int = 6,
        by_magnitude: int = 0,
        vectors: bool = False,
        tolerance: float = 1e-8,
        seed: int = 0,
    ) -> Spectrum:
        """Leading modes of an area's Jacobian here, by Krylov-Schur; of all areas that it drives and is driven by.

        Args:
            area: The area.
            modes: Modes of largest real part; one more comes where the last is half of a complex pair.
            by_magnitude: Modes of largest magnitude.
            vectors: Whether eigenvectors are kept.
            tolerance: Residual relative to the largest coupling eigenvalue seen.
            seed: Seed of the starting vector.

        Raises:
            ValueError: For an area that there is not.
        """
        network = self._network
        found = self._found.spectrum(
            network._area(area),
            modes=_count("modes", modes),
            by_magnitude=_count("by_magnitude", by_magnitude),
            vectors=vectors,
            tolerance=_positive("tolerance", tolerance),
            seed=seed,
        )
        areas = [network.area_names[number] for number in found["areas"]]
        shape = network.area_shapes[areas[0]] if len(areas) == 1 else (-1,)
        kept = {rank: vector.reshape(shape) for rank, vector in zip(found.pop("ranks"), found.pop("vectors"))}
        found.pop("areas")
        return Spectrum(areas=tuple(areas), vectors=kept, **found.pop("modes"), **found)


class Network:
    """A CordsNet with its weights, on the processor. Made by `dynvis.network` or `Network.load`.

    Attributes:
        name: What it is called, or "".
        area_names: Names of the areas.
        area_shapes: `(channels, side, side)` of each area by its name.
        image_shape: `(channels, side, side)` of an image.
        classes: Names of the classes, by label; empty where the model does not know them.
        mean: Mean of each channel, in pixel units [0, 1], that images were normalised by; empty if that is not known.
        std: Standard deviation, likewise.
        dt_ms: The Euler step in ms.
        tau_ms: Time constant of each area by its name, in ms: `(1,)`, or `(channels,)` where channels have their own.
        negative_slope: phi' below 0; 0 under ReLU.
        spontaneous_ms: Time without input before an image, as in training; 200 ms where that is not known.
        stimulus_ms: Time with an image, likewise.
        description: The network without its weights: areas, projections and readout, as pipelines state them.
    """

    def __init__(self, engine: _engine.Network) -> None:
        self._engine = engine
        self.description: Mapping[str, Any] = json.loads(engine.description)
        info = json.loads(engine.info)
        presentation = info["presentation"] or {"spontaneous_ms": 200.0, "stimulus_ms": 200.0}
        areas = self.description["areas"]
        channels, side = self.description["in_channels"], self.description["image_side"]
        self.name: str = info.get("network") or ""
        self.area_names: tuple[str, ...] = tuple(area["name"] for area in areas)
        self.area_shapes: Mapping[str, tuple[int, int, int]] = {
            area["name"]: (area["channels"], area["side"], area["side"]) for area in areas
        }
        self.image_shape: tuple[int, int, int] = (channels, side, side)
        self.classes: tuple[str, ...] = tuple(info["classes"])
        self.mean: NDArray[np.float32] = np.asarray(info["mean"], np.float32)
        self.std: NDArray[np.float32] = np.asarray(info["std"], np.float32)
        self.dt_ms: float = engine.dt_ms
        self.tau_ms: Mapping[str, NDArray[np.float64]] = {
            name: np.asarray(tau) for name, tau in zip(self.area_names, engine.tau_ms)
        }
        self.negative_slope: float = engine.negative_slope
        self.spontaneous_ms: float = presentation["spontaneous_ms"]
        self.stimulus_ms: float = presentation["stimulus_ms"]

    @classmethod
    def load(cls, path: PathLike) -> Network:
        """Reads a model file of dynvis.

        Raises:
            OSError: Where the file cannot be read.
            EngineError: Where it is no model file, or its model is a CNN.
        """
        return cls(_engine.Network.load(Path(path)))

    def __repr__(self) -> str:
        shapes = ", ".join("x".join(map(str, shape)) for shape in self.area_shapes.values())
        image = "x".join(map(str, self.image_shape))
        return f"<Network {self.name or 'CordsNet'} of {image} images; areas of {shapes}; dt {self.dt_ms:g} ms>"

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Weights under their published names, as copies."""
        return {name: values.reshape(shape) for name, shape, values in self._engine.parameters()}

    def simulate(
        self,
        images: ArrayLike,
        times_ms: float | Sequence[float] | NDArray[Any] | None = None,
        *,
        areas: Area | Sequence[Area] | None = None,
        normalised: bool = False,
        spontaneous_ms: float | None = None,
        stimulus_ms: float | None = None,
    ) -> Simulation:
        """Simulates images: nothing is shown from r = 0 on, then each image, then nothing again.

        Args:
            images: `(batch, channels, side, side)`, or one image `(channels, side, side)`: pixels as float32 or float64
                in units of [0, 1], or as uint8 from 0 to 255. Normalised float32 arrays in one piece are read where
                they lie; others are converted first.
            times_ms: Times after image onset at which activity is kept, ascending, each at the nearest Euler step; 0 is
                the spontaneous state. The end of the stimulus if not given.
            areas: Areas whose activity is kept, by name or number; all if not given.
            normalised: Whether images have been normalised already, as `ImageSet.normalised` does; otherwise the
                model's `mean` and `std` are applied, where it knows them.
            spontaneous_ms: Time without input before the image; as in training if not given.
            stimulus_ms: Time with the image; as in training if not given.

        Returns:
            Activity of the areas and logits at those times, for every image.

        Raises:
            TypeError: For images that are no numbers of these types.
            ValueError: For images of another shape, or with a value that is not finite; for times that are none.
            MemoryError: Where the activity that is asked for does not fit.
        """
        shown = self._images(images, normalised)
        stimulus = self._steps("stimulus_ms", self.stimulus_ms if stimulus_ms is None else stimulus_ms)
        spontaneous = self._steps("spontaneous_ms", self.spontaneous_ms if spontaneous_ms is None else spontaneous_ms)
        steps = [stimulus] if times_ms is None else self._times(times_ms)
        numbers = self._areas(areas)
        activity, logits = self._engine.simulate(shown, (spontaneous, stimulus), steps, numbers)
        return Simulation(
            times_ms=np.asarray(steps) * self.dt_ms,
            activity={self.area_names[number]: values for number, values in zip(numbers, activity)},
            logits=logits,
            classes=self.classes,
        )

    def image_gradient(
        self,
        images: ArrayLike,
        weights: Mapping[Area, ArrayLike],
        times_ms: float | Sequence[float] | NDArray[Any] | None = None,
        *,
        normalised: bool = False,
        spontaneous_ms: float | None = None,
    ) -> NDArray[np.float32]:
        """The gradient of L = sum(weights * activity) with respect to the images, by backpropagation through time.

        L sums over all areas, times and units that weights are given of; where L is another function of activity, its
        derivatives are the weights. The image is shown up to the last time. Activities are kept in memory, or computed
        a second time where they would take more than half of what is free.

        Args:
            images: As of `simulate`.
            weights: For each area, by name or number, `(batch, times, channels, side, side)`, or what NumPy broadcasts
                to that, as float32 or float64.
            times_ms: Times after image onset at which activity counts, as of `simulate`; from the first step on.
            normalised: As of `simulate`.
            spontaneous_ms: As of `simulate`.

        Returns:
            dL/dimages, `(batch, channels, side, side)`, float32, per unit of what was given: of pixels in [0, 1] (also
            where they came as uint8), or of normalised values.

        Raises:
            TypeError: For arrays that are no numbers of these types.
            ValueError: For arrays of another shape, or with values that are not finite; for times that are none.
            MemoryError: Where not even the fewest activities fit.
        """
        shown = self._images(images, normalised)
        spontaneous = self._steps("spontaneous_ms", self.spontaneous_ms if spontaneous_ms is None else spontaneous_ms)
        steps = [self._steps("stimulus_ms", self.stimulus_ms)] if times_ms is None else self._times(times_ms)
        if steps[0] == 0:
            raise ValueError("times_ms: the spontaneous state, at 0 ms, depends on no image")
        if not isinstance(weights, Mapping) or not weights:
            raise ValueError("weights: a mapping from areas to arrays is needed, {0: array} for one area")
        given: dict[int, NDArray[np.float32]] = {}
        for area, values in weights.items():
            number = self._area(area)
            shape = (len(shown), len(steps), *self.area_shapes[self.area_names[number]])
            array = _floats(f"weights of area {area}", values)
            try:
                array = np.broadcast_to(array, shape)
            except ValueError:
                raise ValueError(f"weights of area {area} have shape {array.shape}, needed is {shape}") from None
            if number in given:
                raise ValueError(f"weights: area {area} is named twice")
            given[number] = np.ascontiguousarray(_finite(f"weights of area {area}", array))
        gradient = self._engine.image_gradient(shown, spontaneous, steps, given)
        if not normalised and self._normalises:
            gradient /= self.std[:, None, None]
        return gradient

    def spontaneous_state(self, **options: Any) -> SteadyState:
        """The steady state without input, from r = 0 on; options are those of `steady_states`."""
        return self._steady(None, **options)[0]

    def steady_states(
        self,
        images: ArrayLike,
        *,
        normalised: bool = False,
        method: Literal["newton_krylov", "anderson", "simulation"] = "newton_krylov",
        tolerance: float = 1e-6,
        max_products: int = 20_000,
        joint_ms: float = 200.0,
    ) -> list[SteadyState]:
        """Where activity settles while each image is held, from the spontaneous steady state on.

        Args:
            images: As of `simulate`.
            normalised: As of `simulate`.
            method: How areas are brought to their steady state after `joint_ms`: Newton's method with GMRES, which also
                reaches unstable states, Anderson's acceleration, or the network's own steps.
            tolerance: Largest max |phi(u) - r| at which an area counts as settled.
            max_products: Products with its recurrent convolution after which an area is given up.
            joint_ms: Time for which the whole network is simulated before areas are settled one by one.

        Returns:
            A steady state for each image; `converged` says whether it is one.

        Raises:
            EngineError: Where cells of the network have no linearisation.
            TypeError, ValueError: As `simulate`.
        """
        shown = self._images(images, normalised)
        return self._steady(
            shown, method=method, tolerance=tolerance, max_products=max_products, joint_ms=joint_ms
        )

    def _steady(
        self,
        shown: NDArray[np.float32] | None,
        method: str = "newton_krylov",
        tolerance: float = 1e-6,
        max_products: int = 20_000,
        joint_ms: float = 200.0,
    ) -> list[SteadyState]:
        found = _engine.SteadyState.find(
            self._engine,
            shown,
            method=method,
            tolerance=_positive("tolerance", tolerance),
            max_products=_count("max_products", max_products),
            joint_steps=self._steps("joint_ms", joint_ms),
        )
        return [SteadyState(self, steady) for steady in found]

    @property
    def _normalises(self) -> bool:
        return len(self.mean) == len(self.std) == self.image_shape[0]

    def _images(self, images: ArrayLike, normalised: bool) -> NDArray[np.float32]:
        """Images `(batch, channels, side, side)` as the engine reads them: normalised, in one piece."""
        given = np.asarray(images)
        shape = self.image_shape
        if given.shape[-3:] != shape or given.ndim not in (3, 4):
            wanted = ", ".join(map(str, shape))
            raise ValueError(f"images have shape {given.shape}, this network takes (batch, {wanted}) or ({wanted})")
        if given.dtype == np.uint8:
            if normalised:
                raise TypeError("images: values of uint8 are pixels and not normalised")
            values = given.astype(np.float32) / np.float32(255)
        else:
            values = _floats("images", given)
        values = values.reshape(-1, *shape)
        if not normalised and self._normalises:
            # As the engine rounds.
            values = (values - self.mean[:, None, None]) * (np.float32(1) / self.std)[:, None, None]
        return np.ascontiguousarray(_finite("images", values))

    def _steps(self, what: str, ms: float) -> int:
        """The number of Euler steps nearest to a time."""
        steps = float(ms) / self.dt_ms
        if not math.isfinite(steps) or steps < 0:
            raise ValueError(f"{what}: {ms} ms is no length of time")
        if steps > MOST_STEPS:
            raise ValueError(f"{what}: {ms} ms is beyond the {MOST_STEPS} steps of {self.dt_ms:g} ms that are simulated")
        # To the nearest, halves upwards, as the engine rounds.
        return math.floor(steps + 0.5)

    def _times(self, times_ms: float | Sequence[float] | NDArray[Any]) -> list[int]:
        times = np.atleast_1d(np.asarray(times_ms, np.float64))
        if times.ndim != 1 or not len(times):
            raise ValueError(f"times_ms: one time or several in a row are needed, not shape {times.shape}")
        steps = [self._steps("times_ms", float(time)) for time in times]
        for before, after, first, second in zip(times, times[1:], steps, steps[1:]):
            if first >= second:
                step = f"a later step of {self.dt_ms:g} ms"
                raise ValueError(f"times_ms: {before:g} ms is followed by {after:g} ms, which is not {step}")
        return steps

    def _areas(self, areas: Area | Sequence[Area] | None) -> list[int]:
        if areas is None:
            return list(range(len(self.area_names)))
        named = [areas] if isinstance(areas, (int, np.integer, str)) else list(areas)
        numbers = [self._area(area) for area in named]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"areas: {named} names an area twice")
        return numbers

    def _area(self, area: Area) -> int:
        if isinstance(area, str):
            if area not in self.area_names:
                raise ValueError(f"area `{area}`: this network has {', '.join(self.area_names)}")
            return self.area_names.index(area)
        number = int(area)
        if not 0 <= number < len(self.area_names):
            raise ValueError(f"area {area}: this network has areas 0 to {len(self.area_names) - 1}")
        return number


def _floats(what: str, values: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{what}: float32 or float64 is needed, not {array.dtype}")
    return array.astype(np.float32, copy=False)


def _finite(what: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    # A sum is finite only if all of it is, and needs no memory; one that overflows is looked at again.
    if not np.isfinite(values.sum(dtype=np.float64)) and not np.isfinite(values).all():
        place = tuple(int(index) for index in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(f"{what}: the value at {place} is not finite")
    return values


def _positive(what: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{what}: {value} is not above 0")
    return float(value)


def _count(what: str, value: int) -> int:
    if int(value) != value or value < 0:
        raise ValueError(f"{what}: {value} is no number of things")
    return int(value)
