"""The audit of constants: names, copies, strays."""

import numpy as np

from efficientvit.digests import digests
from validation.gates.constants import audit

RNG = np.random.default_rng(0)
TENSORS = {name: RNG.standard_normal((4, 4)).astype(np.float32) for name in ("a", "b", "c")}
EXPECTED = digests(TENSORS.items())


def test_equal_constants_pass_under_any_name_and_shape() -> None:
    actual = [
        ("a", TENSORS["a"]),
        ("renamed", TENSORS["b"].reshape(1, 16)),
        ("c", TENSORS["c"]),
        ("copy", TENSORS["c"]),
    ]
    assert audit(actual, EXPECTED).mismatches == 0


def test_integers_and_a_lone_zero_are_structure() -> None:
    extra = [("shape", np.array([1, 2])), ("pad", np.zeros((), np.float32))]
    assert audit([*TENSORS.items(), *extra], EXPECTED).mismatches == 0


def test_one_unit_in_the_last_place_is_wrong() -> None:
    value = TENSORS["b"].copy()
    value[2, 3] = np.nextafter(value[2, 3], np.float32(np.inf))
    found = audit({**TENSORS, "b": value}.items(), EXPECTED)
    assert (found.wrong, found.missing) == (("b",), ())


def test_swapped_missing_stray_and_transposed_constants() -> None:
    a, b, c = TENSORS.values()
    assert set(audit([("a", b), ("b", a), ("c", c)], EXPECTED).wrong) == {"a", "b"}
    assert audit([("a", a), ("c", c)], EXPECTED).missing == ("b",)
    assert audit([*TENSORS.items(), ("stray", np.ones(1, np.float32))], EXPECTED).wrong == ("stray",)
    assert audit([("a", a), ("b", b), ("x", np.ascontiguousarray(c.T))], EXPECTED).mismatches == 2


def test_another_dtype_is_another_constant() -> None:
    half = [(name, value.astype(np.float16)) for name, value in TENSORS.items()]
    assert audit(half, EXPECTED).mismatches == 3
    assert audit(half, digests(half)).mismatches == 0


def test_zeros_may_be_left_out_but_not_made_up() -> None:
    zeros = np.zeros((4, 4), np.float32)
    expected = digests([*TENSORS.items(), ("z", zeros)])
    assert audit(TENSORS.items(), expected).mismatches == 0
    assert audit([*TENSORS.items(), ("z", zeros)], expected).mismatches == 0
    assert audit([*TENSORS.items(), ("z", zeros + 1)], expected).wrong == ("z",)
    assert audit({**TENSORS, "a": zeros}.items(), expected).wrong == ("a",)


def test_nothing_at_all_is_all_missing() -> None:
    assert audit([], EXPECTED).missing == ("a", "b", "c")
