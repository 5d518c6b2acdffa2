"""Markdown as GitHub and Hugging Face read it: what comes from outside is text, whatever characters it has."""

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def text(value: object) -> str:
    """One line of text, with nothing in it that is markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def code(value: object) -> str:
    """One line as code; a backtick cannot end it, nor a stroke a table's cell."""
    return f"`{' '.join(str(value).split()).replace('`', chr(39)).replace('|', '¦')}`"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, its cells Markdown already; a heading that ends in a colon stands for numbers."""
    right = [each.endswith(":") for each in headings]
    yielded = [tuple(each.removesuffix(":") for each in headings), tuple("--:" if each else "---" for each in right)]
    return [f"| {' | '.join(row)} |" for row in (*yielded, *rows)]


def bullets(lines: Iterable[str]) -> list[str]:
    """Lines of a list."""
    return [f"- {line}" for line in lines]
