"""Says at the end of a command where its results are, and which command comes next, to be pasted. (torch-free)"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import open_r1
from open_r1.data.paths import split_paths
from open_r1.redaction import command_line
from open_r1.report.run_folder import FINAL_MODEL, flat

REPOSITORY = Path(open_r1.__file__).resolve().parents[2]
# Stems of files of held-out rows, beside a training file.
HELD_OUT_STEMS = ("heldout", "held_out", "val", "valid", "validation", "dev", "eval", "test")
# Flags of tools that an evaluation shares with the training before it.
TOOL_FLAGS = ("tools", "environment", "max_tool_turns", "max_tool_images", "max_tool_pixels")
TOOL_FLAGS += ("tool_seconds", "tool_memory_gb")


def script_path(name: str) -> str:
    """The path of a script of the repository, as it can be typed in the working folder."""
    path = REPOSITORY / name
    return name if Path.cwd() == REPOSITORY else str(path)


def command_text(script: str, flags: Mapping[str, Any], *places: object) -> str:
    """A command that can be pasted: a script or `-m MODULE`, its `places` (positional) and flags; those without a
    value are left out, secrets are blanked.

    >>> flags = {"model": "my model", "task": None, "trust_remote_code": True}
    >>> command_text("eval/demo.py", flags).partition("eval/")[2]
    "demo.py --model 'my model' --trust_remote_code"
    """
    words = ["python", *(script.split() if script.startswith("-m ") else [script_path(script)]), *map(str, places)]
    for name, value in flags.items():
        if value is None or value is False or value == []:
            continue
        values = [] if value is True else value if isinstance(value, list) else [value]
        words += [f"--{name}", *map(str, values)]
    return command_line(words)


def ending(title: str, lines: Mapping[str, str | None]) -> str:
    """A title and lines of a name and what it stands for; those without a value are left out.

    >>> print(ending("Trained 2 steps.", {"model": "out/checkpoint", "merged": None, "next": "python ..."}))
    Trained 2 steps.
      model  out/checkpoint
      next   python ...
    """
    shown = {name: text for name, text in lines.items() if text}
    width = max(map(len, shown), default=0)
    return "\n".join([*filter(None, [title]), *(f"  {name.ljust(width)}  {text}" for name, text in shown.items())])


def held_out_files(paths: Sequence[str]) -> list[str]:
    """For each training file a file of held-out rows in its folder; [] where one has none."""
    found = []
    for path in map(Path, paths):
        names = (path.with_name(f"{stem}{path.suffix}") for stem in HELD_OUT_STEMS if stem != path.stem)
        found += [str(each) for each in names if each.is_file()][:1]
    return found if len(found) == len(paths) == len(set(found)) else []


def next_evaluation(model: str | os.PathLike, out: str | os.PathLike, flags: Mapping[str, Any]) -> str:
    """The command that evaluates a model with the `flags` of its training: on held-out rows where a file of them lies
    beside the training rows, else on those; where the rows are no files, the command that opens the demo."""
    remote = {"trust_remote_code": bool(flags.get("trust_remote_code"))}
    paths = flags.get("data_file_paths")
    if not paths:
        return command_text("eval/demo.py", {"model": model, **remote})
    files = held_out_files(split_paths(paths)) or split_paths(paths)
    methods = flags.get("reward_method")  # one for all rows is in the model's recipe
    rows = {
        "model": model,
        "data_file_paths": ":".join(path.replace(":", "\\:") for path in files),
        "image_folders": flags.get("image_folders"),
        "fields": flags.get("fields"),
        "reward_method": methods if methods and ":" in methods else None,
    }
    has_tools = flags.get("tools") or flags.get("environment")
    tools = {name: flags.get(name) for name in TOOL_FLAGS} if has_tools else {}
    return command_text("eval/evaluate.py", {**rows, **tools, "output_dir": out, **remote})


def end_of_training(folder: Path, steps: str, verdict: Sequence[str], flags: Mapping[str, Any]) -> str:
    """The last lines of a run; `flags` are those of its task and TOOL_FLAGS, `use_peft` and `trust_remote_code`."""
    model = folder / FINAL_MODEL
    merged = command_text("local_scripts/merge_lora.py", {"out": folder / "merged"}, model)
    page = folder / "report.html"
    lines = {
        "model": str(model),
        "report": str(page) if page.is_file() else command_text("-m open_r1.report", {}, folder),
        "next": next_evaluation(model, folder / "eval", flags),
        "merge": merged if flags.get("use_peft") else None,
    }
    return ending(f"{steps}. {' '.join(verdict)}".rstrip(), lines)


def flags_of_run(model: str | os.PathLike) -> dict[str, Any]:
    """The flags of the run that trained a model in its folder, from `resolved_config.yaml`; {} where there is none."""
    config = Path(model).parent / "resolved_config.yaml"
    if not config.is_file():
        return {}
    return flat(yaml.safe_load(config.read_text(encoding="utf-8")) or {})
