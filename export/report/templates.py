"""What the HTML pages have in common: one file, no network, everything escaped that comes from outside."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.size import ImageSize

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str) -> "Template":
    """One of the templates by its place in `export`. `e` shows a number as people read it, `sides` an image size."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1]), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"e": short, "sides": sides}
    return environment.get_template(name)


def sides(value: object) -> str:
    """Height and width of an image size, as a manifest has it."""
    size = ImageSize.from_json(value)
    return f"{size.height} × {size.width}"


def short(value: Any) -> str:
    """A number as people read it; what is none, as it is."""
    if isinstance(value, float):
        return f"{value:.2e}" if value and not 1e-2 <= abs(value) < 1e4 else f"{value:.4g}"
    return "–" if value is None else str(value)
