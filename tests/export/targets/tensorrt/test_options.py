"""What is asked of a TensorRT engine is refused before anything is made, where it cannot be or would change nothing."""

import sys
from pathlib import Path
from typing import Any

import pytest

from efficientvit.errors import BadOption
from efficientvit.size import square
from export.cli import main as cli
from export.request.request import Request, slug
from export.targets.target import Job
from export.targets.tensorrt.options import ARCHITECTURES, DEFAULT_ARCHITECTURES, TensorRtOptions


@pytest.mark.parametrize("sm", [(), (90,), (89, 89), (80, 7), (0,), (-89,)])
def test_architectures_are_known_ones_each_once(sm: tuple[int, ...]) -> None:
    with pytest.raises(BadOption, match="--sm") as refused:
        TensorRtOptions(sm=sm)
    assert refused.value.expected == "75, 80, 86, 89, 120, 121"


@pytest.mark.parametrize("profile", [(0, 1, 1), (1, 16, 8), (9, 8, 16), (-1, 1, 1), (2, 1, 3)])
def test_a_profile_goes_upwards_from_one(profile: tuple[int, int, int]) -> None:
    with pytest.raises(BadOption, match="--profile") as refused:
        TensorRtOptions(profile=profile)
    assert refused.value.got == " ".join(map(str, profile))


def test_what_can_be_had_is_taken() -> None:
    assert TensorRtOptions(sm=ARCHITECTURES).sm == ARCHITECTURES
    assert TensorRtOptions(profile=(4, 4, 4)).profile == (4, 4, 4)
    assert set(DEFAULT_ARCHITECTURES) < set(ARCHITECTURES)


def _jobs(
    precision: str | None = None, batch: int | None = 1, calibrate: str | None = None, **options: Any
) -> tuple[Job, ...]:
    own = {"tensorrt": TensorRtOptions(**options)}
    return Request(("m0",), ("tensorrt",), precision, batch=batch, options=own, calibrate=calibrate).jobs()


def test_int8_needs_images(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="int8 has to be calibrated") as refused:
        _jobs("int8")
    assert "--calibrate golden" in str(refused.value.next_step)
    with pytest.raises(BadOption, match="no folder"):
        _jobs("int8", calibrate=str(tmp_path / "nowhere"))
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"no folder")
    with pytest.raises(BadOption, match="no folder"):
        _jobs("int8", calibrate=str(photo))
    for given in ("golden", str(tmp_path)):
        (job,) = _jobs("int8", calibrate=given)
        assert job.calibrate == given


@pytest.mark.parametrize("precision", ["fp32", "fp16", None])
def test_images_are_for_int8(precision: str | None) -> None:
    with pytest.raises(BadOption, match="--calibrate is for int8"):
        _jobs(precision, calibrate="golden")


def test_turing_has_no_float32() -> None:
    with pytest.raises(BadOption, match=r"7\.5"):
        _jobs("fp32", sm=(75, 80))
    for precision, images in (("fp16", None), ("int8", "golden")):
        (job,) = _jobs(precision, sm=(75, 80), calibrate=images)
        assert isinstance(job.options, TensorRtOptions)
        assert job.options.sm == (75, 80)


def test_a_profile_is_for_a_dynamic_batch() -> None:
    with pytest.raises(BadOption, match="--profile is for a dynamic batch"):
        _jobs(profile=(1, 4, 8))
    (job,) = _jobs(profile=(1, 4, 8), batch=None)
    assert isinstance(job.options, TensorRtOptions)
    assert job.options.profile == (1, 4, 8)
    assert _jobs(batch=4)


def test_options_are_for_tensorrt() -> None:
    for options in ({"sm": (89,)}, {"profile": (1, 2, 3)}, {"timing_cache": Path("cache")}):
        request = Request(
            models=("m0",), targets=("onnx", "openvino"), options={"tensorrt": TensorRtOptions(**options)}
        )
        with pytest.raises(BadOption, match="options for TensorRT engines"):
            request.jobs()


def test_of_several_targets_one_takes_them() -> None:
    request = Request(models=("m0",), targets=("onnx", "tensorrt"), options={"tensorrt": TensorRtOptions(sm=(89,))})
    assert [not isinstance(job.options, TensorRtOptions) for job in request.jobs()] == [True, False]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "m0-tensorrt-fp16"),
        ({"precision": "fp32"}, "m0-tensorrt-fp32"),
        ({"precision": "int8", "calibrate": "golden"}, "m0-tensorrt-int8"),
        ({"sm": (89,)}, "m0-tensorrt-fp16-sm89"),
        ({"sm": (86, 89), "batch": None}, "m0-dynamic-tensorrt-fp16-sm86-89"),
        ({"profile": (1, 2, 4), "batch": None}, "m0-dynamic-tensorrt-fp16-profile1-2-4"),
        ({"timing_cache": Path("cache")}, "m0-tensorrt-fp16"),  # the engine's speed of building, not the engine
    ],
)
def test_what_changes_the_engine_is_in_its_folders_name(options: dict[str, Any], name: str) -> None:
    (job,) = _jobs(**options)
    assert slug(job, square(224), "") == name


TENSORRT = ("-t", "tensorrt")
WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "an architecture that is none": ((*TENSORRT, "--sm", "90"), "--sm takes compute capabilities"),
    "an architecture twice": ((*TENSORRT, "--sm", "89", "--sm", "89"), "--sm takes compute capabilities"),
    "an architecture twice in a list": ((*TENSORRT, "--sm", "80,89,80"), "--sm takes compute capabilities"),
    "an architecture in words": ((*TENSORRT, "--sm", "ada"), "no list of compute capabilities"),
    "a list with a hole": ((*TENSORRT, "--sm", "80,,89"), "no list of compute capabilities"),
    "float32 on Turing, in a list": ((*TENSORRT, "-p", "fp32", "--sm", "75,80"), "no float32 engine"),
    "a profile that goes down": ((*TENSORRT, "--batch", "dynamic", "--profile", "8", "4", "16"), "--profile is"),
    "a profile of two": ((*TENSORRT, "--batch", "dynamic", "--profile", "8", "16"), "--profile"),
    "a profile of a fixed batch": ((*TENSORRT, "--profile", "1", "4", "8"), "--profile is for a dynamic batch"),
    "int8 without images": ((*TENSORRT, "-p", "int8"), "int8 has to be calibrated"),
    "images from nowhere": ((*TENSORRT, "-p", "int8", "--calibrate", "nowhere"), "--calibrate names no folder"),
    "images without int8": ((*TENSORRT, "--calibrate", "golden"), "--calibrate is for int8"),
    "float32 on Turing": ((*TENSORRT, "-p", "fp32", "--sm", "75"), "no float32 engine"),
    "an architecture for ONNX": (("-t", "onnx", "--sm", "89"), "options for TensorRT engines"),
    "a profile for ONNX": (("-t", "onnx", "--batch", "dynamic", "--profile", "1", "4", "8"), "options for TensorRT"),
    "images for ONNX in float32": (("--calibrate", "golden"), "--calibrate is for int8"),
    "a cache for ONNX": (("--timing-cache", "cache"), "options for TensorRT engines"),
    "int8 for ONNX without images": (("-p", "int8"), "int8 has to be calibrated"),
    "int8 for Core ML": (("-t", "coreml", "-p", "int8"), "cannot be made in int8"),
}


def test_architectures_are_given_in_a_list_or_one_by_one() -> None:
    from export.cli.main import cli as group
    from export.request.keywords import request_of
    from export.request.options import ExportOptions

    command = group.commands["export"]
    for given in (["--sm", "80,89"], ["--sm", "80", "--sm", "89"]):
        options = dict(command.make_context("export", ["m0", "-t", "tensorrt", *given]).params)
        for name in set(options) - set(ExportOptions.__annotations__) - {"models"}:
            options.pop(name)
        request = request_of(options.pop("models"), options)
        assert request.options == {"tensorrt": TensorRtOptions(sm=(80, 89))}


@pytest.mark.parametrize("what", WRONG)
def test_the_command_exits_with_2_and_makes_nothing(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, says = WRONG[what]
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vit-export", "m0", "-w", "seeded", "-o", str(out), *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err
    assert not out.exists()
