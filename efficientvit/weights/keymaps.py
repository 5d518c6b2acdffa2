"""Whose tensor names these are, and their translation into ours.

Three layouts of a state dict are read:

- `own`: the module names of `efficientvit.model`;
- `official`: the authors' repository (microsoft/Cream, EfficientViT), the names of the released `.pth` files;
- `timm`: `timm.models.efficientvit_msra`, the names of the safetensors files on the Hugging Face hub, and those that a
  model of `features_only` has, as detectors take it: `stages_0` and `patch_embed_conv1`.

Pure functions over names: nothing here imports torch or looks at a tensor.
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum


class Layout(StrEnum):
    """Whose names the tensors of a checkpoint carry."""

    OWN = "own"
    OFFICIAL = "official"
    TIMM = "timm"


# Attention is what only this family has under these names: `stages.0.blocks.0` alone is half of timm.
_SIGNATURES = {
    Layout.OWN: re.compile(r"(?<![^.])stage[123]\.block\d+\.mixer\.branch\.attention\."),
    Layout.OFFICIAL: re.compile(r"(?<![^.])blocks[123]\.\d+\.mixer\.m\.attn\."),
    Layout.TIMM: re.compile(r"(?<![^.])stages[._][012]\.blocks\.\d+\.mixer\.m\.attn\."),
}
_NO_WEIGHTS = {"num_batches_tracked", "attention_bias_idxs", "total_ops", "total_params", "n_averaged"}

# MIT's EfficientViT (B0-L3), in its authors' layout and in timm's.
_MIT = re.compile(r"(^|\.)(op_list|input_stem|context_module|inverted_conv)\.")

_OFFICIAL_STEM = re.compile(r"patch_embed\.([0246])\.")
_OFFICIAL_BLOCK = re.compile(r"blocks([123])\.(\d+)\.")
_TIMM_BLOCK = re.compile(r"stages[._]([012])\.blocks\.(\d+)\.")
_TIMM_DOWNSAMPLE = re.compile(r"stages[._]([12])\.downsample\.")

# Below a stage, timm has kept the authors' names but for `c` and `l`; ours, by the longest match first.
_PARTS = {
    "patch_embed.": "stem.",
    "patch_embed_": "stem.",
    "res1.0.m.": "depthwise1.branch.",
    "res1.1.m.": "ffn1.branch.",
    "res2.0.m.": "depthwise2.branch.",
    "res2.1.m.": "ffn2.branch.",
    "patchmerge.conv1.": "merge.expand.",
    "patchmerge.conv2.": "merge.depthwise.",
    "patchmerge.conv3.": "merge.project.",
    "patchmerge.se.fc1.": "merge.gate.reduce.",
    "patchmerge.se.fc2.": "merge.gate.expand.",
    "dw0.m.": "depthwise1.branch.",
    "dw1.m.": "depthwise2.branch.",
    "ffn0.m.": "ffn1.branch.",
    "ffn1.m.": "ffn2.branch.",
    "pw1.": "expand.",
    "pw2.": "project.",
    "mixer.m.attn.": "mixer.branch.attention.",
    "qkvs.": "qkv.",
    "dws.": "q_depthwise.",
    "proj.1.": "project.",
    "attention_biases": "bias",
    "bn.": "norm.",
}
_PART = re.compile(r"(?<![^.])(?:" + "|".join(re.escape(part) for part in _PARTS) + ")")


def recognize(names: Iterable[str]) -> Layout | None:
    """The layout that most of the attention's names follow; None when it is not this family."""
    names = list(names)
    counts = {layout: sum(1 for n in names if pattern.match(n)) for layout, pattern in _SIGNATURES.items()}
    best = max(counts, key=lambda layout: counts[layout])
    return best if counts[best] else None


def is_mit_efficientvit(names: Iterable[str]) -> bool:
    """Whether these are names of the other EfficientViT (Cai et al., B0-L3)."""
    return any(_MIT.search(name) for name in names)


def prefix_of(name: str) -> str | None:
    """What comes before the model's own name, as in `module.model.`; None where `name` is none of an attention's."""
    found = next((match for pattern in _SIGNATURES.values() if (match := pattern.search(name))), None)
    return None if found is None else name[: found.start()]


def is_ignored(name: str) -> bool:
    """Whether a tensor carries no weight: a counter, or the authors' persistent bias index.

    The counters are BatchNorm's steps, what profilers leave in every module, and what weight averaging counts. The
    index follows from the window alone, and ours is built with the model.
    """
    return name.rpartition(".")[2] in _NO_WEIGHTS


def to_own(names: Iterable[str], layout: Layout) -> Mapping[str, str]:
    """Each name with our name for it. A name that the layout does not know comes out unlike any of ours."""
    return {name: _own_name(name, layout) for name in names}


def _own_name(name: str, layout: Layout) -> str:
    if layout is Layout.OWN:
        return name
    if layout is Layout.OFFICIAL:
        name = _timm_name(name)
    name = _TIMM_BLOCK.sub(lambda m: f"stage{int(m[1]) + 1}.block{int(m[2]) + 1}.", name)
    name = _TIMM_DOWNSAMPLE.sub(lambda m: f"stage{int(m[1]) + 1}.downsample.", name)
    # One pass, so that what has just been written (`ffn1.`) is not taken for one of timm's names.
    return _PART.sub(lambda m: _PARTS[m[0]], name)


def _timm_name(name: str) -> str:
    """timm's name for one of the authors', which number the parts of a downsampling as blocks 0, 1 and 2."""
    name = _OFFICIAL_STEM.sub(lambda m: f"patch_embed.conv{int(m[1]) // 2 + 1}.", name)
    name = _OFFICIAL_BLOCK.sub(_timm_block, name)
    return name.replace(".c.", ".conv.").replace(".l.", ".linear.")


def _timm_block(match: re.Match[str]) -> str:
    stage, index = int(match[1]) - 1, int(match[2])
    if stage == 0:
        return f"stages.0.blocks.{index}."
    if index < 3:
        return f"stages.{stage}.downsample.{('res1', 'patchmerge', 'res2')[index]}."
    return f"stages.{stage}.blocks.{index - 3}."
