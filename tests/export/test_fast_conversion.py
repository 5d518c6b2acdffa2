"""What is left out of a conversion changes nothing of what it makes."""

import contextlib
import gc
from pathlib import Path

import pytest
from coremltools.converters.mil.mil import Program

from efficientvit.deploy import to_deploy
from efficientvit.preprocess import Preprocessing
from efficientvit.seeded import seeded
from efficientvit.spec import model_spec
from export import to_coreml
from export.fast_conversion import collector_at_rest, unvalidated_passes
from runtimes.artifact import Dtype, Interface


def test_a_package_of_unvalidated_passes_is_the_same_to_the_byte(
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
    monkeypatch.setattr(Program, "validate", lambda own, *args, **named: checked.append(own) or validate(own, *args))
    quick = made("quick")
    assert checked == []
    monkeypatch.setattr(to_coreml, "unvalidated_passes", contextlib.nullcontext)
    assert made("validated") == quick
    assert len(checked) > 50


def test_validation_and_the_collector_are_put_back() -> None:
    before = Program.validate

    def fail() -> None:
        assert Program.validate is not before
        assert gc.get_freeze_count() > 0
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), unvalidated_passes(), collector_at_rest():
        fail()
    assert Program.validate is before
    assert gc.get_freeze_count() == 0
