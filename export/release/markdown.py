"""`vit-export release --summary FILE`: the table of a release, and why what is not ready is not, as Markdown."""

from export.release.run import Release
from export.report.markdown import bullets, code, table, text

_HEADINGS = ("artifact", "verdict", "evidence", "required", "error:", "budget:", "MB:", "ms:")


def of_release(found: Release) -> list[str]:
    """Lines of Markdown."""
    rows = ((code(name), *map(text, cells)) for name, *cells, _ in (each.cells() for each in found.artifacts))
    reasons = [f"{code(each.name)}: {text(each.reason)}" for each in found.artifacts if each.reason is not None]
    return [*table(_HEADINGS, rows), "", *bullets(reasons)]
