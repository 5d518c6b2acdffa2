"""Recipes for tests."""

from pathlib import Path

HEAD = 'name = "demo"\nversion = "1.0"\n'

MIXED = """
[options]
image-size = 64
no-time = true
no-kit = true
[models]
m0 = "seeded"
[matrix]
target = ["onnx"]
[[artifact]]
model = "m0"
size-budget = 0.001
out = "small"
[[artifact]]
model = "m0"
weights = "broken.pth"
"""
"""One that is good, one that is rejected for its size, one whose checkpoint is none."""


def write(folder: Path, text: str, head: str = HEAD) -> Path:
    """A recipe in a folder."""
    path = folder / "release.toml"
    path.write_text(head + text)
    return path
