"""GRPO and SFT trainers on small data, with batches, losses and gradients, for tests."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import Trainer

from helpers.scripted_tools import Scripted
from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.data.jsonl_dataset import load_records
from open_r1.models import flash_kernel
from open_r1.models.loading import load_model, load_processor
from open_r1.models.lora import lora_config
from open_r1.models.model_parts import vision_parts
from open_r1.sft_jsonl import parse_sft
from open_r1.tasks.registry import TASKS
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer
from open_r1.trainer.sft_trainer import VLMSFTTrainer, make_sft_trainer


def count_characters(completions, **_):
    """A reward: characters of a completion, modulo 7."""
    return [float(len(completion[0]["content"]) % 7) for completion in completions]


def make_trainer(tiny: str, data: Path, out: Path, *flags: str) -> VLMGRPOTrainer:
    """The trainer of a command line of `grpo_jsonl.py`, with `count_characters` as its reward; with `--tools` those of
    `Scripted` answer, whatever their names, and digits end a turn, so that turns are short."""
    argv = f"--model_name_or_path {tiny} --data_file_paths {data} --image_folders {data.parent} --output_dir {out}"
    argv += " --num_generations 4 --per_device_train_batch_size 8 --gradient_accumulation_steps 3 --bf16 false"
    argv += " --max_completion_length 8 --learning_rate 1e-3 --gradient_checkpointing false --save_strategy no"
    task, training, model_args = parse(JsonlArguments, [*argv.split(), "--disable_tqdm", "true", *flags])
    records = load_records(task.data_file_paths, task.image_folders)
    model = load_model(model_args, training)
    trainer = VLMGRPOTrainer(
        model=model,
        processor=load_processor(model_args, task),
        rewards=[count_characters],
        records=records,
        eval_records=records.select(range(4)),
        instruction=TASKS["digits"].prompts["think"],
        annotate=lambda record: record,
        args=training,
        task=task,
        peft_config=lora_config(model_args, model, vision_parts(model)),
    )
    if training.tools:
        trainer.toolbox = Scripted()
        ends = trainer.processing_class.tokenizer.convert_tokens_to_ids(list("0123456789"))
        trainer.eos_token_ids = trainer.generation_config.eos_token_id = [*trainer.eos_token_ids, *ends]
    return trainer


def sft_trainer(argv: Sequence[str]) -> VLMSFTTrainer:
    """The trainer of a command line of `sft_jsonl.py`."""
    data, training, model_args = parse_sft(argv)
    records, processor = load_records(data.data_file_paths, data.image_folders), load_processor(model_args, data)
    return make_sft_trainer(records, processor, data, training, model_args)


def rows(*numbers: int, group: int = 1) -> list[dict]:
    """Row numbers as the trainer takes them, each `group` times."""
    return [{"split": "train", "row": n} for n in numbers for _ in range(group)]


def batch_of(trainer: VLMGRPOTrainer, *numbers: int, seed: int = 0) -> dict:
    """A scored generation batch whose advantages are neither equal nor zero."""
    torch.manual_seed(seed)
    trainer.model.train()
    batch = trainer._generate_and_score_completions(rows(*numbers, group=4))
    batch["advantages"] = torch.linspace(-1, 1, len(batch["advantages"])) + 0.01
    return batch


def loss_and_gradients(trainer: Trainer, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The training loss of a batch, and the gradients of all weights that have one."""
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return loss.detach(), take_gradients(trainer.model)


def take_gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Name -> gradient of each weight that has one; the model's are removed."""
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return gradients


def reference_varlen(q, k, v, query_ends, key_ends, longest_query, longest_key, *, scale, window_size, enable_gqa):
    """What `varlen_attn` computes on CUDA, in plain torch: the last query of a sequence stands at its last key.

    Refuses what the kernel refuses, but for the half type.
    """
    assert enable_gqa and {q.dtype} == {k.dtype, v.dtype} and query_ends.dtype == key_ends.dtype == torch.int32
    assert {q.shape[-1]} == {k.shape[-1], v.shape[-1]} and {s.stride(-1) for s in (q, k, v)} == {1}
    left, right = (size if size >= 0 else len(k) for size in window_size)
    out = []
    for (a, b), (c, d) in zip(query_ends.unfold(0, 2, 1).tolist(), key_ends.unfold(0, 2, 1).tolist(), strict=True):
        assert b - a <= longest_query and d - c <= longest_key
        states = (s.transpose(0, 1)[None] for s in (q[a:b], k[c:d], v[c:d]))
        own, keys = torch.arange(b - a)[:, None] + (d - c) - (b - a), torch.arange(d - c)
        visible = (keys >= own - left) & (keys <= own + right)
        attend = torch.nn.functional.scaled_dot_product_attention
        out.append(attend(*states, attn_mask=visible, scale=scale, enable_gqa=True)[0].transpose(0, 1))
    return torch.cat(out)


def flash_on_cpu(monkeypatch, *kinds: torch.dtype) -> list[torch.dtype]:
    """Lets models take the flash path on the CPU, by `reference_varlen`, in these types; returns the types it saw."""
    seen = []

    def watched(q, *args, **options):
        seen.append(q.dtype)
        return reference_varlen(q, *args, **options)

    monkeypatch.setattr(flash_kernel, "varlen_attn", watched)
    monkeypatch.setattr(flash_kernel, "has_flash", lambda device: True)
    monkeypatch.setattr(flash_kernel, "HALF", kinds)
    return seen
