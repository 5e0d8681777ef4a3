"""Replays a step, top to bottom: rows, grades, advantages, gradients, table, page, files."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from open_r1.config.video_flags import frame_sampling
from open_r1.data.jsonl_dataset import RecordDataset
from open_r1.data.jsonl_io import atomic_write
from open_r1.data.record import Record
from open_r1.data.video.types import FrameSampling
from open_r1.errors import UsageError, last_words
from open_r1.evaluation.training_rewards import refuse_trainers_rewards
from open_r1.replay.advantages import AdvantageSettings
from open_r1.replay.figures import Comparison, Outcome, as_json, changes_of, generation_advantages
from open_r1.replay.flags import Arguments, Asked, Sections, parse_replay, parsed_settings, read_sections
from open_r1.replay.kept import KeptStep, checkpoint_of, placed_rows, read_step, refuse_no_run, rows_of_step
from open_r1.replay.one_step import gradient_of
from open_r1.replay.regrading import regraded
from open_r1.replay.summary import end_of_replay, show_replay
from open_r1.report.history import read_metrics
from open_r1.report.replay_page import write_replay_page
from open_r1.trainer.run import reward_weights_of, start_rewards
from open_r1.trainer.training_rows import training_rows


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0, 2 for what cannot act, 130 for Ctrl-C."""
    try:
        return replay(parse_replay(sys.argv[1:] if argv is None else argv))
    except (UsageError, ValueError, OSError) as error:
        print(last_words(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped: nothing of the run was changed", file=sys.stderr)
        return 130


def replay(asked: Asked) -> int:
    """Replay the step that was asked for."""
    refuse_no_run(asked.run)
    kept, sections = read_step(asked.run, asked.step), read_sections(asked.run)
    checkpoint, reason = policy_of(asked, kept)
    with TemporaryDirectory() as folder:
        own, tried = (parsed_settings(sections, words, kept.micro_batches, 1, folder) for words in ({}, asked.tried))
    rows = training_rows(own.task, own.training)
    records = rows_of_step(kept, rows)
    outcomes = [own_outcome(kept, own)]
    if asked.tried:
        outcomes.append(tried_outcome(asked, kept, tried, records, outcomes[0]))
    if reason is None:
        outcomes = with_gradients(asked, kept, sections, rows, checkpoint, outcomes)
    run, *others = outcomes
    changes = changes_of(kept, run, others[0]) if others else []
    comparison = Comparison(run, others[0] if others else None, changes, logged_step(asked.run, kept.step))
    leave_replay(asked, kept, comparison, checkpoint, reason, placed_rows(kept, records), frame_sampling(own.task))
    return 0


def policy_of(asked: Asked, kept: KeptStep) -> tuple[Path | None, str | None]:
    """(checkpoint of the step's policy, why there is no gradient); (None, None) for the run's first policy.

    Raises UsageError where a flag needs a gradient that there cannot be.
    """
    if asked.advantages_only:
        return None, "--advantages_only"
    try:
        if reason := kept.why_no_gradient():
            raise UsageError(
                f"--step: got {kept.step}, but {reason}; add --advantages_only, for rewards and advantages alone"
            )
        return (None if kept.step == 1 else checkpoint_of(asked.run, kept)), None
    except UsageError as error:
        if asked.needs_gradient:
            raise
        return None, str(error)


# ------------------------------------------------------------------------------------------------------------ outcomes


def advantage_settings(arguments: Arguments, functions: int) -> AdvantageSettings:
    """How these arguments make advantages of so many rewards. Raises UsageError for another number of weights."""
    training = arguments.training
    weights = reward_weights_of(arguments.task, training) or [1.0] * functions
    scale, aggregation = str(training.scale_rewards), training.multi_objective_aggregation
    return AdvantageSettings(torch.tensor(weights), training.num_generations, scale, aggregation)


def own_outcome(kept: KeptStep, own: Arguments) -> Outcome:
    """What the run itself had: its rewards and advantages."""
    rewards = torch.tensor(kept.rewards)
    settings = advantage_settings(own, rewards.shape[1])
    return Outcome(kept.first.names, rewards, torch.tensor(kept.advantages), settings)


def tried_outcome(asked: Asked, kept: KeptStep, tried: Arguments, records: RecordDataset, own: Outcome) -> Outcome:
    """Rewards and advantages under what is tried; completions are graded anew where a flag of grading is given."""
    names, rewards = own.names, own.rewards
    if asked.grades:
        refuse_trainers_rewards(tried.task, "a replay")
        graders = start_rewards(tried.task)
        chosen = training_rows(tried.task, tried.training) if "reward_method" in asked.tried else None
        records = records if chosen is None else rows_of_step(kept, chosen)
        names, rewards = [grader.__name__ for grader in graders], regraded(kept, records, graders, tried)
    settings = advantage_settings(tried, rewards.shape[1])
    return Outcome(names, rewards, generation_advantages(kept, rewards, settings), settings)


def with_gradients(
    asked: Asked,
    kept: KeptStep,
    sections: Sections,
    rows: RecordDataset,
    checkpoint: Path | None,
    outcomes: Sequence[Outcome],
) -> list[Outcome]:
    """The outcomes, of the run and of what is tried, with what the trainer learns from them."""
    found = []
    for outcome, words in zip(outcomes, ({}, asked.tried), strict=False):
        step = gradient_of(kept, rows, outcome.rewards, checkpoint, sections, words)
        found.append(replace(outcome, step=step))
    return found


def logged_step(run: Path, step: int) -> dict[str, float]:
    """What the run logged of a step; empty where it ended within it, or logs fewer of them."""
    lines = read_metrics(run) if (run / "metrics.jsonl").is_file() else []
    line = next((line for line in lines if line["step"] == step), {})
    return {name: line[name] for name in ("loss", "grad_norm", "kl") if name in line}


# ------------------------------------------------------------------------------------------------------------- outputs


def leave_replay(
    asked: Asked,
    kept: KeptStep,
    comparison: Comparison,
    checkpoint: Path | None,
    reason: str | None,
    rows: Mapping[str, Record],
    frames: FrameSampling,
) -> None:
    """Print the table and where things are, and write the page, with the step's `rows` and the `frames` of their
    videos, and, where asked, the JSON."""
    facts = {
        "run": str(asked.run),
        "step": kept.step,
        "policy": None if reason else str(checkpoint or "the model that the run began with"),
        "no_gradient": reason,
        "tried_flags": {name: " ".join(words) for name, words in asked.tried.items()},
        "groups": sum(len(part.rows) for part in kept.parts),
    }
    figures = as_json(kept, comparison, facts)
    console = Console(width=None if sys.stdout.isatty() else 140)
    show_replay(figures, console)
    page = asked.page or asked.run / f"replay-step-{kept.step}.html"
    write_replay_page(page, figures, rows, frames)
    if asked.json:
        with atomic_write(asked.json) as file:
            file.write((json.dumps(figures, indent=2) + "\n").encode("ascii"))
    console.print(end_of_replay(asked, figures, page), soft_wrap=True, highlight=False, markup=False)
