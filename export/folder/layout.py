"""What lies where in the folder of an artifact, and how its JSON files are written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

SCHEMA: Final = 1
"""Version of the manifest's form."""

MANIFEST = "manifest.json"
SHIP, REJECTED = "ship", "evidence/rejected"
"""The artifact: in the one where it may ship, in the other where a gate rejected it."""

SETTINGS, LABELS = "runtime-settings.json", "labels.txt"
KIT = "kit"
DEVICE_REPORTS = "evidence/device-reports"


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Indented, keys in the record's own order, NaN refused: it is no JSON."""
    write_text(path, json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """In UTF-8. A file name in it may not be text where it was read (LC_ALL=C, or of another encoding): its bytes."""
    path.write_text(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), encoding="utf-8")
