"""Pictures of the demo for the README, in a real Chromium: demo_1280.png and demo_400_dark.png.

python local_scripts/demo_screenshots.py                  # writes assets/figures
"""

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from open_r1.demo.page import build
from open_r1.demo.serve import serve
from open_r1.evaluation.settings import add_asking
from open_r1.inference import Asker, asking_settings
from open_r1.tasks import TASKS

ASSETS = Path(__file__).resolve().parents[1] / "assets"
SHOTS = (  # file, model, task, held-out example, width in pixels, colours
    ("demo_1280.png", "tiny-vlm-shapes", "rec", 7, 1280, "light"),
    ("demo_400_dark.png", "tiny-vlm", "digits", 0, 400, "dark"),
)


def demo_screenshots(browser: Any, folder: Path) -> None:
    """Both pictures; `browser` is playwright's."""
    for name, model, task, example, width, colours in SHOTS:
        with served(ASSETS / model, task) as address:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colours)
            ask(page, address, example)
            page.mouse.move(0, 0)
            page.evaluate("document.activeElement.blur()")
            page.wait_for_timeout(800)  # colours of buttons fade
            page.screenshot(path=folder / name, full_page=True)
            page.close()


@contextmanager
def served(model: Path, task: str) -> Iterator[str]:
    parser = argparse.ArgumentParser()
    add_asking(parser)
    words = ["--model", str(model), "--task", task, "--max_completion_length", "64"]
    page = build(Asker(asking_settings(parser.parse_args(words))), TASKS[task].generator())
    yield serve(page, "127.0.0.1", None)
    page.close(verbose=False)


def ask(page: Any, address: str, example: int) -> None:
    """Draw an example, ask, and show the attention."""
    page.goto(address)
    page.get_by_label("Number of the example").fill(str(example))
    page.get_by_role("button", name="Draw an example").click()
    page.wait_for_selector("#pictures img")
    page.wait_for_function("document.querySelector('#question textarea').value")
    page.click("#ask")
    page.click("#look:enabled")
    page.wait_for_selector("#heat img")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ASSETS / "figures")
    out = parser.parse_args().out
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        demo_screenshots(browser, out)
        browser.close()


if __name__ == "__main__":
    main()
