"""Names beside points: all of them are there, and none covers another or a point."""

import hypothesis
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from export.report import names
from export.report.names import name_points
from export.report.svg import INK, new_figure


def _written(axes: Axes) -> list[Annotation]:
    return [text for text in axes.texts if isinstance(text, Annotation)]


near = st.floats(0, 1, width=32)


@hypothesis.given(st.lists(st.tuples(near, near), min_size=1, max_size=6))
@hypothesis.settings(max_examples=15)
def test_no_name_covers_another_or_a_point(points: list[tuple[float, float]]) -> None:
    figure, axes = new_figure(3.4)
    axes.set(xlim=(-4, 5), ylim=(-4, 5))
    x, y = zip(*points, strict=True)
    given = [f"fp{number}" for number in range(len(points))]
    name_points(axes, given, x, y, [INK] * len(points))
    assert [text.get_text() for text in _written(axes)] == given
    scale = 72 / figure.dpi
    boxes: list[names.Box] = []
    for text, point in zip(_written(axes), points, strict=True):
        left, low = (scale * float(each) for each in axes.transData.transform(point))
        boxes.append((left - names._MARK, low - names._MARK, left + names._MARK, low + names._MARK))
        start, bottom = left + text.xyann[0], low + text.xyann[1]
        boxes.append((start, bottom, start + names._WIDTH * len(text.get_text()), bottom + names._HEIGHT))
    labels, marks = boxes[1::2], boxes[::2]
    for number, label in enumerate(labels):
        assert not any(names._meet(label, other) for other in (*labels[:number], *marks))


def test_a_name_at_the_right_edge_is_written_to_the_left() -> None:
    _, axes = new_figure(3.4)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    name_points(axes, ["a long name"], [1.0], [0.5], [INK])
    (text,) = _written(axes)
    assert text.xyann[0] < 0
