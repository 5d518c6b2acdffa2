"""False rejections of small heads: heads of 1 to 5 classes, fitted on a trained backbone, made and judged by target.

    python -m benchmarks.heads OUT.json --heads 40 --size 96

Every head is good, so every verdict but *verified* (or *built*, of an engine on a host without a GPU) is a false
rejection. The backbone is the checkpoint of `benchmarks.train`, its attention biases cropped to the smaller windows
of SIZE; classes are random groups of its photographs. What OUT.json holds is not judged again.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.patches import PHOTOGRAPHS, evaluation_patches
from efficientvit.images.preprocessing import Preprocessing, to_tensor
from efficientvit.model import CascadedGroupAttention, EfficientViT, build
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import save_checkpoint
from efficientvit.weights.source import find_weights
from export.pipeline.judging import Judging
from export.pipeline.making import Maker
from export.pipeline.outcome import Outcome
from export.pipeline.prepare import Loaded, measure
from export.pipeline.stage_cache import StageCache
from export.targets.int8_options import Int8Options
from export.targets.onnx.opsets import DEFAULT_OPSET
from export.targets.registry import BUILT_IN
from export.targets.target import Job, TargetOptions
from export.targets.workshop import Workshop
from export.workers.progress import as_progress
from validation.inputs.photos import golden_images
from validation.reference.model import ReferenceModel

TARGETS = (
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("coreml", "fp16"),
    ("coreai", "fp16"),
    ("tensorrt", "fp16"),
)
GOOD = ("verified", "built")
_STEPS, _DECAY, _FEW = 300, 1e-3, 8


def backbone(checkpoint: Path, size: int, classes: int) -> EfficientViT:
    """The trained model at another size, with a head of so many classes that is not fitted yet."""
    model = build(model_spec("m0", square(size), classes)).eval()
    own = {name: tensor.float() for name, tensor in load_file(checkpoint).items()}
    for name, module in model.named_modules():
        if isinstance(module, CascadedGroupAttention):
            key, side = f"{name}.bias", module.window  # (heads, window²), by row and column apart
            wide = own[key].reshape(module.heads, round(own[key].shape[1] ** 0.5), -1)
            own[key] = wide[:, :side, :side].reshape(module.heads, -1)
    state = model.state_dict()
    state.update({name: own[name] for name in state if name in own and not name.startswith("head.linear")})
    model.load_state_dict(state)
    return model


@torch.no_grad()
def features(model: EfficientViT, images: Tensor) -> Tensor:
    """(n, 3, S, S) -> (n, dim): what the last layer takes."""
    taken: list[Tensor] = []
    hook = model.head.get_submodule("linear").register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    for part in images.split(60):
        model(part)
    hook.remove()
    return torch.cat(taken)


def fit(inputs: Tensor, groups: Tensor, classes: int) -> nn.Linear:
    """Logistic regression; of one class with a single logit."""
    layer = nn.Linear(inputs.shape[1], classes)
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2, weight_decay=_DECAY)
    for _ in range(_STEPS):
        logits = layer(inputs)
        loss = (
            functional.binary_cross_entropy_with_logits(logits[:, 0], groups.float())
            if classes == 1
            else functional.cross_entropy(logits, groups)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return layer


def images(size: int, each: int, seed: int) -> tuple[list[NDArray[np.uint8]], Tensor, Tensor]:
    """Patches as RGB, (n, 3, S, S) through the contract, and (n,) the photographs that they are of."""
    names, contract = [Path(name).stem for name in PHOTOGRAPHS], Preprocessing(image_size=square(size))
    pixels, tensors, owners = [], [], []
    for name, patch in evaluation_patches(each, seed, evaluation=False):
        rgb = np.array(Image.fromarray(patch).convert("RGB"))
        pixels.append(rgb)
        tensors.append(torch.from_numpy(to_tensor(rgb, contract)).reshape(3, size, size))
        owners.append(names.index(name))
    return pixels, torch.stack(tensors), torch.tensor(owners)


def job(target: str, precision: str, photos: Path) -> Job:
    """With the defaults of the command line."""
    options = BUILT_IN[target].options()
    assert isinstance(options, TargetOptions)
    int8 = Int8Options() if precision == "int8" else None
    return Job("m0", BUILT_IN[target], precision, 1, DEFAULT_OPSET, options, str(photos) if int8 else None, int8)


def judged(checkpoint: Path, size: int, photos: Path, folder: Path) -> dict[str, list[str]]:
    """Target and precision -> the verdict, and why where it is not good."""
    weights = find_weights(str(checkpoint), "m0", square(size))
    reference = ReferenceModel(weights.model, golden_images(None, Preprocessing(image_size=square(size))))
    jobs = [job(*each, photos) for each in TARGETS]
    model = measure(Loaded(weights, reference, None), jobs)
    shop = Workshop(weights, reference, folder)
    judging = Judging(
        model, Maker(shop, {}, StageCache(None, shop), folder / "log.txt"), as_progress(None), defaults=False
    )
    found = {}
    for each in jobs:
        outcome = Outcome(each, each.target.name, model.rewrites[each.image_input])
        judging.run(outcome)
        final = outcome.final
        why = str(outcome.error) if outcome.error else getattr(final, "reason", "") or ""
        if outcome.rewrite is not None and not outcome.rewrite.passed:
            why = outcome.rewrite.reason
        found[f"{each.target.name}-{each.precision}"] = [outcome.status, "" if outcome.status in GOOD else why]
    return found


def main() -> None:
    """Judge what is lacking; print the counts and every verdict that is not good."""
    asked = _asked()
    known = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    torch.set_num_threads(1)
    trained = backbone(asked.checkpoint, asked.size, 2)
    pixels, tensors, owners = images(asked.size, 24, 0)
    inputs = features(trained, tensors)
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        photos.mkdir()
        for index, rgb in enumerate(pixels[::_FEW]):
            Image.fromarray(rgb).save(photos / f"{index:03}.png")
        for number in range(asked.heads):
            classes = 1 + number % 5
            if str(number) in known:
                continue
            torch.manual_seed(number)
            groups = torch.arange(len(PHOTOGRAPHS)) % max(classes, 2)
            groups = groups[torch.randperm(len(PHOTOGRAPHS))]
            if number % 10 in (0, 1):  # a rare class: one photograph against all others
                groups = (torch.arange(len(PHOTOGRAPHS)) == number % len(PHOTOGRAPHS)).long()
            layer, model = fit(inputs, groups[owners], classes), backbone(asked.checkpoint, asked.size, classes)
            model.head.get_submodule("linear").load_state_dict(layer.state_dict())
            folder = Path(scratch) / f"head-{number}"
            folder.mkdir()
            checkpoint = folder / "head.safetensors"
            save_checkpoint(model, checkpoint)
            known[str(number)] = {"classes": classes, **judged(checkpoint, asked.size, photos, folder)}
            asked.out.write_text(json.dumps(known, indent=1) + "\n")
    verdicts = [(n, t, v) for n, head in known.items() for t, v in head.items() if t != "classes"]
    bad = [(n, t, v) for n, t, v in verdicts if v[0] not in GOOD]
    print(f"{len(known)} heads, {len(verdicts)} artifacts, {len(bad)} false rejections")  # noqa: T201
    for number, target, (status, why) in bad:
        print(f"head {number} ({known[number]['classes']} classes), {target}: {status}: {why}")  # noqa: T201


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.json")
    parser.add_argument("--heads", type=int, default=40)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--checkpoint", type=Path, default=Path("tests/data/m0-patches.safetensors"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
