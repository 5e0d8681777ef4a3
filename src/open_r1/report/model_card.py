"""Write the model card of a checkpoint: model, usage, training, evaluations. (torch-free)

A run writes it beside the weights at each save; `python -m open_r1.model_card` adds later evaluations.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from open_r1.errors import UsageError
from open_r1.report import markdown
from open_r1.tasks.recipe import Recipe

CARD_FILE, CURVES = "README.md", "reward_curve.png"
BEGIN, END = "<!-- evaluations: begin -->", "<!-- evaluations: end -->"
CARD_TEMPLATES = Environment(  # nosec B701 # it is Markdown: `markdown.text` escapes every value
    loader=PackageLoader("open_r1.report", "pages"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    finalize=markdown.text,
)
CARD_TEMPLATES.filters |= {"code": markdown.code, "quoted": markdown.quoted, "yaml": markdown.yaml}


@dataclass(frozen=True)
class Card:
    """The contents of a card beyond the recipe. `rewards`: (name, weight); `data`: names of files or a dataset."""

    method: str
    name: str
    instruction: str
    data: Sequence[str]
    rows: int
    data_sha256: str
    command: str
    ranks: int
    versions: Mapping[str, str]
    rewards: Sequence[tuple[str, float]] = ()
    judge: str | None = None  # which model graded, and how it was asked
    hub_dataset: str | None = None
    changes: Sequence[str] = ()  # sentences about files that were changed on the way
    settings: Mapping[str, Any] = field(default_factory=dict)


def write_card(
    folder: Path, card: Card, recipe: Recipe, run: Path, step: int, history: Sequence[Mapping[str, Any]]
) -> None:
    """Write `folder/README.md`, and copy the run's curves beside it where they exist.

    `history`: the metrics that the run logged; its newest evaluation during training is the first table.
    """
    if (run / CURVES).is_file():
        shutil.copyfile(run / CURVES, folder / CURVES)
    evaluations = [line for line in history if any(key.startswith("eval_reward") for key in line)]
    text = CARD_TEMPLATES.get_template("model_card.md").render(
        card=card,
        recipe=recipe,
        step=step,
        hub_base=recipe.base_model if recipe.base_model and not Path(recipe.base_model).exists() else None,
        command=markdown.block(card.command, "bash"),
        curves=(folder / CURVES).is_file(),
        evaluated=evaluations[-1] if evaluations else None,
        begin=markdown.SafeMarkdown(BEGIN),
        end=markdown.SafeMarkdown(END),
    )
    (folder / CARD_FILE).write_text(text, encoding="utf-8", errors="backslashreplace")


def evaluation_table(folders: Sequence[Path]) -> str:
    """A Markdown table of the summaries in output folders of `eval/`. Raises UsageError for a folder without one."""
    head = "| evaluation | rows | accuracy, 95 % interval | parsed | format | tokens |"
    lines = [head, "|---|---|---|---|---|---|"]
    for folder in folders:
        path = folder / "summary.json"
        if not path.is_file():
            raise UsageError(f"{folder}: got no summary.json, expected the output folder of a script of eval/")
        summary = json.loads(path.read_text(encoding="utf-8"))
        for mode in (mode for mode in ("think", "direct") if mode in summary):
            lines += [_row(f"{folder.name}, {mode}: {split}", part) for split, part in summary[mode]["splits"].items()]
    return "\n".join(lines)


def _row(name: str, part: Mapping[str, Any]) -> str:
    """One split's row of the table."""
    interval = f"{part['accuracy']:.3f} [{part['low']:.3f}, {part['high']:.3f}] ({markdown.text(part['metric'])})"
    tokens = f"{part['mean_tokens']:.0f}" if "mean_tokens" in part else ""
    rates = f"{part['parse_rate']:.1%} | {part['format_rate']:.1%}"
    return f"| {markdown.text(name)} | {part['n']} | {interval} | {rates} | {tokens} |"


def add_evaluations(checkpoint: Path, folders: Sequence[Path]) -> Path:
    """Write a table of evaluations into the checkpoint's card; returns its path. Raises UsageError without a card."""
    path = checkpoint / CARD_FILE
    if not path.is_file() or BEGIN not in (text := path.read_text(encoding="utf-8")):
        raise UsageError(f"{path}: got no model card of this project, expected a checkpoint that a run saved")
    before, rest = text.rsplit(BEGIN, 1)
    path.write_text(f"{before}{BEGIN}\n{evaluation_table(folders)}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    return path
