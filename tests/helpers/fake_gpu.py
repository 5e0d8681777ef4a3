"""Trainers and models on CUDA without a device, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import PreTrainedModel

from helpers import families
from helpers.families.exactness import LENGTHS
from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.data.jsonl_dataset import load_records
from open_r1.models.loading import freeze_vision, load_model, load_processor
from open_r1.models.lora import lora_config
from open_r1.models.model_parts import vision_parts
from open_r1.rehearse.fake_device import FakeDevice
from open_r1.rehearse.on_device import on_fake_device
from open_r1.rehearse.one_step import in_turn
from open_r1.rollout.prompts import Prompt
from open_r1.tasks.registry import TASKS
from open_r1.trainer.forward.log_probs import score
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

CUDA = torch.device("cuda")


@contextmanager
def trainer_on_fake_gpu(model: str, data: Path, out: Path, *flags: str) -> Iterator[tuple[VLMGRPOTrainer, FakeDevice]]:
    """The trainer of a command line of `grpo_jsonl.py` on the fake device, in bfloat16 as on a GPU by default; each
    micro-batch of a step is a phase of its own ("micro-batch 0" holds the generation too)."""
    argv = f"--model_name_or_path {model} --data_file_paths {data} --image_folders {data.parent} --output_dir {out}"
    argv += " --num_generations 2 --per_device_train_batch_size 4 --gradient_accumulation_steps 2 --bf16 true"
    argv += " --max_completion_length 4 --learning_rate 1e-3 --max_steps 1 --gradient_checkpointing false"
    argv += " --save_strategy no --report_to none --disable_tqdm true --use_cpu true"
    task, training, model_args = parse(JsonlArguments, [*argv.split(), *flags])
    records = load_records(task.data_file_paths, task.image_folders)
    with on_fake_device(training) as device:
        policy = load_model(model_args, training)
        if task.freeze_vision_modules:
            freeze_vision(policy)
        trainer = VLMGRPOTrainer(
            model=policy.to(CUDA),
            processor=load_processor(model_args, task),
            rewards=[in_turn],
            records=records,
            eval_records=records.select(range(2)),
            instruction=TASKS["digits"].prompts["think"],
            annotate=lambda record: record,
            args=training,
            task=task,
            peft_config=lora_config(model_args, policy, vision_parts(policy)),
        )
        in_phases(trainer, device)
        yield trainer, device


def in_phases(trainer: VLMGRPOTrainer, device: FakeDevice) -> None:
    """Make each micro-batch a phase."""
    step, counted = trainer.training_step, iter(range(1 << 20))

    def counted_step(*args, **options):
        with device.phase(f"micro-batch {next(counted)}"):
            return step(*args, **options)

    trainer.training_step = counted_step


def on_gpu(prompts: list[Prompt]) -> list[Prompt]:
    """Prompts on the device, the same object for rows of a group."""
    moved = {id(prompt): prompt.to(CUDA) for prompt in prompts}
    return [moved[id(prompt)] for prompt in prompts]


def forward_and_backward(model: PreTrainedModel, prompts: list[Prompt], shared: bool, autocast: bool) -> None:
    """Scores of completions on the device, and the gradients of a model there."""
    completions = families.completions(len(prompts)).to(CUDA)
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
        batch = (on_gpu(prompts), completions, LENGTHS[: len(prompts)])
        scores = score(model, model.base_model, *batch, shared=shared, entropy=True)
    (scores.logps.sum() + scores.entropies.sum()).backward()
