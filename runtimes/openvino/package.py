"""The installed `openvino` package, imported in one place."""

import sys
from typing import Any

from runtimes.host.packages import missing

NEEDS = ("openvino", "openvino", "making or running an OpenVINO IR")
"""What `runtimes.host.packages.missing` asks for."""

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """The `openvino` module, without the telemetry that importing and converting would otherwise send.

    OpenVINO reports to Google Analytics from `import` on and writes an id into the person's home, unless its
    reporter cannot be imported: then it takes the stub that it brings along. Import it nowhere else.

    Raises:
        MissingExtra: openvino is not installed.
    """
    if (error := missing(*NEEDS)) is not None:
        raise error
    known, before = _TELEMETRY in sys.modules, sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # the import system's own way to say "not found"
    try:
        import openvino
    finally:
        if known:
            sys.modules[_TELEMETRY] = before  # type: ignore[assignment]
        else:
            del sys.modules[_TELEMETRY]
    return openvino
