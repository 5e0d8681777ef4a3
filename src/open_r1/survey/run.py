"""Runs a survey, top to bottom: rows, rewards, looks by the evaluator, figures, files, page, summary."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console

from open_r1.config.video_flags import frame_sampling
from open_r1.data.field_names import renaming_of
from open_r1.data.jsonl_dataset import RecordDataset, load_records
from open_r1.data.jsonl_io import atomic_write
from open_r1.data.media_views import BLANK, OTHER, OWN, SHUFFLED
from open_r1.data.record import Record
from open_r1.errors import UsageError, last_words
from open_r1.evaluation.metrics import PredictionLine, summarize
from open_r1.evaluation.predictions_file import save_summary
from open_r1.evaluation.run import Evaluation
from open_r1.evaluation.settings import EvaluationSettings
from open_r1.evaluation.views import donors_of, rows_with_view
from open_r1.report.attack_report import AttackSettings, TriedStrategies, attacked_rows, tried_strategies
from open_r1.report.examination import shown_progress
from open_r1.report.survey_page import write_survey_page
from open_r1.rewards.spread import RewardSum
from open_r1.survey.conclusions import survey_findings
from open_r1.survey.figures import (
    SurveyedRow,
    as_interval,
    budgets,
    dead_kinds,
    group_sizes,
    rate_counts,
    reward_means,
    sight,
    surveyed_rows,
    teaching_share,
    token_quantiles,
)
from open_r1.survey.filtered import FilteredFile, write_filtered
from open_r1.survey.flags import SurveyPlan, parse_survey
from open_r1.survey.hours import rehearsed_times
from open_r1.survey.summary import end_of_survey, show_survey
from open_r1.trainer.run import reward_weights_of, start_rewards

FIGURES, PAGE, FILTERED = "survey.json", "survey.html", "rows"
FOLDERS = {OWN: "answers", BLANK: "answers-blank", OTHER: "answers-other", SHUFFLED: "answers-shuffled"}
SHOWN_ROWS = 6  # hopeless rows on the page

Looks = dict[str, list[PredictionLine]]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0, 2 for what cannot act, 130 for Ctrl-C."""
    try:
        plan = parse_survey(sys.argv[1:] if argv is None else argv)
        return survey(plan)
    except (UsageError, ValueError, OSError) as error:
        print(last_words(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped: the same command goes on where it stopped", file=sys.stderr)
        return 130


def survey(plan: SurveyPlan) -> int:
    """Survey the rows of a plan; on ranks other than 0 of torchrun only their share of the answers is made."""
    reward_sum = RewardSum(reward_weights_of(plan.task, plan.training), plan.training.multi_objective_aggregation)
    data = load_records(
        plan.task.data_file_paths,
        plan.task.image_folders,
        reward_methods=plan.settings.methods,
        renaming=renaming_of(plan.task.fields),
    )
    records = data.sample(plan.own.rows, plan.training.seed)
    rewards = start_rewards(plan.task)
    donors = donors_of(records, data, plan.training.seed) if plan.own.picture_samples else []
    evaluation = Evaluation(plan.settings, records, rewards, donors)
    views = [view_settings(plan, evaluation.settings, view) for view in looks_at(records, bool(donors))]
    for settings in views:
        evaluation.predictions_of(settings)  # refuses what cannot be continued, before a model is loaded
    is_first = evaluation.rank == 0
    longest = rehearsed_times(plan, plan.training.max_completion_length) if plan.own.gpu and is_first else None
    looks = {settings.view: look(evaluation, settings) for settings in views}
    if not is_first:
        return 0
    rows = surveyed_rows(looks[OWN], reward_sum)
    figures = figures_of(plan, looks, rows, records, reward_sum) | {"rows_of_data": len(data)}
    if longest:
        figures["hours"] = {"mean": times_at_mean(plan, figures, longest), "longest": longest}
    tried = tried_strategies(rewards, attacked_rows(data, (), plan.task.prompt_mode), AttackSettings(), shown_progress)
    files = write_filtered(data, by_place(records, rows), plan.own.output_dir / FILTERED)
    leave(plan, figures, records, rows, looks[OWN], tried, files)
    return 0


# --------------------------------------------------------------------------------------------------------------- looks


def looks_at(records: Sequence[Record], others: bool) -> tuple[str, ...]:
    """The views of a survey: with `others` those of other pictures, and of shuffled frames where rows have videos."""
    if not others:
        return (OWN,)
    return (OWN, BLANK, OTHER, SHUFFLED) if any(record.videos for record in records) else (OWN, BLANK, OTHER)


def view_settings(plan: SurveyPlan, settings: EvaluationSettings, view: str) -> EvaluationSettings:
    """The evaluator's settings of one look; those at other pictures have fewer samples."""
    samples = plan.samples if view == OWN else plan.own.picture_samples
    return replace(settings, output_dir=plan.own.output_dir / FOLDERS[view], view=view, num_samples=samples)


def look(evaluation: Evaluation, settings: EvaluationSettings) -> list[PredictionLine]:
    """The lines of the rows that have this view, with a summary beside them; [] on ranks other than 0."""
    rows = list(rows_with_view(settings.view, evaluation.records, evaluation.donors))
    lines = evaluation.answers(settings, rows)
    if lines:
        save_summary(settings.output_dir, evaluation.summary(lines, settings))
    return lines or []


# ------------------------------------------------------------------------------------------------------------- figures


def figures_of(
    plan: SurveyPlan, looks: Looks, rows: Sequence[SurveyedRow], records: RecordDataset, reward_sum: RewardSum
) -> dict[str, Any]:
    """The figures of `survey.json`; shares are in [0, 1]."""
    lines, group, mode = looks[OWN], plan.group, plan.task.prompt_mode
    part = summarize(lines)[mode]
    step, teach = plan.step_completions, teaching_share(rows, group)
    return {
        "model": plan.settings.model,
        "data_file_paths": plan.settings.data_file_paths,
        "rows": len(rows),
        "samples": plan.samples,
        "group": group,
        "metric": part["metric"],
        "accuracy": {"share": part["accuracy"], "low": part["low"], "high": part["high"], "rows": part["n"]},
        "pass_at": part["pass_at"],
        "parse_rate": part["parse_rate"],
        "format_rate": part["format_rate"],
        "rewards": reward_means(lines, reward_sum),
        "teach": as_interval(teach),
        "teach_by_group": {size: as_interval(teaching_share(rows, size)) for size in group_sizes(plan.samples, group)},
        "rate_counts": rate_counts(rows, plan.samples),
        "dead": dead_kinds(rows),
        "tokens": token_quantiles(lines),
        "budgets": budgets(lines, plan.training.max_completion_length),
        "sight": {view: found for view in (BLANK, OTHER, SHUFFLED) if (found := sight(lines, looks.get(view, ())))},
        "text_only": sum(not (record.images or record.videos) for record in records),
        "with_videos": sum(bool(record.videos) for record in records),
        "no_other": len(labels_of(looks, BLANK) - labels_of(looks, OTHER)),
        "step": {
            "completions": step,
            "teaching": step * teach.accuracy,
            "low": step * teach.low,
            "high": step * teach.high,
        },
        "sampling": {n: getattr(plan.settings, n) for n in ("temperature", "top_p", "top_k", "min_p", "seed")},
    }


def labels_of(looks: Looks, view: str) -> set[str]:
    """The rows of a look."""
    return {line["row"] for line in looks.get(view, ())}


def times_at_mean(plan: SurveyPlan, figures: dict[str, Any], longest: dict[str, Any]) -> dict[str, Any]:
    """The rehearsed times with completions of the mean length."""
    tokens = math.ceil(figures["tokens"]["mean"])
    return longest if tokens >= plan.training.max_completion_length else rehearsed_times(plan, tokens)


def by_place(records: RecordDataset, rows: Sequence[SurveyedRow]) -> dict[tuple[int, int], SurveyedRow]:
    """(number of the file, line) -> the row; `rows` are in the order of `records`."""
    places = zip(records.source_of_rows().tolist(), records.lines().tolist(), strict=True)
    return dict(zip(places, rows, strict=True))


# ------------------------------------------------------------------------------------------------------------- outputs


def leave(
    plan: SurveyPlan,
    figures: dict[str, Any],
    records: RecordDataset,
    rows: Sequence[SurveyedRow],
    lines: Sequence[PredictionLine],
    tried: TriedStrategies,
    files: Sequence[FilteredFile],
) -> None:
    """Write `survey.json` and the page, and print the summary."""
    out = plan.own.output_dir
    figures["files"] = [
        {"path": str(file.path), "source": file.source.path, "rows": file.kept, "left_out": file.left_out}
        for file in files
    ]
    figures["strategies"] = [asdict(earning) for earning in tried.earnings]
    findings = survey_findings(figures)
    figures["findings"] = [finding.name for finding in findings]
    with atomic_write(out / FIGURES) as file:
        file.write((json.dumps(figures, indent=2) + "\n").encode("ascii"))
    said = {line["row"]: line["completion"] for line in reversed(lines)}  # the first of each row
    hopeless = [(record, said[row.label]) for record, row in zip(records, rows, strict=True) if row.rate == 0]
    write_survey_page(out / PAGE, figures, findings, tried, hopeless[:SHOWN_ROWS], frame_sampling(plan.task))
    console = Console(width=None if sys.stdout.isatty() else 140)
    show_survey(figures, findings, tried, console)
    places = {"page": str(out / PAGE), "figures": str(out / FIGURES), "answers": str(out / FOLDERS[OWN])}
    console.print(end_of_survey(plan, figures, files, places), soft_wrap=True, highlight=False, markup=False)
