"""The table of formats, and formats that installed packages add to it."""

import copy
import pickle
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from efficientvit.errors import ArtifactChanged, StageFailed, Unavailable
from runtimes import registry
from runtimes.artifact import COMPANIONS, Artifact, Format
from runtimes.external import open_foreign
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.registry import (
    BUILT_IN,
    external_format,
    format_names,
    formats,
    native_runtime,
    read_constants,
    read_ports,
    row_of,
    runtime_for,
)

NCNN = Format("ncnn")
MODULE = """
from runtimes.onnx.reader import OnnxReader
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.registry import Row

ROW = Row("ncnn", (OnnxRuntime(),), OnnxReader(), companions={".ncnn": ".weights"}, external_suffix=".ncnn")
EMPTY = Row("ncnn", ())
"""


def test_every_format_has_an_entry() -> None:
    known = {Format.TORCH, Format.ONNX, Format.OPENVINO, Format.COREML, Format.COREAI, Format.NETWORK, Format.ENGINE}
    assert set(BUILT_IN) == set(formats()) == known


def test_every_format_can_be_run_somewhere() -> None:
    assert all(row.runtimes for row in BUILT_IN.values())


def test_the_names_of_a_formats_runtimes_are_its_own() -> None:
    for row in BUILT_IN.values():
        assert len({runtime.name for runtime in row.runtimes}) == len(row.runtimes)


def test_a_file_for_another_runtime_is_judged_without_optimizations(onnx_batch_1: Artifact) -> None:
    for ships, level in ((True, "ORT_ENABLE_ALL"), (False, "ORT_DISABLE_ALL")):
        settings = runtime_for(Format.ONNX, ships=ships).shipped_settings(onnx_batch_1)
        assert settings["graph_optimization_level"] == level


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages; what is loaded from it is forgotten afterwards."""
    before, modules = dict(COMPANIONS), set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if name.startswith("rows_of_"):
            del sys.modules[name]
    COMPANIONS.clear()
    COMPANIONS.update(before)
    registry._loaded.cache_clear()


def install(site: Path, entry: str, code: str = MODULE, distribution: str = "vit-export-ncnn") -> str:
    """A distribution as pip leaves it, whose entry point `entry` is an object of its module; the module's name."""
    name = distribution.replace("-", "_")
    (site / f"rows_of_{name}.py").write_text(code)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    form, value = entry.split("=")
    (info / "entry_points.txt").write_text(f"[vit_export.formats]\n{form} = rows_of_{name}:{value}\n")
    return f"rows_of_{name}"


def test_an_installed_package_adds_a_format(site: Path, onnx_batch_1: Artifact) -> None:
    module = install(site, "ncnn=ROW")
    assert row_of(Format.ONNX) is BUILT_IN[Format.ONNX]
    assert module not in sys.modules  # only loaded when it is asked for
    assert list(formats()) == [*BUILT_IN, NCNN]
    assert isinstance(native_runtime(NCNN), OnnxRuntime)
    assert row_of(NCNN) is row_of(NCNN)

    path = site / "model.ncnn"
    shutil.copyfile(onnx_batch_1.path, path)
    with pytest.raises(ArtifactChanged, match=r"model\.weights is missing"):
        Artifact.on_disk(path, NCNN, onnx_batch_1.model, made_by="test")
    path.with_suffix(".weights").write_bytes(b"1")
    artifact = Artifact.on_disk(path, NCNN, onnx_batch_1.model, made_by="test")
    assert [file.name for file in artifact.files()] == ["model.ncnn", "model.weights"]
    assert read_ports(artifact) == read_ports(onnx_batch_1)
    assert [name for name, _ in read_constants(artifact)] == [name for name, _ in read_constants(onnx_batch_1)]
    path.with_suffix(".weights").write_bytes(b"2")
    with pytest.raises(ArtifactChanged):
        artifact.require_unchanged()
    assert open_foreign(path, "m0", 10).artifact.format == NCNN


def test_a_format_that_nobody_adds_is_named(onnx_batch_1: Artifact) -> None:
    with pytest.raises(Unavailable, match="'ncnn' is unknown") as raised:
        read_ports(replace(onnx_batch_1, format=NCNN))
    assert "tensorrt-network" in (raised.value.expected or "")
    assert "vit_export.formats" in (raised.value.next_step or "")


@pytest.mark.parametrize(
    ("entry", "code", "got"),
    [
        ("ncnn=ROW", "import a_package_that_is_missing", "ModuleNotFoundError: No module named 'a_package_that_"),
        ("ncnn=ROW", "raise OSError('libncnn.so not found')", "OSError: libncnn.so not found"),
        ("ncnn=ROW", "", "AttributeError"),
        ("ncnn=ROW", "ROW = 'a text'", "str: 'a text'"),
        ("ncnn=EMPTY", MODULE, "Row: Row(title='ncnn', runtimes=()"),
        ("ncnn=ROW", MODULE.replace('companions={".ncnn"', 'companions={".xml"'), "files '.xml', which are another"),
        ("ncnn=ROW", MODULE.replace('x=".ncnn"', 'x=".onnx"'), "files '.onnx', which are another format's"),
    ],
)
def test_a_broken_row_is_an_error_that_names_its_distribution(
    entry: str, code: str, got: str, site: Path, onnx_batch_1: Artifact
) -> None:
    install(site, entry, code)
    for ask in (formats, lambda: row_of(NCNN)):
        with pytest.raises(StageFailed, match="'ncnn' of the distribution 'vit-export-ncnn' cannot be loaded") as error:
            ask()
        assert (error.value.got or "").startswith(got)
        assert "rows_of_vit_export_ncnn:" in (error.value.expected or "")
        assert "vit-export-ncnn" in (error.value.next_step or "")
    assert read_ports(onnx_batch_1)  # the other formats are as they were
    assert external_format(".onnx") == Format.ONNX
    assert NCNN in format_names()
    assert COMPANIONS == {".xml": ".bin", ".engine": ".onnx"}


def test_two_packages_with_one_format_are_an_error_that_names_both(site: Path) -> None:
    install(site, "ncnn=ROW")
    install(site, "ncnn=ROW", distribution="another-ncnn")
    with pytest.raises(StageFailed, match="'ncnn' of the distribution 'vit-export-ncnn' exists already") as raised:
        row_of(NCNN)
    assert raised.value.got == "another of 'another-ncnn'"
    assert (raised.value.next_step or "").startswith("pip uninstall")


def test_a_package_cannot_replace_a_format_of_ours(site: Path, onnx_batch_1: Artifact) -> None:
    module = install(site, "onnx=ROW")
    with pytest.raises(StageFailed, match="'onnx' of the distribution 'vit-export-ncnn' exists already"):
        formats()
    assert module not in sys.modules
    assert read_ports(onnx_batch_1)


def test_a_format_is_one_object_however_it_came() -> None:
    """A newcomer's `artifact.format is Format.ONNX` was false of an artifact that was read from a manifest."""
    names = (str(Format.ONNX), "".join(["on", "nx"]))
    assert all(Format(name) is Format.ONNX for name in names)
    assert pickle.loads(pickle.dumps(Format("new"))) is Format("new")
    assert copy.deepcopy(Format.ONNX) is Format.ONNX
