"""A step that a run kept whole (`trainer.outputs.whole_steps`): its generations, its checkpoint, and their checks."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from open_r1.data.fingerprint import picture_digest, picture_sizes
from open_r1.data.jsonl_dataset import RecordDataset
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.rewards.turns import CompletionMessages
from open_r1.trainer.checkpointing.changes import resume_differences
from open_r1.trainer.checkpointing.required_files import read_state, weight_files
from open_r1.trainer.checkpointing.select import checkpoints_in, step_of
from open_r1.trainer.outputs.whole_steps import WHOLE_STEPS, WholePart, kept_files, read_part, row_digest

Generation = list[WholePart]  # of all ranks, in their order


@dataclass(frozen=True)
class KeptStep:
    """Optimizer step `step`, and the generations that it learns from, in order.

    Completions are counted over the generations, within one over ranks, within a rank as micro-batches take them.
    """

    step: int
    generations: list[Generation]

    @property
    def first(self) -> WholePart:
        """A part for what all have alike."""
        return self.generations[0][0]

    @property
    def parts(self) -> list[WholePart]:
        """The parts of all generations and ranks, in the order of completions."""
        return [part for generation in self.generations for part in generation]

    @property
    def micro_batches(self) -> int:
        """Micro-batches of the step, on all ranks."""
        return self.first.micro_batches * self.first.ranks

    @property
    def offset(self) -> int:
        """Micro-batches of its generation, on all ranks, that steps before it used."""
        return (self.step - self.first.step) * self.micro_batches

    @property
    def where(self) -> list[str]:
        """The place of each completion's row."""
        return [where for part in self.parts for where in part.where for _ in range(part.group)]

    @property
    def texts(self) -> list[str]:
        """The text of each completion."""
        return [text for part in self.parts for text in part.texts]

    @property
    def rewards(self) -> list[list[float]]:
        """(completions, functions) what the run's rewards gave; NaN: does not apply."""
        return [row for part in self.parts for row in part.rewards]

    @property
    def advantages(self) -> list[float]:
        """The advantage of each completion in the run."""
        return [value for part in self.parts for value in part.advantages]

    def groups_in_order(self) -> list[int]:
        """The numbers of all groups as one process replays them: micro-batch by micro-batch, within one by ranks."""
        starts = accumulate((len(part.rows) for part in self.parts), initial=0)
        numbers = {id(part): start for part, start in zip(self.parts, starts, strict=False)}
        return [
            numbers[id(part)] + cut * (len(part.rows) // part.parts) + group
            for generation in self.generations
            for cut in range(self.first.parts)
            for part in generation
            for group in range(len(part.rows) // part.parts)
        ]

    def why_no_gradient(self) -> str | None:
        """Why the micro-batches of this step cannot be told from its generations, or None."""
        uses = self.first.parts * self.first.iterations
        if self.first.facts.get("--use_adaptive_entropy"):
            return "its entropy bonus followed the entropy of the steps before it (--use_adaptive_entropy)"
        whole = sum(part.parts * part.iterations for part, *_ in self.generations) == self.first.micro_batches
        if whole or (len(self.generations) == 1 and self.first.place == 0 and uses % self.first.micro_batches == 0):
            return None
        return (
            "its micro-batches begin inside one generation and end inside another (--steps_per_generation, "
            "--num_iterations and --gradient_accumulation_steps do not divide each other)"
        )


def completions_of(part: WholePart) -> Sequence[CompletionMessages]:
    """The completions of a part as rewards take them."""
    return part.texts if part.messages is None else part.messages


# --------------------------------------------------------------------------------------------------------------- files


def refuse_no_run(folder: Path) -> None:
    """Raises UsageError for a folder without the configuration of a run."""
    if not (folder / "resolved_config.yaml").is_file():
        raise UsageError(
            f"RUN: got {folder}, without resolved_config.yaml, expected the --output_dir of a run of grpo_jsonl.py, "
            "grpo_rec.py or grpo.py; correct the path"
        )


def generations_in(folder: Path) -> list[Generation]:
    """All generations of a run whose ranks have all been written, in order."""
    found: dict[tuple[int, int], Generation] = defaultdict(list)
    for path, (step, place, _) in kept_files(folder / WHOLE_STEPS).items():
        found[step, place].append(read_part(path))
    whole = [sorted(parts, key=lambda part: part.rank) for _, parts in sorted(found.items())]
    return [parts for parts in whole if len(parts) == parts[0].ranks]


def kept_steps(generations: Sequence[Generation]) -> list[int]:
    """The steps that learn from these generations."""
    return sorted({step for part, *_ in generations for step in range(part.step, part.last_step + 1)})


def read_step(folder: Path, step: int | None) -> KeptStep:
    """A kept step of a run, by default the newest with a checkpoint of its policy, else the newest.

    Raises UsageError, with the steps that there are, for no such.
    """
    generations = generations_in(folder)
    steps = kept_steps(generations)
    if not steps:
        raise UsageError(
            f"{folder}: got no whole rollouts ({WHOLE_STEPS}/), expected those of its last steps; a run keeps them "
            "with --keep_whole_steps 3, the default, and without --environment: go on with this one, or start one"
        )
    newest = max((n for n in steps if has_weights(folder / f"checkpoint-{n - 1}")), default=generations[-1][0].step)
    number = newest if step is None else step
    if number not in steps:
        raise UsageError(
            f"--step: got {number}, but {folder} has whole rollouts of {steps_text(steps)}; choose one of them, or "
            "keep more by --keep_whole_steps"
        )
    return KeptStep(number, [parts for parts in generations if parts[0].step <= number <= parts[0].last_step])


def steps_text(steps: Sequence[int]) -> str:
    """Numbers of steps in words.

    >>> steps_text([4]), steps_text([4, 5, 6])
    ('step 4', 'steps 4, 5, 6')
    """
    return f"step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))}"


def has_weights(checkpoint: Path) -> bool:
    """Whether the weights of a checkpoint are whole files that one process can load."""
    patterns = weight_files(checkpoint) if checkpoint.is_dir() else [""]
    return all(any(any(checkpoint.glob(one)) for one in pattern.split("|") if one) for pattern in patterns)


def checkpoint_of(folder: Path, kept: KeptStep) -> Path:
    """The checkpoint of the policy that step N learns with, `checkpoint-(N-1)`; the first step has none.

    Raises UsageError where there is none, and for one of another run.
    """
    path = folder / f"checkpoint-{kept.step - 1}"
    if not has_weights(path):
        steps = kept_steps(generations_in(folder))
        able = [n for n in steps if n == 1 or has_weights(folder / f"checkpoint-{n - 1}")]
        others = f"of the kept steps {steps_text(able)} can" if able else "no kept step can"
        saved = sorted(map(step_of, checkpoints_in(folder)))
        there = f"checkpoints of {steps_text(saved)}" if saved else "no checkpoint"
        raise UsageError(
            f"--step: got {kept.step}, whose losses and gradients need the weights of {path}, and there are {there}; "
            f"{others}; choose such a step, or leave flags of the loss out, for rewards and advantages alone"
        )
    if differences := resume_differences(read_state(path).get("facts", {}), kept.first.facts):
        raise UsageError(
            f"{path}: got a checkpoint of another run than the whole rollouts of step {kept.step} "
            f"({differences[0].text.replace('in this run', 'with the rollouts')}); add --advantages_only"
        )
    return path


# ---------------------------------------------------------------------------------------------------------------- rows


def placed_rows(kept: KeptStep, records: Sequence[Record]) -> dict[str, Record]:
    """Place, as the step was kept, -> row; `records` are those of `rows_of_step`."""
    return dict(zip((where for part in kept.parts for where in part.where), records, strict=True))


def rows_of_step(kept: KeptStep, rows: RecordDataset) -> RecordDataset:
    """The row of each group, in the order of completions. Raises UsageError where one is not what it was."""
    numbers = [number for part in kept.parts for number in part.rows]
    if changed := next(changed_rows(kept, rows), None):
        where, got = changed
        raise UsageError(
            f"{where}: got {got}, expected the row that the run sampled completions of; restore the data file"
        )
    return rows.select(numbers)


def refuse_other_files(kept: KeptStep, rows: RecordDataset, facts: Mapping[str, str]) -> None:
    """Raises UsageError where pictures of the training rows, or files of model and processor, by their `facts`
    (`checkpointing.file_facts`), are not what they were."""
    pictures = {
        "sizes of sampled pictures": picture_sizes(rows),
        "sha256 of sampled pictures": picture_digest(rows),
    }
    now = {name: value for name, value in (pictures | dict(facts)).items() if name in kept.first.facts}
    saved = {name: kept.first.facts[name] for name in now}
    if differences := resume_differences(saved, now):
        text = differences[0].text.replace("in the checkpoint", "in the run").replace("in this run", "now")
        raise UsageError(f"{text}, expected what the run had; restore it, or add --advantages_only")


def changed_rows(kept: KeptStep, rows: RecordDataset) -> Iterator[tuple[str, str]]:
    """(place, what is there now) of each row that is not what it was."""
    for part in kept.parts:
        for number, where, digest in zip(part.rows, part.where, part.digests, strict=True):
            if number >= len(rows):
                yield where, f"data of {len(rows)} rows"
            elif row_digest(rows[number]) != digest:
                yield where, "a row with another text, picture, gold or field"
