"""Networks as graphs of areas: reading the JSON form, and the rules that build common graphs.

    { "in_channels": 3, "image_side": 32, "classes": 10, "input_channels": 8,
      "areas": [{"name", "channels", "side", "tau_ms"?, "cell"?}],
      "projections": [{"name", "to", "from": [source, ...], "kernel"?, "stride"?}],
      "readout": ["area", ...] }

A source is "image", the name of an area, or {"from": ..., "shortcut": {"name", "kernel", "stride"}}, or {"from": ...,
"upsample": "nearest" or "bilinear"}. The kernel is 3 and the stride 1 where none is given; a cell is "leaky" where none
is given, or {"adapting": {"tau_a_ms", "beta", "trained"}}.
"""
from dataclasses import dataclass

CHANNELS = [64, 64, 128, 128, 256, 256, 512, 512]
STRIDES = [1, 1, 2, 1, 2, 1, 2, 1]


def out_side(side, stride):
    """Side of what a convolution or pool with an odd kernel and padding (kernel - 1) / 2 gives."""
    return (side - 1) // stride + 1


def input_side(image_side):
    """Side of `inp`: a 7x7 convolution and a 3x3 pool, each of stride 2."""
    return out_side(out_side(image_side, 2), 2)


@dataclass(frozen=True)
class Area:
    name: str
    channels: int
    side: int
    # None: the time constant of the whole simulation.
    tau_ms: float | None
    # None: a leaky cell.
    adapting: dict | None


@dataclass(frozen=True)
class Shortcut:
    name: str
    in_channels: int
    channels: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class Source:
    # None: the image.
    area: int | None
    shortcut: Shortcut | None
    upsample: str | None


@dataclass(frozen=True)
class Projection:
    name: str
    to: int
    kernel: int
    stride: int
    sources: tuple
    # Channels and side of the sum of the sources.
    channels: int
    side: int

    @property
    def recurrent(self):
        """Whether it leads from an area to itself and has no other source."""
        return self.sources == (Source(self.to, None, None),)


class Graph:
    """A graph, read from its JSON form, with every size worked out and checked."""

    def __init__(self, json):
        self.json = json
        self.in_channels, self.image_side = json["in_channels"], json["image_side"]
        self.classes, self.input_channels = json["classes"], json["input_channels"]
        self.areas = [self._area(area) for area in json["areas"]]
        self.index = {area.name: l for l, area in enumerate(self.areas)}
        if len(self.index) < len(self.areas) or "image" in self.index:
            raise ValueError("areas need names of their own")
        self.projections = [self._projection(projection) for projection in json["projections"]]
        self.readout = [self.index[name] for name in json["readout"]]
        if len({self.areas[l].channels for l in self.readout}) != 1:
            raise ValueError("the areas that are read out differ in channels")

    @staticmethod
    def _area(json):
        cell = json.get("cell", "leaky")
        adapting = None if cell == "leaky" else cell["adapting"]
        return Area(json["name"], json["channels"], json["side"], json.get("tau_ms"), adapting)

    def _maps(self, area):
        """Channels and side of a source before shortcut or upsampling."""
        if area is None:
            return self.input_channels, input_side(self.image_side)
        return self.areas[area].channels, self.areas[area].side

    def _projection(self, json):
        name, to = json["name"], self.index[json["to"]]
        kernel, stride = json.get("kernel", 3), json.get("stride", 1)
        if kernel % 2 == 0:
            raise ValueError(f"{name}: the kernel {kernel} is not odd")
        given = [{"from": source} if isinstance(source, str) else source for source in json["from"]]
        areas = [None if source["from"] == "image" else self.index[source["from"]] for source in given]
        # A shortcut gives the channels of the sources that have none.
        plain = {self._maps(area)[0] for area, source in zip(areas, given) if "shortcut" not in source}
        if len(plain) != 1:
            raise ValueError(f"{name}: the sources without a shortcut have {sorted(plain)} channels")
        (channels,) = plain
        sources, sides = [], set()
        for area, source in zip(areas, given):
            in_channels, side = self._maps(area)
            shortcut = source.get("shortcut")
            if shortcut is not None:
                shortcut = Shortcut(shortcut["name"], in_channels, channels, shortcut["kernel"], shortcut["stride"])
                side = out_side(side, shortcut.stride)
            if "upsample" not in source:
                sides.add(side)
            sources.append(Source(area, shortcut, source.get("upsample")))
        # Upsampled sources take the side of the others, or that of the target where there are no others.
        sides = sides or {self.areas[to].side * stride}
        if len(sides) != 1 or out_side(max(sides), stride) != self.areas[to].side:
            raise ValueError(f"{name}: sources of side {sorted(sides)} do not give side {self.areas[to].side}")
        return Projection(name, to, kernel, stride, tuple(sources), channels, sides.pop())

    def shortcuts(self):
        """(source, shortcut) of every shortcut, in the order of the projections."""
        sources = [source for projection in self.projections for source in projection.sources]
        return [(source, source.shortcut) for source in sources if source.shortcut is not None]


def published(in_channels, image_side, channels, strides, classes):
    """The JSON form of the published rule. `channels` has one entry more than `strides`: the input layer's, then one
    per area."""
    names = [f"area{l}" for l in range(len(strides))]
    areas, projections, side = [], [], input_side(image_side)
    for l, stride in enumerate(strides):
        side = out_side(side, stride)
        areas.append({"name": names[l], "channels": channels[l + 1], "side": side})
        if l == 0:
            sources = ["image"]
        elif l == 1:
            sources = [names[0], {"from": "image", "shortcut": {"name": "inp_skip", "kernel": 3, "stride": 1}}]
        elif l % 2 == 0:
            sources = [names[l - 1], names[l - 2]]
        else:
            shortcut = {"name": f"skip_area.{(l - 3) // 2}", "kernel": 1, "stride": strides[l - 1]}
            sources = [names[l - 1], {"from": names[l - 2], "shortcut": shortcut}]
        projections.append({"name": f"area_conv.{l}", "to": names[l], "from": [names[l]]})
        projections.append({"name": f"area_area.{l}", "to": names[l], "from": sources, "kernel": 3, "stride": stride})
    return {
        "in_channels": in_channels,
        "image_side": image_side,
        "classes": classes,
        "input_channels": channels[0],
        "areas": areas,
        "projections": projections,
        "readout": names[-2:],
    }


def full_size(areas, classes):
    """The JSON form of CordsNet-R2, R4, R6 or R8 for images of 224 pixels."""
    return published(3, 224, CHANNELS[:1] + CHANNELS[:areas], STRIDES[:areas], classes)


def with_feedback(json, upsample):
    """The same with a 3x3 projection from every area to the one before it, `feedback.<to>.0`."""
    names = [area["name"] for area in json["areas"]]
    feedback = [
        {"name": f"feedback.{l}.0", "to": names[l], "from": [{"from": names[l + 1], "upsample": upsample}]}
        for l in range(len(names) - 1)
    ]
    return {**json, "projections": json["projections"] + feedback}


def with_areas(json, **values):
    """The same with a list of values, one per area, under each key; None leaves an area as it is."""
    areas = [
        {**area, **{key: each[l] for key, each in values.items() if each[l] is not None}}
        for l, area in enumerate(json["areas"])
    ]
    return {**json, "areas": areas}


def adapting(tau_a_ms, beta, trained):
    return {"adapting": {"tau_a_ms": tau_a_ms, "beta": beta, "trained": trained}}
