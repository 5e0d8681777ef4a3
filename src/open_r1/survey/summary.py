"""What a survey prints: a table of figures, findings, hours, and at the end where things are and what to do next."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from open_r1.redaction import command_line
from open_r1.report.attack_report import TriedStrategies
from open_r1.report.attack_table import attack_table
from open_r1.report.diagnoses import Finding
from open_r1.report.next_steps import command_text, ending
from open_r1.report.survey_page import ATTACK_LIMIT, VIEW_NAMES, hours_lines, interval_text, teaching_line
from open_r1.survey.filtered import FilteredFile
from open_r1.survey.flags import SurveyPlan

FILTER_FROM = 0.5  # share of groups that teach, below which the filtered files are the next step


def show_survey(
    figures: Mapping[str, Any], findings: Sequence[Finding], tried: TriedStrategies, console: Console
) -> None:
    """Print the figures, what cheap strategies earn, and what follows."""
    console.print(figure_table(figures))
    if tried.earnings:
        console.print(attack_table(tried.earnings, tried.findings))
    lines = [*tried.left_out, *tried.lines(ATTACK_LIMIT), *map(str, findings), teaching_line(figures)]
    for line in [*lines, *hours_lines(figures)]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def figure_table(figures: Mapping[str, Any]) -> Table:
    """The main figures, one a line."""
    title = f"{figures['rows']:,} of {figures['rows_of_data']:,} rows, {figures['samples']} completions each"
    table = Table(Column("", no_wrap=True), Column("[95 % interval]", justify="right", no_wrap=True), title=title)
    for name, text in figure_lines(figures).items():
        table.add_row(name, text)
    return table


def figure_lines(figures: Mapping[str, Any]) -> dict[str, str]:
    """Name -> the figure as text."""
    lines = {f"accuracy ({figures['metric']})": interval_text(figures["accuracy"])}
    lines |= {f"pass@{k}": f"{share:.3f}" for k, share in figures["pass_at"].items() if k != "1"}
    lines[f"groups of {figures['group']} that would teach"] = interval_text(figures["teach"])
    lines |= {"answers read": f"{figures['parse_rate']:.1%}", "format kept": f"{figures['format_rate']:.1%}"}
    longest = figures["budgets"][-1]
    lines[f"cut off at {longest['tokens']:g} tokens"] = f"{longest['truncated']:.1%}"
    lines["tokens, mean"] = f"{figures['tokens']['mean']:.1f}"
    for view, found in figures["sight"].items():
        lines[f"accuracy with {VIEW_NAMES[view]}"] = interval_text(found["shown"])
        lines["  on the same rows with their own"] = interval_text(found["own"])
    return lines


def end_of_survey(
    plan: SurveyPlan, figures: Mapping[str, Any], files: Sequence[FilteredFile], places: Mapping[str, str]
) -> str:
    """The last lines: where things are, and the command that comes next."""
    lines = dict(places)
    if files:
        counts = f"{sum(f.kept for f in files):,} rows; {sum(f.left_out for f in files):,} that teach nothing left out"
        lines["rows"] = f"{flag_text(filtered_flags(plan, files))} ({counts})"
    takes_filtered = bool(files) and figures["teach"]["share"] < FILTER_FROM
    lines["next"] = train_command(plan, filtered_flags(plan, files) if takes_filtered else {})
    if not plan.own.gpu:
        lines["price"] = "add --gpu a100-80 --gpu_price 1.5 --nproc 8, or another card: the answers are kept"
    return ending("", lines)


def train_command(plan: SurveyPlan, changed: Mapping[str, str | None]) -> str:
    """The command of the run, with its flags as typed and those in `changed`."""
    folder = plan.own.output_dir
    typed = {name: words or True for name, words in plan.run_flags.items() if name not in changed}
    flags = {"model_name_or_path": plan.settings.model, **typed, **changed}
    flags["output_dir"] = folder.with_name(f"{folder.name}-run")
    command = command_text("src/open_r1/grpo_jsonl.py", flags)
    ranks = plan.own.nproc
    return command.replace("python", f"torchrun --nproc_per_node {ranks}", 1) if ranks > 1 else command


def filtered_flags(plan: SurveyPlan, files: Sequence[FilteredFile]) -> dict[str, str | None]:
    """The flags of the filtered files in place of the data's: rows of tables have our fields and their own folder."""
    folders = [file.source.folder for file in files]
    flags: dict[str, str | None] = {"data_file_paths": in_colons([str(file.path) for file in files])}
    flags["image_folders"] = in_colons([folder or "." for folder in folders]) if any(folders) else None
    if ":" in (plan.task.reward_method or ""):
        flags["reward_method"] = in_colons([file.source.method for file in files])
    if plan.task.fields and all(file.source.rows for file in files):
        flags["fields"] = "solution=solution" if "solution" in files[0].source.renaming.fields else None
    return flags


def flag_text(flags: Mapping[str, str | None]) -> str:
    """Flags as they are typed; those without a value are left out.

    >>> flag_text({"data_file_paths": "my a.jsonl", "fields": None})
    "--data_file_paths 'my a.jsonl'"
    """
    return command_line([word for name, value in flags.items() if value for word in (f"--{name}", value)])


def in_colons(parts: Sequence[str]) -> str:
    r"""Parts as a flag takes them, with their own colons marked; one where all are equal.

    >>> in_colons(["a", "b"]), in_colons(["a", "a"])
    ('a:b', 'a')
    """
    several = parts if len(set(parts)) > 1 else parts[:1]
    return ":".join(part.replace(":", "\\:") for part in several)
