"""Grade a completion into a line of `predictions.jsonl`; summarize lines into accuracies and rates. (torch-free)

A line holds `row` (file:line), `mode`, `sample`, `split`, `task`, `id`, `completion`, `solution`, `score` (of the
accuracy method), `right`, `format`, `parsed` (the answer that the method parsed, or null), `tokens`, `truncated`,
`seconds` (its share of its batch's generation), `measures` (the task's further ones) and `by` (the fields of `--by`).
Of a row without gold `solution`, `score` and `right` are null.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from open_r1.data.record import Record
from open_r1.data.unlabeled import has_gold
from open_r1.evaluation.statistics import pass_at_k, wilson
from open_r1.rewards.judge.method import metrics_of_judge
from open_r1.rewards.judge.tally import lost_verdicts
from open_r1.rewards.registry import REWARDS, get_method
from open_r1.rewards.trl_adapter import lost_metrics
from open_r1.tasks.find import find_task
from open_r1.tasks.task import Task

PredictionLine = dict[str, Any]


def grade_completion(completion: str, record: Record, task: Task, mode: str, by: Sequence[str] = ()) -> PredictionLine:
    """Fields of a line of `predictions.jsonl`: score, right, format, parsed answer, as training grades them.

    Raises DataError for a gold that its method cannot use, and for a row without a field of `by`.
    """
    method = get_method(record.accu_reward_method or task.method)
    record_in_mode, scored = record.with_extra(prompt_mode=mode), has_gold(record)
    score = method.score(completion, record_in_mode) if scored else None
    return {
        "mode": mode,
        "task": task.name,
        "id": record.id,
        "completion": completion,
        "solution": record.solution if scored else None,
        "score": score,
        "right": bool(task.is_right(score)) if scored else None,
        "format": REWARDS["format"](completion, record_in_mode),
        "parsed": method.parse(completion, record_in_mode),
        "measures": {name: measure(completion, record_in_mode) for name, measure in task.measures.items() if scored},
        "by": {name: str(record.extra.get(name)) for name in by},
    }


def grading_facts(counts: Mapping[str, Counter[str]]) -> dict[str, dict[str, float]]:
    """What was lost of gradings (`lost_gradings`), and what a judge cost (`judge`), for a summary; `counts` as of
    `grading_counts_file`.

    >>> grading_facts({"grading": Counter(timeouts=2), "judge": Counter()})
    {'lost_gradings': {'grading/timeouts': 2}}
    """
    found = lost_metrics(counts["grading"], lost_verdicts(counts["judge"]))
    lost = {name: int(count) for name, count in found.items() if count}
    facts = {"lost_gradings": lost, "judge": metrics_of_judge(counts["judge"])}
    return {name: found for name, found in facts.items() if found}


def summarize(lines: Sequence[PredictionLine]) -> dict[str, Any]:
    """Prompt mode -> the figures of all rows, and of each split, task and value of `--by`."""
    modes = list(dict.fromkeys(line["mode"] for line in lines))
    return {mode: _mode([line for line in lines if line["mode"] == mode]) for mode in modes}


def _mode(lines: Sequence[PredictionLine]) -> dict[str, Any]:
    fields = list(dict.fromkeys(name for line in lines for name in line["by"]))
    by = {field: figures_by(lines, lambda line, field=field: line["by"].get(field, "None")) for field in fields}
    parts = {
        "splits": figures_by(lines, lambda line: line["split"]),
        "tasks": figures_by(lines, lambda line: line["task"]),
    }
    return {**figures(lines), **parts, **({"by": by} if by else {})}


def figures_by(lines: Iterable[PredictionLine], key: Callable[[PredictionLine], str]) -> dict[str, dict[str, Any]]:
    """Key -> the figures of its lines."""
    groups: dict[str, list[PredictionLine]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return {name: figures(groups[name]) for name in groups}


def figures(lines: Sequence[PredictionLine]) -> dict[str, Any]:
    """Accuracy with its interval, rates in [0, 1], means over completions, pass@k where rows have several samples.

    `accuracy` is the mean over rows of their share of right samples, n the number of rows. Lines scored from files
    have no token counts, so no means of them.
    """
    rows: dict[str, list[bool]] = {}
    for line in lines:
        rows.setdefault(line["row"], []).append(line["right"])
    right = wilson(sum(sum(row) / len(row) for row in rows.values()), len(rows))
    samples = min(map(len, rows.values()))
    return {
        "metric": "; ".join(dict.fromkeys(find_task(line["task"]).metric for line in lines)),
        "accuracy": right.accuracy,
        "low": right.low,
        "high": right.high,
        "n": right.n,
        **({"samples": samples, "pass_at": pass_at(list(rows.values()), samples)} if samples > 1 else {}),
        "mean_score": mean_of(lines, lambda line: line["score"]),
        "parse_rate": mean_of(lines, lambda line: line["parsed"] is not None),
        "format_rate": mean_of(lines, lambda line: line["format"] or 0.0),
        **_lengths(lines),
        **_measures(lines),
    }


def pass_at(rows: Sequence[Sequence[bool]], samples: int) -> dict[str, float]:
    """k -> mean over rows of `pass_at_k`, for k = 1, 2, 4, ... and `samples`.

    >>> pass_at([[True, False], [False, False]], samples=2)
    {'1': 0.25, '2': 0.5}
    """
    ks = sorted({2**i for i in range(samples.bit_length()) if 2**i <= samples} | {samples})
    return {str(k): sum(pass_at_k(sum(row), len(row), k) for row in rows) / len(rows) for k in ks}


def mean_of(lines: Sequence[PredictionLine], value: Callable[[PredictionLine], float]) -> float:
    """The mean of a value over lines."""
    return sum(float(value(line)) for line in lines) / len(lines)


def _lengths(lines: Sequence[PredictionLine]) -> dict[str, float]:
    if any(line.get("tokens") is None for line in lines):
        return {}
    return {
        "mean_tokens": mean_of(lines, lambda line: line["tokens"]),
        "truncated": mean_of(lines, lambda line: line["truncated"]),
    }


def _measures(lines: Sequence[PredictionLine]) -> dict[str, float]:
    """Means of the tasks' further measures over the lines that have them, and their ratios of sums."""
    totals: dict[str, list[float]] = {}
    for line in lines:
        for name, value in line["measures"].items():
            if value is not None:
                totals.setdefault(name, []).append(value)
    ratios: Mapping[str, tuple[str, str]] = {
        name: parts for task in {line["task"] for line in lines} for name, parts in find_task(task).ratios.items()
    }
    ratio_parts = {part for parts in ratios.values() for part in parts}
    means = {name: sum(values) / len(values) for name, values in totals.items() if name not in ratio_parts}
    sums = {name: (sum(totals[a]), sum(totals[b])) for name, (a, b) in ratios.items() if a in totals and b in totals}
    return means | {name: a / b if b else 0.0 for name, (a, b) in sums.items()}
