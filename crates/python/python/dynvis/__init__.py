"""Convolutional recurrent networks for vision: pipelines of cached experiments, and the engine below them.

`run` brings a pipeline up to date; `table`, `model`, `network`, `activity` and `dataset` are its results. A `Network`
is simulated on images of one's own, and has gradients with respect to them, steady states and spectra.

    import dynvis

    dynvis.init("quickstart", "digits")
    run = dynvis.run("digits/pipelines/quickstart.yaml", project="digits")
    accuracy = dynvis.table("noise/summary", project="digits")

`dynvis.torch`, `dynvis.onnx` and `dynvis.logs` need the extras of those names.
"""

from . import logs
from ._engine import DynvisError, EngineError
from ._engine import version as __version__
from ._program import CommandError, program
from .engine import Network, Simulation, Spectrum, SteadyState
from .project import Run, Stage, columns, init, output, run, runs, table, tables
from .results import ImageSet, activity, dataset, model, network

__all__ = [
    "CommandError",
    "DynvisError",
    "EngineError",
    "ImageSet",
    "Network",
    "Run",
    "Simulation",
    "Spectrum",
    "Stage",
    "SteadyState",
    "__version__",
    "activity",
    "columns",
    "dataset",
    "init",
    "logs",
    "model",
    "network",
    "output",
    "program",
    "run",
    "runs",
    "table",
    "tables",
]
