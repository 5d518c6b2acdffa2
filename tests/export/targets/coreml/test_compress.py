from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder
from coremltools.optimize import coreml as optimize

from efficientvit.deploy.compression import Half, palettized
from export.targets.coreml.compress import palette_table
from runtimes.coreml.mlpackage import load_program


def weights_of(distinct: int) -> Half:
    """(64, 64, 1, 1) with that many different values."""
    values = np.linspace(-1, 1, distinct).astype(np.float16)
    drawn = np.random.default_rng(distinct).choice(values, 64 * 64 - distinct)
    weight: Half = np.concatenate([values, drawn]).reshape(64, 64, 1, 1)
    return weight


@pytest.mark.parametrize(("distinct", "entries"), [(1, 2), (2, 2), (9, 16), (16, 16), (33, 64), (198, 256), (256, 256)])
def test_a_table_has_a_power_of_two_of_entries(distinct: int, entries: int) -> None:
    weight = weights_of(distinct)
    table, indices = palette_table(weight, 8)
    assert len(table) == entries
    assert np.array_equal(table[indices], weight)


def test_a_table_that_had_to_be_filled_up_is_saved_and_read_back(tmp_path: Path) -> None:
    """coremltools refuses any other number of entries."""
    weight = weights_of(198)

    @Builder.program(input_specs=[Builder.TensorSpec((1, 64, 4, 4))], opset_version=ct.target.iOS16)
    def program(x):  # type: ignore[no-untyped-def]
        return Builder.conv(x=x, weight=weight.astype(np.float32), name="conv")

    package = ct.convert(program, minimum_deployment_target=ct.target.iOS16, skip_model_load=True)
    palettizer = optimize.OpPalettizerConfig(
        mode="custom",
        lut_function=lambda value: palette_table(value.astype(np.float16), 8),
        weight_threshold=0,
    )
    smaller = optimize.palettize_weights(package, optimize.OptimizationConfig(global_config=palettizer))
    smaller.save(str(tmp_path / "small.mlpackage"))
    (held,) = [
        constant.value
        for constant in load_program(tmp_path / "small.mlpackage").constants.values()
        if isinstance(constant.value, np.ndarray) and constant.value.shape == weight.shape
    ]
    assert np.array_equal(held, palettized(weight, 8))
