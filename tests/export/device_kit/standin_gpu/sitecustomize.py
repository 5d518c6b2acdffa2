"""Read by Python when it starts: hides what the plan says is not installed."""

import json
import os
import sys
from pathlib import Path

for name in json.loads(Path(os.environ["STANDIN"]).read_text())["missing"]:
    sys.modules[name] = None  # type: ignore[assignment]
