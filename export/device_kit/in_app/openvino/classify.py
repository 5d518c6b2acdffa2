"""Classify photos with OpenVINO: python classify.py PHOTO...

Needs: pip install openvino pillow numpy
"""

import json
import sys
from pathlib import Path

import numpy as np
import openvino
from PIL import Image, ImageOps

SHIP = Path(__file__).parent.parent / "ship"
settings = json.loads((SHIP / "runtime-settings.json").read_text())
model = openvino.Core().compile_model(SHIP / "@FILE@", "CPU", settings)

for path in sys.argv[1:]:
    photo = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")  # upright, as people see it; of 8 bits
    ground = Image.new("RGBA", photo.size, "@BACKGROUND@")
    photo = Image.alpha_composite(ground, photo).convert("RGB")
    answer = model(np.asarray(photo)[None])
    found = {port.any_name: value for port, value in answer.items()}
    if "classes" in found:
        best = list(zip(found["classes"][0], found["scores"][0], strict=True))
    else:
        values = found.get("probabilities", found["logits"])[0]
        best = [(index, values[index]) for index in np.argsort(-values)[:5]]
    print(path, *(f"{index}:{value:.4f}" for index, value in best))
