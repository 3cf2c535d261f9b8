"""The training step of a CordsNet in PyTorch: the published way, and three fast ways to the same loss and gradients.

Everything is written from the equations (Soo, Battista, Radmard and Wang 2024); parameters carry their published
names. A trial is a dict: areas, alpha, spontaneous_steps, stimulus_steps, after_steps, window, return_window.
"""
import torch
import torch.nn.functional as F
from torch import nn

from shapes import CHANNELS, STRIDES, parameter_names, sides

RETURN_WEIGHT = 1e-3
CHANNELS_LAST = torch.channels_last


def ramp(trial):
    return torch.logspace(-3, 0, trial["window"])


class Published(nn.Module):
    """As published: weight norm by parametrizations, `inp` formed anew for every area and step, a spontaneous phase
    for every image, everything else left to autograd."""

    def __init__(self, parameters, trial, image_side):
        super().__init__()
        weight_norm = nn.utils.parametrizations.weight_norm
        areas, c = trial["areas"], CHANNELS
        classes, in_channels = len(parameters["out_fc.bias"]), parameters[parameter_names("inp_conv")[1]].shape[1]
        self.trial = trial
        self.sides = sides(areas, image_side)

        def conv(inputs, outputs, kernel, stride, padding):
            return weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False))

        self.inp_conv = conv(in_channels, c[0], 7, 2, 3)
        self.inp_skip = conv(c[0], c[0], 3, 1, 1)
        self.area_conv = nn.ModuleList([conv(c[l + 1], c[l + 1], 3, 1, 1) for l in range(areas)])
        self.area_area = nn.ModuleList([conv(c[l], c[l + 1], 3, STRIDES[l], 1) for l in range(areas)])
        self.conv_bias = nn.ParameterList(
            [nn.Parameter(torch.zeros(c[l + 1], side, side)) for l, side in enumerate(self.sides)]
        )
        self.skip_area = nn.ModuleList([conv(c[2 * k + 2], c[2 * k + 4], 1, 2, 0) for k in range(areas // 2 - 1)])
        self.out_fc = weight_norm(nn.Linear(c[areas], classes))
        self.load_state_dict(parameters)

    def area(self, l, rs, image):
        """Activity of area l one step later."""
        inp = F.avg_pool2d(self.inp_conv(image), 3, 2, 1)
        if l == 0:
            x = inp
        elif l == 1:
            x = F.relu(rs[0]) + self.inp_skip(inp)
        elif l % 2 == 0:
            x = F.relu(rs[l - 1]) + F.relu(rs[l - 2])
        else:
            x = F.relu(rs[l - 1]) + self.skip_area[(l - 3) // 2](F.relu(rs[l - 2]))
        alpha = self.trial["alpha"]
        current = self.area_conv[l](rs[l]) + self.conv_bias[l] + self.area_area[l](x)
        return (1 - alpha) * rs[l] + alpha * F.relu(current)

    def advance(self, rs, image):
        # From the last area to the first, so that each reads the previous step's activity.
        for l in reversed(range(len(rs))):
            rs[l] = self.area(l, rs, image)

    def read_out(self, rs):
        return self.out_fc((F.relu(rs[-1]) + F.relu(rs[-2])).mean((2, 3)))

    def loss(self, image, labels):
        trial, areas = self.trial, len(self.sides)
        blank = image * 0
        rs = [torch.zeros(len(image), CHANNELS[l + 1], side, side) for l, side in enumerate(self.sides)]
        with torch.no_grad():
            for _ in range(trial["spontaneous_steps"]):
                self.advance(rs, blank)
        rest = list(rs)
        entropies, distance = [], 0.0
        for t in range(trial["stimulus_steps"]):
            self.advance(rs, image)
            if t >= trial["stimulus_steps"] - trial["window"]:
                entropies.append(F.cross_entropy(self.read_out(rs), labels))
        for t in range(trial["after_steps"]):
            self.advance(rs, blank)
            if t >= trial["after_steps"] - trial["return_window"]:
                distance = distance + sum(((r - r0) ** 2).mean() for r, r0 in zip(rs, rest))
        distance = distance / (areas * trial["return_window"])
        return (torch.stack(entropies) * ramp(trial)).mean() + RETURN_WEIGHT * distance

    def run(self, image, labels):
        loss = self.loss(image, labels)
        named = dict(self.named_parameters())
        gradients = torch.autograd.grad(loss, list(named.values()))
        return {"loss": loss.detach().reshape(1), **dict(zip(named, gradients))}


class Fast:
    """What the two fast forms share: weights normalised once a step, channels_last, the current from the constant image
    formed once, one spontaneous phase for all images."""

    def __init__(self, parameters, trial, image_side):
        self.trial, self.areas = trial, trial["areas"]
        self.sides = sides(self.areas, image_side)
        self.parameters = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        self.modules = [name.removesuffix(".parametrizations.weight.original0")
                        for name in parameters if name.endswith("original0")]

    def weights(self):
        """Effective weights by module, channels_last."""
        out = {}
        for module in self.modules:
            g, v = (self.parameters[name] for name in parameter_names(module))
            weight = torch._weight_norm(v, g, 0)
            out[module] = weight.contiguous(memory_format=CHANNELS_LAST) if weight.dim() == 4 else weight
        return out

    def biases(self):
        """Bias maps, [1, channels, side, side]."""
        return [self.parameters[f"conv_bias.{l}"][None].contiguous(memory_format=CHANNELS_LAST)
                for l in range(self.areas)]

    def zeros(self, batch):
        shape = [(batch, CHANNELS[l + 1], side, side) for l, side in enumerate(self.sides)]
        return [torch.zeros(s).contiguous(memory_format=CHANNELS_LAST) for s in shape]

    def image_currents(self, w, image):
        """area_area_0(inp) and area_area_1(inp_skip(inp))."""
        inp = F.avg_pool2d(F.conv2d(image, w["inp_conv"], stride=2, padding=3), 3, 2, 1)
        skipped = F.conv2d(inp, w["inp_skip"], padding=1)
        return [F.conv2d(inp, w["area_area.0"], padding=1), F.conv2d(skipped, w["area_area.1"], padding=1)]


def advance(rs, constant, w, alpha):
    """One synchronous step of all areas; `constant` is bias and image current."""
    out = []
    for l, r in enumerate(rs):
        u = F.conv2d(r, w[f"area_conv.{l}"], padding=1) + constant[l]
        if l > 0:
            if l == 1:
                x = rs[0]
            elif l % 2 == 0:
                x = rs[l - 1] + rs[l - 2]
            else:
                x = rs[l - 1] + F.conv2d(rs[l - 2], w[f"skip_area.{(l - 3) // 2}"], stride=2)
            u = u + F.conv2d(x, w[f"area_area.{l}"], stride=STRIDES[l], padding=1)
        out.append(torch.lerp(r, F.relu(u), alpha))
    return out


def advance_in_place(rs, constant, w, alpha):
    """The same with everything in place that autograd allows."""
    out = []
    for l, r in enumerate(rs):
        u = F.conv2d(r, w[f"area_conv.{l}"], padding=1).add_(constant[l])
        if l > 0:
            if l == 1:
                x = rs[0]
            elif l % 2 == 0:
                x = rs[l - 1] + rs[l - 2]
            else:
                x = F.conv2d(rs[l - 2], w[f"skip_area.{(l - 3) // 2}"], stride=2).add_(rs[l - 1])
            u.add_(F.conv2d(x, w[f"area_area.{l}"], stride=STRIDES[l], padding=1))
        out.append(torch.lerp(r, u.relu_(), alpha))
    return out


class Autograd(Fast):
    """Forward as above, gradients by autograd; `step` is `advance_in_place` or a compiled `advance`."""

    def __init__(self, parameters, trial, image_side, step):
        super().__init__(parameters, trial, image_side)
        self.step = step

    def run(self, image, labels):
        trial, alpha = self.trial, self.trial["alpha"]
        image = image.contiguous(memory_format=CHANNELS_LAST)
        w, biases = self.weights(), self.biases()
        rs = self.zeros(1)
        with torch.no_grad():
            for _ in range(trial["spontaneous_steps"]):
                rs = self.step(rs, biases, w, alpha)
        rest = rs
        shape = [(len(image), *r.shape[1:]) for r in rest]
        rs = [r.expand(s).contiguous(memory_format=CHANNELS_LAST) for r, s in zip(rest, shape)]
        currents = self.image_currents(w, image)
        seen = [c + b for c, b in zip(currents, biases)] + [b.expand(s) for b, s in zip(biases[2:], shape[2:])]
        unseen = [b.expand(s) for b, s in zip(biases, shape)]
        seen, unseen = ([c.contiguous(memory_format=CHANNELS_LAST) for c in part] for part in (seen, unseen))
        pooled, distance = [], 0.0
        for t in range(trial["stimulus_steps"]):
            rs = self.step(rs, seen, w, alpha)
            if t >= trial["stimulus_steps"] - trial["window"]:
                pooled.append(rs[-1].mean((2, 3)) + rs[-2].mean((2, 3)))
        logits = F.linear(torch.stack(pooled), w["out_fc"], self.parameters["out_fc.bias"])
        entropies = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(pooled)), reduction="none")
        for t in range(trial["after_steps"]):
            rs = self.step(rs, unseen, w, alpha)
            if t >= trial["after_steps"] - trial["return_window"]:
                distance = distance + sum(F.mse_loss(r, r0.expand_as(r)) for r, r0 in zip(rs, rest))
        distance = distance / (self.areas * trial["return_window"])
        loss = (entropies.view(len(pooled), -1).mean(1) * ramp(trial)).mean() + RETURN_WEIGHT * distance
        gradients = torch.autograd.grad(loss, list(self.parameters.values()))
        return {"loss": loss.detach().reshape(1), **dict(zip(self.parameters, gradients))}
