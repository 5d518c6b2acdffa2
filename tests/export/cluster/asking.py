"""What tests ask clusters for, and what is said to people meanwhile."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from efficientvit.size import square
from export.cluster.address import Cluster
from export.cluster.client import Workers
from export.pipeline.finished import Finished
from export.request.request import Request
from export.workers.progress import Progress
from tests.silent import Silent
from validation.accuracy.sharing import Pixels, Run

SLUGS = {target: f"m0-64-{target}-{precision}-untrained" for target, precision in (
    ("onnx", "fp32"), ("openvino", "fp32"), ("coreml", "fp16"), ("tensorrt", "fp16"))}  # fmt: skip


class Heard(Silent):
    """What was said to people."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[tuple[str, str, str]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stage(self, slug: str, name: str, seconds: float, status: str, *, cached: bool) -> None:
        self.stages.append((slug, name, status))


def export(request: Request, progress: Progress, *, cluster: Cluster, wait_s: float) -> Iterator[Finished]:
    """By the workers of a cluster that is asked for nothing else."""
    with Workers(cluster, wait_s) as workers:
        yield from workers.export(request, progress)


def asked(out: Path, *targets: str) -> Request:
    return Request(("m0",), targets or tuple(SLUGS), weights="seeded", image_size=square(64), time=False, out=out)


def write(_: Progress, paths: Mapping[str, str], out: Path, text: str) -> int:
    """On a worker: a file, and one in a folder, in what has the name of `out` here; how many."""
    there = Path(paths[str(out)])
    (there / "folder").mkdir()
    for name in ("file", "folder/file"):
        (there / name).write_text(text)
    return 2


def keep_stepping(progress: Progress, _: object, seconds: float) -> None:
    """On a worker: say so all the time."""
    step, until = progress.step, time.monotonic() + seconds
    while time.monotonic() < until:
        step("stepping")
        time.sleep(0.05)


@dataclass(frozen=True)
class Who:
    """Answers with an image's sum and the process that it was summed in; `address`: of the scheduler.

    The process that asks answers nothing until a worker has.
    """

    address: str
    asks: int

    @contextmanager
    def opened(self) -> Iterator[Run]:
        from distributed import Client, Event

        here = os.getpid()
        with Client(self.address, set_as_default=False) as client:
            helped = Event("helped", client=client)

            def run(pixels: Pixels) -> NDArray[np.floating]:
                if here == self.asks:
                    assert helped.wait(200)
                else:
                    helped.set()
                return np.array([[float(each.sum()), here] for each in pixels])

            yield run
