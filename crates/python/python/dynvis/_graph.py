"""A network's description with what follows from it: which convolution reads what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._engine import DynvisError

IMAGE = "image"


@dataclass(frozen=True)
class Conv:
    """A convolution with (kernel - 1)/2 zeros of padding; `name` is that of its parameters."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class Source:
    """A term of the sum that a projection reads; `area` is None for the image's embedding."""

    area: int | None
    shortcut: Conv | None
    upsample: str | None


@dataclass(frozen=True)
class Projection:
    """A convolution of the sum of its sources, which are maps of `side`."""

    conv: Conv
    sources: tuple[Source, ...]
    side: int


@dataclass(frozen=True)
class Adaptation:
    """a' = (1 - dt/tau_a) a + dt/tau_a beta r, which is taken from the current."""

    tau_a_ms: float
    beta: float
    trained: bool


@dataclass(frozen=True)
class Area:
    """One recurrent layer. The time constant counts where it is trained."""

    name: str
    channels: int
    side: int
    trained_tau_ms: float | None
    taus: int
    adaptation: Adaptation | None
    recurrent: Conv | None
    projections: tuple[Projection, ...]


class Graph:
    """What a description, in full, says."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.in_channels: int = description["in_channels"]
        self.image_side: int = description["image_side"]
        self.classes: int = description["classes"]
        self.input_channels: int = description["input_channels"]
        stated = description["areas"]
        self._number = {area["name"]: number for number, area in enumerate(stated)}
        self._maps = [(area["channels"], area["side"]) for area in stated]
        self.input = Conv("inp_conv", self.in_channels, self.input_channels, 7, 2)
        # Of the input convolution and the pool after it, each of stride 2.
        self.embedded_side = _halved(_halved(self.image_side))
        recurrent: dict[int, Conv] = {}
        projections: list[list[Projection]] = [[] for _ in stated]
        for projection in description["projections"]:
            to = self._number[projection["to"]]
            found = self._projection(projection, to)
            if projection["from"] == [projection["to"]]:
                recurrent[to] = found.conv
            else:
                projections[to].append(found)
        self.areas = tuple(
            Area(
                name=area["name"],
                channels=area["channels"],
                side=area["side"],
                trained_tau_ms=area["tau_ms"] if area.get("trains_tau") else None,
                taus=area["channels"] if area.get("tau_per_channel") else 1,
                adaptation=_adaptation(area),
                recurrent=recurrent.get(number),
                projections=tuple(projections[number]),
            )
            for number, area in enumerate(stated)
        )
        self.readout = tuple(self._number[name] for name in description["readout"])

    def _source_maps(self, source: Any) -> tuple[int, int]:
        origin = source if isinstance(source, str) else source["from"]
        return (self.input_channels, self.embedded_side) if origin == IMAGE else self._maps[self._number[origin]]

    def _projection(self, stated: Mapping[str, Any], to: int) -> Projection:
        """It reads the channels and the side of its first direct source. Without one, the channels are those of the first
        source that is enlarged or, where all have shortcuts, of the first; the side is what the first shortcut gives or,
        where all are enlarged, the one that suits the area."""
        sources = stated["from"]
        direct = [source for source in sources if isinstance(source, str)]
        shortcuts = [source for source in sources if isinstance(source, Mapping) and "shortcut" in source]
        enlarged = [source for source in sources if isinstance(source, Mapping) and "upsample" in source]
        stride = stated.get("stride", 1)
        channels = self._source_maps((direct or enlarged or sources)[0])[0]
        if direct:
            side = self._source_maps(direct[0])[1]
        elif shortcuts:
            side = -(-self._source_maps(shortcuts[0])[1] // shortcuts[0]["shortcut"].get("stride", 1))
        else:
            side = self._maps[to][1] * stride
        conv = Conv(stated["name"], channels, self._maps[to][0], stated.get("kernel", 3), stride)
        return Projection(conv, tuple(self._source(source, channels) for source in sources), side)

    def _source(self, stated: Any, channels: int) -> Source:
        origin = stated if isinstance(stated, str) else stated["from"]
        area = None if origin == IMAGE else self._number[origin]
        if isinstance(stated, str):
            return Source(area, None, None)
        if "upsample" in stated:
            return Source(area, None, stated["upsample"])
        kernel = stated["shortcut"]
        own = self._source_maps(stated)[0]
        return Source(area, Conv(kernel["name"], own, channels, kernel.get("kernel", 3), kernel.get("stride", 1)), None)


def _halved(side: int) -> int:
    return (side - 1) // 2 + 1


def _adaptation(area: Mapping[str, Any]) -> Adaptation | None:
    cell = area.get("cell", "leaky")
    if cell == "leaky":
        return None
    if not (isinstance(cell, Mapping) and "adapting" in cell):
        raise DynvisError(f"area {area['name']} has cells {cell}, which are not of dynvis")
    adapting = cell["adapting"]
    return Adaptation(adapting["tau_a_ms"], adapting["beta"], adapting.get("trained", False))
