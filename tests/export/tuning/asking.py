"""What tests search for, and where."""

from pathlib import Path

from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from runtimes.host.machine import Host
from tests.export.pipeline.eval_folder import write_eval_folder

OPTIONS = ("m0", "-w", "seeded", "--image-size", "64", "--eval", "eval", "-o", "tuned", "--jobs", "1", "--json")


def folder_in(where: Path) -> Path:
    write_eval_folder(where / "eval", seeded(model_spec("m0", square(64))), 12)
    return where


def host(*extensions: str) -> Host:
    return Host("Linux", "a CPU", "x86_64", extensions or ("avx512_vnni",), 1, 1, 1 << 34, "3.12")
