"""A package whose program is validated once is the same, to the byte."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from coremltools.converters.mil.mil import Program

from export.targets.coreml.validated_once import validated_once

ROOT = Path(__file__).parents[4]
_SCRIPT = """
import sys
from contextlib import nullcontext
from pathlib import Path

from coremltools.converters.mil.mil import Program

from efficientvit.size import square
from efficientvit.deploy.rewrites import to_deploy
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.weights.seeded import seeded
from efficientvit.spec import model_spec
from export.targets.coreml import convert as to_coreml
from export.targets.coreml import package
from runtimes.artifact import Interface
from runtimes.precision import Dtype

out, every = Path(sys.argv[1]), sys.argv[2] == "every pass"
if every:
    to_coreml.validated_once = nullcontext
validate, times = Program.validate, 0

def counted(program, *args, **named):
    global times
    times += 1
    validate(program, *args, **named)

Program.validate = counted
spec = model_spec("m0", square(64))
to_coreml.to_coreml(
    to_coreml.capture_for_coreml(to_deploy(seeded(spec)), 1, labeled=False), spec, out, batch=1,
    activations=Dtype.FP16, interface=Interface(), preprocessing=Preprocessing(spec.image_size), ios=16,
    made_by="coreml",
)
print("validated", times)
"""


def test_a_package_that_is_validated_once_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """Each in a process of its own, as `vit-export` makes them."""

    def made(how: str) -> tuple[int, dict[str, bytes]]:
        out = tmp_path / how / "m0.mlpackage"
        ran = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(out), how], cwd=ROOT, capture_output=True, text=True, check=True
        )
        files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        return int(ran.stdout.split()[-1]), files

    once, quick = made("once")
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
