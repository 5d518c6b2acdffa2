"""How a page looks in a real browser."""

import json
from pathlib import Path
from typing import Any


def looked_at(page_file: Path, width: int, scheme: str, browser: Any, scratch: Path) -> int:
    """Nothing is fetched, nothing is printed to the console, nothing runs off the side, no serious finding by axe.

    Returns how many texts its plots have.
    """
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(viewport={"width": width, "height": 850}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not _local(request.url) else None)
    page.goto(page_file.as_uri())
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = Axe().run(page).response["violations"]
    assert [(f["id"], f["impact"]) for f in found if f["impact"] in ("serious", "critical")] == [], json.dumps(found)
    shot = scratch / "page.png"
    page.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 20_000
    texts = int(page.locator("svg text").count())
    page.close()
    return texts


def _local(url: str) -> bool:
    return url.startswith(("file:", "data:"))
