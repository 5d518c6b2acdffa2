"""The files of a search: each is written whole, or the old one stays."""

import functools

from efficientvit.files import replace_file, write_text
from export.folder.atomic import writing
from export.folder.layout import write_json
from export.tuning.page import render
from export.tuning.run import Tuned


def write_tuned(found: Tuned) -> None:
    """`tune.json` and `tune.html` in the folder of the search.

    Raises:
        BadOutput: one of them could not be written.
    """
    out, record = found.request.out, found.to_json()
    page = render(record)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / "tune.json", lambda part: write_json(part, record))
        replace_file(out / "tune.html", functools.partial(write_text, text=page))
