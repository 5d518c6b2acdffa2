"""A real scheduler and real workers as processes on the loopback interface, as the commands start them."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.command_line import ROOT, SEARCHED

_ADDRESS = re.compile(r"Scheduler at:\s+(\S+)")
_JOINED = re.compile(r"Registered to:\s")
_WITHIN_S = 240.0
_QUIET = {
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false",
}
"""A scheduler that does nothing takes no time: vit-export says the same to its workers."""


class Process:
    """A process whose log is read as it comes."""

    def __init__(self, arguments: Sequence[str], folder: Path, **environment: str) -> None:
        variables = {**os.environ, "PYTHONPATH": SEARCHED, "TMPDIR": str(folder), **environment}
        self.log: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=variables, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                with self._changed:
                    self.log.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    _ended = False

    def line(self, pattern: re.Pattern[str], times: int = 1) -> re.Match[str]:
        """The line that the log has of this form; waits for it."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.log if (match := pattern.search(line)) is not None]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= times or self._ended, _WITHIN_S), self.log
        assert len(found()) >= times, "".join(self.log)
        return found()[times - 1]

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(_WITHIN_S)


@dataclass
class Hosts:
    """A scheduler with workers. `folder`: for what they write. `given`: options of the scheduler; `tls`: of workers.

    `environment`: variables of the workers.
    """

    folder: Path
    given: Sequence[str] = ()
    tls: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    scheduler: Process = field(init=False)
    address: str = field(init=False)
    workers: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        own = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", *self.given]
        self.scheduler = Process(["-m", "distributed.cli.dask_scheduler", *own], self.folder, **_QUIET)
        self.address = self.scheduler.line(_ADDRESS)[1]

    def start(self, name: str, *arguments: str, **told: Any) -> Process:
        """A worker that joins as soon as it can. `told`: as `tests/export/cluster/faulty.py` has it."""
        environment = dict(self.environment)
        if told:
            environment["DASK_DISTRIBUTED__WORKER__PRELOAD"] = '["tests.export.cluster.faulty"]'
            environment["VIT_EXPORT_TESTS_WORKER"] = json.dumps({key: _plain(value) for key, value in told.items()})
        self.workers[name] = Process(
            ["-m", "export", "worker", self.address, "--name", name, "--scratch", str(self.folder),
             *self.tls, *arguments],
            self.folder, **environment,
        )  # fmt: skip
        return self.workers[name]

    def joined(self, name: str, times: int = 1) -> None:
        """Wait until it has, for the time that is meant: one that was killed joins again."""
        self.workers[name].line(_JOINED, times)

    def stop(self) -> None:
        for process in (*self.workers.values(), self.scheduler):
            if process.process.poll() is None:
                process.process.terminate()
        for process in (*self.workers.values(), self.scheduler):
            process.stop()


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else dict(value) if isinstance(value, Mapping) else value
