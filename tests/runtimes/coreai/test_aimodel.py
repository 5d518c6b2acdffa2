"""Saved assets as programs, read by a process of their own."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from efficientvit.errors import BrokenArtifact
from runtimes.coreai.aimodel import HASH, METADATA, PROGRAM, load_program
from runtimes.interface import Port
from tests.coreai_assets import needs_coreai, saved, tiny

pytestmark = needs_coreai


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("assets") / "tiny.aimodel")


@pytest.fixture
def copied(asset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(asset, tmp_path / asset.name))


def test_a_program_is_read_as_it_was_saved(asset: Path) -> None:
    program = load_program(asset)
    assert program.ports() == (
        (Port("image", "float32", (1, 3, 4, 4)),),
        (Port("logits", "float32", (1, 2)),),
    )
    assert [operation.kind for operation in program.operations] == ["conv2d", "reshape", "broadcasting_add"]
    weight = program.constants["own_weight"]
    assert (str(weight.type), weight.stored) == ("fp32 (2, 3, 4, 4)", "const")
    assert isinstance(weight.value, np.ndarray)
    assert weight.value.reshape(-1).tolist() == list(range(96))
    assert program.operations[0].inputs["weight"] == "own_weight"
    sizes = [each.value.tolist() for each in program.constants.values() if isinstance(each.value, np.ndarray)]
    assert [1, 2] in sizes
    assert [0.5, -1.0] in sizes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("dense<true>", [True] * 40),
        ("dense<false>", [False] * 40),
        (f"dense<[{', '.join(['true', 'false', 'false', 'true', 'true'] * 8)}]>", [True, False, False, True, True] * 8),
    ],
)
def test_a_truth_value_has_a_byte_of_its_own(value: str, expected: list[bool], tmp_path: Path) -> None:
    """Apple's library says that one is a bit wide, and writes as many bytes as there are values."""
    program = load_program(
        saved(
            'coreai.graph @main(%x: tensor<40xf32> {coreai.name = "image"}) -> (tensor<40xf32> {coreai.name = "y"}) {\n'
            f"%mask = coreai.constant {value} : tensor<40xi1>\n"
            '%y = "coreai.decomposable.broadcasting_where"(%mask, %x, %x) : (tensor<40xi1>, tensor<40xf32>, '
            "tensor<40xf32>) -> tensor<40xf32>\n"
            "coreai.output %y : tensor<40xf32> }",
            tmp_path / "mask.aimodel",
        )
    )
    (mask,) = [np.asarray(each.value) for each in program.constants.values() if each.type.dtype == "bool"]
    assert mask.tolist() == expected


def test_a_value_that_is_returned_twice_has_both_names(tmp_path: Path) -> None:
    program = load_program(
        saved(
            'coreai.graph @main(%x: tensor<2xf32> {coreai.name = "image"}) -> (tensor<2xf32> {coreai.name = "a"}, '
            'tensor<2xf32> {coreai.name = "b"}, tensor<2xf32> {coreai.name = "c"}) {\n'
            "%y = coreai.relu %x : (tensor<2xf32>) -> tensor<2xf32>\n"
            "coreai.output %y, %y, %x : tensor<2xf32>, tensor<2xf32>, tensor<2xf32> }",
            tmp_path / "twice.aimodel",
        )
    )
    assert program.outputs == ("a", "b", "c")
    kinds = {operation.name: (operation.kind, operation.names()) for operation in program.operations}
    assert kinds == {"a": ("relu", ("image",)), "b": ("identity", ("a",)), "c": ("identity", ("image",))}


def test_a_function_that_is_called_is_taken_in(tmp_path: Path) -> None:
    scale = "tensor<2xf32>"
    program = load_program(
        saved(
            f"""coreai.graph private noinline @twice_abc(%x: {scale}) -> ({scale} {{coreai.name = "y"}}) {{
                %y = coreai.decomposable.broadcasting_add %x, %x : ({scale}, {scale}) -> {scale}
                coreai.output %y : {scale}
            }}
            coreai.graph @main(%x: {scale} {{coreai.name = "image"}}) -> ({scale} {{coreai.name = "logits"}}) {{
                %a = coreai.invoke @twice_abc(%x) : ({scale}) -> {scale}
                %b = coreai.invoke @twice_abc(%a) : ({scale}) -> {scale}
                coreai.output %b : {scale}
            }}""",
            tmp_path / "called.aimodel",
        )
    )
    first, second = program.operations
    assert (first.kind, first.names(), second.name) == ("broadcasting_add", ("image", "image"), "logits")
    assert second.names() == (first.name, first.name)


def _hashed(asset: Path) -> None:
    """As if the program had been written so."""
    (asset / HASH).write_bytes(hashlib.sha256((asset / PROGRAM).read_bytes()).digest())


def _cut(asset: Path) -> None:
    os.truncate(asset / PROGRAM, (asset / PROGRAM).stat().st_size // 2)


def _cut_and_hashed(asset: Path) -> None:
    """Apple's library ends the process that reads this."""
    _cut(asset)
    _hashed(asset)


def _flipped(asset: Path) -> None:
    data = bytearray((asset / PROGRAM).read_bytes())
    data[-40] ^= 0x55
    (asset / PROGRAM).write_bytes(data)


def _older(asset: Path) -> None:
    metadata = json.loads((asset / METADATA).read_text())
    (asset / METADATA).write_text(json.dumps({**metadata, "assetVersion": "1.0"}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_cut, "SHA-256"),
        (_cut_and_hashed, "ended with code -6"),
        (_flipped, "SHA-256"),
        (_older, "version 1.0"),
        (lambda asset: (asset / PROGRAM).unlink(), "the files main.hash, metadata.json"),
        (lambda asset: (asset / METADATA).unlink(), "No such file"),
        (lambda asset: (asset / "main-h17.odix").write_bytes(b"compiled"), "main-h17.odix"),
    ],
)
def test_a_broken_asset_is_refused_and_ends_another_process(
    copied: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(copied)
    with pytest.raises(BrokenArtifact) as refused:
        load_program(copied)
    assert said in str(refused.value)


def test_a_dynamic_shape_is_refused(tmp_path: Path) -> None:
    asset = saved(
        'coreai.graph @main(%x: tensor<?x3xf32> {coreai.name = "image"}) -> (tensor<?x3xf32> {coreai.name = "y"}) {\n'
        "%y = coreai.relu %x : (tensor<?x3xf32>) -> tensor<?x3xf32>\n coreai.output %y : tensor<?x3xf32> }",
        tmp_path / "dynamic.aimodel",
    )
    with pytest.raises(BrokenArtifact, match="dynamic shape"):
        load_program(asset)


def test_a_program_without_a_main_function_is_refused(tmp_path: Path) -> None:
    asset = saved(
        'coreai.graph @other(%x: tensor<3xf32> {coreai.name = "x"}) -> (tensor<3xf32> {coreai.name = "y"}) {\n'
        "%y = coreai.relu %x : (tensor<3xf32>) -> tensor<3xf32>\n coreai.output %y : tensor<3xf32> }",
        tmp_path / "other.aimodel",
    )
    with pytest.raises(BrokenArtifact, match="the functions other"):
        load_program(asset)
