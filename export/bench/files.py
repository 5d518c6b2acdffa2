"""The files of a benchmark: each is written whole, or the old one stays."""

import functools
from pathlib import Path

from efficientvit.files import replace_file, write_text
from export.bench.page import render
from export.bench.record import as_csv, as_markdown
from export.bench.run import Bench
from export.folder.atomic import writing
from export.folder.layout import write_json


def write_bench(out: Path, found: Bench) -> None:
    """`bench.json`, `bench.csv`, `bench.md` and `bench.html` in `out`.

    Raises:
        BadOutput: one of them could not be written.
    """
    record = found.to_json()
    texts = {"bench.csv": as_csv(found), "bench.md": as_markdown(record), "bench.html": render(record)}
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / "bench.json", lambda part: write_json(part, record))
        for name, text in texts.items():
            replace_file(out / name, functools.partial(write_text, text=text))
