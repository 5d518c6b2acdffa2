"""`--fail-on parity,latency:5%,size:2%`: what a difference between two releases may be."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from efficientvit.errors import BadOption

KINDS = (
    "parity",
    "agreement",
    "accuracy",
    "precision",
    "latency",
    "size",
    "operators",
    "interface",
    "weights",
    "tools",
    "artifacts",
)
_WITH_LIMIT = frozenset({"accuracy", "latency", "size", "operators"})
_ITEM = re.compile(r"([a-z]+)(?::(\d+(?:\.\d+)?)%)?")

FailOn = Mapping[str, float]
"""Kind -> the largest share by which it may grow."""

PARITY: FailOn = MappingProxyType({"parity": 0.0})
"""The default."""


def parse_fail_on(text: str) -> FailOn:
    """Kinds with commas; accuracy, latency, size and operators with a limit in per cent, 0 if none is given.

    Raises:
        BadOption: an unknown kind, or a limit where there can be none.
    """
    limits: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = _ITEM.fullmatch(item)
        if match is None or match[1] not in KINDS or (match[2] and match[1] not in _WITH_LIMIT):
            raise BadOption(
                f"--fail-on does not know '{item}'",
                expected=", ".join(f"{kind}:N%" if kind in _WITH_LIMIT else kind for kind in KINDS),
                got=item,
                next_step="for example --fail-on parity,latency:5%,size:2%",
            )
        limits[match[1]] = float(match[2] or 0) / 100
    return limits
