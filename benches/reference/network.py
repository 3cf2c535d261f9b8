"""The dynamics of a graph of areas, the published objective and the CNN twin, in PyTorch.

For every area l, with alpha = dt/tau, synchronously:

    r <- (1 - alpha) r + alpha phi(u - a)          u = bias + sum over projections of conv(sum of sources)
    a <- (1 - alpha_a) a + alpha_a beta r          alpha_a = dt/tau_a; a = 0 in a leaky cell

A recurrent projection reads r, every other max(r, 0). phi(u) is u where u > 0 and slope * u elsewhere.

Parameters: published names for what the published network has; `<name>.parametrizations.weight.original0` (g) and
`original1` (v) of every projection and shortcut by its name in the graph; `conv_bias.<l>`; and, where they are trained,
`log_tau.<l>` (of tau in ms, one value or one per channel), `log_tau_a.<l>` and `beta.<l>` of area l.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

weight_norm = nn.utils.parametrizations.weight_norm


def conv(in_channels, channels, kernel, stride=1):
    """A convolution without bias, with padding (kernel - 1) / 2 and weight norm."""
    return weight_norm(nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False))


@dataclass
class State:
    """Activity r and adaptation a of all areas, each [batch, channels, side, side]; a is None in a leaky cell."""

    r: list
    a: list

    def repeat(self, batch):
        """A state of one image for all of `batch` images."""
        expand = lambda maps: [None if m is None else m.expand(batch, -1, -1, -1) for m in maps]
        return State(expand(self.r), expand(self.a))


class Network(nn.Module):
    """`time_constants` names the areas whose tau is trained: {name: "area" or "channel"}.

    Initial weights are PyTorch's, drawn in this order: input layer, shortcuts of the image, projections, other
    shortcuts, readout.
    """

    def __init__(self, graph, dt_ms=2.0, tau_ms=10.0, slope=0.0, time_constants=None):
        super().__init__()
        self.graph, self.dt_ms, self.slope = graph, dt_ms, slope
        of_image = [shortcut for source, shortcut in graph.shortcuts() if source.area is None]
        of_areas = [shortcut for source, shortcut in graph.shortcuts() if source.area is not None]
        make = lambda s: (s.name, conv(s.in_channels, s.channels, s.kernel, s.stride))
        inp_conv = conv(graph.in_channels, graph.input_channels, 7, 2)
        first = dict(map(make, of_image))
        projections = {
            p.name: conv(p.channels, graph.areas[p.to].channels, p.kernel, p.stride) for p in graph.projections
        }
        last = dict(map(make, of_areas))
        out_fc = weight_norm(nn.Linear(graph.areas[graph.readout[0]].channels, graph.classes))
        self.convs = {**first, **projections, **last}
        # Registered in the published order, which need not be the one of drawing.
        recurrent = {p.name for p in graph.projections if p.recurrent}
        self._register("inp_conv", inp_conv)
        for name in [*first, *(name for name in projections if name in recurrent)]:
            self._register(name, self.convs[name])
        self.conv_bias = nn.ParameterList(
            [nn.Parameter(torch.zeros(area.channels, area.side, area.side)) for area in graph.areas]
        )
        for name in [*(name for name in projections if name not in recurrent), *last]:
            self._register(name, self.convs[name])
        self._register("out_fc", out_fc)
        self._register_time_constants(tau_ms, time_constants or {})

    def _register(self, name, module):
        """A submodule under a name with dots."""
        *path, leaf = name.split(".")
        parent = self
        for part in path:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent._modules[part]
        parent.add_module(leaf, module)

    def _register_time_constants(self, tau_ms, trained):
        self.taus = [tau_ms if area.tau_ms is None else area.tau_ms for area in self.graph.areas]
        self.log_tau, self.log_tau_a, self.beta = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        constant = lambda value, count=1: nn.Parameter(torch.full((count,), float(value)))
        for l, area in enumerate(self.graph.areas):
            if area.name in trained:
                count = {"area": 1, "channel": area.channels}[trained[area.name]]
                self.log_tau[str(l)] = nn.Parameter(constant(self.taus[l], count).detach().log())
            if area.adapting is not None and area.adapting["trained"]:
                self.log_tau_a[str(l)] = nn.Parameter(constant(area.adapting["tau_a_ms"]).detach().log())
                self.beta[str(l)] = constant(area.adapting["beta"])

    def tau(self, l):
        """Time constant of area l in ms, as what maps can be multiplied with."""
        trained = str(l) in self.log_tau
        return self.log_tau[str(l)].exp().view(-1, 1, 1) if trained else self.taus[l]

    def adaptation(self, l):
        """tau_a in ms and beta of area l."""
        if str(l) in self.beta:
            return self.log_tau_a[str(l)].exp().view(-1, 1, 1), self.beta[str(l)].view(-1, 1, 1)
        cell = self.graph.areas[l].adapting
        return cell["tau_a_ms"], cell["beta"]

    def zeros(self, batch):
        shapes = [(batch, area.channels, area.side, area.side) for area in self.graph.areas]
        adapting = [area.adapting is not None for area in self.graph.areas]
        return State(
            [torch.zeros(shape) for shape in shapes],
            [torch.zeros(shape) if a else None for shape, a in zip(shapes, adapting)],
        )

    def inp(self, images):
        """What areas read of images [batch, in_channels, image_side, image_side]; it is constant while the image is."""
        return F.avg_pool2d(self.inp_conv(images), 3, 2, 1)

    def no_inp(self):
        """`inp` without an image."""
        return self.inp(torch.zeros(1, self.graph.in_channels, self.graph.image_side, self.graph.image_side))

    def phi(self, u):
        return F.leaky_relu(u, self.slope)

    def _sum_of_sources(self, projection, r, inp):
        if projection.recurrent:
            return r[projection.to]
        total = 0.0
        for source in projection.sources:
            x = inp if source.area is None else F.relu(r[source.area])
            if source.shortcut is not None:
                x = self.convs[source.shortcut.name](x)
            if source.upsample == "nearest":
                x = F.interpolate(x, size=(projection.side,) * 2, mode="nearest")
            elif source.upsample == "bilinear":
                x = F.interpolate(x, size=(projection.side,) * 2, mode="bilinear", align_corners=False)
            total = total + x
        return total

    def currents(self, r, inp):
        """u of all areas, without adaptation."""
        u = [bias[None] for bias in self.conv_bias]
        for projection in self.graph.projections:
            x = self._sum_of_sources(projection, r, inp)
            u[projection.to] = u[projection.to] + self.convs[projection.name](x)
        return u

    def targets(self, state, inp):
        """phi(u - a), what the activity follows."""
        u = self.currents(state.r, inp)
        return [self.phi(u if a is None else u - a) for u, a in zip(u, state.a)]

    def step(self, state, inp):
        """One Euler step of all areas."""
        next_r, next_a = [], []
        for l, target in enumerate(self.targets(state, inp)):
            r, a, alpha = state.r[l], state.a[l], self.dt_ms / self.tau(l)
            next_r.append((1 - alpha) * r + alpha * target)
            if a is not None:
                tau_a, beta = self.adaptation(l)
                alpha_a = self.dt_ms / tau_a
                a = (1 - alpha_a) * a + alpha_a * beta * r
            next_a.append(a)
        return State(next_r, next_a)

    def run(self, state, inp, steps):
        """The states after each of `steps` steps."""
        states = []
        # Weight norm is applied once for all steps.
        with nn.utils.parametrize.cached():
            for _ in range(steps):
                state = self.step(state, inp)
                states.append(state)
        return states

    def read_out(self, state):
        """Logits [batch, classes]."""
        return self.out_fc(sum(F.relu(state.r[l]).mean((2, 3)) for l in self.graph.readout))


@dataclass
class Trial:
    """Steps of each of the three periods, and what the objective weighs: the cross-entropy of the last `window` steps
    of the image, and the distance from the spontaneous state in the last `return_window` steps after it."""

    steps: int
    window: int
    return_window: int
    return_weight: float

    def ramp(self):
        return torch.logspace(-3, 0, self.window)


@dataclass
class Outcome:
    """A trial and its loss; states after every step of every period."""

    spontaneous: list
    stimulus: list
    after: list
    cross_entropy: torch.Tensor
    return_term: torch.Tensor
    loss: torch.Tensor


def cross_entropies(network, states, labels):
    return torch.stack([F.cross_entropy(network.read_out(state), labels) for state in states])


def objective(network, images, labels, trial, spontaneous=None):
    """The published objective. The spontaneous period has no gradient; given its states, it is not run again."""
    nothing = network.no_inp()
    if spontaneous is None:
        with torch.no_grad():
            spontaneous = network.run(network.zeros(1), nothing, trial.steps)
    rest = spontaneous[-1]
    stimulus = network.run(rest.repeat(len(images)), network.inp(images), trial.steps)
    after = network.run(stimulus[-1], nothing, trial.steps)
    entropies = cross_entropies(network, stimulus[-trial.window :], labels)
    squares = [
        ((r - r0) ** 2).mean() for state in after[-trial.return_window :] for r, r0 in zip(state.r, rest.r)
    ]
    return_term = sum(squares) / len(squares)
    loss = (trial.ramp() * entropies).mean() + trial.return_weight * return_term
    return Outcome(spontaneous, stimulus, after, entropies, return_term, loss)


class CnnTwin(nn.Module):
    """The feed-forward twin of the published rule: per area ReLU(norm(area_conv(norm(area_area(x))))), with a batch
    norm after the input convolution and after each shortcut between areas as well."""

    def __init__(self, in_channels, channels, strides, classes):
        super().__init__()
        inputs, outputs, areas = channels[:-1], channels[1:], range(len(strides))
        skips = [(outputs[l - 2], outputs[l - 1], strides[l - 1]) for l in areas if l >= 3 and l % 2 == 1]
        norms = lambda counts: nn.ModuleList([nn.BatchNorm2d(count) for count in counts])
        self.inp_conv, self.inp_norm = conv(in_channels, channels[0], 7, 2), nn.BatchNorm2d(channels[0])
        self.inp_skip = conv(channels[0], channels[0], 3)
        self.area_conv = nn.ModuleList([conv(outputs[l], outputs[l], 3) for l in areas])
        self.area_area = nn.ModuleList([conv(inputs[l], outputs[l], 3, strides[l]) for l in areas])
        self.area_norm, self.area_nrm2 = norms(outputs), norms(outputs)
        self.skip_area = nn.ModuleList([conv(a, b, 1, stride) for a, b, stride in skips])
        self.skip_norm = norms([b for _, b, _ in skips])
        self.out_fc = weight_norm(nn.Linear(channels[-1], classes))

    def forward(self, images):
        """Logits and the activity of every area."""
        inp = F.avg_pool2d(self.inp_norm(self.inp_conv(images)), 3, 2, 1)
        r = []
        for l in range(len(self.area_conv)):
            if l == 0:
                x = inp
            elif l == 1:
                x = r[0] + self.inp_skip(inp)
            elif l % 2 == 0:
                x = r[l - 1] + r[l - 2]
            else:
                k = (l - 3) // 2
                x = r[l - 1] + self.skip_norm[k](self.skip_area[k](r[l - 2]))
            x = self.area_norm[l](self.area_area[l](x))
            r.append(F.relu(self.area_nrm2[l](self.area_conv[l](x))))
        return self.out_fc((r[-1] + r[-2]).mean((2, 3))), r
