"""What `python -m open_r1.convert` makes of files: rows, report and words; and whether the doctor finds them sound."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.imported import picture, written
from open_r1.convert import main
from open_r1.data.images import with_sizes
from open_r1.data.jsonl_dataset import scan_records
from open_r1.report.examination import check_gold, check_image

PICTURES = {"a.png": (120, 90), "b.jpg": (64, 64), "d.jpg": (300, 200), "sub/e.png": (64, 48), "图 片.png": (50, 40)}


@dataclass(frozen=True)
class Converted:
    """One run of the door."""

    status: int
    rows: list[dict[str, Any]]
    report: dict[str, Any]
    said: str

    @property
    def golds(self) -> list[str]:
        return [row["conversations"][-1]["value"] for row in self.rows]

    @property
    def questions(self) -> list[str]:
        return [row["conversations"][-2]["value"] for row in self.rows]

    @property
    def reasons(self) -> dict[str, int]:
        return {entry["reason"]: entry["count"] for entry in self.report.get("left_out", [])}

    @property
    def methods(self) -> list[str | None]:
        return [row.get("accu_reward_method") for row in self.rows]


class Door:
    """Runs the door on files that it writes, in a folder with PICTURES below `images`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]):
        self.folder, self.capsys = folder, capsys
        for name, size in PICTURES.items():
            picture(folder, f"images/{name}", size)

    def __call__(self, *flags: str, **files: Any) -> Converted:
        """Converts `files`: name with __ for a dot -> text, bytes, a value as JSON or a list of rows for JSONL."""
        return self.convert(
            *(self.write(name.replace("__", "."), value) for name, value in files.items()), flags=flags
        )

    def convert(self, *paths: Path | str, flags: Sequence[str] = ()) -> Converted:
        """Converts files, given by their path or name; all rows have to be sound."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        self.capsys.readouterr()
        status = main([*(str(self.folder / path) for path in paths), "--out", str(out), *flags])
        said = "".join(self.capsys.readouterr())
        files = sorted(out.glob("*.jsonl"))
        rows = [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]
        report = json.loads((out / "convert.json").read_text()) if (out / "convert.json").exists() else {}
        if files:
            assert defects(files, report["image_folder"]) == []
        return Converted(status, rows, report, said)

    def write(self, name: str, value: Any) -> Path:
        path = self.folder / name
        if isinstance(value, bytes):
            path.write_bytes(value)
            return path
        if name.endswith(".jsonl") and isinstance(value, list):
            value = "\n".join(map(json.dumps, value))
        return written(self.folder, name, value)


def defects(files: list[Path], folder: str) -> list[str]:
    """What the doctor finds in lines, pictures and golds."""
    data, problems = scan_records(":".join(map(str, files)), folder or None, progress=False)
    found = [str(problem) for problem in problems]
    for record in data:
        found += [str(problem) for problem in check_gold(with_sizes(record) or record)]
        seen = [check_image(record.folder, path, record.where) for path in record.images]
        found += [str(one) for one in seen if isinstance(one, Exception)]
    return found


def talk(question: str, answer: Any, **fields: Any) -> dict[str, Any]:
    """A row of LLaVA's form."""
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}], **fields}
