"""Jobs of many requests: together where they are prepared alike and their files have names of their own."""

from dataclasses import replace
from pathlib import Path

from export.pipeline.task import Task
from export.pipeline.tasks import Unit, tasks_of, units_of
from export.request.request import Request
from export.targets.coreml.options import CoreMlOptions
from tests.coreai_assets import needs_coreai


def _tasks(*requests: Request) -> list[Task]:
    asked = [task for request in requests for task in tasks_of(request)]
    return [replace(task, number=number) for number, task in enumerate(asked)]


def _numbers(units: list[Unit]) -> list[list[int]]:
    return [[task.number for task in unit.tasks] for unit in units]


@needs_coreai
def test_jobs_that_share_a_trace_stay_together() -> None:
    units = units_of(tasks_of(Request(("m0", "m1"), ("all",), weights="seeded")))
    assert [[(task.job.model, task.job.target.name) for task in unit.tasks] for unit in units] == [
        [("m1", "onnx"), ("m1", "openvino"), ("m1", "tensorrt")],  # the largest model first
        [("m1", "coreml")],
        [("m1", "coreai")],
        [("m0", "onnx"), ("m0", "openvino"), ("m0", "tensorrt")],
        [("m0", "coreml")],
        [("m0", "coreai")],
    ]
    assert [unit.turn for unit in units] == [0, 1, 2, 0, 1, 2]


def test_what_they_can_share_is_shared() -> None:
    asked = Request(("m0",), ("onnx",), weights="seeded")
    tasks = _tasks(
        asked,
        replace(asked, targets=("openvino",), precision="fp16"),  # the same trace
        replace(asked, targets=("coreml",)),
        replace(asked, targets=("coreml",), options={"coreml": CoreMlOptions(ios=16)}),
        replace(asked, targets=("coreml",), options={"coreml": CoreMlOptions(author="Ada")}),  # files of the same names
        replace(asked, batch=4),
        replace(asked, golden=Path("photos")),  # another reference
        replace(asked, models=("m1",)),
    )
    units = units_of(tasks)
    assert _numbers(units) == [[7], [0, 1, 5], [2, 3], [4], [6]]
    assert [unit.turn for unit in units] == [None, 0, 1, 2, None]
    alone = units_of(tasks, alone=True)
    assert _numbers(alone) == [[0, 1, 2, 3, 5], [4], [6], [7]]
    assert all(unit.turn is None for unit in alone)


def test_labels_of_labeled_images_are_part_of_the_preparation() -> None:
    asked = Request(("m0",), ("coreml",), weights="seeded")
    labeled = replace(asked, options={"coreml": CoreMlOptions(labels="none")})
    assert _numbers(units_of(_tasks(asked, labeled))) == [[0], [1]]
