"""Writes a conversion: one JSONL file a split, the folder of its pictures, the report, and the next commands."""

import json
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_r1.data.jsonl_io import atomic_write
from open_r1.errors import data_error
from open_r1.tasks.importers.conversion import FIRST_PLACES, Conversion, ReadyRow
from open_r1.tasks.importers.one_folder import one_folder
from open_r1.tasks.importers.pictures import Pictures

TASK_OF_METHOD = {"rec": "rec", "od_ap": "od", "mask_iou": "seg"}  # the prompt that asks for such an answer
SMALL_RUN = "--model_name_or_path {} --max_steps 2 --max_completion_length 40"  # seconds on a CPU
NOT_IN_NAMES = re.compile(r"[^\w-]+")  # a split names its file


@dataclass(frozen=True)
class Written:
    """What a conversion left: rows of each file, the image folder, what is left out, and the next commands."""

    files: Mapping[str, int]
    image_folder: str
    sources: list[str]
    remarks: list[str]
    left_out: list[Mapping[str, Any]]  # reason, count, first places
    commands: list[str] = field(default_factory=list)


def refuse_overwriting(out: Path, is_allowed: bool) -> None:
    """Raises DataError where a folder holds rows already, unless that is allowed, and where it is a file."""
    if out.exists() and not out.is_dir():
        raise data_error("--out", "folder", f"{out}, a file", "a folder to write", "name another one")
    if not is_allowed and (found := sorted(out.glob("*.jsonl"))):
        remedy = "name another folder, or give --overwrite"
        raise data_error("--out", "folder", f"{out}, which holds {found[0].name}", "a folder without rows", remedy)


def write_rows(out: Path, conversion: Conversion, pictures: Pictures, sources: list[str], task: str = "") -> Written:
    """Writes `out/SPLIT.jsonl` and `out/convert.json`; rows without a split are "train"."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.jsonl"):  # --overwrite
        old.unlink()
    used = (path for row in conversion.rows for path in row.all_files)
    folder, names = one_folder(used, pictures.folders, pictures.out)
    splits: dict[str, list[bytes]] = defaultdict(list)
    for row in conversion.rows:
        images = [names[path] for path in row.files]
        shown = {"image": images[0] if len(images) == 1 else images} if images else {}
        shown |= _video_fields(row, names)
        identity = {"id": row.row["id"]} if "id" in row.row else {}
        line = json.dumps({**identity, **shown, **row.row}, ensure_ascii=False)
        splits[NOT_IN_NAMES.sub("_", row.split)[:40] or "train"].append(line.encode("utf-8", errors="replace") + b"\n")
    for split, lines in splits.items():
        with atomic_write(out / f"{split}.jsonl") as file:
            file.writelines(lines)
    files = {str(out / f"{split}.jsonl"): len(lines) for split, lines in splits.items()}
    left_out = [
        {"reason": reason, "count": len(places), "first": places[:FIRST_PLACES]}
        for reason, places in sorted(conversion.left_out.items(), key=lambda entry: -len(entry[1]))
    ]
    commands = next_commands(files, str(_shown(folder)) if names else "", conversion, task) if files else []
    written = Written(files, str(_shown(folder)) if names else "", sources, conversion.remarks, left_out, commands)
    with atomic_write(out / "convert.json") as file:
        file.write(json.dumps(vars(written), ensure_ascii=False, indent=2).encode() + b"\n")
    return written


def _video_fields(row: ReadyRow, names: Mapping[Path, str]) -> dict[str, Any]:
    """The field of a row's videos: `video` of one, `videos` of several, none without any."""
    named = [[names[path] for path in video] if isinstance(video, tuple) else names[video] for video in row.videos]
    return {"video": named[0]} if len(named) == 1 else {"videos": named} if named else {}


def _shown(folder: Path) -> Path:
    """The folder relative to the working directory where it lies below, as a user types it."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def next_commands(files: Mapping[str, int], folder: str, conversion: Conversion, task: str) -> list[str]:
    """The doctor for all files; the training on the first, "train" where there is one, and the same in small."""
    train = next((name for name in files if name.endswith("train.jsonl")), next(iter(files)))
    methods = Counter(row.row.get("accu_reward_method") for row in conversion.rows)
    method = next(iter(methods)) if len(methods) == 1 else None
    flags = ["--task_type", task or TASK_OF_METHOD.get(str(method), "default")]
    flags += ["--reward_method", method] if method and method not in TASK_OF_METHOD else []
    flags += ["--image_folders", folder.replace(":", "\\:")] if folder else []
    every = shlex.join(["--data_file_paths", ":".join(name.replace(":", "\\:") for name in files), *flags])
    one = shlex.join(["--data_file_paths", train.replace(":", "\\:"), *flags])
    run = shlex.quote(f"output/{Path(train).resolve().parent.name}")
    training = f"python src/open_r1/grpo_jsonl.py {one} --output_dir {run}"
    small = f"assets/tiny-vlm{'-motion' if any(row.videos for row in conversion.rows) else ''}"
    return [
        f"python -m open_r1.check {every}",
        f"{training} --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct",
        f"{training}-try {SMALL_RUN.format(small)}",
    ]
