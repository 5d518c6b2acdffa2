"""Names beside the points of a plot, none over another or over a point."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in points (1/72 inch)."""

_SIZE = 8.0
_WIDTH, _HEIGHT = 0.62 * _SIZE, 1.25 * _SIZE
"""Of a character. What the page's own font takes is not known here."""

_MARK, _GAP, _ROWS = 5.0, 6.0, 5


def name_points(
    axes: "Axes", names: Sequence[str], x: Sequence[float], y: Sequence[float], colors: Sequence[str]
) -> None:
    """Write each name beside its point, in its color: above it on the right if there is room, else near by.

    The limits of `axes` must be final: what is near depends on them.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # which arranges the axes
    scale = 72 / figure.dpi
    at = [tuple(scale * float(each) for each in axes.transData.transform(point)) for point in zip(x, y, strict=True)]
    taken: list[Box] = [(left - _MARK, low - _MARK, left + _MARK, low + _MARK) for left, low in at]
    edge = scale * float(figure.bbox.width)
    for (left, low), name, place, color in zip(at, names, zip(x, y, strict=True), colors, strict=True):
        box = _room((left, low), _WIDTH * len(name), taken, edge)
        taken.append(box)
        offset = (box[0] - left, box[1] - low)
        axes.annotate(name, place, offset, textcoords="offset points", fontsize=_SIZE, color=color)


def _room(point: tuple[float, float], width: float, taken: Iterable[Box], edge: float) -> Box:
    """The first of the places that covers nothing; the first of all where each covers something."""
    places = list(_places(point, width))
    free = (box for box in places if box[0] >= 0 and box[2] <= edge and not any(_meet(box, other) for other in taken))
    return next(free, places[0])


def _places(point: tuple[float, float], width: float) -> Iterator[Box]:
    left, low = point
    for row in range(_ROWS):
        for bottom in (low + _GAP + row * _HEIGHT, low - _GAP - (row + 1) * _HEIGHT):
            for start in (left + _GAP, left - _GAP - width, left - width / 2):
                yield start, bottom, start + width, bottom + _HEIGHT


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
