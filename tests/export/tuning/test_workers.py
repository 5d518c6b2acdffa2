"""`vit-export tune --cluster`: workers make the candidates, and this host times them."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from efficientvit.errors import BadOption
from export.request.evaluation import Evaluation
from export.tuning import making
from export.tuning.request import TuneRequest
from tests.command_line import in_this_process
from tests.export.tuning.asking import OPTIONS, folder_in, host
from tests.silent import Silent


def test_workers_make_the_same_candidates(tmp_path: Path) -> None:
    """They are timed here, when the workers have gone."""
    pytest.importorskip("distributed")
    folder_in(tmp_path)
    given = ("tune", *OPTIONS, "-t", "onnx", "-p", "fp32,fp16", "--rounds", "1", "--no-cache")
    here, there = (in_this_process((*given, *more), tmp_path) for more in ((), ("--cluster", "local:1")))
    assert here.code == there.code == 0, there.err
    found, same = (json.loads(ran.out)["candidates"] for ran in (there, here))
    lasting = ("name", "status", "sha256", "drop_points", "error", "within_budget")
    assert [[each[key] for key in lasting] for each in found] == [[each[key] for key in lasting] for each in same]
    assert all(each["latency"] is not None for each in found)


@pytest.mark.parametrize(("until", "made"), [(None, [True, True]), (1.5, [True, False]), (0.0, [False, False])])
def test_a_time_limit_ends_what_workers_make(
    until: float | None, made: list[bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One step a candidate; the clock strikes at each question."""
    asked = TuneRequest("m0", ("onnx",), Evaluation(tmp_path), precisions=("fp32", "fp16"), weights="seeded")
    candidates, _ = asked.candidates(host())
    clock, closed = itertools.count(1), list[bool]()
    monkeypatch.setattr(making, "time", SimpleNamespace(monotonic=lambda: next(clock) / 2))

    class Workers:
        def export_tasks(self, tasks: Any, progress: Any, *_: Any, **__: Any) -> Any:
            try:
                for task in tasks:
                    progress.step(f"{task.job.precision}: trace")
                    yield task.number, task.job
            finally:
                closed.append(True)

    found = making.make(candidates, Silent(), until=until, workers=cast(Any, Workers()))
    assert [each is not None for each in found] == made
    assert closed == [True] * (until != 0.0)


def test_an_error_of_a_worker_ends_the_search(tmp_path: Path) -> None:
    asked = TuneRequest("m0", ("onnx",), Evaluation(tmp_path), precisions=("fp32",), weights="seeded")
    candidates, _ = asked.candidates(host())
    workers = SimpleNamespace(export_tasks=lambda tasks, *_, **__: (each for each in [(0, BadOption("no weights"))]))
    with pytest.raises(BadOption, match="no weights"):
        making.make(candidates, Silent(), workers=cast(Any, workers))
