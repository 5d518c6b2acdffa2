"""A package whose program is validated once is the same, to the byte."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from coremltools.converters.mil.mil import Program

from efficientvit.deploy.rewrites import to_deploy
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from export.targets.coreml import convert
from export.targets.coreml.validated_once import validated_once
from runtimes.artifact import Interface
from runtimes.precision import Dtype

pytestmark = pytest.mark.tiny_m0


def test_a_package_that_is_validated_once_is_the_same_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = model_spec("m0", square(64))
    captured = convert.capture_for_coreml(to_deploy(seeded(spec)), 1, labeled=False)
    validate, times = Program.validate, 0

    def counted(program: Program, *args: Any, **named: Any) -> None:
        nonlocal times
        times += 1
        validate(program, *args, **named)

    monkeypatch.setattr(Program, "validate", counted)

    def made(how: str) -> tuple[int, dict[str, bytes]]:
        nonlocal times
        times, out = 0, tmp_path / how / "m0.mlpackage"
        convert.to_coreml(
            captured, spec, out, batch=1, activations=Dtype.FP16, interface=Interface(),
            preprocessing=Preprocessing(spec.image_size), ios=16, made_by="coreml",
        )  # fmt: skip
        return times, {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    once, quick = made("once")
    monkeypatch.setattr(convert, "validated_once", nullcontext)
    often, validated = made("every pass")
    assert once == 1
    assert often > 50
    assert validated == quick


def test_validation_is_put_back() -> None:
    before = Program.validate

    def fail() -> None:
        assert Program.validate is not before
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), validated_once():
        fail()
    assert Program.validate is before


def test_a_program_that_is_broken_in_the_end_is_an_error() -> None:
    class Broken(Program):  # type: ignore[misc]
        def validate(self, *_: Any, **__: Any) -> None:
            raise ValueError("Var x not visible")

    program = Broken()
    with pytest.raises(ValueError, match="not visible"), validated_once():
        Program.validate(program)
