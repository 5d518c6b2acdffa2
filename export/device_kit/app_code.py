"""Code for the app that feeds photos to a file which takes them: `app/`, next to the artifact's `ship/`."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from runtimes.artifact import Artifact

APP = "app"


def write_app(folder: Path, artifact: Artifact, settings: Mapping[str, Any]) -> None:
    """Write `folder/app` for a classifier that takes a photo of any size at a time; nothing for another.

    `settings`: the runtime's, that ship.
    """
    templates = resources.files("export.device_kit") / "in_app" / artifact.format
    wrapping = artifact.interface.wrapping
    any_size = wrapping is not None and wrapping.resizes and wrapping.fed_size is None
    if wrapping is None or not any_size or artifact.batch not in (None, 1) or not templates.is_dir():
        return
    if not artifact.model.head.gives_logits:  # the code names classes
        return
    background = str(wrapping.preprocessing.background)
    marks = {"@FILE@": artifact.path.name, "@SETTINGS@": _as_cpp(settings), '"@BACKGROUND@"': background}
    (folder / APP).mkdir()
    for template in templates.iterdir():
        text = template.read_text("utf-8")
        for mark, value in marks.items():
            text = text.replace(mark, value)
        (folder / APP / template.name).write_text(text, encoding="utf-8")


def _as_cpp(settings: Mapping[str, Any]) -> str:
    """Of an ov::AnyMap, whose values OpenVINO reads as text."""
    return ", ".join(f"{{{json.dumps(name)}, {json.dumps(str(value))}}}" for name, value in settings.items())
