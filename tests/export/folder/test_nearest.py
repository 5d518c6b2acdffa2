"""The gate that tables show: the one that rejects, else the error that is nearest to its budget."""

from typing import Any

import pytest

from export.folder.nearest import error_and_budget, nearest


def _gate(worst: float | str, budget: float, *, passed: bool = True, kinds: bool = True) -> dict[str, Any]:
    return {"worst": worst, "budget": budget, "passed": passed, "kinds": [{}] if kinds else []}


def test_the_one_that_rejects_comes_first_however_far_it_is_over() -> None:
    gates = {
        "constants": _gate(1, 0, passed=False, kinds=False),
        "structure": _gate(9e-3, 1e-3, passed=False),
        "precision": _gate(1e-6, 1e-5),
    }
    found = nearest(gates)
    assert found is not None
    assert (found.gate, str(found)) == ("constants", "1 const of 0 (constants)")
    assert found.share == float("inf")


def test_errors_come_before_what_a_device_is_asked_for() -> None:
    gates = {
        "identity": _gate(0, 0, kinds=False),
        "structure": _gate(1e-6, 1e-5),
        "precision": _gate(3e-6, 1e-5),
        "size": _gate(9.9, 10.0, kinds=False),
        "accuracy": None,
    }
    assert str(nearest(gates)) == "3.0e-06 of 1.0e-05 (precision)"
    assert error_and_budget(gates) == ("3.0e-06", "1.0e-05")


def test_a_price_counts_as_an_error() -> None:
    gates = {"precision": _gate(1e-6, 1e-5), "accuracy": _gate(0.4, 0.5, kinds=False)}
    found = nearest(gates)
    assert found is not None
    assert found.gate == "accuracy"


@pytest.mark.parametrize("worst", ["NaN", "Infinity"])
def test_what_is_no_number_is_written_by_name(worst: str) -> None:
    found = nearest({"structure": _gate(worst, 1e-3, passed=False)})
    assert found is not None
    assert found.gate == "structure"
    assert str(found).startswith(str(float(worst)))


def test_without_kinds_the_largest_share() -> None:
    gates = {"structure": _gate(1e-16, 1e-12, kinds=False), "precision": _gate(1.4e-6, 2.1e-6, kinds=False)}
    assert error_and_budget(gates) == ("1.4e-06", "2.1e-06")


def test_nothing_was_measured() -> None:
    assert nearest({"identity": _gate(0, 0, kinds=False), "structure": None}) is None
    assert error_and_budget({}) == ("", "")
