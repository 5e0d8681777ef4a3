"""Write the report of runs as one HTML page: findings, curves, distributions, settings, a browser of sampled groups.

Texts of models and data sets are JSON in a block that is not executed, or escaped by jinja2. A content security policy
allows only this script and style, by their hashes, and no loading from anywhere.
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
from open_r1.report.curves import series
from open_r1.report.diagnoses import findings
from open_r1.report.metric_ranges import HEALTH, exact_metrics
from open_r1.report.run_folder import Group, RunFolder, as_text, flag_differences, read_runs, total_reward
from open_r1.report.strategy_shares import strategy_findings, strategy_shares
from open_r1.report.templates import PAGES
from open_r1.report.thinning import kept_groups
from open_r1.report.verdict import SMOOTHING, newest_value, verdict
from open_r1.rewards.drawing import ANSWERED, GOLD

MAX_COMPLETIONS = 10_000  # on a page
MAX_BYTES = 40 * 2**20  # of texts and pictures on a page, which names the groups left out
SCRIPTS = ("page.js", "charts.js", "distributions.js", "film.js", "rollouts.js")
TYPES = {".webp": "webp", ".png": "png"}


def write_report(folders: Sequence[Path], out: Path) -> Path:
    """Write the page of these run folders to `out`; runs may still be training. Raises UsageError as `read_runs`."""
    page = render(read_runs(folders), datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"))
    with atomic_write(out) as file:  # a reader meanwhile sees the old page whole
        page.dump(file, encoding="utf-8", errors="backslashreplace")
    return out


def render(runs: Sequence[RunFolder], date: str) -> TemplateStream:
    """The page's HTML as a stream, so that a run that writes it beside its training does not hold all of it.

    `date` is shown on the page.
    """
    script, style = script_and_style()
    run_groups = [(run, fitting_groups(run, len(runs))) for run in runs]
    pictures = {name: uri for run, groups in run_groups for name, uri in embedded_pictures(run, groups)}
    data = {
        "runs": [{"name": run.name, "columns": columns(run.lines)} for run in runs],
        "health": {key: asdict(metric) for key, metric in HEALTH.items()},
        "exact": exact_metrics(),
    }
    groups = (
        embed(page_group(group.parsed(), n, run)) for n, (run, groups) in enumerate(run_groups) for group in groups
    )
    return PAGES.get_template("report.html").stream(
        runs=[page_facts(run, groups) for run, groups in run_groups],
        differences=flag_differences(runs),
        flags=[{name: as_text(value) for name, value in sorted(run.flags.items())} for run in runs],
        health=HEALTH,
        data=Markup("").join((Markup('{"groups":['), Markup(",").join(groups), Markup("],"), embed(data)[1:])),
        pictures=embed(pictures),
        script=Markup(script),  # nosec B704 # files of this package
        style=Markup(style),  # nosec B704 # a file of this package
        hashes={"script": script_hash(script), "style": script_hash(style)},
        smoothing=SMOOTHING,
        dependency=any(b'"dependency"' in group.line for _, groups in run_groups for group in groups),
        megabytes=MAX_BYTES // 2**20,
        made=date,
    )


@cache
def script_and_style() -> tuple[str, str]:
    """(script, style) of the page."""
    source = PAGES.loader
    text = {name: source.get_source(PAGES, name)[0] for name in (*SCRIPTS, "report.css")}
    style = text["report.css"].replace("GOLD", GOLD).replace("ANSWERED", ANSWERED)
    return "\n".join(text[name] for name in SCRIPTS), style


def script_hash(text: str) -> str:
    """The SHA-256 of a script or style, as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def embed(data: Any) -> Markup:
    r"""ASCII JSON that is safe inside a script element.

    >>> print(embed(["</script>", "a & b\u2028", "\ud800"]))
    ["\u003c/script\u003e","a \u0026 b\u2028","\ud800"]
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # nosec B704 # what could end a script element is escaped above


def columns(lines: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Key -> its number in each line, rounded to 6 digits, or None.

    >>> columns([{"step": 1, "kl": 0.12345678}, {"step": 2, "note": "x"}])
    {'step': [1, 2], 'kl': [0.123457, None]}
    """
    keys = dict.fromkeys(key for line in lines for key, value in line.items() if isinstance(value, (int, float)))
    return {key: [_rounded(line.get(key)) for line in lines] for key in keys}


def _rounded(value: Any) -> float | None:
    if isinstance(value, int):
        return value
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else None


def page_facts(run: RunFolder, page_groups: Sequence[Group]) -> dict[str, Any]:
    """The summary of a run at the top of the page."""
    _, rewards = series(run.lines, "reward")
    shares, found = strategy_shares(run), findings(run.lines)
    return {
        "name": run.name,
        "step": run.lines[-1]["step"] if run.lines else 0,
        "minutes": (run.lines[-1].get("seconds") or 0) / 60 if run.lines else 0,
        "first": rewards[0] if rewards else None,
        "last": newest_value(run.lines, "reward"),
        "accuracy": newest_value(run.lines, "rewards/accuracy/mean"),
        "findings": [*found, *strategy_findings(shares)],
        "verdict": verdict(run.lines, [*found, *strategy_findings(shares)]),
        "strategies": shares,
        "row_rates": run.row_rates,
        "groups": len(run.groups),
        "shown": len(page_groups),
        "model": run.flags.get("model_name_or_path", ""),
        "task": run.flags.get("task_type", ""),
    }


def fitting_groups(run: RunFolder, runs: int) -> list[Group]:
    """The groups of a run on the page: all, or as many as fit into its share of it (`thinning.kept_groups`)."""
    groups, steps = run.groups, [group.step for group in run.groups]
    most = MAX_COMPLETIONS // runs // max((group.completions for group in groups), default=1)
    while True:
        page_groups = [groups[i] for i in kept_groups(steps, most)]
        size = bytes_on_page(run, page_groups)
        if size <= MAX_BYTES / runs or len(page_groups) <= 1:
            return page_groups
        most = int(len(page_groups) * min(0.95, MAX_BYTES / runs / size))


def bytes_on_page(run: RunFolder, groups: Sequence[Group]) -> int:
    """About how many bytes groups have on the page: texts, outlines, and each picture once as base64."""
    texts = sum(len(group.line) for group in groups)
    names = {name for group in groups for name in group.images}
    return texts + sum(path.stat().st_size * 4 // 3 for name in names if (path := picture_path(run, name)))


def picture_path(run: RunFolder, name: str) -> Path | None:
    """The file of a picture; None for a missing one, and for a name or link that leaves the run's folder."""
    try:
        path = Path(ImageFolder(str(run.folder)).resolve(f"rollout_images/{name}", ""))
    except DataError:
        return None
    return path if path.suffix in TYPES else None


def embedded_pictures(run: RunFolder, groups: Iterable[Group]) -> Iterable[tuple[str, str]]:
    """(name, data URI) of each picture once; missing ones, which a run may have thinned out, are left out."""
    for name in dict.fromkeys(name for group in groups for name in group.images):
        if path := picture_path(run, name):
            yield name, f"data:image/{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def page_group(group: dict[str, Any], run: int, of: RunFolder) -> dict[str, Any]:
    """A group as the page has it: with the number of its run, completions by descending advantage, total rewards.

    Its step is that of the curves, which count from 1: the one that it was sampled for.
    """
    weights = of.flags.get("reward_weights")
    completions = [{**c, "reward": total_reward(c["rewards"], weights)} for c in group["completions"]]
    return {
        **group,
        "step": group["step"] + 1,
        "run": run,
        "completions": sorted(completions, key=lambda c: -(c["advantage"] or 0)),
    }
