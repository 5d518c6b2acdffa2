"""docs/api.md is run as it stands, and docs/notebook.ipynb by a kernel, as a reader would."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    blocks = _BLOCK.findall((ROOT / "docs/api.md").read_text(encoding="utf-8"))
    assert len(blocks) > 5
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"docs/api.md, example {number}", "exec"), names)
    assert "m0-64-openvino-fp32-untrained verified" in capsys.readouterr().out
    assert (tmp_path / "verify.xml").is_file()


@pytest.mark.filterwarnings("default")  # the kernel's packages have their own
def test_the_notebook_shows_its_verdicts(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=500, kernel_name="python3", resources=resources).execute(env=environment)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [each["data"]["text/html"] for each in outputs if "text/html" in each.get("data", {})]
    assert [">VERIFIED</strong>" in page for page in shown] == [True, True, False]
    assert ">MAY SHIP</strong>" in shown[2]
    assert [each for each in outputs if each.output_type == "stream"] == []  # nothing is printed
