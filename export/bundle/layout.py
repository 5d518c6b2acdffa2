"""What lies where in a bundle, and which names may lie in it."""

import re
import unicodedata
from typing import Final

SCHEMA: Final = 1
"""Version of the index's form."""

INDEX, SIGNATURE = "index.json", "model.sig"
CARD, BOM, STATEMENT = "README.md", "bom.cdx.json", "verdicts.intoto.json"
ARTIFACTS = "artifacts"
"""One folder for each artifact, by its name: its `manifest.json` and its `ship/`."""

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_PORTABLE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')


def is_label(text: str) -> bool:
    """Whether it can be the name or the version of a bundle, which become the name of a folder."""
    return _LABEL.fullmatch(text) is not None and not text.endswith(".")


def misnamed(path: str) -> str | None:
    """Why no file of a bundle may have this path (POSIX, relative), or None.

    A path that one system reads differently from another could name a file that was not checked.
    """
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        return "it leads out of the bundle"
    if "" in parts or "." in parts:
        return "it is not in its shortest form"
    if _NOT_PORTABLE.search(path) or any(part.endswith((".", " ")) for part in parts):
        return "it has characters that not every system allows in a name"
    if not path.isprintable() or any("\ud800" <= each <= "\udfff" for each in path):
        return "it is not printable text"
    if unicodedata.normalize("NFC", path) != path:
        return "its characters are not in Unicode's composed form (NFC)"
    return None


def same_name(path: str) -> str:
    """Equal for two paths that are the same file on a system that ignores case or Unicode's forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", path).casefold())
