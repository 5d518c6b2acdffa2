"""Classify photos with ONNX Runtime: python classify.py PHOTO...

Needs: pip install onnxruntime pillow numpy
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

MODEL = Path(__file__).parent.parent / "ship" / "@FILE@"
session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])

for path in sys.argv[1:]:
    photo = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")  # upright, as people see it; of 8 bits
    ground = Image.new("RGBA", photo.size, "@BACKGROUND@")
    photo = Image.alpha_composite(ground, photo).convert("RGB")
    answers = session.run(None, {"image": np.asarray(photo)[None]})
    found = {port.name: value for port, value in zip(session.get_outputs(), answers, strict=True)}
    if "classes" in found:
        best = list(zip(found["classes"][0], found["scores"][0], strict=True))
    else:
        values = found.get("probabilities", found["logits"])[0]
        best = [(index, values[index]) for index in np.argsort(-values)[:5]]
    print(path, *(f"{index}:{value:.4f}" for index, value in best))
