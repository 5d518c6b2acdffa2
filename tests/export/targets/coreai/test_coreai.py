"""A Core AI asset by Apple's converter: float16 by rounding, names of constants, the same bytes in every process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from efficientvit.deploy.rewrites import to_deploy
from efficientvit.errors import StageFailed
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from runtimes.artifact import Interface
from runtimes.coreai.aimodel import HASH, METADATA, PROGRAM, load_metadata, load_program
from tests.command_line import ROOT
from tests.coreai_assets import needs_coreai

pytestmark = needs_coreai

SAVE = """
import sys
from pathlib import Path
from tests.export.targets.coreai.test_coreai import save_network
save_network(Path(sys.argv[1]))
"""


class Network(nn.Module):
    """(1, 3, 8, 8) -> (1, 5)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(3, 80, 3, padding=1), nn.Linear(80, 5)
        with torch.no_grad():
            self.conv.weight[0, 0, 0, :2] = torch.tensor([2.0**-26, 1 + 2.0**-11])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(self.conv(image).relu().mean((2, 3)))
        return logits


def captured(network: nn.Module) -> Any:
    import coreai_torch

    exported = torch.export.export(network.eval(), (torch.zeros(1, 3, 8, 8),))
    return exported.run_decompositions(coreai_torch.get_decomp_table())


def save_network(path: Path, *, half: bool = True) -> None:
    from coreai_torch import TorchConverter

    from export.targets.coreai.asset import save
    from export.targets.coreai.convert import in_half

    network = Network()
    program = in_half(captured(network)) if half else captured(network)
    converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
    converter.add_exported_program(program, input_names=["image"], output_names=["logits"])
    constants = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    if half:
        constants = {name: value.astype(np.float16) for name, value in constants.items()}
    said = (("author", "A"), ("license", "L"), ("description", "D"), ("vit-export.model", "m0"))
    save(converter.to_coreai(), path, Interface(labels=("a", "b"), metadata=said), constants)


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("assets") / "network.aimodel"
    save_network(path)
    return path


def test_another_process_writes_the_same_bytes_elsewhere(asset: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "another.aimodel"
    other.parent.mkdir()
    subprocess.run([sys.executable, "-c", SAVE, str(other)], check=True, cwd=ROOT, capture_output=True)
    for name in (PROGRAM, HASH, METADATA):
        assert (asset / name).read_bytes() == (other / name).read_bytes()
    assert str(tmp_path).encode() not in (other / PROGRAM).read_bytes()


def test_a_constant_is_called_as_the_models_tensor(asset: Path, tmp_path: Path) -> None:
    network = Network().half()
    held = load_program(asset).constants
    for name, tensor in network.state_dict().items():
        value = held[name.replace(".", "_")].value
        assert isinstance(value, np.ndarray)
        assert np.array_equal(value.reshape(tensor.shape), tensor.numpy())
    single = tmp_path / "single.aimodel"
    save_network(single, half=False)
    assert load_program(single).constants["linear_weight"].type.dtype == "fp32"


def test_weights_are_rounded_to_the_nearest(asset: Path) -> None:
    """Apple's own cast makes 2^-24 of what float16 has no number for."""
    weight = load_program(asset).constants["conv_weight"].value
    assert isinstance(weight, np.ndarray)
    assert weight.reshape(80, 3, 3, 3)[0, 0, 0, :2].tolist() == [0.0, 1.0]


def test_it_takes_and_gives_float32_around_float16(asset: Path) -> None:
    program = load_program(asset)
    inputs, outputs = program.ports()
    assert (inputs[0].dtype, outputs[0].dtype) == ("float32", "float32")
    types = program.types()
    assert {types[each.name].dtype for each in program.operations if each.kind != "cast"} == {"fp16"}
    assert [each.kind for each in program.operations if each.kind == "cast"] == ["cast", "cast"]


def test_what_it_says_is_in_order_and_has_no_day(asset: Path) -> None:
    text = (asset / METADATA).read_text()
    said = load_metadata(asset)
    assert list(said) == sorted(said)
    assert "creationDate" not in said
    assert (said["author"], said["license"], said["description"]) == ("A", "L", "D")
    assert json.loads(text)["creatorDefinedMetadata"] == {"vit-export.labels": ["a", "b"], "vit-export.model": "m0"}


def test_nothing_is_added_up_in_float16_in_the_head() -> None:
    """Apple's runtime on a CPU adds up products of matrices in float16, and convolutions in float32."""
    from export.targets.coreai.convert import capture_for_coreai

    deploy = to_deploy(seeded(model_spec("m0", square(64), 2)))
    program = capture_for_coreai(deploy, 1, labeled=True)
    (weight,) = [
        node
        for node in program.graph.nodes
        if program.graph_signature.inputs_to_parameters.get(node.name, "").endswith("head.linear.weight")
    ]
    assert [str(reader.target) for reader in weight.users] == ["aten.convolution.default"]


def test_an_operation_that_names_its_type_is_refused() -> None:
    from export.targets.coreai.convert import in_half

    class Typed(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.mean((2, 3), dtype=torch.float32)

    with pytest.raises(StageFailed, match="names a type"):
        in_half(captured(Typed()))
