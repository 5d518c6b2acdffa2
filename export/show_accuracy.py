"""Accuracy on labelled images, on a terminal."""

from rich.console import Console
from rich.text import Text

from validation.accuracy import CONFIDENCE, Accuracy

_FLIPS_SHOWN = 3


def show_accuracy(screen: Console, found: Accuracy) -> None:
    """Both sides, the drop with its interval, and the images that count against the artifact."""
    low, high = found.interval
    screen.print(
        Text(
            f"accuracy: top-1 {_share(found.artifact_top1, found)}, reference {_share(found.reference_top1, found)}"
            + _top5(found)
            + f"; same class on {found.agree} of {found.images}"
        ),
        soft_wrap=True,
    )
    screen.print(
        Text(
            f"  lost {found.drop:+.2f} points of at most {found.budget:.2f} "
            f"({low:+.2f} to {high:+.2f}, {CONFIDENCE} %): "
            f"{len(found.lost)} images lost, {found.gained} gained; folders by {found.matched_by}"
        ),
        soft_wrap=True,
    )
    for flip in found.lost[:_FLIPS_SHOWN]:
        screen.print(
            Text(f"  lost: {flip.image}{', outside the margin' if flip.outside else ''}", "dim"), soft_wrap=True
        )
    if (more := len(found.lost) - _FLIPS_SHOWN) > 0:
        screen.print(Text(f"  and {more} more, in the manifest", "dim"))
    if found.skipped:
        screen.print(Text(f"  {len(found.skipped)} files of --eval are no images and were left out", "yellow"))


def _share(count: int, found: Accuracy) -> str:
    return f"{count / found.images:.2%}"


def _top5(found: Accuracy) -> str:
    if found.artifact_top5 is None or found.reference_top5 is None:
        return ""
    return f"; top-5 {_share(found.artifact_top5, found)}, reference {_share(found.reference_top5, found)}"
