"""Runs -> one self-contained HTML page: findings, curves, distributions, settings, a browser of sampled groups.

Everything that a model or a data set wrote is data: as JSON in a block that is never executed, or escaped by jinja2.
Script and style are pinned by their hash, and the page may load nothing from anywhere.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2.environment import TemplateStream
from markupsafe import Markup

from open_r1.data.jsonl_io import atomic_write
from open_r1.data.paths import ImageFolder
from open_r1.errors import DataError
from open_r1.report.curves import series, smooth
from open_r1.report.diagnoses import findings
from open_r1.report.metric_ranges import HEALTH
from open_r1.report.run_folder import Group, RunFolder, as_text, flag_differences, read_runs
from open_r1.report.templates import PAGES
from open_r1.report.thinning import kept_groups
from open_r1.rewards.drawing import ANSWERED, GOLD

MAX_COMPLETIONS = 10_000  # on a page
MAX_BYTES = 40 * 2**20  # of texts and pictures on a page; groups beyond are left out, and the page says so
SCRIPTS = ("page.js", "charts.js", "distributions.js", "rollouts.js")
SMOOTHING = 0.8  # of curves, until a reader chooses another
TYPES = {".webp": "webp", ".png": "png"}


def write_report(folders: Sequence[Path], out: Path) -> Path:
    """Write the page of these run folders to `out`; raises UsageError as `read_runs`. Runs may still be going on."""
    page = render(read_runs(folders), datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"))
    with atomic_write(out) as file:  # whoever opens it meanwhile sees a whole page
        page.dump(file, encoding="utf-8", errors="backslashreplace")
    return out


def render(runs: Sequence[RunFolder], made: str) -> TemplateStream:
    """The page's HTML, part by part: a run makes it again and again beside its training, so it is never held whole."""
    script, style = static()
    shown = [fitting(run, len(runs)) for run in runs]
    pictures = {name: uri for run, groups in zip(runs, shown, strict=True) for name, uri in embedded(run, groups)}
    data = {
        "runs": [{"name": run.name, "columns": columns(run.lines)} for run in runs],
        "health": {key: asdict(metric) for key, metric in HEALTH.items()},
    }
    groups = (embed(as_shown(group.parsed(), n, runs[n])) for n, groups in enumerate(shown) for group in groups)
    return PAGES.get_template("report.html").stream(
        runs=[facts(run, groups) for run, groups in zip(runs, shown, strict=True)],
        differences=flag_differences(runs),
        flags=[{name: as_text(value) for name, value in sorted(run.flags.items())} for run in runs],
        health=HEALTH,
        data=Markup("").join((Markup('{"groups":['), Markup(",").join(groups), Markup("],"), embed(data)[1:])),
        pictures=embed(pictures),
        script=Markup(script),  # nosec B704 # files of this package
        style=Markup(style),  # nosec B704 # a file of this package
        hashes={"script": script_hash(script), "style": script_hash(style)},
        smoothing=SMOOTHING,
        megabytes=MAX_BYTES // 2**20,
        made=made,
    )


@cache
def static() -> tuple[str, str]:
    """(script, style) of the page."""
    source = PAGES.loader
    text = {name: source.get_source(PAGES, name)[0] for name in (*SCRIPTS, "report.css")}
    style = text["report.css"].replace("GOLD", GOLD).replace("ANSWERED", ANSWERED)
    return "\n".join(text[name] for name in SCRIPTS), style


def script_hash(text: str) -> str:
    """As a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def embed(data: Any) -> Markup:
    r"""JSON that can stand in a script element whatever it holds; all beyond ASCII is escaped.

    >>> print(embed(["</script>", "a & b\u2028", "\ud800"]))
    ["\u003c/script\u003e","a \u0026 b\u2028","\ud800"]
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # nosec B704 # what could end a script element is escaped above


def columns(lines: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Key -> one number or None a line, to 6 digits.

    >>> columns([{"step": 1, "kl": 0.12345678}, {"step": 2, "note": "x"}])
    {'step': [1, 2], 'kl': [0.123457, None]}
    """
    keys = dict.fromkeys(key for line in lines for key, value in line.items() if isinstance(value, (int, float)))
    return {key: [_rounded(line.get(key)) for line in lines] for key in keys}


def _rounded(value: Any) -> float | None:
    if isinstance(value, int):
        return value
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else None


def facts(run: RunFolder, shown: Sequence[Group]) -> dict[str, Any]:
    """What the page says of a run in words and numbers."""
    _, rewards = series(run.lines, "reward")
    recent = smooth(rewards, SMOOTHING)
    return {
        "name": run.name,
        "step": run.lines[-1]["step"] if run.lines else 0,
        "minutes": (run.lines[-1].get("seconds") or 0) / 60 if run.lines else 0,
        "first": rewards[0] if rewards else None,
        "last": recent[-1] if recent else None,
        "accuracy": (smooth(series(run.lines, "rewards/accuracy/mean")[1], SMOOTHING) or [None])[-1],
        "findings": findings(run.lines),
        "groups": len(run.groups),
        "shown": len(shown),
        "model": run.flags.get("model_name_or_path", ""),
        "task": run.flags.get("task_type", ""),
    }


def fitting(run: RunFolder, runs: int) -> list[Group]:
    """The groups of a run that are shown: all, or as many as its share of the page holds (`thinning.chosen`)."""
    groups, steps = run.groups, [group.step for group in run.groups]
    most = MAX_COMPLETIONS // runs // max((group.completions for group in groups), default=1)
    while True:
        kept = [groups[i] for i in kept_groups(steps, most)]
        size = weight(run, kept)
        if size <= MAX_BYTES / runs or len(kept) <= 1:
            return kept
        most = int(len(kept) * min(0.95, MAX_BYTES / runs / size))


def weight(run: RunFolder, groups: Sequence[Group]) -> int:
    """About how many bytes groups take on the page: texts, outlines, and each picture once as base64."""
    texts = sum(len(group.line) for group in groups)
    names = {name for group in groups for name in group.images}
    return texts + sum(path.stat().st_size * 4 // 3 for name in names if (path := picture_path(run, name)))


def picture_path(run: RunFolder, name: str) -> Path | None:
    """The file of a picture; None for one that is gone, and for a name or link that leaves the run's folder."""
    try:
        path = Path(ImageFolder(str(run.folder)).resolve(f"rollout_images/{name}", ""))
    except DataError:
        return None
    return path if path.suffix in TYPES else None


def embedded(run: RunFolder, groups: Iterable[Group]) -> Iterable[tuple[str, str]]:
    """(name, data URI) of each picture once; one that is gone, as a run that goes on may thin, is left out."""
    for name in dict.fromkeys(name for group in groups for name in group.images):
        if path := picture_path(run, name):
            yield name, f"data:image/{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def as_shown(group: dict[str, Any], run: int, of: RunFolder) -> dict[str, Any]:
    """A group with the number of its run, completions by falling advantage, each with its weighted reward."""
    weights = of.flags.get("reward_weights")
    scored = [{**c, "reward": total_reward(c["rewards"], weights)} for c in group["completions"]]
    return {**group, "run": run, "completions": sorted(scored, key=lambda c: -(c["advantage"] or 0))}


def total_reward(rewards: dict[str, float | None], weights: Sequence[float] | None = None) -> float:
    """The weighted sum of the rewards that apply; weights of another number of rewards are another run's.

    >>> total_reward({"accuracy": 1.0, "format": 0.5, "mine": None}, [1, 2, 1])
    2.0
    """
    fit = weights if weights and len(weights) == len(rewards) else [1.0] * len(rewards)
    return round(sum(value * weight for value, weight in zip(rewards.values(), fit, strict=True) if value), 6)
