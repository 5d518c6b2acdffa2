"""The table of candidates has every form that a target can be asked for."""

import itertools
from pathlib import Path

import pytest

from efficientvit.errors import BadOption
from export.targets.apple.options import compression
from export.targets.registry import BUILT_IN
from export.targets.target import Job
from export.tuning.forms import FORMS, Form, forms_of
from export.tuning.request import name_of

PAGE = Path(__file__).parents[3] / "docs" / "tune.md"


def plain(target: str) -> list[Form]:
    return [each for each in forms_of(target) if not each.reduced and each.error is None]


def test_every_row_is_a_target_s() -> None:
    assert set(FORMS) <= set(BUILT_IN)


@pytest.mark.parametrize("target", BUILT_IN)
def test_every_precision_of_every_target_is_tried(target: str) -> None:
    assert {each.precision for each in plain(target) if not each.options} == set(BUILT_IN[target].precisions)


@pytest.mark.parametrize("target", ["coreml", "coreai"])
def test_every_format_of_compressed_weights_is_tried(target: str) -> None:
    possible = set()
    for bits, method in itertools.product((8, 6, 4), (None, "linear", "palette")):
        try:
            possible.add(compression(bits, method))
        except BadOption:
            continue
    options = BUILT_IN[target].options
    tried = [options(**each.options).weights for each in plain(target) if each.options]  # type: ignore[attr-defined]
    assert len(tried) == len(set(tried))
    assert set(tried) == possible


def test_names_are_unique_and_the_page_has_them_all() -> None:
    names = [name_of(target, form) for target in FORMS for form in forms_of(target)]
    assert len(names) == len(set(names))
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in page] == []


def test_a_target_without_a_row_is_tried_in_each_of_its_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FORMS, "tensorrt")
    assert [each.precision for each in forms_of("tensorrt")] == list(BUILT_IN["tensorrt"].precisions)


def test_compressed_packages_begin_with_one_conversion() -> None:
    """Of what a stage does not read, nothing keeps two jobs apart; of what it reads, everything does."""

    def read(target: str, **options: object) -> list[str | None]:
        found = BUILT_IN[target]
        job = Job("m0", found, "fp16", 1, 18, found.options(**options))
        return [None if stage.reads is None else repr(stage.reads(job)) for stage, _ in job.plan]

    plain = read("coreml", ios=16)
    assert None not in plain
    for method in ("linear", "palette"):
        *before, compress = read("coreml", ios=16, weights_bits=8, weights_method=method)
        assert before == plain
        assert compress is None
    assert read("coreml", ios=15) != plain
    assert read("coreml", ios=16, author="somebody") != plain
