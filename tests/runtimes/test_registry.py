from runtimes.artifact import Format
from runtimes.registry import RUNTIMES


def test_every_format_has_an_entry() -> None:
    assert set(RUNTIMES) == set(Format)


def test_only_a_module_in_memory_needs_no_runtime() -> None:
    assert [file_format for file_format, runtimes in RUNTIMES.items() if not runtimes] == [Format.TORCH]


def test_the_names_of_a_formats_runtimes_are_its_own() -> None:
    for runtimes in RUNTIMES.values():
        assert len({runtime.name for runtime in runtimes}) == len(runtimes)
