"""Recipes for tests."""

from pathlib import Path

HEAD = 'name = "demo"\nversion = "1.0"\n'


def write(folder: Path, text: str, head: str = HEAD) -> Path:
    """A recipe in a folder."""
    path = folder / "release.toml"
    path.write_text(head + text)
    return path
