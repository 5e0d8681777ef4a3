"""Shared by the lessons of `build_tiny_vlm.py`: a lesson, a batch of lessons, the training loop, greedy answers.

Under torchrun each rank trains on its part of a batch with one thread, and gradients are averaged: on two cores that
is faster than one process with two threads, and does not stall when another program uses a core.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image
from torch import nn

END = "<|im_end|>"


@dataclass(frozen=True)
class Lesson:
    """A training example: a picture, the user's text (may be empty), the completion to learn; `gold` for grading."""

    image: Image.Image
    prompt: str
    completion: str
    about: str  # the accuracy it counts for
    gold: Any = None


def prompt_text(processor: Any, prompt: str) -> str:
    """A picture and a user text in the chat template."""
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
    return processor.apply_chat_template([message], add_generation_prompt=True)


def batch(processor: Any, lessons: Sequence[Lesson]) -> dict[str, torch.Tensor]:
    """Model inputs padded on the right, with labels on the completions."""
    texts = [prompt_text(processor, lesson.prompt) + lesson.completion + END for lesson in lessons]
    pictures = [[lesson.image] for lesson in lessons]
    inputs = processor(text=texts, images=pictures, padding=True, padding_side="right", return_tensors="pt")
    completion_ids = processor.tokenizer([lesson.completion + END for lesson in lessons])["input_ids"]
    labels = torch.full_like(inputs["input_ids"], -100)
    for row, tokens in enumerate(completion_ids):
        end = int(inputs["attention_mask"][row].sum())
        labels[row, end - len(tokens) : end] = torch.tensor(tokens)
    return {**inputs, "labels": labels}


def teach(model: nn.Module, batches: Iterator[dict[str, torch.Tensor]], steps: int, lr: float, stage: str) -> None:
    """Train on `steps` batches, by AdamW with a one-cycle learning rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    began, model = time.time(), model.train()
    for step in range(steps):
        loss = model(**next(batches)).loss
        loss.backward()
        average(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), schedule.step(), optimizer.zero_grad()
        if rank() == 0 and (step % 100 == 0 or step == steps - 1):
            print(f"{stage} step {step} loss {loss.item():.4f} {time.time() - began:.0f} s", flush=True)


def average(model: nn.Module) -> None:
    """Average gradients over the ranks, where there are several."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, (flat / ranks()).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def ranks() -> int:
    """The number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's rank."""
    return dist.get_rank() if dist.is_initialized() else 0


@torch.no_grad()
def answers(model: nn.Module, processor: Any, lessons: Sequence[Lesson], tokens: int) -> list[str]:
    """Greedy completions of up to `tokens` tokens."""
    inputs = processor(
        text=[prompt_text(processor, lesson.prompt) for lesson in lessons],
        images=[[lesson.image] for lesson in lessons],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    ids = model.eval().generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
