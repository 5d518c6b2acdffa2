from runtimes.artifact import Format
from runtimes.registry import RUNTIMES


def test_every_format_has_an_entry() -> None:
    known = {Format.TORCH, Format.ONNX, Format.OPENVINO, Format.COREML, Format.NETWORK, Format.ENGINE}
    assert set(RUNTIMES) == known


def test_every_format_can_be_run_somewhere() -> None:
    assert all(RUNTIMES.values())


def test_the_names_of_a_formats_runtimes_are_its_own() -> None:
    for runtimes in RUNTIMES.values():
        assert len({runtime.name for runtime in runtimes}) == len(runtimes)
