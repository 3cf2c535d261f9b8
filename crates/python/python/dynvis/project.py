"""Pipelines, runs and their tables, by way of the program `dynvis`."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ._engine import DynvisError
from ._program import PathLike, Project, tell

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = ["Run", "Stage", "columns", "init", "output", "run", "runs", "table", "tables"]


@dataclass(frozen=True)
class Stage:
    """A stage of a run.

    Attributes:
        name: Its name, with the fields of a matrix: `cordsnet@seed=0`.
        kind: Its kind: `train`, `noise`, ...
        outcome: What became of it: `ran`, `cached`, `failed`, ...
        seconds: How long it took, in s; None where it did not run.
        outputs: Name and type of each output.
    """

    name: str
    kind: str
    outcome: str
    seconds: float | None
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """A run of a pipeline, as recorded.

    Attributes:
        id: Its name, which `table` and others take.
        pipeline: Name of the pipeline.
        status: `done`, `failed`, `interrupted`, `running` or `killed`.
        started: When it started.
        seconds: How long it took, in s.
        stages: Its stages.
        record: All that is recorded, as `dynvis runs --json` prints it.
    """

    id: str
    pipeline: str
    status: str
    started: datetime
    seconds: float
    stages: tuple[Stage, ...]
    record: Mapping[str, Any]

    @classmethod
    def _of(cls, record: Mapping[str, Any]) -> Run:
        stages = tuple(
            Stage(
                name=stage["name"],
                kind=stage["kind"],
                outcome=stage["outcome"],
                seconds=stage["seconds"],
                outputs={output["slot"]: output["artifact"] for output in stage["outputs"]},
            )
            for stage in record["stages"]
        )
        # Python 3.10 reads six digits of a second at most, and no Z.
        started = datetime.fromisoformat(record["started_at"][:19] + "+00:00")
        return cls(
            id=record["id"],
            pipeline=record["pipeline"],
            status=record["status"],
            started=started,
            seconds=record["seconds"],
            stages=stages,
            record=record,
        )

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for stage in self.stages:
            counts[stage.outcome] = counts.get(stage.outcome, 0) + 1
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        return f"<Run {self.id} of {self.pipeline}: {self.status} in {self.seconds:.1f} s; {outcomes}>"


def init(template: str = "quickstart", folder: PathLike = ".") -> Path:
    """Makes a project from a template: a pipeline with comments, and the folders that it needs.

    No file that is there is changed.

    Args:
        template: `quickstart`, `images`, `recordings` or `cognitive`.
        folder: The project's folder; it is made where it is not there.

    Returns:
        The folder.

    Raises:
        CommandError: Where there is no such template, or the folder cannot be written.
    """
    Project().call("init", template, f"--folder={folder}")
    return Path(folder)


def _within(pipeline: Path, project: Path) -> Path:
    """A pipeline of the project, or else a file of the present folder."""
    is_own = pipeline.is_absolute() or (project / pipeline).exists() or not pipeline.exists()
    return pipeline if is_own else pipeline.absolute()


def run(
    pipeline: PathLike,
    *stages: str,
    set: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    device: str | None = None,
    force: bool | Sequence[str] = False,
    keep_going: bool = False,
    progress: bool = True,
    project: PathLike | None = None,
    cache: PathLike | None = None,
) -> Run:
    """Runs what is needed to bring a pipeline up to date, as `dynvis run` does.

    Ctrl-C interrupts the run, which keeps the checkpoints of trainings; the same call goes on from them.

    Args:
        pipeline: The pipeline's YAML file; a relative path is looked for in `project` first.
        *stages: Stages to bring up to date, with all that they need; every stage if none is named.
        set: Overrides of parameters (`noise.levels`), variables (`vars.data`) or the `seed`, by name.
        jobs: Stages that run side by side at most; one for each processor thread if not given.
        device: Where to train: `auto`, `cpu`, `cuda` or `cuda:1`.
        force: Execute even if up to date: all selected stages, or those named.
        keep_going: Go on with stages that do not depend on a failed one.
        progress: Whether a line is printed to standard error where a stage ends.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.

    Returns:
        The run, whose id `table` and others take.

    Raises:
        CommandError: With the program's message, where the pipeline has an error or a stage failed.
    """
    # The program resolves paths from the project's folder, Python's users from theirs.
    arguments = ["run", str(pipeline if project is None else _within(Path(pipeline), Path(project)))]
    arguments += stages
    for name, value in (set or {}).items():
        arguments.append(f"--set={name}={value if isinstance(value, str) else json.dumps(value)}")
    arguments += [] if jobs is None else [f"--jobs={jobs}"]
    arguments += [] if device is None else [f"--device={device}"]
    if force is True:
        arguments.append("--force")
    elif force:
        arguments += [f"--force={stage}" for stage in ([force] if isinstance(force, str) else force)]
    arguments += ["--keep-going"] if keep_going else []
    record: dict[str, Any] = {}

    def event(told: Mapping[str, Any]) -> None:
        if "finished" in told:
            record.update(told["finished"]["record"])
        ended = told.get("stage_finished")
        if progress and ended is not None:
            seconds = "" if ended["seconds"] is None else f" in {ended['seconds']:.1f} s"
            tell(f"{ended['stage']}: {ended['outcome']}{seconds}")

    Project(project, cache).follow(arguments, event)
    if not record:
        raise DynvisError("the run left no record")
    return Run._of(record)


def runs(
    number: int = 20,
    *,
    pipeline: str | None = None,
    status: str | None = None,
    project: PathLike | None = None,
    cache: PathLike | None = None,
) -> list[Run]:
    """Past runs, the last one first; none where there is no cache yet.

    Args:
        number: How many at most.
        pipeline: Runs of this pipeline only; a glob such as `noise*`.
        status: Runs that ended so: `done`, `failed`, `interrupted`, `running` or `killed`.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.
    """
    arguments = ["runs", "--json", f"--number={number}"]
    arguments += [] if pipeline is None else [f"--pipeline={pipeline}"]
    arguments += [] if status is None else [f"--status={status}"]
    found = json.loads(Project(project, cache).call(*arguments))
    return [Run._of(record) for record in found]


def output(ref: str, *, run: str | Run = "@", project: PathLike | None = None, cache: PathLike | None = None) -> Path:
    """The folder of an output that is no table, such as `cordsnet@seed=0/model` or `noise/pictures`.

    Args:
        ref: `stage/output`.
        run: `@` (last run), `@-1`, a run's id or its first letters, or a `Run`.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.

    Raises:
        CommandError: Where there is no such run or output.
    """
    printed = Project(project, cache).call("show", _run_name(run), ref).decode().strip()
    if "\n" in printed or not Path(printed).is_dir():
        raise DynvisError(f"`{ref}` is a table or several outputs, not the folder of one: name `STAGE/OUTPUT`")
    return Path(printed)


def tables(*, run: str | Run = "@", project: PathLike | None = None, cache: PathLike | None = None) -> list[str]:
    """Names of the result tables of a run, as `table` takes them.

    Args:
        run: `@` (last run), `@-1`, a run's id or its first letters, or a `Run`.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.
    """
    if isinstance(run, Run):
        outputs = ((stage.name, *output) for stage in run.stages for output in stage.outputs.items())
        return [f"{stage}/{slot}" for stage, slot, artifact in outputs if artifact == "table"]
    listed = Project(project, cache).call("show", run).decode().splitlines()
    return [line.split()[0] for line in listed[1:] if line.strip()]


@overload
def table(
    ref: PathLike,
    *,
    run: str | Run = ...,
    where: str | Sequence[str] = ...,
    library: Literal["polars"] = ...,
    project: PathLike | None = ...,
    cache: PathLike | None = ...,
) -> polars.DataFrame: ...
@overload
def table(
    ref: PathLike,
    *,
    run: str | Run = ...,
    where: str | Sequence[str] = ...,
    library: Literal["pandas"],
    project: PathLike | None = ...,
    cache: PathLike | None = ...,
) -> pandas.DataFrame: ...
def table(
    ref: PathLike,
    *,
    run: str | Run = "@",
    where: str | Sequence[str] = (),
    library: Literal["polars", "pandas"] = "polars",
    project: PathLike | None = None,
    cache: PathLike | None = None,
) -> polars.DataFrame | pandas.DataFrame:
    """A result table.

    Args:
        ref: `stage/table`; `stage@*/table` and `stage@field=value,*/table` for several members of a matrix, as one
            table with their fields as columns; or a table file.
        run: `@` (last run), `@-1`, a run's id or its first letters, or a `Run`.
        where: Rows in which it holds: `network=CNN-R2`, `level>0.5`, `tau=` (missing); all of them where several.
        library: `polars` or `pandas`.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.

    Returns:
        Its rows. `columns` says what they mean and in which units.

    Raises:
        CommandError: Where there is no such run or table, or a condition names no column.
    """
    data = io.BytesIO(_parquet(ref, run, where, project, cache))
    if library == "pandas":
        import polars

        return polars.read_parquet(data).to_pandas()
    if library != "polars":
        raise ValueError(f"library `{library}`: there are `polars` and `pandas`")
    import polars

    return polars.read_parquet(data)


def columns(
    ref: PathLike, *, run: str | Run = "@", project: PathLike | None = None, cache: PathLike | None = None
) -> polars.DataFrame:
    """What the columns of a table mean: `name`, `role` (`key` or `value`), `unit` and `description`.

    Args:
        ref: `stage/table`, or a table file.
        run: `@` (last run), `@-1`, a run's id or its first letters, or a `Run`.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.
    """
    import polars

    data = io.BytesIO(_parquet(ref, run, (), project, cache))
    stated = json.loads(polars.read_parquet_metadata(data)["dynvis.table"])["table"]["columns"]
    names = ("name", "role", "unit", "description")
    return polars.DataFrame(
        {name: [column.get(name) for column in stated] for name in names}, schema={name: polars.String for name in names}
    )


def _parquet(
    ref: PathLike, run: str | Run, where: str | Sequence[str], project: PathLike | None, cache: PathLike | None
) -> bytes:
    arguments = ["show", "--format=parquet"]
    arguments += [f"--where={condition}" for condition in ([where] if isinstance(where, str) else where)]
    path = Path(ref)
    if path.is_file():
        arguments.append(str(path.absolute()))
    elif isinstance(ref, Path):
        raise FileNotFoundError(f"{ref} is no file")
    else:
        arguments += [_run_name(run), str(ref)]
    printed = Project(project, cache).call(*arguments)
    if not printed.startswith(b"PAR1"):
        raise DynvisError(f"`{ref}` is no table: `output` gives the folder of any other output")
    return printed


def _run_name(run: str | Run) -> str:
    return run.id if isinstance(run, Run) else run
