"""Says at the end of an evaluation where its answers and figures are, and which command comes next. (torch-free)"""

import argparse
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from open_r1.evaluation.flags import add_answer_flags, add_tool_flags
from open_r1.evaluation.predictions_file import PREDICTIONS, SUMMARY
from open_r1.evaluation.settings import EvaluationSettings
from open_r1.report.next_steps import command_text, ending
from open_r1.tasks.recipe import read_recipe

OTHER_FLAG = {"tasks": "task", "methods": "reward_method"}  # the flags whose name is not the setting's
IN_COLONS = {"tasks", "methods", "data_file_paths"}
OF_PLACES = {"model", "output_dir", "batch_size", "by", "overwrite"}


def end_of_evaluation(args: argparse.Namespace, summary: Mapping[str, Any]) -> str:
    """The last lines of an evaluation, or of scored completions."""
    folder = args.output_dir or args.from_predictions.parent
    lines = {"figures": str(folder / SUMMARY)}
    if (folder / PREDICTIONS).is_file():
        lines["answers"] = str(folder / PREDICTIONS)
    if not args.from_predictions:
        lines |= {"model": str(args.model)} | next_evaluations(args, summary["settings"], folder)
    return ending("", lines)


def next_evaluations(args: argparse.Namespace, settings: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Commands: of a trained model the same evaluation of what it was trained from, and the comparison with it; of
    another model a look at its answers."""
    flags = same_flags(settings, args.image_folders)
    base = read_recipe(args.model).base_model
    if base is None or base == args.model:
        kept = {name: value for name, value in flags.items() if name in flags_of_looks()}
        looked = {"model": args.model, **kept, "limit": 8}
        return {"next": command_text("eval/infer.py", {**looked, "out": folder.with_name(f"{folder.name}-looked-at")})}
    before = folder.with_name(f"{folder.name}-before")
    return {
        "next": command_text("eval/evaluate.py", {"model": base, **flags, "output_dir": before}),
        "then": command_text("eval/compare.py", {}, before, folder),
    }


def flags_of_looks() -> set[str]:
    """The flags of `eval/infer.py` that decide an answer to a row."""
    parser = argparse.ArgumentParser()
    add_answer_flags(parser)
    add_tool_flags(parser)
    return {*vars(parser.parse_args([])), "data_file_paths", "image_folders", "fields", "backend"}


def same_flags(settings: Mapping[str, Any], image_folders: str | None) -> dict[str, Any]:
    """The flags that repeat an evaluation's settings for another model, whose own recipe and limits may be others."""
    flags: dict[str, Any] = {}
    for field in fields(EvaluationSettings):
        value = image_folders if field.name == "image_folders" else settings.get(field.name)
        if field.name in OF_PLACES or value is None or (field.default is not MISSING and value == field.default):
            continue
        text = ":".join(part.replace(":", "\\:") for part in value) if field.name in IN_COLONS else value
        flags[OTHER_FLAG.get(field.name, field.name)] = text
    return flags
