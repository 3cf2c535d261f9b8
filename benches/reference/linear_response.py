"""Steady states of small networks and what the linearisation says of them, by dense matrices.

A state is one vector x: the activity of all areas in their order, each [channels, side, side] row by row, then the
adaptation of the areas that adapt, likewise. Times are in ms.
"""
import numpy as np
import scipy.linalg
import torch

from network import State


class NoSteadyState(Exception):
    """The network has no state that a test could use."""


def pack(maps):
    return torch.cat([m.flatten() for m in maps if m is not None])


class Flow:
    """dx/dt of a network under a constant input."""

    def __init__(self, network, inp):
        self.network, self.inp = network, inp
        zeros = network.zeros(1)
        self.shapes = [m.shape for m in [*zeros.r, *zeros.a] if m is not None]
        self.units = sum(r.numel() for r in zeros.r)
        # Time constant of every unit.
        self.tau = pack([network.tau(l) * torch.ones_like(r) for l, r in enumerate(zeros.r)]).detach()

    def state(self, x):
        sizes = [shape.numel() for shape in self.shapes]
        maps = [part.view(shape) for part, shape in zip(x.split(sizes), self.shapes)]
        areas = self.network.graph.areas
        rest = iter(maps[len(areas) :])
        return State(maps[: len(areas)], [None if area.adapting is None else next(rest) for area in areas])

    def change(self, x):
        """dx/dt."""
        state = self.state(x)
        out_r, out_a = [], []
        for l, target in enumerate(self.network.targets(state, self.inp)):
            r, a = state.r[l], state.a[l]
            out_r.append((target - r) / self.network.tau(l))
            if a is not None:
                tau_a, beta = self.network.adaptation(l)
                out_a.append((beta * r - a) / tau_a)
        return pack(out_r + out_a)

    def currents(self, x):
        """u - a of every unit."""
        state = self.state(x)
        u = self.network.currents(state.r, self.inp)
        return pack([u if a is None else u - a for u, a in zip(u, state.a)])

    def slopes(self, x):
        """phi' of every unit."""
        return torch.where(self.currents(x) > 0, 1.0, self.network.slope)

    def jacobian(self, x):
        return torch.func.jacrev(self.change, chunk_size=64)(x)

    def residual(self, x):
        """max |phi(u - a) - r| and, of what adapts, max |beta r - a|."""
        change = self.change(x)
        tau_a = [
            self.network.adaptation(l)[0] * torch.ones_like(a)
            for l, a in enumerate(self.state(x).a)
            if a is not None
        ]
        times = torch.cat([self.tau, pack(tau_a)]) if tau_a else self.tau
        return (change * times).abs().max()


def steady_state(flow, steps=3000, newton=30, tolerance=1e-13):
    """Simulation from 0, then Newton's method, which is exact once no current changes sign."""
    with torch.no_grad():
        state = flow.network.run(flow.network.zeros(1), flow.inp, steps)[-1]
        x = pack(state.r + state.a)
        for _ in range(newton):
            if flow.residual(x) <= tolerance:
                break
            x = x - torch.linalg.solve(flow.jacobian(x), flow.change(x))
        residual = flow.residual(x)
        # Where the slope of phi changes there is no Jacobian.
        margin = flow.currents(x).abs().min()
    if residual > tolerance or margin < 1e-6:
        raise NoSteadyState(f"residual {residual:.1e}, smallest current {margin:.1e}")
    return x, residual


def sorted_eigenvalues(matrix):
    """All eigenvalues, the largest real part first, and their condition numbers 1/|y^H x|."""
    values, left, right = scipy.linalg.eig(matrix, left=True, right=True)
    cosine = np.abs(np.sum(left.conj() * right, axis=0))
    order = np.lexsort((values.imag, -values.real))
    return values[order], 1.0 / np.maximum(cosine[order], 1e-300)


def stationary_covariance(matrix, noise):
    """S of M S + S M^T + noise = 0 (continuous time)."""
    return scipy.linalg.solve_continuous_lyapunov(matrix, -noise)


def stationary_covariance_of_steps(step, noise):
    """S of S = M S M^T + noise, by doubling (Smith 1968)."""
    total, power = noise, step
    for _ in range(60):
        added = power @ total @ power.T
        total, power = total + added, power @ power
        if np.abs(added).max() <= 1e-17 * np.abs(total).max():
            return total
    raise RuntimeError("the steps are not stable")


def linearisation(flow, x, probes):
    """The Jacobian of a steady state: its products with probes [count, n], eigenvalues and singular values."""
    dt, tau, probes = flow.network.dt_ms, flow.tau.numpy(), probes.numpy()
    with torch.no_grad():
        matrix, slopes = flow.jacobian(x).numpy(), flow.slopes(x).numpy()
    values, condition = sorted_eigenvalues(matrix)
    # What rounding does to an eigenvalue is at most about this; tests compare to 1e-8 per ms.
    leading = condition[:20].max() * np.linalg.norm(matrix, 2) * 1e-16
    if leading > 1e-11:
        raise NoSteadyState(f"the leading eigenvalues are known to {leading:.1e} only")
    # D W: the coupling of the units to each other, without adaptation.
    coupling = np.eye(flow.units) + tau[:, None] * matrix[: flow.units, : flow.units]
    return tensors(
        slopes=slopes,
        eigenvalues=np.stack([values.real, values.imag], 1),
        eigenvalue_condition=condition,
        exponents=np.sort(np.log(np.abs(1.0 + dt * values)) / dt)[::-1],
        numerical_abscissa=np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1],
        coupling_singular_values=np.linalg.svd(coupling, compute_uv=False),
        probes=probes,
        product=probes @ matrix.T,
        transposed_product=probes @ matrix,
    )


def noise_response(flow, x, probes):
    """Stationary covariances at a stable steady state. Noise has sigma = 1 in every unit's current: sqrt(2 tau/dt) xi
    in every Euler step."""
    dt, tau, probes = flow.network.dt_ms, flow.tau.numpy(), probes.numpy()
    with torch.no_grad():
        matrix, slopes = flow.jacobian(x).numpy(), flow.slopes(x).numpy()
    intensity = np.zeros(len(x))
    intensity[: flow.units] = 2.0 / tau * slopes**2
    continuous = stationary_covariance(matrix, np.diag(intensity))
    steps = stationary_covariance_of_steps(np.eye(len(x)) + dt * matrix, np.diag(dt * intensity))
    wrong = np.abs(matrix @ continuous + continuous @ matrix.T + np.diag(intensity)).max()
    if wrong > 1e-12 * np.abs(continuous).max():
        raise RuntimeError(f"the covariance is wrong by {wrong:.1e}")
    out = {}
    for name, covariance in (("covariance", continuous), ("covariance_of_steps", steps)):
        out[f"{name}_diagonal"] = np.diag(covariance)
        out[f"{name}_eigenvalues"] = np.linalg.eigvalsh((covariance + covariance.T) / 2)[::-1]
        out[f"{name}_product"] = probes @ covariance.T
    return tensors(**out)


def tensors(**arrays):
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def cycle(flow, settle=4000, steps=2000):
    """Period in ms and the extremes of every area's mean activity, on the attractor that the simulation from 0 ends in.
    None where it is not a cycle: where it stands still, diverges, or comes back after times that differ."""
    with torch.no_grad():
        state = flow.network.run(flow.network.zeros(1), flow.inp, settle)[-1]
        means = np.array([[r.mean().item() for r in s.r] for s in flow.network.run(state, flow.inp, steps)])
    if not np.isfinite(means).all() or np.ptp(means, axis=0).min() < 1e-3:
        return None
    level = means[:, 0] - means[:, 0].mean()
    before = np.flatnonzero((level[:-1] < 0) & (level[1:] >= 0))
    times = before + level[before] / (level[before] - level[before + 1])
    periods = np.diff(times) * flow.network.dt_ms
    if len(periods) < 10 or np.ptp(periods) > 1e-3 * periods.mean():
        return None
    return {"period_ms": periods.mean(), "minimum": means.min(0), "maximum": means.max(0)}
