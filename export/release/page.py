"""`release.html` and `release.json`: each is written whole, or the old one stays."""

import functools
from urllib.parse import quote

from efficientvit.files import replace_file, write_text
from export.folder.atomic import writing
from export.folder.layout import write_json
from export.release.record import RELEASE
from export.release.run import COLUMNS, Release
from export.report.report import REPORT
from export.report.templates import template

PAGE = "release.html"


def render(found: Release) -> str:
    """The page. Everything that comes from outside is escaped."""
    record = found.record()
    return template("release/release.html.j2").render(
        r=record,
        verdict=found.verdict,
        rows=[
            {
                "r": each,
                "report": None if each.folder is None else quote(f"{each.folder}/{REPORT}"),
                "cells": dict(zip(COLUMNS, one.cells(), strict=True)),
                "mb": None if each.bytes is None else f"{each.bytes / 1e6:.2f}",
            }
            for each, one in zip(record.artifacts, found.artifacts, strict=True)
        ],
        untrained=[each.name for each in found.artifacts if each.manifest and not each.manifest["weights"]["trained"]],
    )


def write_release(found: Release) -> None:
    """Both files, into the release's folder.

    Raises:
        BadOutput: one of them cannot be written.
    """
    folder = found.folder
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / RELEASE, lambda part: write_json(part, found.to_json()))
        replace_file(folder / PAGE, functools.partial(write_text, text=render(found)))
