"""Parts of the benchmarks: rows of a shape; one update, rollout, step; time and peak memory."""

import ctypes
import gc
import math
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import trl
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.config.task_arguments import TaskArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.data.prompt_tokens import prompt_tokens
from open_r1.data.record import Record
from open_r1.data.row_formats import Turn
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

SIDE = 28  # pixels of an image token's side
WORDS = 400  # random completions use the token ids below this, which are all text
PEAK = (
    "the highest value while it ran minus the value just before it, no gradients held then: activations, KV cache and "
    "gradients. CUDA: torch.cuda.max_memory_allocated. Else, on Linux: the process's resident memory, VmHWM and VmRSS."
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a batch: tokens of a prompt by kind, tokens of a completion, completions of a prompt, prompts."""

    image_tokens: int
    text_tokens: int
    completion: int
    group: int
    prompts: int

    @property
    def rows(self) -> int:
        """Completions of a batch."""
        return self.group * self.prompts


def make_records(shape: Shape, processor: ProcessorMixin, folder: Path, count: int, seed: int) -> list[Record]:
    """Rows of exactly `shape`'s prompt tokens: a random picture and a question of random digits, a token each.

    Raises ValueError for a shape that no prompt can have.
    """
    rng = random.Random(seed)
    size = squarest(shape.image_tokens)
    if size:
        Image.new("RGB", size).save(folder / "blank.png")
    blank = Record("blank", ("blank.png",) if size else (), str(folder), (Turn("user", ""),), solution="-")
    template = prompt_tokens(blank, processor, None) - shape.image_tokens
    if shape.text_tokens <= template:
        raise ValueError(
            f"--text-tokens: got {shape.text_tokens}, expected at least {template + 1}: a chat needs them"
        )
    records = []
    for i in range(count):
        question = "".join(rng.choices("0123456789", k=shape.text_tokens - template))
        images = (f"{i}.png",) if size else ()
        for name in images:
            coarse = Image.frombytes("RGB", (16, 16), rng.randbytes(16 * 16 * 3))
            coarse.resize(size, Image.Resampling.BICUBIC).save(folder / name)
        records.append(Record(str(i), images, str(folder), (Turn("user", question),), solution="-"))
    tokens = prompt_tokens(records[-1], processor, None)
    assert tokens == shape.image_tokens + shape.text_tokens, tokens
    return records


def squarest(image_tokens: int) -> tuple[int, int] | None:
    """(width, height) in pixels of the most square picture of so many tokens; None for no picture."""
    if image_tokens == 0:
        return None
    height = next(h for h in range(math.isqrt(image_tokens), 0, -1) if image_tokens % h == 0)
    if (width := image_tokens // height) > 200 * height:  # Qwen's processors refuse such pictures
        raise ValueError(f"--image-tokens: got {image_tokens} = {width} x {height}, expected at most 200 to 1")
    return width * SIDE, height * SIDE


def random_rewards(rng: random.Random, completions: list[Any], **_: Any) -> list[float]:
    """A reward function that returns random numbers."""
    return [rng.random() for _ in completions]


def our_trainer(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    records: list[Record],
    training: GRPOArguments,
    seed: int,
    reward_name: str = "random",
) -> VLMGRPOTrainer:
    """Our trainer on rows of `make_records`, as at the start of `train()`; its reward is `random_rewards`."""
    reward = partial(random_rewards, random.Random(seed))
    reward.__name__ = reward_name
    trainer = VLMGRPOTrainer(
        model=model,
        processor=processor,
        rewards=[reward],
        records=records,
        eval_records=None,
        instruction="{question}",
        annotate=lambda record: record,
        args=training,
        task=TaskArguments(),
    )
    start(trainer)
    return trainer


def start(trainer: trl.GRPOTrainer) -> None:
    """Bring a trainer to the start of `train()`."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    if trainer.args.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)


def rows_of(trainer: trl.GRPOTrainer) -> Iterator[list[dict[str, Any]]]:
    """Endless generation batches from the trainer's own data loader."""
    while True:
        yield from trainer.get_train_dataloader()


def update(trainer: trl.GRPOTrainer, batch: dict[str, Any]) -> None:
    """Forward and backward pass of a batch, without an optimizer step."""
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, dict(batch))
    trainer.accelerator.backward(loss)


def rollout(trainer: trl.GRPOTrainer, rows: Iterator[Any], shape: Shape) -> None:
    """Sample and score the completions of the next rows."""
    batch = trainer._generate_and_score_completions(next(rows))
    assert int(batch["completion_mask"].sum()) == shape.rows * shape.completion, "a completion ended early"


def step(trainer: trl.GRPOTrainer, rows: Iterator[Any]) -> None:
    """A whole training step on the next rows."""
    optimizer = trainer.create_optimizer()  # creates it in the first call only
    trainer.training_step(trainer.model, next(rows), None)
    optimizer.step()
    optimizer.zero_grad()
    trainer.state.global_step += 1


def measure(pair: dict[str, trl.GRPOTrainer], run: Callable[[str], None], device: str, repeats: int) -> dict[str, Any]:
    """Medians of seconds and peak bytes of `run("trl")` and `run("ours")`, in turn after one warm-up each."""
    samples: dict[str, list[tuple[float, int | None]]] = {name: [] for name in pair}
    for _ in range(1 + repeats):
        for name in pair:
            for trainer in pair.values():
                trainer.model.zero_grad()
            start, began = start_of_peak(device), time.perf_counter()
            run(name)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - began
            samples[name].append((seconds, None if start is None else end_of_peak(device) - start))
    figures: dict[str, Any] = {}
    for name, values in samples.items():
        seconds, peaks = zip(*values[1:], strict=True)
        figures[f"{name}_seconds"] = statistics.median(seconds)
        figures[f"{name}_runs"] = seconds  # in order, for their spread
        figures[f"{name}_peak_bytes"] = None if None in peaks else int(statistics.median(peaks))
    return figures | {"ratio": figures["trl_seconds"] / figures["ours_seconds"]}


def start_of_peak(device: str) -> int | None:
    """Reset the peak; returns the bytes in use now, or None where they are unknown. See `PEAK`."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if not Path("/proc/self/clear_refs").exists():
        return None
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # freed memory goes back to the system, so that both trainers start equal
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM becomes VmRSS
    return status("VmRSS")


def end_of_peak(device: str) -> int:
    """Bytes of the peak since `start_of_peak`."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else status("VmHWM")


def status(field: str) -> int:
    """A field of /proc/self/status (in KiB there) in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def random_completions(shape: Shape, ragged: bool, seed: int) -> dict[tuple[int, ...], float]:
    """Random completions (token ids) -> random advantages of either sign, none of them zero."""
    rng, advantages = random.Random(seed), {}
    while len(advantages) < shape.rows:
        spread = shape.completion // 2 if ragged else 0
        length = rng.randint(max(1, shape.completion - spread), shape.completion + spread)
        advantages[tuple(rng.choices(range(WORDS), k=length))] = rng.choice((-1, 1)) * rng.uniform(0.5, 1.5)
    return advantages


def batch_of(trainer: trl.GRPOTrainer, rows: Any, completions: dict[tuple[int, ...], float]) -> dict[str, Any]:
    """The trainer's batch of these completions (token ids -> advantage), as if it had sampled them."""
    completion_ids = [list(completion) for completion in completions]
    with patch.object(trainer, "_generate_single_turn", return_value=(completion_ids, None)):
        batch = dict(trainer._prepare_inputs(rows))
    trainer.state.global_step += 1
    advantages = [completions[completion] for completion in completions_of(batch)]  # each trainer shuffles differently
    return batch | {"advantages": torch.tensor(advantages, device=batch["completion_ids"].device)}


def completions_of(batch: dict[str, Any]) -> list[tuple[int, ...]]:
    """The token ids of each completion of a batch, without padding."""
    pairs = zip(batch["completion_ids"], batch["completion_mask"].bool(), strict=True)
    return [tuple(ids[mask].tolist()) for ids, mask in pairs]
