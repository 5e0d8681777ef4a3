"""Make the documentation's screenshots from real runs of the embedded models: assets/figures/NAME.png.

    python local_scripts/dev/figures/screenshots.py  # all of them; trains for about two minutes first
    python local_scripts/dev/figures/screenshots.py report_400_dark       # only those named
    python local_scripts/dev/figures/screenshots.py --work output/shots  # where runs go; finished ones are reused

Chromium is the system's (`bash setup.sh --dev --browser`).
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from open_r1.evaluation.demo.server import serve
from open_r1.evaluation.demo.ui import build
from open_r1.evaluation.flags import add_answer_flags
from open_r1.evaluation.session import ModelSession, session_settings
from open_r1.report.page import write_report
from open_r1.tasks.digits import QUESTIONS
from open_r1.tasks.registry import TASKS

REPO = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Shot:
    """A screenshot: `show` opens the page, given a browser page and the work folder; `whole`: beyond the window."""

    show: Callable[[Page, Path], None]
    width: int
    height: int
    scheme: str
    whole: bool = False


def train(work: Path, name: str, *flags: str) -> Path:
    """Train the rec task at embedded scale for 60 steps, unless that is done; returns the run's folder."""
    data, out = work / "data", work / name
    if not data.exists():
        call("local_scripts/make_dataset.py", "rec", "--out", data, "--rows", 500, "--heldout_rows", 8, "--seed", 0)
    if not (out / "checkpoint").exists():
        shutil.rmtree(out, ignore_errors=True)
        rows = ["--data_file_paths", data / "train.jsonl", "--image_folders", data, "--output_dir", out]
        call("src/open_r1/grpo_jsonl.py", *TRAINING.split(), *rows, *flags)
    return out


TRAINING = (
    "--model_name_or_path assets/tiny-vlm-shapes --task_type rec --max_steps 60 --lr_scheduler_type linear "
    "--warmup_steps 5 --gradient_checkpointing false --save_strategy no --disable_tqdm true --num_generations 8 "
    "--per_device_train_batch_size 64 --beta 0.01 --max_completion_length 48 --seed 0"
)


def call(script: str, *arguments: object) -> None:
    """Run a script of the repository."""
    subprocess.run([sys.executable, script, *map(str, arguments)], cwd=REPO, check=True, stdout=sys.stderr)


def report(page: Page, work: Path) -> None:
    """Open the report of two runs: one that learns, and one with too few tokens for its answers."""
    runs = [
        train(work, "rec", "--learning_rate", "1e-4"),
        train(work, "rec-short", "--learning_rate", "3e-5", "--max_completion_length", "30"),
    ]
    page.goto(write_report(runs, work / "report.html").resolve().as_uri())
    page.wait_for_selector("html[data-ready]")


def rollouts(page: Page, work: Path) -> None:
    """Open the report at groups of the first run with different rewards."""
    report(page, work)
    page.locator("#f-run").select_option("0")
    page.locator("#f-equal").select_option("mixed")
    page.wait_for_timeout(300)
    page.locator("#rollouts").evaluate("node => node.scrollIntoView()")


def first_group(page: Page, work: Path) -> None:
    """Open the report at the first such group."""
    rollouts(page, work)
    page.locator(".group").first.evaluate("node => node.scrollIntoView()")


def attention(page: Page, work: Path) -> None:
    """Open the attention page of the tiny model reading two digits, at the first digit."""
    folder, out = work / "digits", work / "attention.html"
    if not folder.exists():
        call("local_scripts/make_dataset.py", "digits", "--out", folder, "--rows", 2, "--heldout_rows", 2, "--seed", 0)
    words = ["--model", "assets/tiny-vlm", "--task", "digits", "--question", QUESTIONS["list"], "--out", out]
    call("eval/attention.py", *words, "--image", folder / "images" / "heldout_000000.png")
    page.goto(out.resolve().as_uri())
    for _ in range(4):
        page.keyboard.press("ArrowRight")


def demo(model: str, task: str, example: int) -> Callable[[Page, Path], None]:
    """A `show` that opens the demo, asks a held-out example of the task, and shows the attention."""

    def show(page: Page, work: Path) -> None:
        words = ["--model", str(REPO / "assets" / model), "--task", task, "--max_completion_length", "64"]
        parser = argparse.ArgumentParser()
        add_answer_flags(parser)
        blocks = build(ModelSession(session_settings(parser.parse_args(words))), TASKS[task].generator())
        page.goto(serve(blocks, "127.0.0.1", None))
        page.get_by_label("Number of the example").fill(str(example))
        page.get_by_role("button", name="Draw an example").click()
        page.wait_for_selector("#pictures img")
        page.wait_for_function("document.querySelector('#question textarea').value")
        page.click("#ask")
        page.click("#look:enabled")
        page.wait_for_selector("#heat img")
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur()")
        page.wait_for_timeout(800)  # colours of buttons fade

    return show


SHOTS: dict[str, Shot] = {
    "report_1280_light": Shot(report, 1280, 1180, "light"),
    "report_rollouts_light": Shot(rollouts, 1280, 1000, "light"),
    "report_400_dark": Shot(first_group, 400, 1180, "dark"),
    "attention_light": Shot(attention, 900, 700, "light", whole=True),
    "demo_1280_light": Shot(demo("tiny-vlm-shapes", "rec", 7), 1280, 900, "light", whole=True),
    "demo_400_dark": Shot(demo("tiny-vlm", "digits", 0), 400, 900, "dark", whole=True),
}


def shoot(browser: Any, name: str, shot: Shot, work: Path) -> Path:
    """Take a screenshot; returns its file."""
    size = {"width": shot.width, "height": shot.height}
    page = browser.new_page(viewport=size, color_scheme=shot.scheme, reduced_motion="reduce")
    shot.show(page, work)
    page.wait_for_timeout(500)  # pictures are decoded
    out = REPO / "assets" / "figures" / f"{name}.png"
    page.screenshot(path=out, full_page=shot.whole)
    page.close()
    with Image.open(out) as picture:
        picture.convert("RGB").save(out, optimize=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SHOTS)}; default: all")
    parser.add_argument("--work", type=Path, default=Path("output/screenshots"))
    args = parser.parse_args()
    if unknown := set(args.names) - set(SHOTS):
        parser.error(f"got {', '.join(sorted(unknown))}, expected some of {', '.join(SHOTS)}")
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium: got none on PATH, expected the system's; run bash setup.sh --dev --browser")
    args.work.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in args.names or SHOTS:
            out = shoot(browser, name, SHOTS[name], args.work)
            print(f"{out.relative_to(REPO)}: {out.stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    main()
