"""Jobs of many requests: together where they are prepared alike and their files have names of their own."""

from dataclasses import replace
from pathlib import Path

from export.pipeline.tasks import Task, Unit, units_of
from export.request.request import Request
from export.targets.coreml.options import CoreMlOptions


def _tasks(*requests: Request) -> list[Task]:
    asked = [(request, job) for request in requests for job in request.jobs()]
    return [Task(number, request, job) for number, (request, job) in enumerate(asked)]


def _numbers(units: list[Unit]) -> list[list[int]]:
    return [[task.number for task in unit.tasks] for unit in units]


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
    assert _numbers(units) == [[0, 1, 5], [2, 3], [4], [6], [7]]
    assert [unit.convert_first for unit in units] == [False, True, True, False, False]
    alone = units_of(tasks, alone=True)
    assert _numbers(alone) == [[0, 1, 2, 3, 5], [4], [6], [7]]
    assert not any(unit.convert_first for unit in alone)


def test_labels_of_labeled_images_are_part_of_the_preparation() -> None:
    asked = Request(("m0",), ("coreml",), weights="seeded")
    labeled = replace(asked, options={"coreml": CoreMlOptions(labels="none")})
    assert _numbers(units_of(_tasks(asked, labeled))) == [[0], [1]]
