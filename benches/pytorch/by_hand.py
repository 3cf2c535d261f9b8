"""A CordsNet's training step in PyTorch without autograd through time: the toughest comparison.

Only r_t is kept. Forward with prepacked, fused oneDNN convolutions and compiled pointwise parts; backward by hand, with
the weight gradients of several steps in one convolution. Weight norm, input layer and readout are left to autograd,
which meets each of them once.
"""
import torch
import torch.nn.functional as F

from networks import CHANNELS_LAST, RETURN_WEIGHT, Fast, ramp
from packed import Packed, compiled_adjoint, compiled_leak, input_gradient, transposed, weight_gradient
from shapes import CHANNELS, STRIDES


class ByHand(Fast):
    """`gathered`: steps whose weight gradients go into one convolution."""

    def __init__(self, parameters, trial, image_side, gathered=8):
        super().__init__(parameters, trial, image_side)
        self.gathered = gathered

    def pack(self, w, batch):
        """Prepacked recurrent, feed-forward and shortcut convolutions for a number of images."""
        in_sides = [None, *self.sides[:-1]]
        shape = [(batch, CHANNELS[l + 1], side, side) for l, side in enumerate(self.sides)]
        recurrent = [Packed(w[f"area_conv.{l}"], shape[l]) for l in range(self.areas)]
        forward = [None] + [
            Packed(w[f"area_area.{l}"], (batch, CHANNELS[l], in_sides[l], in_sides[l]), STRIDES[l])
            for l in range(1, self.areas)
        ]
        shortcut = [
            Packed(w[f"skip_area.{k}"], shape[2 * k + 1], 2) for k in range(self.areas // 2 - 1)
        ]
        return recurrent, forward, shortcut

    def source(self, l, rs, shortcut):
        """x_l without what comes straight from the image."""
        if l == 1:
            return rs[0]
        if l % 2 == 0:
            return rs[l - 1] + rs[l - 2]
        return shortcut[(l - 3) // 2].plus(rs[l - 2], rs[l - 1])

    def advance(self, rs, constant, packs, out):
        recurrent, forward, shortcut = packs
        for l, r in enumerate(rs):
            u = constant[l] if l == 0 else forward[l].plus(self.source(l, rs, shortcut), constant[l])
            compiled_leak(r, recurrent[l].plus(r, u, relu=True), self.trial["alpha"], out[l])

    def run(self, image, labels):
        trial, batch, areas = self.trial, len(image), range(self.areas)
        steps = trial["stimulus_steps"] + trial["after_steps"]
        image = image.contiguous(memory_format=CHANNELS_LAST)
        w, biases = self.weights(), self.biases()
        currents = self.image_currents(w, image)
        readout = [self.parameters["out_fc.bias"]]
        with torch.no_grad():
            rest, spare, packs = self.zeros(1), self.zeros(1), self.pack(w, 1)
            for _ in range(trial["spontaneous_steps"]):
                self.advance(rest, biases, packs, spare)
                rest, spare = spare, rest
            packs = self.pack(w, batch)
            unseen = [b.expand(batch, -1, -1, -1).contiguous(memory_format=CHANNELS_LAST) for b in biases]
            seen = [c + b for c, b in zip(currents, unseen)] + unseen[2:]
            # One channels_last tensor an area, so that the steps of a weight gradient lie side by side.
            kept = [
                torch.empty(((steps + 1) * batch, *r.shape[1:]), memory_format=CHANNELS_LAST) for r in rest
            ]
            state = [[k[t * batch:(t + 1) * batch] for k in kept] for t in range(steps + 1)]
            for l in areas:
                state[0][l].copy_(rest[l].expand_as(state[0][l]))
            for t in range(steps):
                self.advance(state[t], seen if t < trial["stimulus_steps"] else unseen, packs, state[t + 1])
            window = range(trial["stimulus_steps"] - trial["window"] + 1, trial["stimulus_steps"] + 1)
            pooled = torch.stack([state[t][-1].mean((2, 3)) + state[t][-2].mean((2, 3)) for t in window])
            distance = sum(
                F.mse_loss(state[t][l], rest[l].expand_as(state[t][l]))
                for t in range(steps - trial["return_window"] + 1, steps + 1) for l in areas
            ) / (self.areas * trial["return_window"])
        pooled.requires_grad_()
        logits = F.linear(pooled, w["out_fc"], *readout)
        entropies = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(pooled)), reduction="none")
        entropy = (entropies.view(len(pooled), -1).mean(1) * ramp(trial)).mean()
        dpooled, dw_out, db_out = torch.autograd.grad(entropy, [pooled, w["out_fc"], *readout])
        with torch.no_grad():
            dw, phases = self.backward(w, state, kept, rest, dict(zip(window, dpooled)))
        totals = [sum(part).sum(0) for part in zip(*phases)]
        # From effective weights and image currents to parameters.
        outputs = [*(w[name] for name in dw), w["out_fc"], *currents]
        seeds = [*dw.values(), dw_out, *phases[0][:2]]
        normed = {n: p for n, p in self.parameters.items() if n.endswith(("original0", "original1"))}
        gradients = dict(zip(normed, torch.autograd.grad(outputs, list(normed.values()), seeds)))
        gradients |= {f"conv_bias.{l}": totals[l] for l in areas}
        return {"loss": (entropy + RETURN_WEIGHT * distance).detach().reshape(1), "out_fc.bias": db_out, **gradients}

    def backward(self, w, state, kept, rest, dpooled):
        """Gradients of the effective weights, and dL/du summed over the stimulus and over what follows."""
        trial, areas, alpha = self.trial, range(self.areas), self.trial["alpha"]
        batch, steps = len(state[0][0]), len(state) - 1
        recurrent = [transposed(w[f"area_conv.{l}"], state[0][l].shape) for l in areas]
        forward = [
            transposed(w[f"area_area.{l}"], state[0][l].shape) if STRIDES[l] == 1 else None for l in areas
        ]
        shortcut = self.pack(w, batch)[2]
        gathered = min(self.gathered, steps)

        def slots(shape):
            return torch.empty((gathered * batch, *shape), memory_format=CHANNELS_LAST)

        in_shape = [(CHANNELS[l], self.sides[l] if STRIDES[l] == 1 else self.sides[l - 1]) for l in areas]
        delta = [slots(state[0][l].shape[1:]) for l in areas]
        source = [slots((c, s, s)) if l > 1 else None for l, (c, s) in enumerate(in_shape)]
        dsource = [slots((c, s, s)) if l > 2 and l % 2 else None for l, (c, s) in enumerate(in_shape)]
        names = [n for n in w if n.startswith(("area_conv", "area_area", "skip_area")) and n not in
                 ("area_area.0",)]
        dw = {name: torch.zeros_like(w[name]) for name in names}
        g = self.zeros(batch)
        phases = [self.zeros(batch), self.zeros(batch)]
        scales = [2 * RETURN_WEIGHT / (self.areas * trial["return_window"] * r.numel()) for r in g]
        filled = 0
        for t in range(steps, 0, -1):
            if t > steps - trial["return_window"]:
                for l in areas:
                    g[l].add_(state[t][l] - rest[l], alpha=scales[l])
            if t in dpooled:
                for l in (-1, -2):
                    g[l].add_(dpooled[t][..., None, None], alpha=1 / self.sides[l] ** 2)
            # Later steps fill the slots from the back, so that slots and kept states run the same way.
            slot = slice((gathered - 1 - filled) * batch, (gathered - filled) * batch)
            phase = phases[t > trial["stimulus_steps"]]
            before, d = state[t - 1], [part[slot] for part in delta]
            for l in areas:
                compiled_adjoint(before[l], state[t][l], g[l], d[l], phase[l], alpha)
            for l in areas:
                if l > 1:
                    source[l][slot] = self.source(l, before, shortcut)
                if t > 1:
                    g[l] = recurrent[l].plus(d[l], g[l])
            for l in areas[1:]:
                if l == 1:
                    if t > 1:
                        g[0] = forward[1].plus(d[1], g[0])
                    continue
                if t == 1 and l % 2 == 0:
                    continue
                dx = forward[l](d[l]) if forward[l] else input_gradient(source[l][slot], d[l], w[f"area_area.{l}"], 2)
                g[l - 1] = g[l - 1].add_(dx)
                if l % 2 == 0:
                    g[l - 2] = g[l - 2].add_(dx)
                else:
                    dsource[l][slot] = dx
                    g[l - 2].add_(input_gradient(before[l - 2], dx, w[f"skip_area.{(l - 3) // 2}"], 2))
            filled += 1
            if filled == gathered or t == 1:
                first = (gathered - filled) * batch
                past = slice((t - 1) * batch, (t - 1 + filled) * batch)
                for l in areas:
                    d = delta[l][first:]
                    name = f"area_conv.{l}"
                    dw[name].add_(weight_gradient(kept[l][past], d, w[name]))
                    if l > 0:
                        name, x = f"area_area.{l}", kept[0][past] if l == 1 else source[l][first:]
                        dw[name].add_(weight_gradient(x, d, w[name], STRIDES[l]))
                    if l > 2 and l % 2:
                        name = f"skip_area.{(l - 3) // 2}"
                        dw[name].add_(weight_gradient(kept[l - 2][past], dsource[l][first:], w[name], 2))
                filled = 0
        return dw, phases
