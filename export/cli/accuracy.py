"""Accuracy on labeled images, on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

_FLIPS_SHOWN = 3


def show_accuracy(screen: Console, found: Mapping[str, Any]) -> None:
    """Both sides, the drop with its interval, and the images that count against the artifact, from the manifest."""
    low, high = found["interval_points"]
    top5 = "" if found["artifact"]["top5"] is None else f"; {_both(found, 'top5', 'top-5')}"
    text = f"accuracy: {_both(found, 'top1', 'top-1')}{top5}; same class on {found['agree']} of {found['images']}"
    screen.print(Text(text), soft_wrap=True)
    screen.print(
        Text(
            f"  lost {found['drop_points']:+.2f} points of at most {found['budget_points']:.2f} "
            f"({low:+.2f} to {high:+.2f}, {found['confidence_percent']} %): "
            f"{found['lost']} images lost, {found['gained']} gained; folders by {found['matched_by']}"
        ),
        soft_wrap=True,
    )
    for flip in found["flips"][:_FLIPS_SHOWN]:
        text = f"  lost: {flip['image']}{', outside the margin' if flip['outside_margin'] else ''}"
        screen.print(Text(text, "dim"), soft_wrap=True)
    if (more := len(found["flips"]) - _FLIPS_SHOWN) > 0:
        screen.print(Text(f"  and {more} more, in the manifest", "dim"))
    if found["skipped"]:
        screen.print(Text(f"  {len(found['skipped'])} files of --eval are no images and were left out", "yellow"))


def _both(found: Mapping[str, Any], of: str, name: str) -> str:
    return f"{name} {found['artifact'][of]:.2%}, reference {found['reference'][of]:.2%}"
