"""`--reduce-range`: who is told of it, and where it is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from efficientvit.errors import BadOption
from efficientvit.size import square
from export.request.request import Request, slug
from export.targets.int8_options import Int8Options, saturation
from export.targets.onnx import quantize
from runtimes.host.machine import this_host
from runtimes.precision import Dtype

OLD = dataclasses.replace(this_host(), architecture="x86_64", extensions=("avx2", "avx"))
NEW = dataclasses.replace(this_host(), architecture="x86_64", extensions=("avx512_vnni", "avx2", "avx"))


def _request(*targets: str, precision: str = "int8", **options: Any) -> Request:
    calibrate = "golden" if precision == "int8" else None
    return Request(("m0",), targets, precision, calibrate=calibrate, int8=Int8Options(**options))


def test_a_host_without_vnni_is_told() -> None:
    said = saturation(OLD)
    assert said is not None
    assert "avx2" in said
    assert "--reduce-range" in said
    assert saturation(NEW) is None


def test_so_is_who_exports_there(monkeypatch: pytest.MonkeyPatch, float_onnx: Any, tmp_path: Path) -> None:
    from efficientvit.images.preprocessing import Preprocessing
    from runtimes.precision import Precision
    from validation.inputs.synthetic import synthetic

    images = synthetic(Preprocessing(image_size=square(64))).ordinary().images[:2]
    monkeypatch.setattr(quantize, "saturation", lambda: saturation(OLD))
    for weights, notes in ((Dtype.INT8, 2), (Dtype.INT7, 1)):
        precision = Precision(weights, Dtype.UINT8, Dtype.INT8)
        made = quantize.quantize(float_onnx, tmp_path / f"{weights}.onnx", images, precision)
        assert len(made.notes) == notes
        assert any("no VNNI" in note for note in made.notes) is (notes == 2)


def test_the_name_and_the_plan_have_it() -> None:
    (job,) = _request("onnx", reduce_range=True).jobs()
    assert slug(job, square(224), "") == "m0-onnx-int8-reduced"
    assert job.plan[-1][1].weights is Dtype.INT7
    for target in ("onnx", "openvino", "tensorrt"):
        (plain,) = _request(target, all_int8=True).jobs()
        assert slug(plain, square(224), "") == f"m0-{target}-int8"
        assert plain.plan[-1][1].weights is Dtype.INT8


@pytest.mark.parametrize(
    ("target", "precision", "options"),
    [
        ("onnx", "fp32", {"reduce_range": True}),
        ("onnx", "fp16", {"all_int8": True}),
        ("tensorrt", "int8", {"reduce_range": True}),  # signed activations: nothing saturates there
    ],
)
def test_where_it_changes_nothing_it_is_refused(target: str, precision: str, options: dict[str, bool]) -> None:
    with pytest.raises(BadOption, match="is for int8 files"):
        _request(target, precision=precision, **options).jobs()
