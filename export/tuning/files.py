"""The files of a search: each is written whole, or the old one stays."""

import functools
from pathlib import Path
from typing import Any

from efficientvit.files import replace_file, write_text
from export.folder.atomic import writing
from export.folder.layout import write_json
from export.tuning.page import render


def write_tuned(out: Path, record: dict[str, Any]) -> None:
    """`tune.json` and `tune.html` in `out`. `record`: a `TuneRecord` as JSON.

    Raises:
        BadOutput: one of them could not be written.
    """
    page = render(record)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / "tune.json", lambda part: write_json(part, record))
        replace_file(out / "tune.html", functools.partial(write_text, text=page))
