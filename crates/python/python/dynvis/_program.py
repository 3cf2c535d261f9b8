"""Calls of the program `dynvis`, which came with this package."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

from ._engine import DynvisError

PathLike = Union[str, "os.PathLike[str]"]


class CommandError(DynvisError):
    """A command of `dynvis` that failed, in its words.

    Attributes:
        exit_code: What it ended with: 2 for wrong input, 100 where a stage failed, 130 where it was interrupted
            (`docs/cli.md`).
        command: Its arguments.
    """

    def __init__(self, message: str, exit_code: int, command: Sequence[str]) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.command = list(command)


def program() -> Path:
    """The program `dynvis` of this installation: the one that pip put beside the interpreter.

    Raises:
        FileNotFoundError: Where it is in none of the folders that pip installs programs to.
    """
    name = "dynvis" + (sysconfig.get_config_var("EXE") or "")
    package = Path(__file__).parent
    folders = [
        Path(sysconfig.get_path("scripts")),
        Path(sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user"))),
        # Of `pip install --target`, and of `--prefix`: lib/pythonX.Y/site-packages/dynvis.
        *(package.parents[up] / "bin" for up in (1, 3, 4) if up < len(package.parents)),
    ]
    for folder in folders:
        path = folder / name
        if path.is_file():
            return path
    looked = ", ".join(str(folder) for folder in folders)
    raise FileNotFoundError(f"the program {name} is not there; looked in {looked}: reinstall the package dynvis")


class Project:
    """Where commands run, and which cache they use.

    Args:
        folder: A folder within the project; the present one if not given.
        cache: Where results are kept; `cache` in the project's folder if not given.
    """

    def __init__(self, folder: PathLike | None = None, cache: PathLike | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.cache = None if cache is None else Path(cache).absolute()

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The whole command line of a command."""
        cache = [] if self.cache is None else [f"--cache={self.cache}"]
        return [str(program()), *arguments, *cache]

    def call(self, *arguments: str) -> bytes:
        """What a command prints.

        Raises:
            CommandError: With what it said, where it failed.
        """
        with self.start(arguments, stdout=subprocess.PIPE) as process:
            output, said = _wait(process, lambda: process.communicate())
        _check(process.returncode, said, arguments)
        return bytes(output)

    def follow(self, arguments: Sequence[str], event: Callable[[Mapping[str, Any]], None]) -> None:
        """Runs a command with `--progress json`; `event` is called with every event.

        Raises:
            CommandError: With what it said, where it failed.
        """
        said: list[bytes] = []

        def read() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                try:
                    told = json.loads(line) if line.startswith(b"{") else None
                except ValueError:
                    told = None
                if isinstance(told, dict):
                    event(told)
                else:
                    said.append(line)
            process.wait()

        arguments = [*arguments, "--progress=json"]
        with self.start(arguments, stdout=subprocess.DEVNULL) as process:
            _wait(process, read)
        _check(process.returncode, b"".join(said), arguments)

    def start(self, arguments: Sequence[str], stdout: int) -> subprocess.Popen[bytes]:
        """Starts a command, in a process group of its own: Ctrl-C is handed on once, by this process."""
        if self.folder is not None and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is no folder")
        return subprocess.Popen(
            self.command(arguments),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # Nobody's terminal: no colour, no pager.
            env={**os.environ, "NO_COLOR": "1"},
        )


def _wait(process: subprocess.Popen[bytes], done: Callable[[], Any]) -> Any:
    """Waits for a command; Ctrl-C interrupts it, so that it ends as it should, and is raised then."""
    try:
        return done()
    except BaseException:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
        raise


def _check(code: int, said: bytes, arguments: Sequence[str]) -> None:
    if code == 0:
        return
    text = said.decode("utf-8", "replace").strip()
    text = text.removeprefix("error: ") or f"dynvis {' '.join(arguments)} ended with code {code}"
    raise CommandError(text, code, arguments)


def tell(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
