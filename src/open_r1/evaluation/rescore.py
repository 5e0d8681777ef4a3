"""Score saved completions of any project, without a model. (torch-free)

A row holds `completion` and `gold`, for boxes `image_wh`, `box_space` or `model_family`, and, where the gold is not
[x1, y1, x2, y2], `gold_format` "xywh"; a row's own `accu_reward_method` wins over the task's.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_r1.errors import DataError, Problem, UsageError
from open_r1.evaluation.grading_counts_file import counts_of_process
from open_r1.evaluation.metrics import PredictionLine, grade_completion, grading_facts, summarize
from open_r1.evaluation.predictions_file import PREDICTIONS, write_predictions
from open_r1.rewards.judge.group import asked_together
from open_r1.rewards.judge.settings import judge_facts
from open_r1.rewards.judged import recorded_judge
from open_r1.rewards.sandbox.worker_pool import WORKERS
from open_r1.rewards.saved_completions import decode_saved, judged_completions, read_saved
from open_r1.tasks.find import find_task


def rescore(
    path: Path,
    task: str,
    method: str | None,
    mode: str,
    by: Sequence[str],
    out: Path | None,
    box_space: str | None = None,
) -> tuple[list[PredictionLine], dict[str, Any]]:
    """(graded lines, summary); the lines are written to the folder `out` where one is given. `box_space` wins over the
    rows' own.

    Raises DataError with every problem of every row, UsageError for a file without rows.
    """
    began, problems = time.monotonic(), []
    rows, of_rows = list(_numbered_lines(path)), method or find_task(task).method
    judged = judged_completions([(where, raw) for raw, where, _ in rows], of_rows, box_space)
    with asked_together(judged), ThreadPoolExecutor(2 * WORKERS) as threads:
        results = list(threads.map(lambda item: _grade_row(*item, task, method, mode, by, box_space), rows))
    for line in results:
        if isinstance(line, DataError):
            problems += line.problems
    if problems:
        raise DataError(problems)
    if not results:
        raise UsageError(f"{path}: got no rows, expected JSONL with `completion` and `gold`")
    lines = [line for line in results if not isinstance(line, DataError)]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_predictions(out / PREDICTIONS, lines)
    settings = {
        "from_predictions": str(path),
        "tasks": [task],
        "methods": [of_rows],
        "prompt_mode": mode,
        "box_space": box_space,
        **(recorded_judge(judge_facts()) if judged else {}),
    }
    facts = {
        "settings": settings,
        "wall_seconds": round(time.monotonic() - began, 2),
        **grading_facts(counts_of_process()),
    }
    return lines, summarize(lines) | facts


def _numbered_lines(path: Path) -> Iterator[tuple[bytes, str, int]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield line, f"{path}:{number}", number


def _grade_row(
    raw: bytes,
    where: str,
    number: int,
    task: str,
    method: str | None,
    mode: str,
    by: Sequence[str],
    box_space: str | None,
) -> PredictionLine | DataError:
    try:
        completion, record = read_saved(decode_saved(raw, where), where, box_space)
        record = record if record.accu_reward_method or not method else replace(record, accu_reward_method=method)
        line = grade_completion(completion, record, find_task(task), mode, by)
    except DataError as error:
        return error
    except ValueError as error:  # a box without the size of its image, an unknown family
        remedy = "add what is missing, or correct it"
        return DataError([Problem(where, "row", str(error), "what its accuracy method needs", remedy)])
    label = Path(where.rpartition(":")[0]).stem
    return {"row": f"{label}:{number}", "split": label, "sample": 0, **line}
