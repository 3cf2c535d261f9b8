"""The networks as PyTorch modules, from their equations. Needs PyTorch (`pip install dynvis[torch]`).

    tau dr_l/dt = -r_l + phi(u_l),  u_l = b_l + sum over projections of conv(sum of sources)

in synchronous Euler steps, every area reading the step before. A recurrent convolution reads its area's activity as it
is; every other source is an area's activity rectified, or the image's embedding, as it is, through a convolution of its
own, or enlarged. Parameters have the names of the published checkpoints, so that files of `dynvis export` load with
`strict=True`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import _engine, _safetensors
from ._engine import DynvisError
from ._graph import Adaptation, Area, Conv, Graph, Projection, Source
from ._program import PathLike

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
    from torch.nn.utils.parametrizations import weight_norm
    from torch.nn.utils.parametrize import cached
except ImportError as error:
    raise ImportError("PyTorch is not installed: pip install dynvis[torch]") from error

__all__ = ["Cnn", "CordsNet", "State", "load"]

class State(NamedTuple):
    """Activity of a CordsNet.

    Attributes:
        areas: Activity of each area, `(batch, channels, side, side)`.
        adaptation: Adaptation of each area, of its shape; None where its units have none.
    """

    areas: tuple[Tensor, ...]
    adaptation: tuple[Tensor | None, ...]


def load(path: PathLike) -> CordsNet | Cnn:
    """The network of a model file of dynvis, in evaluation mode, with its weights.

    Raises:
        OSError: Where the file cannot be read.
        EngineError: Where it is no model file.
        DynvisError: Where cells are not of dynvis.
    """
    header = json.loads(_engine.describe(Path(path)))
    info = header["info"]
    module: CordsNet | Cnn
    tensors, _ = _safetensors.read(Path(path))
    state = {name: torch.from_numpy(np.array(values)) for name, values in tensors.items()}
    constants: dict[str, Any] = {"mean": info["mean"] or None, "std": info["std"] or None, "classes": info["classes"]}
    if header["kind"] == "cordsnet":
        presentation = info["presentation"] or {}
        module = CordsNet(
            header["network"],
            dt_ms=header["dt_ms"],
            tau_ms=header["tau_ms"],
            negative_slope=header["negative_slope"],
            **presentation,
            **constants,
        )
    else:
        module = Cnn(header["network"], folded="area_bias.0" in state, **constants)
        counters = (name for name in module.state_dict() if name.endswith(".num_batches_tracked"))
        state.update((name, torch.tensor(0)) for name in counters)
    module.load_state_dict(state, strict=True)
    return module.eval()


class _Network(nn.Module):
    """What a CordsNet and its twin share: the input layer, convolutions under their names, and the readout.

    Attributes:
        graph: What the description says.
        area_names: Names of the areas.
        mean, std: What images in pixel units [0, 1] are normalised by, of each channel; None if that is not known.
        classes: Names of the classes, by label; empty if they are not known.
    """

    def __init__(
        self,
        description: Mapping[str, Any],
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        classes: Sequence[str],
    ) -> None:
        super().__init__()
        self.graph = Graph(description)
        self.area_names = tuple(area.name for area in self.graph.areas)
        self.mean, self.std, self.classes = mean, std, tuple(classes)
        self._add(self.graph.input)
        for area in self.graph.areas:
            if area.recurrent is not None:
                self._add(area.recurrent)
            for projection in area.projections:
                self._add(projection.conv)
                for source in projection.sources:
                    if source.shortcut is not None:
                        self._add(source.shortcut)
        read = self.graph.areas[self.graph.readout[0]].channels
        self._put("out_fc", weight_norm(nn.Linear(read, self.graph.classes), dim=0))

    def _put(self, name: str, what: nn.Module | nn.Parameter) -> None:
        """Adds a module or parameter under a name with dots."""
        *path, last = name.split(".")
        place: Any = self
        for part in path:
            if part not in place._modules:
                place.add_module(part, nn.Module())
            place = place._modules[part]
        if isinstance(what, nn.Parameter):
            place.register_parameter(last, what)
        else:
            place.add_module(last, what)

    def _get(self, name: str) -> Any:
        """The module or parameter of that name, whose parts need not be names of attributes in Python."""
        place: Any = self
        for part in name.split("."):
            place = place._modules[part] if part in place._modules else place._parameters[part]
        return place

    def _add(self, conv: Conv) -> None:
        padding = (conv.kernel - 1) // 2
        made = nn.Conv2d(conv.inputs, conv.outputs, conv.kernel, conv.stride, padding, bias=False)
        self._put(conv.name, weight_norm(made, dim=0))

    def _put_biases(self, name: str) -> None:
        """A bias for each unit of every area."""
        for number, area in enumerate(self.graph.areas):
            self._put(f"{name}.{number}", nn.Parameter(torch.zeros(area.channels, area.side, area.side)))

    def normalise(self, images: Tensor) -> Tensor:
        """Images in pixel units [0, 1] less `mean`, over `std`; as they are where those are not known."""
        if self.mean is None or self.std is None:
            return images
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std

    def _sum(self, projection: Projection, sources: Sequence[Source], values: Mapping[int | None, Tensor]) -> Tensor:
        """The sum of some sources, as a projection's convolution reads it."""
        terms = []
        for source in sources:
            x = values[source.area]
            if source.shortcut is not None:
                x = self._convolved(source.shortcut.name, x)
            elif source.upsample == "nearest":
                x = F.interpolate(x, size=projection.side, mode="nearest")
            elif source.upsample is not None:
                x = F.interpolate(x, size=projection.side, mode="bilinear", align_corners=False)
            terms.append(x)
        return sum(terms[1:], terms[0])

    def _convolved(self, name: str, x: Tensor) -> Tensor:
        return self._get(name)(x)  # type: ignore[no-any-return]

    def embed(self, images: Tensor) -> Tensor:
        """What normalised images `(batch, channels, side, side)` come to the areas as: `(batch, channels, side/4, side/4)`."""
        return F.avg_pool2d(self._convolved("inp_conv", images), 3, 2, 1)

    def _read_out(self, areas: Sequence[Tensor]) -> Tensor:
        read = [F.relu(areas[number]).mean(dim=(2, 3)) for number in self.graph.readout]
        return self._get("out_fc")(sum(read[1:], read[0]))  # type: ignore[no-any-return]


class CordsNet(_Network):
    """A convolutional recurrent network as a dynamical system.

    Args:
        description: The network without its weights, in full (`Network.description`): areas, projections and readout.
        dt_ms: The Euler step in ms.
        tau_ms: Time constant in ms, of all areas or of each.
        negative_slope: phi' below 0; 0 for ReLU.
        spontaneous_ms: Time without input before an image in `forward`.
        stimulus_ms: Time with the image in `forward`.
        mean, std: What `normalise` applies to images in pixel units [0, 1].
        classes: Names of the classes, by label.
    """

    def __init__(
        self,
        description: Mapping[str, Any],
        *,
        dt_ms: float = 2.0,
        tau_ms: float | Sequence[float] = 10.0,
        negative_slope: float = 0.0,
        spontaneous_ms: float = 200.0,
        stimulus_ms: float = 200.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(description, mean, std, classes)
        count = len(self.graph.areas)
        self.dt_ms = dt_ms
        self.tau_ms = [float(tau_ms)] * count if isinstance(tau_ms, (int, float)) else [float(tau) for tau in tau_ms]
        if len(self.tau_ms) != count:
            raise ValueError(f"tau_ms: {len(self.tau_ms)} time constants for {count} areas")
        self.negative_slope = negative_slope
        self.spontaneous_ms, self.stimulus_ms = spontaneous_ms, stimulus_ms
        self._put_biases("conv_bias")
        for number, area in enumerate(self.graph.areas):
            if area.trained_tau_ms is not None:
                start = torch.full((area.taus,), math.log(area.trained_tau_ms))
                self._put(f"log_tau.{number}", nn.Parameter(start))
            if area.adaptation is not None and area.adaptation.trained:
                start = torch.tensor([math.log(area.adaptation.tau_a_ms)])
                self._put(f"log_tau_a.{number}", nn.Parameter(start))
                self._put(f"beta.{number}", nn.Parameter(torch.tensor([float(area.adaptation.beta)])))

    def _alpha(self, number: int) -> Tensor | float:
        """dt/tau of an area: a number, or one for each channel."""
        if self.graph.areas[number].trained_tau_ms is None:
            return self.dt_ms / self.tau_ms[number]
        alpha: Tensor = self.dt_ms / torch.exp(self._get(f"log_tau.{number}"))
        return alpha[:, None, None]

    def _adaptation(self, number: int, adaptation: Adaptation) -> tuple[Tensor | float, Tensor | float]:
        """dt/tau_a and beta of an area."""
        if adaptation.trained:
            return self.dt_ms / torch.exp(self._get(f"log_tau_a.{number}")), self._get(f"beta.{number}")
        return self.dt_ms / adaptation.tau_a_ms, adaptation.beta

    def zeros(self, batch: int) -> State:
        """The state r = 0."""
        biases = [self._get(f"conv_bias.{number}") for number in range(len(self.graph.areas))]
        areas = tuple(bias.new_zeros((batch, *bias.shape)) for bias in biases)
        adapting = (area.adaptation is not None for area in self.graph.areas)
        return State(areas, tuple(torch.zeros_like(r) if adapts else None for r, adapts in zip(areas, adapting)))

    def currents(self, embedded: Tensor | None) -> list[Tensor]:
        """The constant part of every area's current while an image is held: bias, and what its embedding gives."""
        currents = []
        for number, area in enumerate(self.graph.areas):
            u = self._get(f"conv_bias.{number}")
            for projection in area.projections:
                sources = [source for source in projection.sources if source.area is None]
                if embedded is not None and sources:
                    u = u + self._convolved(projection.conv.name, self._sum(projection, sources, {None: embedded}))
            currents.append(u)
        return currents

    def step(self, state: State, currents: Sequence[Tensor]) -> State:
        """One synchronous Euler step, under what `currents` gives."""
        positive: dict[int | None, Tensor] = {number: F.relu(r) for number, r in enumerate(state.areas)}
        areas: list[Tensor] = []
        adaptation: list[Tensor | None] = []
        for number, (area, r, a) in enumerate(zip(self.graph.areas, *state)):
            u = currents[number]
            if area.recurrent is not None:
                u = u + self._convolved(area.recurrent.name, r)
            for projection in area.projections:
                sources = [source for source in projection.sources if source.area is not None]
                if sources:
                    u = u + self._convolved(projection.conv.name, self._sum(projection, sources, positive))
            if area.adaptation is not None and a is not None:
                u = u - a
                alpha_a, beta = self._adaptation(number, area.adaptation)
                a = (1 - alpha_a) * a + alpha_a * beta * r
            alpha = self._alpha(number)
            areas.append((1 - alpha) * r + alpha * F.leaky_relu(u, self.negative_slope))
            adaptation.append(a)
        return State(tuple(areas), tuple(adaptation))

    def spontaneous(self, batch: int = 1) -> State:
        """The state after `spontaneous_ms` without input from r = 0, repeated for a batch."""
        with cached():
            state, blank = self.zeros(1), self.currents(None)
            for _ in range(self.steps(self.spontaneous_ms)):
                state = self.step(state, blank)
        areas = tuple(r.expand(batch, -1, -1, -1) for r in state.areas)
        return State(areas, tuple(None if a is None else a.expand(batch, -1, -1, -1) for a in state.adaptation))

    def steps(self, ms: float) -> int:
        """The number of Euler steps nearest to a time in ms."""
        return math.floor(ms / self.dt_ms + 0.5)

    def read_out(self, state: State) -> Tensor:
        """Logits of a state, `(batch, classes)`."""
        return self._read_out(state.areas)

    def simulate(self, images: Tensor, times_ms: Sequence[float]) -> tuple[dict[str, Tensor], Tensor]:
        """Simulates normalised images, held from the spontaneous state on.

        Args:
            images: `(batch, channels, side, side)`.
            times_ms: Times after image onset, ascending; 0 is the spontaneous state.

        Returns:
            Activity of each area by its name, `(batch, times, channels, side, side)`, and logits,
            `(batch, times, classes)`. Both can be differentiated.
        """
        wanted = [self.steps(time) for time in times_ms]
        if not wanted or any(before >= after for before, after in zip(wanted, wanted[1:])) or wanted[0] < 0:
            raise ValueError(f"times_ms: {list(times_ms)} are no ascending times after image onset")
        with cached():
            state = self.spontaneous(len(images))
            given = self.currents(self.embed(images))
            kept = []
            for step in range(wanted[-1] + 1):
                if step > 0:
                    state = self.step(state, given)
                if step in wanted:
                    kept.append((state.areas, self.read_out(state)))
        activity = {
            name: torch.stack([areas[number] for areas, _ in kept], dim=1)
            for number, name in enumerate(self.area_names)
        }
        return activity, torch.stack([logits for _, logits in kept], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(batch, classes)` of normalised images `(batch, channels, side, side)`, after `stimulus_ms`."""
        return self.simulate(images, [self.stimulus_ms])[1][:, 0]


class Cnn(_Network):
    """The feed-forward twin of a CordsNet: the same convolutions, sources and readout, with batch norm and no time.

    Args:
        description: As of `CordsNet`.
        folded: Whether batch norms are folded into weights and biases per unit.
        mean, std: What `normalise` applies to images in pixel units [0, 1].
        classes: Names of the classes, by label.
    """

    def __init__(
        self,
        description: Mapping[str, Any],
        *,
        folded: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(description, mean, std, classes)
        self.folded = folded
        # The batch norm after each convolution, where one follows.
        self._norms: dict[str, str] = {}
        for area in self.graph.areas:
            if area.adaptation is not None or len(area.projections) != 1 or area.recurrent is None:
                raise DynvisError(f"area {area.name} is none of a feed-forward twin")
        if folded:
            self._put_biases("area_bias")
            self._put_biases("conv_bias")
            return
        self._norm(self.graph.input)
        for area in self.graph.areas:
            (projection,) = area.projections
            assert area.recurrent is not None
            self._norm(area.recurrent)
            self._norm(projection.conv)
            for source in projection.sources:
                # None follows a convolution of the image's embedding.
                if source.shortcut is not None and source.area is not None:
                    self._norm(source.shortcut)

    def _norm(self, conv: Conv) -> None:
        name = _norm_name(conv.name)
        self._put(name, nn.BatchNorm2d(conv.outputs))
        self._norms[conv.name] = name

    def _convolved(self, name: str, x: Tensor) -> Tensor:
        """A convolution and, where one follows that is not folded, its batch norm."""
        x = self._get(name)(x)
        norm = self._norms.get(name)
        return x if norm is None else self._get(norm)(x)

    def activity(self, images: Tensor) -> dict[str, Tensor]:
        """Activity of each area by its name, `(batch, channels, side, side)`, for normalised images."""
        with cached():
            values: dict[int | None, Tensor] = {None: self.embed(images)}
            # Each after those that it reads, in whatever order they are stated.
            for _ in self.graph.areas:
                for number, area in enumerate(self.graph.areas):
                    (projection,) = area.projections
                    if number not in values and all(source.area in values for source in projection.sources):
                        values[number] = self._area(number, area, projection, values)
        return {name: values[number] for number, name in enumerate(self.area_names)}

    def _area(
        self, number: int, area: Area, projection: Projection, values: Mapping[int | None, Tensor]
    ) -> Tensor:
        assert area.recurrent is not None
        x = self._convolved(projection.conv.name, self._sum(projection, projection.sources, values))
        if self.folded:
            x = x + self._get(f"area_bias.{number}")
        x = self._convolved(area.recurrent.name, x)
        if self.folded:
            x = x + self._get(f"conv_bias.{number}")
        return F.relu(x)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(batch, classes)` of normalised images `(batch, channels, side, side)`."""
        return self._read_out(list(self.activity(images).values()))


def _norm_name(conv: str) -> str:
    """Published name of the batch norm after a convolution; of other convolutions, `NAME.norm`."""
    for start, norm in (
        ("inp_conv", "inp_norm"),
        ("area_area.", "area_norm."),
        ("area_conv.", "area_nrm2."),
        ("skip_area.", "skip_norm."),
    ):
        if conv.startswith(start):
            return norm + conv[len(start) :]
    return f"{conv}.norm"
