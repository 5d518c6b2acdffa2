"""What is left out of a conversion changes nothing of what it makes."""

import contextlib
import gc
from pathlib import Path
from typing import Any

import pytest
from coremltools.converters.mil.mil import Program

from efficientvit.deploy import to_deploy
from efficientvit.preprocess import Preprocessing
from efficientvit.seeded import seeded
from efficientvit.spec import model_spec
from export import to_coreml
from export.fast_conversion import collector_at_rest, validated_once
from runtimes.artifact import Dtype, Interface


def test_a_package_that_is_validated_once_is_the_same_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = model_spec("m0", 64)
    program = to_coreml.capture_for_coreml(to_deploy(seeded(spec)), 1, labelled=False)

    def made(name: str) -> dict[str, bytes]:
        out = tmp_path / f"{name}.mlpackage"
        to_coreml.to_coreml(
            program,
            spec,
            out,
            batch=1,
            activations=Dtype.FP16,
            interface=Interface(),
            preprocessing=Preprocessing(image_size=64),
            ios=16,
            made_by="coreml",
        )
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    checked: list[Program] = []
    validate = Program.validate

    def seen(program: Program, *args: Any, **named: Any) -> None:
        checked.append(program)
        validate(program, *args, **named)

    monkeypatch.setattr(Program, "validate", seen)
    quick = made("quick")
    assert len(checked) == 1
    checked.clear()
    monkeypatch.setattr(to_coreml, "validated_once", contextlib.nullcontext)
    assert made("validated") == quick
    assert len(checked) > 50


def test_validation_and_the_collector_are_put_back() -> None:
    before = Program.validate

    def fail() -> None:
        assert Program.validate is not before
        assert gc.get_freeze_count() > 0
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), validated_once(), collector_at_rest():
        fail()
    assert Program.validate is before
    assert gc.get_freeze_count() == 0


def test_whoever_froze_what_is_loaded_lets_go_of_it() -> None:
    gc.freeze()
    try:
        with collector_at_rest():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_a_program_that_is_broken_in_the_end_is_an_error() -> None:
    class Broken(Program):  # type: ignore[misc]
        def validate(self, *_: Any, **__: Any) -> None:
            raise ValueError("Var x not visible")

    program = Broken()
    with pytest.raises(ValueError, match="not visible"), validated_once():
        Program.validate(program)
