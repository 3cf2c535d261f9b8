"""CordsNets as ONNX files: one Euler step, or a whole trial. Needs `onnx` (`pip install dynvis[onnx]`).

Effective weights, g v/|v|, are written, and time constants as they have been trained: the files compute and do not train.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._graph import Area, Conv, Graph, Projection, Source
from ._program import PathLike
from .engine import Network
from .project import Run
from .results import network

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ImportError("onnx is not installed: pip install dynvis[onnx]") from error

__all__ = ["export"]

OPSET = 18
"""Since when images are enlarged along chosen axes."""
IR_VERSION = 9


def export(
    ref: PathLike | Network,
    path: PathLike,
    *,
    form: Literal["step", "trial"] = "trial",
    spontaneous_ms: float | None = None,
    stimulus_ms: float | None = None,
    run: str | Run = "@",
    project: PathLike | None = None,
    cache: PathLike | None = None,
) -> Path:
    """Writes a CordsNet as an ONNX file, of any number of images at a time.

    Both forms take `images`, `(batch, channels, side, side)`, normalised (`ImageSet.normalised`).

    `trial` gives `logits`, `(batch, classes)`, and `activity.AREA`, `(batch, channels, side, side)`, after the stimulus:
    the steps one after the other, from the spontaneous state, which is part of the file.

    `step` also takes `activity.AREA` and, of areas with adaptation, `adaptation.AREA`, and gives `next.activity.AREA`,
    `next.adaptation.AREA` and the `logits` of the activity after the step.

    Args:
        ref: A network, or what `dynvis.network` takes.
        path: The file to write; one that is there is replaced.
        form: `trial` or `step`.
        spontaneous_ms: Time without input before the image, of a trial; as in training if not given.
        stimulus_ms: Time with the image, likewise.
        run: `@` (last run), `@-1`, a run's id or its first letters, or a `Run`.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.

    Returns:
        The file.

    Raises:
        CommandError: Where there is no such run or model.
        EngineError: Where the model is a CNN.
    """
    net = ref if isinstance(ref, Network) else network(ref, run=run, project=project, cache=cache)
    writer = _Writer(net)
    if form == "step":
        writer.one_step()
    elif form == "trial":
        spontaneous = net._steps("spontaneous_ms", net.spontaneous_ms if spontaneous_ms is None else spontaneous_ms)
        stimulus = net._steps("stimulus_ms", net.stimulus_ms if stimulus_ms is None else stimulus_ms)
        if stimulus == 0:
            raise ValueError("stimulus_ms: a trial has one step at least")
        writer.trial(spontaneous, stimulus)
    else:
        raise ValueError(f"form `{form}`: there are `step` and `trial`")
    onnx.save(writer.model(), str(path))
    return Path(path)


class _Writer:
    """Nodes of a file; values are known by their names."""

    def __init__(self, net: Network) -> None:
        self.net, self.graph = net, Graph(net.description)
        self.parameters = net.parameters()
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = [self._value("images", net.image_shape)]
        self.outputs: list[Any] = []
        self.count = 0

    def model(self) -> Any:
        graph = helper.make_graph(
            self.nodes, self.net.name or "CordsNet", self.inputs, self.outputs, list(self.constants.values())
        )
        opset = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opset, producer_name="dynvis", ir_version=IR_VERSION)
        onnx.checker.check_model(made)
        return made

    def one_step(self) -> None:
        state, adaptation = [], []
        for area in self.graph.areas:
            shape = (area.channels, area.side, area.side)
            state.append(f"activity.{area.name}")
            adaptation.append(f"adaptation.{area.name}" if area.adaptation else None)
            self.inputs += [self._value(name, shape) for name in (state[-1], adaptation[-1]) if name]
        after, adapted = self._step(state, adaptation, self._currents())
        for area, r, a in zip(self.graph.areas, after, adapted):
            self._give(f"next.activity.{area.name}", r, area)
            if a is not None:
                self._give(f"next.adaptation.{area.name}", a, area)
        self._read_out(after)

    def trial(self, spontaneous: int, stimulus: int) -> None:
        zeros = [np.zeros((1, area.channels, area.side, area.side), np.float32) for area in self.graph.areas]
        state = [self._constant(f"zero.{area.name}", zero) for area, zero in zip(self.graph.areas, zeros)]
        adaptation = [name if area.adaptation else None for area, name in zip(self.graph.areas, state)]
        blank = [self._constant(f"conv_bias.{n}", self.parameters[f"conv_bias.{n}"][None]) for n in range(len(state))]
        # Of one image, whatever the batch: the first step with an image makes it as many.
        for _ in range(spontaneous):
            state, adaptation = self._step(state, adaptation, blank)
        shown = self._currents()
        for _ in range(stimulus):
            state, adaptation = self._step(state, adaptation, shown)
        for area, r in zip(self.graph.areas, state):
            self._give(f"activity.{area.name}", r, area)
        self._read_out(state)

    def _currents(self) -> list[str]:
        """Bias of every area, and what the image gives to it."""
        convolved = self._conv(self.graph.input, "images")
        pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}
        embedded = self._node("AveragePool", [convolved], **pool)
        currents = []
        for number, area in enumerate(self.graph.areas):
            u = self._constant(f"conv_bias.{number}", self.parameters[f"conv_bias.{number}"][None])
            for projection in area.projections:
                sources = [source for source in projection.sources if source.area is None]
                if sources:
                    read = self._sum(projection, sources, {None: embedded})
                    u = self._node("Add", [u, self._conv(projection.conv, read)])
            currents.append(u)
        return currents

    def _step(
        self, state: list[str], adaptation: list[str | None], currents: list[str]
    ) -> tuple[list[str], list[str | None]]:
        positive: dict[int | None, str] = {}
        for area in self.graph.areas:
            for source in (source for projection in area.projections for source in projection.sources):
                if source.area is not None and source.area not in positive:
                    positive[source.area] = self._node("Relu", [state[source.area]])
        after: list[str] = []
        adapted: list[str | None] = []
        for number, (area, r, a) in enumerate(zip(self.graph.areas, state, adaptation)):
            u = currents[number]
            if area.recurrent is not None:
                u = self._node("Add", [u, self._conv(area.recurrent, r)])
            for projection in area.projections:
                sources = [source for source in projection.sources if source.area is not None]
                if sources:
                    read = self._sum(projection, sources, positive)
                    u = self._node("Add", [u, self._conv(projection.conv, read)])
            if area.adaptation is not None and a is not None:
                u = self._node("Sub", [u, a])
                alpha_a, beta = self._adaptation(number, area)
                a = self._mixed(f"adaptation.{number}", a, r, 1 - alpha_a, alpha_a * beta)
            alpha = self.net.dt_ms / self.net.tau_ms[area.name]
            slope = self.net.negative_slope
            driven = self._node("Relu", [u]) if slope == 0 else self._node("LeakyRelu", [u], alpha=slope)
            after.append(self._mixed(f"leak.{number}", r, driven, 1 - alpha, alpha))
            adapted.append(a)
        return after, adapted

    def _adaptation(self, number: int, area: Area) -> tuple[NDArray[np.float64], float]:
        """dt/tau_a and beta."""
        assert area.adaptation is not None
        tau, beta = area.adaptation.tau_a_ms, area.adaptation.beta
        if area.adaptation.trained:
            tau = math.exp(float(self.parameters[f"log_tau_a.{number}"][0]))
            beta = float(self.parameters[f"beta.{number}"][0])
        return np.asarray([self.net.dt_ms / tau]), beta

    def _mixed(self, name: str, x: str, y: str, keep: NDArray[Any], take: NDArray[Any]) -> str:
        """keep x + take y, by channel."""
        parts = []
        for part, value, factor in (("keep", x, keep), ("take", y, take)):
            held = self._constant(f"{name}.{part}", np.asarray(factor, np.float32).reshape(-1, 1, 1))
            parts.append(self._node("Mul", [value, held]))
        return self._node("Add", parts)

    def _sum(self, projection: Projection, sources: list[Source], values: dict[int | None, str]) -> str:
        terms = []
        for source in sources:
            x = values[source.area]
            if source.shortcut is not None:
                x = self._conv(source.shortcut, x)
            elif source.upsample is not None:
                x = self._enlarged(x, projection.side, source.upsample)
            terms.append(x)
        total = terms[0]
        for term in terms[1:]:
            total = self._node("Add", [total, term])
        return total

    def _enlarged(self, x: str, side: int, mode: str) -> str:
        sizes = self._constant(f"side.{side}", np.asarray([side, side], np.int64))
        how: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        if mode == "nearest":
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self._node("Resize", [x, "", "", sizes], axes=[2, 3], **how)

    def _conv(self, conv: Conv, x: str) -> str:
        padding = (conv.kernel - 1) // 2
        weight = self._constant(f"{conv.name}.weight", self._weight(conv.name))
        shape = {"kernel_shape": [conv.kernel] * 2, "strides": [conv.stride] * 2, "pads": [padding] * 4}
        return self._node("Conv", [x, weight], **shape)

    def _weight(self, name: str) -> NDArray[np.float32]:
        """g v/|v|, each row by itself."""
        g, v = (self.parameters[f"{name}.parametrizations.weight.original{n}"].astype(np.float64) for n in (0, 1))
        norm = np.sqrt((v**2).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
        weight: NDArray[np.float32] = (g * v / norm).astype(np.float32)
        return weight

    def _read_out(self, state: list[str]) -> None:
        pooled = []
        for number in self.graph.readout:
            positive = self._node("Relu", [state[number]])
            pooled.append(self._node("Flatten", [self._node("GlobalAveragePool", [positive])]))
        total = pooled[0]
        for term in pooled[1:]:
            total = self._node("Add", [total, term])
        weight = self._constant("out_fc.weight", self._weight("out_fc"))
        bias = self._constant("out_fc.bias", self.parameters["out_fc.bias"])
        self.nodes.append(helper.make_node("Gemm", [total, weight, bias], ["logits"], transB=1))
        self.outputs.append(self._value("logits", (self.graph.classes,)))

    def _give(self, name: str, value: str, area: Area) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(self._value(name, (area.channels, area.side, area.side)))

    def _node(self, operation: str, inputs: list[str], **attributes: Any) -> str:
        self.count += 1
        name = f"{operation}_{self.count}"
        self.nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        return name

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    @staticmethod
    def _value(name: str, shape: tuple[int, ...]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
