"""The Python API is the command line's: the same names, the same results; it raises, and prints nothing."""

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from efficientvit.errors import BadInput, BadOption
from export import api
from export.cli.main import cli
from export.commands.differences import Diff
from export.commands.export import Exports
from export.commands.predict import Prediction, Predictions
from export.commands.recorded import Finding
from export.exits import Exit
from export.request.options import ExportOptions, RunOptions, about, command_of
from export.request.target_options import flags, keyword
from runtimes.runtime import Evidence
from tests.export.conftest import Exported

SHOWN = {"as_json", "layers", "help", "summary", "dry_run"}
"""What concerns the terminal alone."""
OWN = {"progress", "command", "finished", "options"}
FUNCTIONS = (
    "bench",
    "diff",
    "explain",
    "export",
    "judge",
    "predict",
    "recover",
    "release",
    "selftest",
    "tune",
    "verify",
)


def options_of(command: str) -> set[str]:
    found = cli.commands[command]
    names = {str(each.name) for each in found.get_params(click.Context(found))} - SHOWN
    return {name for name in names if not name.startswith("_")}  # click's own


@pytest.mark.parametrize("name", FUNCTIONS)
def test_keywords_are_the_commands_options(name: str) -> None:
    keywords = set(inspect.signature(getattr(api, name)).parameters) - OWN
    if name == "export":
        keywords |= set(ExportOptions.__annotations__)
    assert keywords == options_of(name)


def test_every_function_is_one_of_these() -> None:
    found = {name for name in api.__all__ if inspect.isfunction(getattr(api, name))}
    assert found == {*FUNCTIONS, "plan"}  # release --dry-run


def test_the_table_has_every_option_of_the_command_line() -> None:
    of_the_run = {"models", "cluster", "cluster_wait", "tls_ca", "tls_cert", "tls_key"}
    assert set(ExportOptions.__annotations__) | set(RunOptions.__annotations__) | of_the_run == options_of("export")
    assert {keyword(flag) for _, flag in flags()} <= set(ExportOptions.__annotations__)
    with pytest.raises(KeyError):
        about("models")


def test_an_option_that_does_not_exist_is_pythons_error() -> None:
    with pytest.raises(TypeError, match="no option 'imagesize'"):
        api.export("m0", imagesize=64)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"require": "hearsay"}, "--require has no 'hearsay'"),
        ({"mean": 3}, "--mean cannot be used"),
        ({"image_size": "big"}, "image size 'big'"),
        ({"batch": 0}, "batch '0'"),
        ({"target": "coreml", "ios": "new"}, "--ios cannot be used"),
        ({"target": "tensorrt", "profile": (1, 2)}, "--profile cannot be used"),
        ({"target": "coreml", "ane_budget": "all"}, "--ane-budget cannot be used"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadOption, match=said) as refused:
        api.export("m0", **options)
    assert refused.value.expected
    assert refused.value.next_step


def test_values_as_python_has_them_are_those_that_are_typed() -> None:
    from export.request.keywords import request_of

    python = request_of("m0", {"target": ["coreml"], "weights_bits": 8, "ios": 16, "image_size": 64, "batch": 1})
    typed = request_of(("m0",), {"target": ("coreml",), "weights_bits": "8", "ios": "16", "image_size": "64x64"})
    assert python == typed
    assert request_of("m0", {"target": "tensorrt", "sm": 89}) == request_of("m0", {"target": "tensorrt", "sm": ["89"]})


def test_the_command_that_asks_for_the_same() -> None:
    words = command_of(("m0",), {"target": ["onnx", "coreml"], "no_time": True, "ema": False, "mean": (0.1, 0.2, 0.3)})
    assert words == ("m0", "--target", "onnx,coreml", "--no-time", "--mean", "0.1", "0.2", "0.3")


def test_an_export_is_the_command_lines(
    exported: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said: list[str] = []
    found = api.export(
        "m0", image_size=64, weights="seeded", no_time=True, out=tmp_path / "out", progress=said.append,
        finished=lambda each: said.append(each.slug),
    )  # fmt: skip
    assert capfd.readouterr() == ("", "")
    (each,) = found.artifacts
    theirs = exported.manifest(each.slug)
    assert found.exit_code is Exit.OK
    assert each.manifest["stages"][-1]["artifact"]["sha256"] == theirs["stages"][-1]["artifact"]["sha256"]
    assert each.manifest["command"][:3] == ["m0", "--image-size", "64"]
    assert said[-1] == each.slug
    assert any(line.startswith(f"{each.slug}: simplify") for line in said)
    assert "weights: seeded:0, UNTRAINED" in "\n".join(said)
    assert json.loads(json.dumps(found.to_json()))["artifacts"][0]["status"] == "verified"


def test_verify_raises_and_still_writes_junit(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        api.verify(tmp_path, junit=tmp_path / "verify.xml")
    assert "<error" in (tmp_path / "verify.xml").read_text()


def test_a_verification_knows_what_was_required(exported: Exported) -> None:
    folder = exported.out / "m0-64-onnx-fp32-untrained"
    found = api.verify(folder, require="native")
    assert found.exit_code is Exit.OK
    page = found._repr_html_()
    assert ">VERIFIED</strong>" in page
    assert "native evidence, native required" in page
    assert found.to_json()["exit_code"] == 0
    assert replace(found, fallback=True).exit_code is Exit.NOT_VERIFIED


def test_what_a_notebook_shows_is_escaped() -> None:
    name = "<script>alert(1)</script>"
    worse = (Finding("parity", name, name, worse=True, detail=name),)
    diff = Diff(Path(name), Path(name), worse, None, (name,))
    photo = Prediction(Path(name), ((name, 0.5),))
    predictions = Predictions(Path(name), name, name, Evidence.NATIVE, trained=False, photos=(photo,))
    for found in (diff, predictions):
        assert "<script" not in found._repr_html_()
        assert "&lt;script&gt;" in found._repr_html_()


def test_a_bad_verdict_cannot_be_overlooked(exported: Exported) -> None:
    manifest = exported.manifest("m0-64-onnx-fp32-untrained")
    from export.pipeline.finished import Finished
    from export.targets.registry import TARGETS
    from export.targets.target import Job

    job = Job("m0", TARGETS["onnx"], "fp32", 1, 18)
    good = Finished(job, "good", Path("good"), manifest)
    bad = Finished(job, "bad", Path("bad"), {**manifest, "status": "rejected", "exit_code": 1})
    assert ">VERIFIED</strong>" in Exports((good,))._repr_html_()
    assert ">REJECTED</strong>" in Exports((bad,))._repr_html_()
    both = Exports((good, bad))
    assert both.exit_code is Exit.REJECTED
    assert ">1 OF 2 ARTIFACTS READY</strong>" in both._repr_html_()
    assert "#a40e26" in both._repr_html_()
