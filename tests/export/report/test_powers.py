"""Labels of logarithmic axes: matplotlib's own, as plain text."""

from export.report.plots import chain, margins


def test_powers_are_plain_text() -> None:
    plot = chain(["trace", "simplify"], [1e-9, 2e-6], [5e-6, 5e-6])
    assert ">10⁻⁶<" in plot
    assert "mathdefault" not in plot


def test_between_them_there_are_factors_where_the_axis_is_short() -> None:
    plot = margins([2.0, 3.0, 7.0], [False, False, False])
    assert ">2<" in plot
    assert ">1<" in plot
    assert "×10" not in plot
    assert ">2×10⁻⁶<" in chain(["trace"], [1e-6], [3e-6])
