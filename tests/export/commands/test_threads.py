"""Commands that compute a reference give the same budgets on every host: one thread, whatever the process has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from export.commands.explain import explain
from export.commands.judge import judge_file
from export.commands.verify import verify
from runtimes.host.threads import torch_threads
from validation.reference.model import ReferenceModel


def _verified(folder: Path) -> object:
    return verify(folder, weights="seeded")


def _explained(folder: Path) -> object:
    return explain(folder, None, None)


def _judged(folder: Path) -> object:
    return judge_file("m0", "seeded", next(folder.glob("ship/*.onnx")))


@pytest.mark.parametrize("command", [_verified, _explained, _judged])
def test_a_reference_is_computed_on_one_thread(
    command: Callable[[Path], object], exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, made = list[int](), ReferenceModel.__init__

    def init(reference: ReferenceModel, *given: Any) -> None:
        seen.append(torch.get_num_threads())
        made(reference, *given)

    monkeypatch.setattr(ReferenceModel, "__init__", init)
    with torch_threads(2):
        command(exported.out / "m0-64-onnx-fp32-untrained")
        assert torch.get_num_threads() == 2
    assert seen == [1]
