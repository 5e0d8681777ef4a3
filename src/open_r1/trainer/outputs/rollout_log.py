"""Writes samples for people: `rollouts.jsonl` with small pictures beside it, and R1-V's debug log.

A line of `rollouts.jsonl` is one group:
`{"step", "id", "where", "prompt", "images": [file under rollout_images], "solution", "gold": [outline],
"completions": [{"text", "rewards": {}, "advantage", "parsed", "tokens", "truncated", "outlines": [outline]}]}`.
A row with videos has `"videos"` too (`video_log`): small frames with their times.
Completions that `--vision_probe` looked at have a `"dependency"` too: each token's text, and the nats by which the
pictures make it likelier than blank ones. With `--noisy_rollouts` a group has `"noisy_images"` and `"noisy_videos"`,
and completions that were sampled from those `"noisy": true`. With tools they have `"turns"` (`turn_log`), and `text`
is the last turn's.
`step` counts the optimizer steps before it; `parsed` is the answer of the accuracy method, as short text, or
null; `truncated` says that no end token came; an outline is `{"points": [[x, y]], "label", "image"}` as in
`open_r1.rewards.base.Outline`. A picture is stored once, named by its content. A long run keeps its newest groups,
and older ones evenly spaced over its steps. `open_r1.report` turns the file into a page.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from PIL import Image

from open_r1.data.chat import plain_text
from open_r1.data.jsonl_io import append, atomic_write, each_line
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.report.thinning import thin_rollouts
from open_r1.rewards.base import Outline
from open_r1.rewards.drawing import answered_outlines, gold_outlines
from open_r1.rewards.turns import completion_text
from open_r1.rollout.prompts import Example, RowMedia
from open_r1.tools.messages import ModelTurn
from open_r1.trainer.outputs.tolerant_writer import TolerantWriter
from open_r1.trainer.outputs.turn_log import logged_turns
from open_r1.trainer.outputs.video_log import logged_videos

SAVED_PICTURE_SIDE = 448  # pixels of a saved picture's longer side
LOSSLESS = 128 * 128  # pixels up to which a picture is stored as it is
MAX_PARSED = 300  # characters
SLACK = 1.25  # times the completions to keep; the file is thinned beyond it


class RolloutLog:
    """The first `groups` groups of each generation on rank 0, about `keep` completions in all; and all
    completions to LOG_PATH if DEBUG_MODE=true. Outlines need `graded` accuracy: else golds may be of another kind."""

    def __init__(self, output_dir: str, groups: int, rank: int, keep: int, graded: bool = True):
        self.folder, self.groups, self.rank = Path(output_dir), groups if rank == 0 else 0, rank
        self.keep, self.group_count, self.graded = keep, None, graded
        self.writer = TolerantWriter()

    def add(self, step: int, examples: list[Example], scored: dict[str, Any], group: int) -> None:
        """`examples` and the lists of `scored` are parallel, one entry a completion, groups of `group` in a row."""
        heads = range(0, len(examples), group)[: self.groups]
        path = self.folder / "rollouts.jsonl"
        if heads:
            with self.writer(path, "its groups of these steps are left out"):
                lines = [self._group(step, examples[i], scored, range(i, i + group)) for i in heads]
                append(path, "".join(json.dumps(line) + "\n" for line in lines))
                self._thin(len(lines), group)
        if os.environ.get("DEBUG_MODE", "").lower() == "true":
            self._write_debug_log([self._debug_text(step, e.record, scored, i) for i, e in enumerate(examples)])

    def _thin(self, added: int, group: int) -> None:
        """Thin the file once it holds a quarter more than `keep` completions."""
        if self.group_count is None:  # a resumed run has groups already
            self.group_count = sum(1 for _ in each_line(self.folder / "rollouts.jsonl")) - added
        self.group_count += added
        if self.group_count * group > SLACK * self.keep:
            self.group_count = thin_rollouts(self.folder, max(self.keep // group, 1))

    def _group(self, step: int, example: Example, scored: dict[str, Any], rows: range) -> dict[str, Any]:
        """The line of a group in `rollouts.jsonl`."""
        record = example.record
        noisy = scored.get("noisy", dict.fromkeys(rows))
        seen = self._media(noisy[rows[-1]]) if noisy[rows[-1]] else {}
        return {
            "step": step,
            "id": record.id,
            "where": record.where,
            "prompt": plain_text(example.conversation),
            **self._media(example.media),
            **{f"noisy_{kind}": saved for kind, saved in seen.items()},
            "solution": record.solution,
            "gold": outlines_json(gold_outlines(record) if self.graded else ()),
            "completions": [
                {
                    "text": scored["completions"][i],
                    "rewards": {name: values[i] for name, values in scored["rewards"].items()},
                    "advantage": scored["advantages"][i],
                    "parsed": short_text(scored["parsed"][i]),
                    "tokens": scored["tokens"][i],
                    "truncated": scored["truncated"][i],
                    "outlines": self._outlines(scored["completions"][i], record),
                    **({"turns": self._turns(scored["turns"][i], example)} if "turns" in scored else {}),
                    **({"dependency": shading} if (shading := scored.get("dependency", {i: None})[i]) else {}),
                    **({"noisy": True} if noisy[i] else {}),
                }
                for i in rows
            ],
        }

    def _media(self, media: RowMedia) -> dict[str, list[Any]]:
        """The stored pictures, and videos where there are some, of a group."""
        videos = {"videos": logged_videos(media.videos, self._save_picture)} if media.videos else {}
        return {"images": [self._save_picture(image) for image in media.pictures], **videos}

    def _turns(self, turns: Sequence[ModelTurn], example: Example) -> list[dict[str, Any]]:
        return logged_turns(turns, example.record, example.pictures, self._save_picture)

    def _outlines(self, completion: str, record: Record) -> list[dict[str, Any]]:
        return outlines_json(answered_outlines(completion, record) if self.graded else ())

    def _save_picture(self, image: Image.Image, side: int = SAVED_PICTURE_SIDE) -> str:
        """Save a small copy of at most `side` pixels a side below `rollout_images`; its file name."""
        small = image.copy()
        small.thumbnail((side, side))
        name = f"{hashlib.sha256(small.tobytes()).hexdigest()[:16]}.webp"
        path = self.folder / "rollout_images" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                small.save(file, "webp", lossless=small.width * small.height <= LOSSLESS, quality=75)
        return name

    def _debug_text(self, step: int, record: Any, scored: dict[str, Any], i: int) -> str:
        rewards = ", ".join(f"{name} {values[i]}" for name, values in scored["rewards"].items())
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        head = f"------------- {stamp} step {step} {record.where} rewards: {rewards} -------------"
        return f"{head}\nContent: {scored['completions'][i]}\nSolution: {record.solution}\n"

    def _write_debug_log(self, entries: list[str]) -> None:
        path = os.environ.get("LOG_PATH")
        if not path:
            raise UsageError("DEBUG_MODE=true: got no LOG_PATH, expected the file to write rollouts to; set LOG_PATH")
        log = Path(path if self.rank == 0 else f"{path}.rank{self.rank}")
        with self.writer(log, "its rollouts of these steps are left out"):
            append(log, "".join(entries))


def outlines_json(outlines: Iterable[Outline]) -> list[dict[str, Any]]:
    """Outlines with corners to a ten-thousandth of the side: half a pixel of a picture 5,000 pixels wide.

    >>> outlines_json([Outline(((0.0, 1 / 3),), "cat")])
    [{'points': [[0.0, 0.3333]], 'label': 'cat', 'image': 0}]
    """
    return [
        {"points": [[round(x, 4), round(y, 4)] for x, y in o.points], "label": o.label, "image": o.image}
        for o in outlines
    ]


def short_text(parsed: Any) -> str | None:
    """A parsed answer as text of at most `MAX_PARSED` characters; None for none.

    >>> short_text((1.0, 2.0)), short_text("B"), short_text(None)
    ('[1.0, 2.0]', 'B', None)
    """
    if parsed is None:
        return None
    text = parsed if isinstance(parsed, str) else json.dumps(parsed, default=str)
    return text if len(text) <= MAX_PARSED else text[: MAX_PARSED - 1] + "…"


def newest_completions(logs: Mapping[str, Any], accelerator: Accelerator, count: int) -> dict[str, Any]:
    """This rank's `count` newest completions with rewards and advantages, from TRL's `_logs`, which hold those of all
    ranks in order."""
    ranks, rank = accelerator.num_processes, accelerator.process_index

    def of_this_rank(values: Any) -> list[Any]:
        return list(values)[-ranks * count :][rank * count : (rank + 1) * count]

    return {
        "completions": [completion_text(completion) for completion in of_this_rank(logs["completion"])],
        "rewards": {
            name: [None if math.isnan(value) else value for value in of_this_rank(values)]  # NaN: does not apply
            for name, values in logs["rewards"].items()
        },
        "advantages": of_this_rank(logs["advantages"]),
    }
