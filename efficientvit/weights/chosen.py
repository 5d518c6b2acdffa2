"""The one model to take from a file of weights, under our names."""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efficientvit.errors import BadCheckpoint, BadOption
from efficientvit.spec import ModelSpec
from efficientvit.weights.architecture import Architecture, architecture_of
from efficientvit.weights.fused import composed, single_head, unfused
from efficientvit.weights.keymaps import Layout, is_ignored, is_mit_efficientvit, recognize, to_own
from efficientvit.weights.prefixes import Copy, find_copies, is_average
from efficientvit.weights.safe_reader import WeightFile
from efficientvit.weights.state_dicts import subscripts
from efficientvit.weights.values import NAMES, normalizes

_NAMED = 5  # how many tensors an error names before it only counts
_NORMALIZING = (1, 3)  # numbers in a mean or standard deviation
_BARE = ("", "model")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Tensors by our names. `unaltered`: all that the file holds, named as the authors or timm publish them.

    `beside`: means and standard deviations of a normalization of the input outside the model, by their places in the
    file. `other_head`: of a model without the family's head, what may be its classifier, and the line that makes it the
    head.
    """

    tensors: dict[str, Tensor]
    layout: Layout
    entry: str
    average: bool
    unaltered: bool
    notes: tuple[str, ...]
    beside: dict[str, list[float]]
    other_head: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class _Candidate:
    entry: str
    copy: Copy
    tensors: dict[str, Tensor]
    outside: dict[str, Tensor]

    @property
    def place(self) -> str:
        return ".".join(part for part in (self.entry, self.copy.prefix.rstrip(".")) if part) or "the top"

    @property
    def average(self) -> bool:
        return is_average(self.place)


def choose_model(name: str, file: WeightFile, spec: ModelSpec, ema: bool = False) -> Chosen:
    """The model in `file`: of weights and their running average the weights, or with `ema` the average.

    Args:
        name: of the file, for messages.
        file: what was read.
        spec: of several models in the file the one that has this architecture is meant.
        ema: take the running average.

    Raises:
        BadOption: there is no running average.
        BadCheckpoint: there is no such model, there are several, a tensor has two names, or a weight is stored as
            several tensors that it is computed from.
    """
    candidates = [
        _Candidate(each.entry, copy, copy.of(each.tensors), {name: each.tensors[name] for name in found.outside})
        for each in file.state_dicts
        for found in (find_copies(list(each.tensors)),)
        for copy in found.copies
    ]
    if not candidates:
        raise _foreign(name, list(file.state_dicts[0].tensors))
    chosen = _one(name, candidates, spec, ema)
    layout = recognize(chosen.tensors)
    assert layout is not None, "a copy is found by its layout's names"
    renamed = {theirs: own for theirs, own in to_own(chosen.tensors, layout).items() if not is_ignored(own)}
    doubled = [own for own, count in Counter(renamed.values()).items() if count > 1]
    if doubled:
        raise BadCheckpoint(
            f"'{name}' has {len(doubled)} tensors twice, under names of two layouts",
            got=some(doubled),
            next_step="give a checkpoint of one layout",
        )
    _require_whole_weights(name, chosen)
    tensors, fused = unfused({own: chosen.tensors[theirs] for theirs, own in renamed.items()})
    tensors, averaged = single_head(tensors)
    named = {place: tensor for place, tensor in (chosen.outside | _apart(file)).items() if _named_so(place)}
    small = {
        place: tensor
        for place, tensor in named.items()
        if tensor.numel() in _NORMALIZING and normalizes(place, chosen.copy.prefix)
    }
    said = _notes(chosen, candidates, small)
    if foreign := [place for place in named if place not in small]:
        said.append(
            f"not taken for the normalization of the input, of which neither name nor shape says so: {some(foreign)} "
            "(--mean and --std give one)"
        )
    alone = chosen.entry in _BARE and not chosen.copy.prefix
    unaltered = alone and layout is not Layout.OWN and not said and not fused and not averaged
    beside = {name: tensor.flatten().tolist() for name, tensor in small.items()}
    return Chosen(
        tensors,
        layout,
        chosen.entry,
        chosen.average,
        unaltered,
        (*said, *fused, *averaged),
        beside,
        _other_head(name, chosen, spec),
    )


def _apart(file: WeightFile) -> dict[str, Tensor]:
    """The tensors in parts of the file that hold no model."""
    return {
        f"{each.entry}.{name}" if each.entry else name: tensor
        for each in file.state_dicts
        if not find_copies(list(each.tensors)).copies
        for name, tensor in each.tensors.items()
    }


def _named_so(place: str) -> bool:
    """It bears the name of a mean or a standard deviation."""
    return any(place.rpartition(".")[2] in NAMES[each] for each in ("mean", "std"))


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _one(name: str, candidates: list[_Candidate], spec: ModelSpec, ema: bool) -> _Candidate:
    averages = [each for each in candidates if each.average]
    if ema and not averages:
        raise BadOption(
            f"'{name}' holds no running average",
            expected="one for --ema, as under 'state_dict_ema' or 'model_ema'",
            got=f"weights under {', '.join(repr(each.place) for each in candidates)}",
            next_step="leave --ema out",
        )
    asked = averages if ema else [each for each in candidates if not each.average] or averages
    fitting = [each for each in asked if _architecture(each) == Architecture.of(spec)] or asked[:1]
    if any(not _equal(each, fitting[0]) for each in fitting[1:]):
        first = fitting[0]
        prefix, loaded = first.copy.prefix, _loaded(name, first)
        within = f"{{k[{len(prefix)}:]: v for k, v in {loaded}.items() if k.startswith('{prefix}')}}"
        raise BadCheckpoint(
            f"'{name}' holds several models of this architecture",
            expected="one, or one and its running average",
            got=", ".join(repr(each.place) for each in fitting),
            next_step=f"save the one that you mean: torch.save({within if prefix else loaded}, 'weights.pth')",
        )
    return fitting[0]


def _require_whole_weights(name: str, chosen: _Candidate) -> None:
    """Refuse what LoRA, pruning and the like leave: to take one of a layer's tensors for its weight would be wrong."""
    if (found := composed(chosen.tensors)) is None:
        return
    what, way, parts = found
    raise BadCheckpoint(
        f"'{name}' has layers whose weight is computed from several tensors: {what}",
        expected="one tensor for each weight",
        got=some(parts),
        next_step=way,
    )


def _other_head(file: str, chosen: _Candidate, spec: ModelSpec) -> tuple[str, str] | None:
    """Linear layers on the pooled vector that are not the family's head: `fc`, `head.1` behind a dropout.

    Whether one is applied to that vector alone its tensors do not say, so it is not taken.
    """
    prefix = chosen.copy.prefix
    within = {theirs: chosen.tensors[own] for own, theirs in chosen.copy.names.items()}
    found = {
        name: tuple(tensor.shape)
        for name, tensor in {**within, **chosen.outside}.items()
        if tensor.dim() == 2 and spec.dims[-1] in tensor.shape
    }
    if not found:
        return None
    first = next(iter(found))
    bias = f"{first.removesuffix('weight')}bias"
    there = bias in chosen.copy.names.values() or bias in chosen.outside
    zeros = f"torch.zeros({found[first][0]})"  # trained without one
    moves = {"weight": f"d.pop('{first}')", "bias": f"d.pop('{bias}')" if there else zeros}
    moved = "; ".join(f"d['{prefix}head.{part}'] = {value}" for part, value in moves.items())
    line = f"d = {_loaded(file, chosen)}; {moved}; torch.save(d, 'weights.pth')"
    shown = ", ".join(f"{name} {shape}" for name, shape in list(found.items())[:_NAMED])
    return shown, (
        "where that is a single linear layer on the pooled vector, with at most a dropout before it, save it as the "
        f"head: {line}; for any other classifier export its input with --head embedding"
    )


def _loaded(file: str, candidate: _Candidate) -> str:
    return f"torch.load('{file}'){subscripts(candidate.entry)}"


def _architecture(candidate: _Candidate) -> Architecture | None:
    layout = recognize(candidate.tensors)
    assert layout is not None
    names = to_own(candidate.tensors, layout)
    tensors, _ = unfused({names[name]: tensor for name, tensor in candidate.tensors.items()})
    return architecture_of({name: tuple(tensor.shape) for name, tensor in tensors.items()})


def _equal(one: _Candidate, other: _Candidate) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        tensor.shape == other.tensors[name].shape and torch.equal(tensor, other.tensors[name])
        for name, tensor in one.tensors.items()
    )


def _notes(chosen: _Candidate, candidates: list[_Candidate], used: Container[str]) -> list[str]:
    notes = []
    prefix, unwrapped = chosen.copy.prefix, chosen.copy.unwrapped
    if prefix:
        notes.append(f"prefix '{prefix}' stripped from {len(chosen.tensors)} tensor names")
    if unwrapped:
        notes.append(f"segments of wrappers (_orig_mod, module) taken out of {unwrapped} tensor names")
    if others := [each.place for each in candidates if each is not chosen]:
        average = any(each.average for each in candidates) and not chosen.average
        hint = " (--ema takes the running average)" if average else ""
        notes.append(f"taken from '{chosen.place}'; not used: {', '.join(map(repr, others))}{hint}")
    elif chosen.average:
        notes.append(f"these are a running average, from '{chosen.place}'; the file has no other weights")
    if unused := [name for name in chosen.outside if name not in used]:
        notes.append(f"{len(unused)} tensors outside the model not used: {some(unused)}")
    return notes


def _foreign(name: str, names: list[str]) -> BadCheckpoint:
    mit = is_mit_efficientvit(names)
    return BadCheckpoint(
        f"'{name}' holds " + ("MIT's EfficientViT (B0-L3), another model of that name" if mit else "another model"),
        expected="EfficientViT M0-M5 (Liu et al., CVPR 2023) in the authors', timm's or our own layout",
        got=some(names),
        next_step="M0-M5 are `timm/efficientvit_m0.r224_in1k` to m5 on the Hugging Face hub",
    )
