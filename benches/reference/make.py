"""Writes the float64 reference tensors that the engine's tests read.

    python benches/reference/make.py OUT_DIR [--seed N] [--verify]

Seed 0 remakes crates/cords/tests/fixtures; any other makes a set of other sizes and values, on which the same tests run
where CORDS_FIXTURES names its folder. --verify holds gradients against finite differences and upsampling against its
formula.
"""
import argparse
import json
import pathlib
import random
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import graph as graphs
from graph import Graph, adapting, published, with_areas, with_feedback
from linear_response import (
    Flow,
    NoSteadyState,
    cycle,
    linearisation,
    noise_response,
    sorted_eigenvalues,
    steady_state,
)
from network import CnnTwin, Network, Trial, cross_entropies, objective

DT_MS = 2.0


class Sizes:
    """Sizes of everything in a set. `scaled` are the published rule's with other widths."""

    def __init__(self, seed):
        self.seed = seed
        self.tau_ms, self.trial = 10.0, Trial(steps=20, window=6, return_window=2, return_weight=1e-3)
        self.in_channels, self.image, self.channels, self.classes, self.batch = 3, 32, [8, 8, 8, 12, 12], 5, 3
        self.strides = [1, 1, 2, 1]
        self.area_channels, self.area_side = 6, 9
        # Of the files of graphs, which have more tensors: smaller.
        self.graph_image, self.graph_channels = 28, [6, 6, 6, 8, 8]
        self.dynamics_image, self.dynamics_channels = 20, [6, 6, 6, 10, 10]
        self.adapting_image, self.adapting_channels = 20, [4, 4, 4, 6, 6]
        self.oscillating_image = 12
        if seed != 0:
            self._draw(random.Random(seed))
        steps = self.trial.steps // 2
        self.short_trial = replace(self.trial, steps=steps, window=steps - 2)

    def _draw(self, rng):
        pick = rng.randint
        widths = lambda low, high: (lambda a, b: [a, a, a, b, b])(pick(low, high), pick(low, high + 3))
        self.tau_ms = rng.choice([8.0, 10.0, 12.5, 16.0])
        steps = pick(12, 24)
        self.trial = Trial(steps, window=pick(2, steps - 2), return_window=pick(1, 5), return_weight=1e-3)
        self.in_channels, self.classes, self.batch = pick(1, 3), pick(3, 7), pick(2, 4)
        self.image, self.channels = pick(24, 40), widths(5, 8)
        self.area_channels, self.area_side = pick(4, 6), pick(7, 9)
        self.graph_image, self.graph_channels = pick(24, 30), widths(4, 6)
        self.dynamics_image, self.dynamics_channels = pick(17, 20), widths(4, 6)
        self.adapting_image, self.adapting_channels = pick(17, 20), widths(3, 4)

    def rule(self, image=None, channels=None):
        """The JSON form of the published rule."""
        image, channels = image or self.image, channels or self.channels
        return published(self.in_channels, image, channels, self.strides, self.classes)

    def images(self, image=None):
        """Images and labels."""
        side = image or self.image
        return torch.randn(self.batch, self.in_channels, side, side), torch.randint(0, self.classes, (self.batch,))

    def json(self):
        return {
            "in_channels": self.in_channels,
            "image": self.image,
            "channels": self.channels,
            "strides": self.strides,
            "classes": self.classes,
        }


class Folder:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    def save(self, name, tensors, configuration):
        tensors = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
        path = self.path / f"{name}.safetensors"
        save_file(tensors, path, metadata={"json": json.dumps(configuration)})
        print(f"{path}: {len(tensors)} tensors, {path.stat().st_size / 1e3:.0f} kB", flush=True)


def with_prefix(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def gradients(module):
    return {f"grad.{name}": p.grad for name, p in module.named_parameters() if p.grad is not None}


def draw_values(network, recurrent=1.5):
    """Biases at random, and recurrent weights `recurrent` times as large as PyTorch makes them."""
    gains = {p.name + ".parametrizations.weight.original0" for p in network.graph.projections if p.recurrent}
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.startswith("conv_bias"):
                p.copy_(0.2 * torch.randn_like(p))
            elif name in gains:
                p.mul_(recurrent)


def trial_json(sizes, trial, slope):
    return {
        "alpha": DT_MS / sizes.tau_ms,
        "steps": trial.steps,
        "window": trial.window,
        "spont_window": trial.return_window,
        "spont_weight": trial.return_weight,
        "negative_slope": slope,
    }


# The published network: these files share one stream of random numbers, in this order.


def rollout(folder, sizes, name, slope=0.0):
    network = Network(Graph(sizes.rule()), DT_MS, sizes.tau_ms, slope)
    draw_values(network)
    images, labels = sizes.images()
    outcome = objective(network, images, labels, sizes.trial)
    outcome.loss.backward()
    tensors = trial_tensors(network, images, labels, outcome)
    for l in range(len(network.graph.areas)):
        del tensors[f"spontaneous_first.{l}"], tensors[f"after_first.{l}"]
    folder.save(name, tensors, sizes.json() | trial_json(sizes, sizes.trial, slope))


def trial_tensors(network, images, labels, outcome):
    """Everything of a trial whose loss was differentiated."""
    tensors = {
        "images": images,
        "labels": labels,
        "ce": outcome.cross_entropy,
        "spont": outcome.return_term,
        "loss": outcome.loss,
        "logits_last": network.read_out(outcome.stimulus[-1]),
        **with_prefix("param.", network.state_dict()),
        **gradients(network),
    }
    moments = {
        "spontaneous_first": outcome.spontaneous[0],
        "spontaneous": outcome.spontaneous[-1],
        "stimulus_first": outcome.stimulus[0],
        "stimulus_last": outcome.stimulus[-1],
        "after_first": outcome.after[0],
        "after_last": outcome.after[-1],
    }
    for moment, state in moments.items():
        tensors |= {f"{moment}.{l}": r for l, r in enumerate(state.r)}
        tensors |= {f"adaptation.{moment}.{l}": a for l, a in enumerate(state.a) if a is not None}
    return tensors


def linear(folder, sizes):
    network, trial = Network(Graph(sizes.rule()), DT_MS, sizes.tau_ms, slope=1.0), sizes.trial
    draw_values(network)
    images, labels = sizes.images()
    states = network.run(network.zeros(len(images)), network.inp(images), trial.steps)
    entropies = cross_entropies(network, states[-trial.window :], labels)
    loss = (entropies * trial.ramp()).mean()
    loss.backward()
    tensors = {
        "images": images,
        "labels": labels,
        "ce": entropies,
        "loss": loss,
        **with_prefix("param.", network.state_dict()),
        **gradients(network),
        **{f"stimulus_last.{l}": r for l, r in enumerate(states[-1].r)},
    }
    of_trial = trial_json(sizes, trial, 1.0)
    folder.save("linear", tensors, sizes.json() | {key: of_trial[key] for key in ("alpha", "steps", "window")})


def cnn(folder, sizes):
    twin = CnnTwin(sizes.in_channels, sizes.channels, sizes.strides, sizes.classes)
    images, labels = sizes.images()
    with torch.no_grad():
        for norm in (module for module in twin.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.weight.copy_(1.0 + 0.2 * torch.randn_like(norm.weight))
            norm.bias.copy_(0.2 * torch.randn_like(norm.bias))
            norm.running_mean.copy_(0.2 * torch.randn_like(norm.running_mean))
            norm.running_var.copy_(1.0 + 0.5 * torch.rand_like(norm.running_var))
    before = {name: tensor.clone() for name, tensor in twin.state_dict().items()}
    twin.train()
    logits, _ = twin(images)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    twin.eval()
    with torch.no_grad():
        evaluated, activity = twin(images)
    running = {name: tensor for name, tensor in twin.named_buffers() if "running" in name}
    tensors = {
        "images": images,
        "labels": labels,
        "loss": loss,
        "logits_train": logits,
        "logits_eval_after": evaluated,
        **with_prefix("param.", before),
        **with_prefix("running.", running),
        **gradients(twin),
        **{f"activity_eval_after.{l}": r for l, r in enumerate(activity)},
    }
    note = "logits_eval_after and activity_eval_after use the running statistics after the one training pass"
    folder.save("cnn", tensors, sizes.json() | {"note": note})


def invert(folder, sizes):
    """Per area: three linear sweeps r <- W r + b + i from r = b + i against conv(i + area_bias) + conv_bias."""
    tensors, sweeps, weight = {}, 3, 10
    for area, (c, side) in enumerate([(sizes.channels[1], 8), (sizes.channels[-1], 4)]):
        drive, area_bias = torch.randn(sizes.batch, c, side, side), 0.2 * torch.randn(c, side, side)
        conv_bias, target_weight = 0.2 * torch.randn(c, side, side), 0.1 * torch.randn(c, c, 3, 3)
        w = (0.1 * torch.randn(c, c, 3, 3)).requires_grad_()
        b = (0.2 * torch.randn(c, side, side)).requires_grad_()
        apply = lambda x, kernel: F.conv2d(x, kernel, padding=1)
        target = apply(drive, target_weight) + apply(area_bias[None], target_weight) + conv_bias
        r = powers = b + drive
        for _ in range(sweeps):
            r, powers = apply(r, w) + b + drive, apply(powers, w)
        error, eigen = ((target - r) ** 2).mean(), (powers**2).mean()
        (error + weight * eigen).backward()
        values = {
            "input": drive,
            "area_bias": area_bias,
            "conv_bias": conv_bias,
            "target_weight": target_weight,
            "weight": w,
            "bias": b,
            "target": target,
            "error": error,
            "eigen": eigen,
            "grad_weight": w.grad,
            "grad_bias": b.grad,
        }
        tensors |= with_prefix(f"{area}.", values)
    folder.save("invert", tensors, {"sweeps": sweeps, "eigen_weight": weight})


def optim(folder):
    """Ten clipped gradients and the values after each step."""
    makers = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
        "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-4),
    }
    tensors, clip = {}, 5.0
    for name, make in makers.items():
        p = torch.randn(7, 5).requires_grad_()
        tensors[f"{name}.start"] = p.detach().clone()
        optimiser = make([p])
        warm_up = torch.optim.lr_scheduler.LinearLR(optimiser, total_iters=5) if name == "sgd" else None
        for k in range(10):
            p.grad = torch.randn(7, 5) * (k + 1)
            tensors[f"{name}.grad.{k}"] = p.grad.clone()
            torch.nn.utils.clip_grad_norm_([p], clip)
            optimiser.step()
            if warm_up is not None:
                warm_up.step()
            tensors[f"{name}.value.{k}"] = p.detach().clone()
    settings = {
        "clip": clip,
        "adamw": "lr 1e-2, betas (0.9, 0.999), eps 1e-8, weight decay 1e-2",
        "adam": "lr 1e-2",
        "sgd": "lr 0.1, momentum 0.9, weight decay 1e-4, LinearLR(start 1/3, total_iters 5)",
    }
    folder.save("optim", tensors, settings)


def dynamics(folder, sizes):
    """One area under four constant drives; J in units of 1/tau."""
    import scipy.linalg

    c, side, alpha = sizes.area_channels, sizes.area_side, DT_MS / sizes.tau_ms
    n = c * side * side
    w = 0.12 * torch.randn(c, c, 3, 3)
    bias, drive = 0.3 * torch.randn(c, side, side), torch.randn(4, c, side, side)
    current = lambda r: F.conv2d(r, w, padding=1) + bias + drive
    r = torch.zeros_like(drive)
    for _ in range(20000):
        r = (1 - alpha) * r + alpha * F.relu(current(r))
    u = current(r)
    # Column i is what a unit activity of unit i gives.
    matrix = F.conv2d(torch.eye(n).view(n, c, side, side), w, padding=1).reshape(n, n).T
    tensors = {
        "weight": w,
        "bias": bias,
        "drive": drive,
        "steady": r,
        "residual": (F.relu(u) - r).abs().amax((1, 2, 3)),
        "conv.singular_values": torch.linalg.svdvals(matrix),
        "conv.eigenvalues": torch.view_as_real(torch.linalg.eigvals(matrix)),
    }
    for k in range(2):
        jacobian = (u[k] > 0).double().view(n, 1) * matrix - torch.eye(n)
        covariance = scipy.linalg.solve_continuous_lyapunov(jacobian.numpy(), -2 * np.eye(n))
        tensors[f"jacobian.{k}.eigenvalues"] = torch.view_as_real(torch.linalg.eigvals(jacobian))
        tensors[f"jacobian.{k}.covariance_diagonal"] = torch.from_numpy(np.diag(covariance).copy())
    configuration = {
        "channels": c,
        "size": side,
        "alpha": alpha,
        "eigenvalues": "(n, 2): real and imaginary parts",
        "covariance": "J S + S J^T + 2 I = 0",
    }
    folder.save("dynamics", tensors, configuration)


def predictivity(folder, seed):
    """Features, noisy repetitions of responses, and scikit-learn's predictions of them."""
    try:
        from sklearn.cross_decomposition import PLSRegression
        from sklearn.linear_model import Ridge
    except ImportError:
        print("predictivity is left out: it needs scikit-learn (pip install scikit-learn)")
        return
    rng = np.random.default_rng(7 + seed)
    stimuli, features, neurons, latent_dimensions, repetitions = 120, 80, 12, 10, 8
    latent = rng.standard_normal((stimuli, latent_dimensions))
    mixed = latent @ rng.standard_normal((latent_dimensions, features))
    x = mixed + 0.3 * rng.standard_normal((stimuli, features))
    clean = latent @ rng.standard_normal((latent_dimensions, neurons))
    noisy = np.stack([clean + 1.5 * rng.standard_normal((stimuli, neurons)) for _ in range(repetitions)])
    y = noisy.mean(0)
    train, test = np.split(rng.permutation(stimuli), [100])
    tensors = {"features": x, "clean": clean, "repetitions": noisy, "train": train, "test": test}
    for components in (3, 10, 25):
        for name, scale in (("", False), ("_scaled", True)):
            fit = PLSRegression(n_components=components, scale=scale).fit(x[train], y[train])
            tensors[f"pls{components}{name}.prediction"] = fit.predict(x[test])
    for penalty in (0.1, 10.0):
        tensors[f"ridge{penalty}.prediction"] = Ridge(alpha=penalty).fit(x[train], y[train]).predict(x[test])
    pearson = lambda a, b: np.array([np.corrcoef(a[:, n], b[:, n])[0, 1] for n in range(neurons)])
    tensors["pls10.pearson"] = pearson(tensors["pls10.prediction"], y[test])
    halves = pearson(noisy[::2].mean(0), noisy[1::2].mean(0))
    tensors["reliability.split_half"] = halves
    tensors["reliability.spearman_brown"] = 2 * halves / (1 + halves)
    configuration = {
        "pls": "sklearn PLSRegression(n_components, scale=False|True)",
        "responses": "mean over the 8 repetitions",
        "halves": "even and odd repetitions",
    }
    folder.save("predictivity", {name: torch.from_numpy(value) for name, value in tensors.items()}, configuration)


def published_r2(folder):
    """A full-size R2 in float32, as torch.save writes it, and what it makes of an image."""
    torch.set_default_dtype(torch.float32)
    steps, classes = 100, 10
    network = Network(Graph(graphs.full_size(2, classes)))
    with torch.no_grad():
        for bias in network.conv_bias:
            bias.copy_(0.1 * torch.randn_like(bias))
        image = torch.randn(1, 3, 224, 224)
        rest = network.run(network.zeros(1), network.no_inp(), steps)[-1]
        states = network.run(rest, network.inp(image), steps)
    torch.save(network.state_dict(), folder.path / "published_r2.pth")
    tensors = {
        "images": image,
        "logits": network.read_out(states[-1]),
        "pooled": torch.stack([state.r[-1].mean((2, 3)) for state in states]),
    }
    note = "100 without input, then 100 with the image; logits after the last"
    configuration = {"depth": 2, "classes": classes, "alpha": 0.2, "steps": note}
    folder.save("published_r2", tensors, configuration)
    torch.set_default_dtype(torch.float64)


# Graphs: each file has a stream of random numbers of its own.


def two_streams(sizes):
    """A fine and a coarse stream, a loop fine -> middle -> late -> fine, and areas that are not in the order of the
    loop. `end` adapts and is read out with `late`."""
    inp, c, w = graphs.input_side(sizes.graph_image), sizes.graph_channels[1], sizes.graph_channels[0]
    half = graphs.out_side(inp, 2)
    return {
        "in_channels": sizes.in_channels,
        "image_side": sizes.graph_image,
        "classes": sizes.classes,
        "input_channels": w - 1,
        "areas": [
            {"name": "coarse", "channels": c, "side": half, "tau_ms": 25.0},
            {"name": "fine", "channels": c, "side": inp, "tau_ms": 8.0},
            {"name": "end", "channels": c + 1, "side": half, "tau_ms": 12.0, "cell": adapting(40.0, 0.5, False)},
            {"name": "middle", "channels": c + 2, "side": half},
            {"name": "late", "channels": c + 1, "side": graphs.out_side(half, 2), "tau_ms": 20.0, "cell": "leaky"},
        ],
        "projections": [
            {"name": "coarse.in", "to": "coarse", "from": ["image"], "kernel": 5, "stride": 2},
            {"name": "coarse.rec", "to": "coarse", "from": ["coarse"]},
            {"name": "fine.in", "to": "fine", "from": ["image"]},
            {"name": "fine.rec", "to": "fine", "from": ["fine"], "kernel": 5},
            {"name": "fine.back", "to": "fine", "from": [{"from": "late", "upsample": "bilinear"}]},
            {"name": "middle.in", "to": "middle", "from": ["fine"], "stride": 2},
            {"name": "middle.side", "to": "middle", "from": ["coarse"], "kernel": 1},
            {"name": "middle.rec", "to": "middle", "from": ["middle"]},
            {
                "name": "late.in",
                "to": "late",
                "from": ["middle", {"from": "fine", "shortcut": {"name": "late.skip", "kernel": 1, "stride": 2}}],
                "stride": 2,
            },
            {
                "name": "end.in",
                "to": "end",
                "from": [
                    {"from": "late", "upsample": "nearest"},
                    {"from": "coarse", "shortcut": {"name": "end.skip", "kernel": 3, "stride": 1}},
                    {"from": "image", "shortcut": {"name": "end.image", "kernel": 3, "stride": 2}},
                ],
            },
        ],
        "readout": ["late", "end"],
    }


def of_graph(folder, sizes, name, number, json, slope=0.0, time_constants=None, verify=False):
    """Trial, objective and gradients of any graph. Trials are half as long where time constants are trained, for in a
    settled state they matter little."""
    trial = sizes.trial if time_constants is None else sizes.short_trial
    torch.manual_seed(2000 + 100 * number + sizes.seed)
    network = Network(Graph(json), DT_MS, sizes.tau_ms, slope, time_constants)
    draw_values(network)
    images, labels = sizes.images(json["image_side"])
    outcome = objective(network, images, labels, trial)
    outcome.loss.backward()
    if verify:
        verify_gradients(name, network, images, labels, trial, outcome.spontaneous)
    configuration = {"graph": json, "dt_ms": DT_MS, "tau_ms": sizes.tau_ms} | trial_json(sizes, trial, slope)
    folder.save(name, trial_tensors(network, images, labels, outcome), configuration)


def dynamics_of_graph(folder, sizes, name, number, json):
    """Steady states without an image and for two images, and the linearisation at each. All weights of projections are
    scaled alike, so that every state is stable but not by far."""
    torch.manual_seed(2000 + 100 * number + sizes.seed)
    network = Network(Graph(json), DT_MS, sizes.tau_ms)
    draw_values(network)
    side = json["image_side"]
    images = torch.randn(3, json["in_channels"], side, side)
    images[0] = 0.0
    with torch.no_grad():
        flows = [Flow(network, network.inp(image[None])) for image in images]
    found = stable_states(network, flows)
    states, residuals = [flow.state(x) for flow, (x, _) in zip(flows, found)], [residual for _, residual in found]
    tensors = {"images": images, **with_prefix("param.", network.state_dict())}
    for k, (flow, (x, _)) in enumerate(zip(flows, found)):
        probes = torch.randn(2, len(x))
        response = linearisation(flow, x, probes) | noise_response(flow, x, probes)
        tensors |= with_prefix(f"jacobian.{k}.", response)
    tensors |= steady_tensors(network, states) | {"residual": torch.stack(residuals)}
    folder.save(name, tensors, dynamics_json(sizes, json))


def steady_tensors(network, states):
    tensors = {}
    for l, area in enumerate(network.graph.areas):
        tensors[f"steady.{l}"] = torch.cat([state.r[l] for state in states])
        if area.adapting is not None:
            tensors[f"steady_adaptation.{l}"] = torch.cat([state.a[l] for state in states])
    return tensors


def dynamics_json(sizes, json):
    return {
        "graph": json,
        "dt_ms": DT_MS,
        "tau_ms": sizes.tau_ms,
        "negative_slope": 0.0,
        "vectors": "activity of all areas in their order, then adaptation of all areas that adapt",
        "eigenvalues": "(n, 2): real and imaginary parts per ms, the largest real part first",
        "exponents": "log|1 + dt lambda| / dt per ms, the largest first",
        "covariance": "J S + S J^T + Q = 0 with Q = 2 phi'(u)^2 / tau for activity and 0 for adaptation",
        "covariance_of_steps": "S = M S M^T + dt Q with M = I + dt J",
    }


def stable_states(network, flows):
    """(state, residual) of every flow, at the largest gain tried at which every mode decays within 200 ms under Euler
    steps."""
    gains = [network.convs[p.name].parametrizations.weight.original0 for p in network.graph.projections]
    for gain in (1.8, *[0.95] * 30):
        with torch.no_grad():
            for g in gains:
                g.mul_(gain)
        try:
            found = [steady_state(flow) for flow in flows]
        except NoSteadyState:
            continue
        with torch.no_grad():
            jacobians = [flow.jacobian(x).numpy() for flow, (x, _) in zip(flows, found)]
        factors = [np.abs(1.0 + DT_MS * np.linalg.eigvals(jacobian)).max() for jacobian in jacobians]
        if np.log(max(factors)) / DT_MS < -5e-3:
            return found
    raise NoSteadyState("no gain has stable states")


def oscillation(folder, sizes, name, number, json):
    """A steady state that is an unstable focus, around which activity settles on a cycle: the first that is found among
    random networks of growing gain."""
    torch.manual_seed(2000 + 100 * number + sizes.seed)
    side = json["image_side"]
    for _ in range(20):
        network = Network(Graph(json), DT_MS, sizes.tau_ms)
        draw_values(network)
        image = torch.randn(1, json["in_channels"], side, side)
        with torch.no_grad():
            flow = Flow(network, network.inp(image))
            found = unstable_focus(network, flow)
        turning = found and cycle(flow)
        if turning:
            break
    else:
        raise NoSteadyState("no network oscillates")
    x, residual = found
    tensors = {
        "images": image,
        **with_prefix("param.", network.state_dict()),
        **steady_tensors(network, [flow.state(x)]),
        "residual": residual[None],
        **with_prefix("jacobian.0.", linearisation(flow, x, torch.randn(2, len(x)))),
        **with_prefix("cycle.", {key: torch.tensor(value) for key, value in turning.items()}),
    }
    configuration = dynamics_json(sizes, json)
    del configuration["covariance"], configuration["covariance_of_steps"]
    cycle_json = {"cycle": "period in ms under Euler steps; extremes of the mean activity of every area"}
    folder.save(name, tensors, configuration | cycle_json)


def unstable_focus(network, flow):
    """(state, residual) at the smallest gain tried at which a pair of modes grows within 200 ms, if there is one."""
    gains = [network.convs[p.name].parametrizations.weight.original0 for p in network.graph.projections]
    for gain in (1.4, *[1.05] * 12):
        for g in gains:
            g.mul_(gain)
        try:
            # Simulation leads away from what is looked for: a short one, to begin near.
            found = steady_state(flow, steps=200)
        except NoSteadyState:
            return None
        values, _ = sorted_eigenvalues(flow.jacobian(found[0]).numpy())
        if values[0].real > 5e-3:
            return found if values[0].imag != 0.0 else None
    return None


def all_of_graphs(folder, sizes, verify):
    rule = sizes.rule(sizes.graph_image, sizes.graph_channels)
    cells = [adapting(tau_a, beta, True) for tau_a, beta in ((20.0, 0.8), (30.0, 0.4), (15.0, 1.2), (60.0, 0.6))]
    adapted = with_areas(rule, tau_ms=[8.0, None, 14.0, 20.0], cell=cells)
    slow = with_areas(rule, tau_ms=[None, 12.0, 16.0, 20.0])
    every = {area["name"]: "area" for area in rule["areas"]}
    some = {area["name"]: ("area", "channel")[l % 2] for l, area in enumerate(rule["areas"])}
    of = lambda name, number, json, **rest: of_graph(folder, sizes, name, number, json, verify=verify, **rest)
    of("feedback", 0, with_feedback(rule, "bilinear"))
    of("feedback_nearest", 1, with_feedback(rule, "nearest"))
    of("adapting", 2, adapted, time_constants=every)
    of("time_constants", 3, slow, time_constants=some)
    of("graph", 4, two_streams(sizes), slope=0.2)

    coupled = with_feedback(sizes.rule(sizes.dynamics_image, sizes.dynamics_channels), "bilinear")
    coupled = with_areas(coupled, tau_ms=[None, None, 15.0, 20.0])
    dynamics_of_graph(folder, sizes, "feedback_dynamics", 5, coupled)
    cells = [adapting(tau_a, beta, False) for tau_a, beta in ((20.0, 0.5), (25.0, 0.3), (16.0, 0.8), (30.0, 0.4))]
    for name, number, make, image in (
        ("adapting_dynamics", 6, dynamics_of_graph, sizes.adapting_image),
        ("oscillating_dynamics", 7, oscillation, sizes.oscillating_image),
    ):
        small = with_feedback(sizes.rule(image, sizes.adapting_channels), "nearest")
        make(folder, sizes, name, number, with_areas(small, tau_ms=[None, None, 15.0, 20.0], cell=cells))


def verify_gradients(name, network, images, labels, trial, spontaneous, h=1e-6):
    """Gradients against central differences, along a random direction of all parameters of a kind (the first part of
    their names) at a time; the spontaneous state is held, for it has no gradient."""
    kinds = {}
    for parameter, p in network.named_parameters():
        kinds.setdefault(parameter.split(".")[0], []).append(p)
    worst, generator = 0.0, torch.Generator().manual_seed(0)
    for kind, parameters in kinds.items():
        directions = [torch.randn(p.shape, generator=generator) for p in parameters]
        values, losses = [p.detach().clone() for p in parameters], []
        with torch.no_grad():
            for change in (h, -h):
                for p, value, direction in zip(parameters, values, directions):
                    p.copy_(value + change * direction)
                losses.append(objective(network, images, labels, trial, spontaneous).loss.item())
            for p, value in zip(parameters, values):
                p.copy_(value)
        found = (losses[0] - losses[1]) / (2 * h)
        products = [p.grad * direction for p, direction in zip(parameters, directions)]
        expected = sum(product.sum().item() for product in products)
        error = abs(found - expected) / max(product.norm().item() for product in products)
        assert error < 1e-5, f"{name}: {kind}: {found} by differences, {expected} by autograd"
        worst = max(worst, error)
    print(f"{name}: gradients and central differences differ by {worst:.1e} of their norm at most")


def verify_upsampling():
    """PyTorch's interpolation against its formula: nearest takes floor(i n/m), bilinear (i + 1/2) n/m - 1/2."""
    for n, m in ((1, 4), (2, 7), (3, 5), (4, 7), (4, 8), (5, 5)):
        x = torch.randn(1, 2, n, n)
        nearest = torch.tensor([i * n // m for i in range(m)])
        expected = x[:, :, nearest][:, :, :, nearest]
        assert torch.equal(F.interpolate(x, size=(m, m), mode="nearest"), expected)
        weights = torch.zeros(m, n)
        for i in range(m):
            place = max((i + 0.5) * n / m - 0.5, 0.0)
            low = min(int(place), n - 1)
            weights[i, low] += 1.0 - (place - low)
            weights[i, min(low + 1, n - 1)] += place - low
        expected = weights @ x @ weights.T
        found = F.interpolate(x, size=(m, m), mode="bilinear", align_corners=False)
        assert (found - expected).abs().max() < 1e-14, (n, m)
    print("upsampling agrees with its formula")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", metavar="OUT_DIR")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--verify", action="store_true", help="check gradients and upsampling as well")
    given = arguments.parse_args()
    folder, sizes = Folder(given.folder), Sizes(given.seed)
    # The order of sums is then that of every machine.
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1000 + given.seed)
    rollout(folder, sizes, "rollout")
    rollout(folder, sizes, "annealed", slope=0.5)
    linear(folder, sizes)
    cnn(folder, sizes)
    invert(folder, sizes)
    optim(folder)
    dynamics(folder, sizes)
    predictivity(folder, given.seed)
    published_r2(folder)
    if given.verify:
        verify_upsampling()
    all_of_graphs(folder, sizes, given.verify)


if __name__ == "__main__":
    main()
