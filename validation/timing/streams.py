"""How many images a second a file answers when several streams ask at once, in a process of its own.

    python -m validation.timing.streams RUNTIME FILE SETTINGS FEED

A server's figure: each stream has one thread. ONNX Runtime is run by as many threads on one session, OpenVINO with its
hint for throughput and as many streams. The number is the settings' number of threads.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.artifact import Artifact
from runtimes.runtime import Images
from validation.timing.alone import THREADS, answer, in_a_process

MEASURE_S, _WARM_UP = 1.0, 3

Ask = Callable[[], object]
"""Asks once, and waits for the answer."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images a second with so many streams: one figure for each process that measured it."""

    streams: int
    samples: tuple[float, ...]

    @property
    def images_per_s(self) -> float:
        """Median over the processes."""
        return float(np.median(self.samples))


def throughput(artifact: Artifact, images: Images, streams: int) -> float | None:
    """Images a second, in a new process; None where the runtime is not run so. `images`: a batch for each question.

    Raises:
        StageFailed: the process failed.
    """
    found = in_a_process(__name__, artifact, images, streams)
    return None if found is None else float(found["images_per_s"])


def answered(asks: Sequence[Ask], seconds: float = MEASURE_S) -> tuple[int, float]:
    """Let each of `asks` be repeated by a thread of its own; how many answers came while all worked, in how long.

    Raises:
        Exception: what one of them raised.
    """
    counts = [0] * len(asks)
    failed: list[BaseException] = []
    start, stop = threading.Barrier(len(asks) + 1), threading.Event()

    def repeat(place: int) -> None:
        try:
            for _ in range(_WARM_UP):
                asks[place]()
            start.wait()
            while not stop.is_set():
                asks[place]()
                counts[place] += 1
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            failed.append(error)
            start.abort()

    threads = [threading.Thread(target=repeat, args=(place,), daemon=True) for place in range(len(asks))]
    for thread in threads:
        thread.start()
    try:
        start.wait()
        begun = time.perf_counter()
        stop.wait(seconds)
        done, took = sum(counts), time.perf_counter() - begun
    except threading.BrokenBarrierError:
        done, took = 0, 0.0
    stop.set()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return done, took


def _onnxruntime(path: Path, _: Mapping[str, Any], images: Images, streams: int) -> list[Ask]:
    from runtimes.onnx.runtime import shipped_session

    session = shipped_session(path, 1)
    name = session.get_inputs()[0].name
    return [lambda: session.run(None, {name: images})] * streams


def _openvino(path: Path, settings: Mapping[str, Any], images: Images, streams: int) -> list[Ask]:
    from runtimes.openvino.package import import_openvino

    several = {**settings, "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(streams)}
    compiled = import_openvino().Core().compile_model(path, "CPU", several)

    def asking(request: Any) -> Ask:
        return lambda: request.infer({0: images})

    asks = [asking(compiled.create_infer_request()) for _ in range(streams)]
    asks[0]()  # alone: its bindings set up a static at the first question, and two threads at it lock each other out
    return asks


def _measured(runtime: str, path: Path, settings: Mapping[str, Any], images: Images) -> dict[str, float]:
    streams = int(settings[THREADS[runtime]])
    asks = {"onnxruntime": _onnxruntime, "openvino": _openvino}[runtime](path, settings, images, streams)
    count, seconds = answered(asks)
    return {"images_per_s": count * len(images) / seconds}


if __name__ == "__main__":
    answer(_measured)
