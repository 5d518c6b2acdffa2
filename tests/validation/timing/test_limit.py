"""What one core multiplies: that the products are products, and that the most counts."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from efficientvit.errors import StageFailed
from runtimes.host.packages import missing
from runtimes.onnx.runtime import shipped_session
from runtimes.precision import Dtype
from validation.timing import kernels, limit
from validation.timing.limit import Limit, highest, measured_limits

SHAPE = (56, 16, 24)


def _run(nodes: kernels.Nodes, feed: Any, weights: Any) -> Any:
    return shipped_session(kernels._model(nodes, feed, weights)).run(None, {"x": feed})[0]


def test_each_model_computes_the_product() -> None:
    left, right = kernels._floats(SHAPE)
    right_answer = left @ right
    assert np.allclose(_run(kernels._PRODUCT, left, right), right_answer, rtol=1e-5)
    image = _run(kernels._CONVOLUTION, kernels._as_image(left), kernels._filters(right))
    assert np.allclose(image.reshape(SHAPE[2], -1).T, right_answer, rtol=1e-5)
    few, small = kernels._bytes(left), kernels._integers(right)
    integers = few.astype(np.int32) @ small.astype(np.int32)
    assert (_run(kernels._INTEGER_PRODUCT, few, small) == integers).all()
    rounded = np.clip(np.round(integers / 255 / 64), 0, 255)
    for nodes in (kernels._INTEGER_CONVOLUTION, kernels._BETWEEN_QUANTIZERS):
        found = _run(nodes, kernels._as_image(few), kernels._filters(small)).reshape(SHAPE[2], -1).T
        assert np.abs(found.astype(np.int32) - rounded).max() <= 1


def test_every_library_that_is_here_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "SHAPES", (SHAPE,))
    found = list(kernels.kernels())
    for each in found:
        each.run()
        assert each.operations == 2 * 56 * 16 * 24
    libraries = {each.library.partition(",")[0] for each in found}
    assert {"numpy's BLAS", "ONNX Runtime"} <= libraries
    assert ("OpenVINO" in libraries) == (missing("openvino", None, "") is None)
    assert {Dtype.FP32, Dtype.INT8} <= {each.arithmetic for each in found}
    assert not any("torch" in each.library.lower() for each in found)


def test_the_most_that_any_library_reached_is_the_limit() -> None:
    one, two = (Limit(Dtype.FP32, speed, library, SHAPE) for speed, library in ((1e9, "a"), (2e9, "b")))
    other = Limit(Dtype.INT8, 5e9, "c", SHAPE)
    assert highest([one, two, other]) == {Dtype.FP32: two, Dtype.INT8: other}
    assert highest([]) == {}


def test_it_is_measured_in_a_process_of_its_own() -> None:
    before = set(sys.modules)
    found = measured_limits()
    assert {Dtype.FP32, Dtype.INT8} <= set(found)
    for each in found.values():
        assert each.operations_per_s > 1e9  # a core of this century
        assert each.shape in kernels.SHAPES
    assert "onnxruntime" in before or "onnxruntime" not in sys.modules


def _elsewhere() -> None:
    thread = threading.Thread(target=time.sleep, args=(0.002,))
    thread.start()
    thread.join()


@pytest.mark.parametrize("run", [lambda: time.sleep(0.002), _elsewhere], ids=["in this thread", "in another"])
def test_time_counts_whoever_spends_it(run: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 21: what a library's own thread had used was not yet counted when the clock was read."""
    monkeypatch.setattr(kernels, "kernels", lambda: iter([kernels.Kernel(Dtype.INT8, "a", SHAPE, run)]))
    (found,) = limit._measured()
    assert found.operations_per_s <= 2 * 56 * 16 * 24 / 0.002


def test_a_process_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "said", lambda *_: {"error": "exit code 1: no memory"})
    with pytest.raises(StageFailed, match="could not be measured"):
        measured_limits()
