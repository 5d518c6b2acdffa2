"""The table of gates: what docs say of it, and that a gate is its file and its row."""

import importlib.util
import re
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from export.cli import tables
from export.folder.records import gates_of
from runtimes.artifact import Artifact
from runtimes.precision import Precision
from tests.runtimes.fake import FakeRuntime, Script
from validation.gates import table
from validation.gates.gate import Gate
from validation.judge import judge
from validation.reference.model import ReferenceModel
from validation.verdict import Rejected, VerifiedArtifact

DOCS = Path(__file__).parents[3] / "docs"


def test_names_are_unique_and_every_gate_says_what_it_is() -> None:
    assert len(set(table.names())) == len(table.GATES)
    assert all(gate.title and not gate.title.endswith(".") for gate in table.GATES)
    assert [table.named(name).name for name in table.names()] == list(table.names())


def test_the_docs_have_a_heading_for_each_gate_in_the_order_of_the_table() -> None:
    headings = re.findall(r"^### ([a-z_]+)$", (DOCS / "numerics.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == list(table.names())


@pytest.fixture
def finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The example of docs/adding-a-gate.md: its file, and its row behind structure's."""
    (source,) = re.findall(r"```python\n(.*?)```", (DOCS / "adding-a-gate.md").read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "finite.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("validation.gates.finite", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    gate: Gate = module.FINITE
    place = table.names().index("structure") + 1
    monkeypatch.setattr(table, "GATES", (*table.GATES[:place], gate, *table.GATES[place:]))
    return gate


@pytest.mark.parametrize("broken", [False, True])
def test_a_new_gate_is_its_file_and_its_row(
    broken: bool, finite: Gate, dynamic: Artifact, model_reference: ReferenceModel, healthy: Script
) -> None:
    def script(images: Any) -> Any:
        return np.full_like(healthy(images), np.nan) if broken else healthy(images)

    verdict = judge(dynamic, model_reference.at(Precision()), FakeRuntime(script))
    assert isinstance(verdict, Rejected if broken else VerifiedArtifact)
    report = verdict.report
    assert report is not None
    record = gates_of(report.gates)
    assert list(record) == list(table.names())
    assert (found := record["finite"]) is not None
    assert found.passed is not broken
    assert list(record).index("finite") == list(record).index("structure") + 1
    shown = _shown(lambda screen: tables._gates(screen, report))
    row = next(line for line in shown.splitlines() if line.startswith("finite"))
    assert row.split()[1:3] == [str(len(model_reference.golden) if broken else 0), "0"]
    if isinstance(verdict, Rejected):
        assert "finite gate: " in verdict.reason


def _shown(show: Callable[[Console], None]) -> str:
    text = StringIO()
    show(Console(file=text, width=160))
    return text.getvalue()
