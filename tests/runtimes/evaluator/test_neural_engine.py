"""The rules of the Neural Engine, one by one, on programs of one operation."""

import pytest

from runtimes.evaluator.neural_engine import Form, Readiness, Window, rated
from runtimes.evaluator.program import Operation, Program, TensorType


def ready(shape: tuple[int, ...], dtype: str = "fp16", window: Window | None = None, kind: str = "conv") -> Readiness:
    declared = TensorType(dtype, shape)
    program = Program("test", {"x": declared}, ("y",), (Operation(kind, {"x": "x"}, (("y", declared),)),), {})
    return rated(program, Form({"conv"}, {"cast"}, lambda _: 0 if kind == "cast" else 10, lambda _: window))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (ready((1, 2, 3, 4, 5, 64)), "rank 6 of fp16 (1, 2, 3, 4, 5, 64), at most 5"),
        (ready((1, 64), "fp32"), "fp32, where it computes in fp16"),
        (ready((1, 16385)), "a dimension of 16385, at most 16384"),
        (ready((1, 64), window=Window((14, 3), (1, 1))), "a kernel of 14, at most 13"),
        (ready((1, 64), window=Window((3, 3), (1, 10))), "a stride of 10, where its prime factors must be 2 and 3"),
        (ready((1, 64), kind="sort"), "no kind that it is known to run"),
    ],
)
def test_what_breaks_a_rule_is_named_and_not_counted(found: Readiness, said: str) -> None:
    assert found.share == 0
    assert found.violations[0].endswith(said)


@pytest.mark.parametrize(
    "found",
    [
        ready((1, 2, 3, 4, 64)),
        ready((1, 64), "int8"),
        ready((1, 16384), window=Window((13, 13), (12, 9))),
    ],
)
def test_what_is_within_the_rules_is_fit(found: Readiness) -> None:
    assert (found.share, found.violations, found.padded) == (1.0, (), 0.0)


def test_the_edges_of_a_program_may_be_of_any_type() -> None:
    assert ready((1, 64), "fp32", kind="cast").violations == ()


def test_a_narrow_last_axis_is_padded_and_fit() -> None:
    assert (ready((1, 31)).share, ready((1, 31)).padded) == (1.0, 1.0)
    assert ready((1, 32)).padded == 0
    assert ready((1, 63), "int8").padded == 1
