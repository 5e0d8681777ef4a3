"""Converts R1-V's prompt files, lines `{"image_path", "question", "ground_truth"}`, to our JSONL. (torch-free)"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from open_r1.errors import DataError, data_error, shorten

FIELDS = ("image_path", "question", "ground_truth")


def convert_prompts(path: Path, out: Path) -> Path:
    """Writes `out` with a row for each line; image paths stay relative to R1-V's folder, without a leading `./`.

    Raises DataError with every line that lacks a field, and for a missing file.
    """
    if not path.is_file():
        raise data_error(str(path), "--prompt_path", "no such file", "R1-V's prompt file", "correct the path")
    rows, problems = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                rows.append(_row(line, number, f"{path}:{number}"))
            except DataError as error:
                problems += error.problems
    if problems:
        raise DataError(problems)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return out


def _row(line: str, number: int, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
        image, question, truth = (fields[name] for name in FIELDS)
    except (ValueError, TypeError, KeyError) as error:
        expected = f"a JSON object with {', '.join(FIELDS)}"
        raise data_error(where, "line", shorten(error), expected, "correct the line") from error
    return {"id": number, "image": str(PurePosixPath(image)), "problem": question, "solution": str(truth)}
