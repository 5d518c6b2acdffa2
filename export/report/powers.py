"""Powers of ten as plain text: as mathematics they take most of a plot's time to lay out."""

import re

from matplotlib.ticker import LogFormatterSciNotation

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MATHEMATICS = re.compile(r"\$\\mathdefault\{(.*)\}\$")
_EXPONENT = re.compile(r"\^\{(-?\d+)\}")

_READ_EASILY = (0.01, 1000.0)


class PlainPowers(LogFormatterSciNotation):
    """matplotlib's own labels of a logarithmic axis, where it has them: 10⁻⁶ and 2×10⁻⁶; 0.2, 1 and 100 as they are."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of the tick at `x`; empty where it has none."""
        if _READ_EASILY[0] <= abs(x) <= _READ_EASILY[1]:
            return f"{x:g}" if super().__call__(x, pos) else ""
        text = _MATHEMATICS.sub(r"\1", str(super().__call__(x, pos)))
        return _EXPONENT.sub(lambda found: found[1].translate(_SUPERSCRIPT), text.replace(r"\times", "×"))
