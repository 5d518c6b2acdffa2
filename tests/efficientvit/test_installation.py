"""The command that adds an extra works where this was installed from."""

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from efficientvit import installation
from efficientvit.errors import MissingExtra
from efficientvit.installation import IMAGE, install_command

REQUIRES = ["torch>=2.9", 'coremltools>=9.0; extra == "coreml"', 'openvino>=2026.0; extra == "openvino"',
            'tensorrt-rtx-cu13>=1.4; (sys_platform == "linux") and extra == "tensorrt"']  # fmt: skip


class _Installed:
    def __init__(self, origin: dict[str, Any] | None) -> None:
        self._origin = origin
        self.requires = REQUIRES

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self._origin is None else json.dumps(self._origin)


@pytest.fixture(autouse=True)
def no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IMAGE, raising=False)


def _command(origin: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch, extra: str = "coreml") -> str:
    monkeypatch.setattr(installation, "distribution", lambda _: _Installed(origin))
    return install_command(extra)


def test_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a clone"
    place.mkdir()
    editable = {"url": place.as_uri(), "dir_info": {"editable": True}}
    assert _command(editable, monkeypatch) == f"pip install -e '{place}[coreml]'"
    assert _command({"url": place.as_uri(), "dir_info": {}}, monkeypatch) == f"pip install '{place}[coreml]'"


def test_a_checkout_on_the_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installation, "distribution", none)
    root = Path(installation.__file__).parents[1]
    assert install_command("openvino") == f"pip install -e '{root}[openvino]'"


def test_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "vit_export-1.0-py3-none-any.whl"
    origin = {"url": wheel.as_uri(), "archive_info": {}}
    assert _command(origin, monkeypatch) == "pip install 'coremltools>=9.0'"  # the wheel is gone
    wheel.touch()
    assert _command(origin, monkeypatch) == f"pip install 'vit-export[coreml] @ {wheel.as_uri()}'"
    far = {"url": "https://example.org/vit_export-1.0-py3-none-any.whl", "archive_info": {}}
    assert _command(far, monkeypatch) == f"pip install 'vit-export[coreml] @ {far['url']}'"


def test_a_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = {"url": "https://example.org/vit.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    assert _command(origin, monkeypatch) == "pip install 'vit-export[coreml] @ git+https://example.org/vit.git@abc'"


def test_no_record_of_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the extra names is on PyPI, though this project isn't."""
    assert _command(None, monkeypatch) == "pip install 'coremltools>=9.0'"
    assert _command(None, monkeypatch, "tensorrt") == "pip install 'tensorrt-rtx-cu13>=1.4'"


def test_in_an_image_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IMAGE, "tensorrt")
    assert install_command("coreml").startswith("docker compose -f docker/compose.yaml run --rm cpu")
    monkeypatch.setenv(IMAGE, "cpu")
    assert "docker/cpu.Dockerfile" in install_command("baselines")
    root = Path(__file__).parents[2]
    for image in ("cpu", "tensorrt"):
        assert f"{IMAGE}={image}" in (root / f"docker/{image}.Dockerfile").read_text()


def test_a_missing_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "distribution", lambda _: _Installed(None))
    assert MissingExtra("coremltools", "coreml", "making it").next_step == "pip install 'coremltools>=9.0'"
