"""What lies where in the folder of an artifact, and how its JSON files are written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from efficientvit.files import write_text

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
