"""The translation is a bijection between each public layout and ours, on every member of the family."""

from collections.abc import Callable

import pytest

from efficientvit.model import build
from efficientvit.spec import MODELS, model_spec
from efficientvit.weights.keymaps import Layout, is_ignored, is_mit_efficientvit, prefix_of, recognize, to_own

GoldenShapes = Callable[[str, str], dict[str, tuple[int, ...]]]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("layout", [Layout.OFFICIAL, Layout.TIMM])
def test_every_name_and_shape_has_its_one_place(layout: Layout, model: str, golden_shapes: GoldenShapes) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in build(model_spec(model)).state_dict().items()}
    theirs = golden_shapes(layout, model)
    dropped = [name for name in theirs if name.endswith("attention_bias_idxs")]
    assert bool(dropped) == (layout is Layout.OFFICIAL)
    names = to_own(theirs, layout)
    translated = [(names[name], shape) for name, shape in theirs.items() if name not in dropped]
    assert len(translated) == len(own)  # no two names meet
    assert dict(translated) == own
    assert all(map(is_ignored, dropped))


@pytest.mark.parametrize("model", MODELS)
def test_layouts_are_told_apart(model: str, golden_shapes: GoldenShapes) -> None:
    own = build(model_spec(model)).state_dict()
    assert recognize(own) is Layout.OWN
    assert recognize(golden_shapes("official", model)) is Layout.OFFICIAL
    assert recognize(golden_shapes("timm", model)) is Layout.TIMM
    assert dict(to_own(own, Layout.OWN)) == {name: name for name in own}


def test_other_architectures_are_not_ours() -> None:
    assert recognize([]) is None
    assert recognize(["stages.0.blocks.0.conv_dw.weight", "head.fc.weight", "stem.0.weight"]) is None


@pytest.mark.parametrize(
    "name",
    [
        "backbone.stages.3.op_list.1.context_module.main.qkv.conv.weight",  # the authors' (mit-han-lab)
        "stages.0.blocks.0.main.inverted_conv.conv.weight",  # timm's efficientvit_b0
    ],
)
def test_mits_efficientvit_is_known_by_name(name: str) -> None:
    assert is_mit_efficientvit([name])


def test_ours_is_not_mits(golden_shapes: GoldenShapes) -> None:
    assert not is_mit_efficientvit(golden_shapes("official", "m5"))
    assert not is_mit_efficientvit(golden_shapes("timm", "m5"))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("stages.0.blocks.0.mixer.m.attn.proj.1.conv.weight", ""),
        ("generator.net.blocks1.0.mixer.m.attn.attention_biases", "generator.net."),
        ("module.stage1.block1.mixer.branch.attention.bias", "module."),
        ("mystages.0.blocks.0.mixer.m.attn.proj.1.conv.weight", None),
        ("backbone.head.weight", None),
    ],
)
def test_attention_shows_where_the_model_begins(name: str, prefix: str | None) -> None:
    assert prefix_of(name) == prefix
