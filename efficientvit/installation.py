"""How this project was installed, and the command that adds an extra to it. It is on no package index."""

import json
import os
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

NAME = "vit-export"
IMAGE = "VIT_EXPORT_IMAGE"
"""Set in our container images, to their tag."""


def install_command(extra: str) -> str:
    """The command that installs what the extra names, for the origin of this installation: what pip recorded of it."""
    if (image := os.environ.get(IMAGE)) is not None:
        return _in_image(image)
    try:
        installed = distribution(NAME)
    except PackageNotFoundError:  # run from a checkout that is only on the search path
        return f"pip install -e '{Path(__file__).parents[1]}[{extra}]'"
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    return _from_origin(origin, extra) or _requirements(installed, extra)


def _in_image(image: str) -> str:
    if image == "cpu":
        return "add the extra to `pip install` in docker/cpu.Dockerfile, and build the image again"
    return "docker compose -f docker/compose.yaml run --rm cpu, the image that has every extra"


def _from_origin(origin: dict[str, Any], extra: str) -> str | None:
    """None where that is gone, or was not recorded: pip took it from a folder of wheels, or from an index."""
    url = str(origin.get("url", ""))
    if (vcs := origin.get("vcs_info")) is not None:
        return f"pip install '{NAME}[{extra}] @ {vcs['vcs']}+{url}@{vcs['commit_id']}'"
    local = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
    if not url or (local is not None and not local.exists()):
        return None
    if local is None or local.is_file():
        return f"pip install '{NAME}[{extra}] @ {url}'"
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}'{local}[{extra}]'"


def _requirements(installed: Distribution, extra: str) -> str:
    """The extra's own requirements, which indexes have."""
    ending = f'extra == "{extra}"'
    named = (text.partition(";") for text in installed.requires or ())
    wanted = [name.strip() for name, _, marker in named if marker.replace("'", '"').rstrip().endswith(ending)]
    return "pip install " + " ".join(f"'{requirement}'" for requirement in wanted)
