"""Keeps the rollouts of the last steps whole (`--keep_whole_steps`), for `python -m open_r1.replay`.

A generation is a file a rank, `whole_steps/step-N.K.rankR.pt`: it was sampled before micro-batch K of optimizer step
N, counted as in metrics.jsonl, from 1; so by the policy of `checkpoint-(N-1)`. The file holds the rank's groups in the
order in which micro-batches take them. It appears whole, by renaming. What none of the last steps learns from goes,
but for generations whose policy is still there: step 1's, and those of the first step after a checkpoint.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from open_r1.data.jsonl_io import atomic_write
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.rewards.turns import Message
from open_r1.trainer.outputs.tolerant_writer import TolerantWriter
from open_r1.trainer.protocols import RolloutTrainer

WHOLE_STEPS = "whole_steps"
KEPT_NAME = re.compile(r"step-(\d+)\.(\d+)\.rank(\d+)\.pt")


@dataclass(frozen=True)
class WholePart:
    """What one rank sampled in one generation, before micro-batch `place` of optimizer step `step`.

    That step has `micro_batches` on each of `ranks` ranks; the generation is cut into `parts` micro-batches, each used
    `iterations` times. Of each group: the `rows` number among the training rows, its `where` and `digest`
    (`row_digest`). Of each completion, groups of `group` in a row: `texts`, token `ids`, the engine's `logps` in nats
    (None without vLLM), `rewards` of the functions `names` (NaN: does not apply), `advantages`; of a run with tools
    `trajectories` (`Trajectory.saved`) and `messages` (`rewards.turns`), else None. `facts` are those of
    `checkpointing.identity.run_facts`.
    """

    step: int
    place: int
    rank: int
    ranks: int
    micro_batches: int
    parts: int
    iterations: int
    group: int
    rows: list[int]
    where: list[str]
    digests: list[str]
    texts: list[str]
    ids: list[list[int]]
    logps: list[list[float]] | None
    names: list[str]
    rewards: list[list[float]]
    advantages: list[float]
    facts: dict[str, Any]
    trajectories: list[list[dict[str, Any]]] | None = None
    messages: list[list[Message]] | None = None

    @property
    def last_step(self) -> int:
        """The last optimizer step that learns from it."""
        return last_step(self.step, self.place, self.parts * self.iterations, self.micro_batches)


def last_step(step: int, place: int, uses: int, micro_batches: int) -> int:
    """The last optimizer step that learns from a generation of `uses` micro-batches, begun at `place` of `step`.

    >>> last_step(3, 0, 4, 4), last_step(3, 0, 4, 2), last_step(3, 1, 2, 3)
    (3, 4, 3)
    """
    return step + (place + uses - 1) // micro_batches


class WholeSteps:
    """Writes the generations of the last `keep` steps of this rank; 0 for none."""

    def __init__(self, output_dir: str, keep: int, rank: int, ranks: int):
        self.folder, self.keep, self.rank, self.ranks = Path(output_dir) / WHOLE_STEPS, keep, rank, ranks
        self.writer = TolerantWriter()

    def note(self, output: dict[str, Any], scored: Mapping[str, Any]) -> None:
        """Add what was sampled to a generation's batch, one entry a completion, so that it is shuffled with it.

        `scored` has the parallel lists `texts`, `ids` and `messages`, and the tensor `earned` (rows of all ranks,
        functions).
        """
        if not self.keep:
            return
        count, logps = len(scored["ids"]), output.get("sampling_per_token_logps")
        earned = scored["earned"][self.rank * count :][:count].tolist()
        logps = [None] * count if logps is None else logps.tolist()
        columns = (scored["texts"], scored["ids"], logps, earned, output["advantages"].tolist(), scored["messages"])
        output["whole"] = list(zip(*columns, strict=True))

    def add(self, trainer: RolloutTrainer, batch: dict[str, Any]) -> None:
        """Write a batch that `note` was given, in its order now, and delete what is older than the last steps.

        A disk that takes no more is a warning.
        """
        if "whole" not in batch:
            return
        part = self.part_of(trainer, batch)
        path = self.folder / f"step-{part.step}.{part.place}.rank{self.rank}.pt"
        with self.writer(path, "this step cannot be replayed"):
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                torch.save(vars(part), file)
            self.forget(part)

    def part_of(self, trainer: RolloutTrainer, batch: dict[str, Any]) -> WholePart:
        """The batch as it is kept."""
        args, group = trainer.args, trainer.num_generations
        texts, ids, logps, rewards, advantages, messages = zip(*batch.pop("whole"), strict=True)
        heads = [row["row"] for row in batch["rows"][::group]]
        records = [trainer.records["train"][row] for row in heads]
        return WholePart(
            step=trainer.state.global_step + 1,
            place=trainer._micro_batch_count,
            rank=self.rank,
            ranks=self.ranks,
            micro_batches=getattr(trainer, "current_gradient_accumulation_steps", args.gradient_accumulation_steps),
            parts=args.steps_per_generation,
            iterations=trainer.num_iterations,
            group=group,
            rows=heads,
            where=[record.where for record in records],
            digests=[row_digest(record) for record in records],
            texts=list(texts),
            ids=[list(row) for row in ids],
            logps=None if logps[0] is None else [row[: len(i)] for row, i in zip(logps, ids, strict=True)],
            names=list(trainer.reward_func_names),
            rewards=list(rewards),
            advantages=list(advantages),
            facts=trainer.facts,
            trajectories=[one.saved() for one in batch["trajectories"]] if "trajectories" in batch else None,
            messages=list(messages) if "trajectories" in batch else None,
        )

    def forget(self, newest: WholePart) -> None:
        """Delete this rank's generations from which none of the last steps learns and whose policy is not kept, and
        those of later steps, which a run left that was resumed from before them."""
        uses = newest.parts * newest.iterations
        for path, (step, place, rank) in kept_files(self.folder).items():
            old = last_step(step, place, uses, newest.micro_batches) <= newest.step - self.keep
            if rank == self.rank and (step > newest.step or (old and not self.has_policy(step))):
                path.unlink(missing_ok=True)

    def has_policy(self, step: int) -> bool:
        """Whether the weights that a step was sampled with are kept: the start's, or those of a checkpoint."""
        return step == 1 or (self.folder.parent / f"checkpoint-{step - 1}").is_dir()


def kept_files(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Path -> (step, place, rank) of each generation in a folder."""
    found = {path: KEPT_NAME.fullmatch(path.name) for path in sorted(folder.glob("step-*.pt"))}
    return {path: tuple(map(int, match.groups())) for path, match in found.items() if match}  # type: ignore[misc]


def read_part(path: Path) -> WholePart:
    """The generation of a rank in a file that `WholeSteps` wrote. Raises UsageError for another one."""
    try:
        return WholePart(**torch.load(path, map_location="cpu", weights_only=True))
    except OSError:
        raise
    except Exception as error:  # torch.load raises errors of zip files, of pickles and of its own
        raise UsageError(
            f"{path}: got no rollouts of this version ({type(error).__name__}), expected what a run wrote; delete it"
        ) from error


def row_digest(record: Record) -> str:
    """sha256 of what a row asks and expects: turns, pictures, videos, gold, other fields; not of how it is graded.

    >>> from open_r1.data.record import Turn
    >>> row = Record("1", (), "", (Turn("user", "1+1?"),), "2", where="a.jsonl:1")
    >>> row_digest(row) == row_digest(row.with_extra(level=3))
    False
    """
    turns = [[turn.role, turn.text] for turn in record.turns]
    fields = [record.id, record.images, turns, record.solution, dict(record.extra)]
    fields += [[asdict(video) for video in record.videos]] if record.videos else []
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()
