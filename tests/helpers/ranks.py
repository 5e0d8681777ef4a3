"""Trains on each rank of `tests/trainer/test_distributed.py`: by torchrun, or in one process for comparison.

    torchrun --nproc_per_node 2 tests/helpers/ranks.py ENGINE OUT DATA

Three GRPO steps of the tiny VLM on the same rows, with the same global batch on any number of ranks: a row's
completions depend on the row, the step and the place in the group alone, not on a rank's random numbers.
"""

import json
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, gather_object
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments

from helpers.repository import REPO
from helpers.scripted_tools import Scripted
from helpers.trainers import make_trainer
from open_r1 import sft_jsonl
from open_r1.config import hardware
from open_r1.rollout.prompts import Prompt
from open_r1.tools.call_forms import ToolCall
from open_r1.trainer import transformers_rollout
from open_r1.trainer.distributed import weights_are_sharded
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer
from open_r1.trainer.sft_trainer import run_sft

TINY = str(REPO / "assets" / "tiny-vlm")
GROUP, PROMPTS = 4, 8  # completions a prompt, prompts a step over all ranks
# AdamW moves a weight by lr * g / (|g| + eps): rounding noise of 1e-8 in a gradient of that size would move it by lr
# with the default eps of 1e-8, whatever the engine. With 1e-4 it moves it by lr * 1e-4, and real gradients still act.
OPTIMIZER = "--use_cpu true --bf16 false --learning_rate 2e-4 --lr_scheduler_type constant --adam_epsilon 1e-4"
OPTIMIZER += " --weight_decay 0.01 --seed 5 --report_to none --gradient_checkpointing true --disable_tqdm true"
FLAGS = f"{OPTIMIZER} --shuffle_dataset false --max_steps 3 --num_iterations 2 --beta 0.04"
FLAGS += " --vision_probe 2 --perception_coef 0.05"
ENGINES = {
    "ddp": "",
    "zero1": f"--deepspeed {REPO}/local_scripts/zero1.json",
    "zero2": f"--deepspeed {REPO}/local_scripts/zero2.json",
    "zero3": f"--deepspeed {REPO}/local_scripts/zero3.json",
    "fsdp2": "--fsdp true --gradient_checkpointing false",
}

IN_PARTS = ("ddp", "zero2")
WITH_TOOLS = ("one", "zero3")  # where ranks generate together
RESUMED = ("zero1", "zero2", "zero3")  # transformers' own loader finds no name of a Qwen2.5-VL in the files it saved


def place_fsdp(training: TrainingArguments) -> None:
    """Start FSDP2 over gloo, which accelerate itself refuses: it is told of two GPUs."""
    PartialState(backend="gloo")
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    training.use_cpu, training.accelerator_config = False, {"use_configured_state": True}


def generate_by_key(trainer: VLMGRPOTrainer) -> Any:
    """A replacement of generation: G seeded completions of 1 to 8 tokens for each prompt, without special tokens."""
    words = trainer.processing_class.tokenizer("0123456789 I see the answer", add_special_tokens=False)["input_ids"]

    def generate(prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> tuple[list[list[int]], None]:
        completion_ids = []
        for row, ids in enumerate(prompt_ids):
            key = f"{ids} {row % GROUP} {trainer.state.global_step}"
            random = torch.Generator().manual_seed(int(sha256(key.encode()).hexdigest()[:8], 16))
            length = int(torch.randint(1, 9, (), generator=random))
            completion_ids.append([words[i] for i in torch.randint(len(words), (length,), generator=random).tolist()])
        return completion_ids, None

    return generate


def turns_by_key(trainer: VLMGRPOTrainer) -> None:
    """Replace what turns say by seeded words, of which some call a tool; ranks still generate together, one of them
    for longer. In the first step rows of text call nothing: rank 1 has no call."""
    words = trainer.processing_class.tokenizer("I0123456789 see", add_special_tokens=False)["input_ids"]
    plain, steps = transformers_rollout.sample_turn, 6 - 3 * trainer.accelerator.process_index

    def sample(*args: Any) -> list[list[int]]:
        *_, prompts, rows = args[:5]
        plain(*args[:5], steps)  # of which nothing is told, so that no cache is kept
        return [keyed(prompt, row) for prompt, row in zip(prompts, rows, strict=bool(rows))]

    def keyed(prompt: Prompt, row: int) -> list[int]:
        key = f"{prompt.ids.tolist()} {row % GROUP} {trainer.state.global_step}"
        random = torch.Generator().manual_seed(int(sha256(key.encode()).hexdigest()[:8], 16))
        said = torch.randint(1, len(words), (int(torch.randint(1, 5, (), generator=random)),), generator=random)
        calls = (prompt.images or trainer.state.global_step) and int(torch.randint(3, (), generator=random))
        return [words[i] for i in ([0] * bool(calls) + said.tolist())] + [trainer.eos_token_ids[0]]

    transformers_rollout.sample_turn = sample


@dataclass(frozen=True)
class CalledByI(Scripted):
    """Tools that turns call which begin with I."""

    def read(self, text: str, in_thinking: bool = False) -> tuple[ToolCall, ...]:
        return (ToolCall("look", {"number": crc32(text.encode())}),) if text.startswith("I") else ()


def with_tools(engine: str, out: Path, data: Path) -> dict[str, Any]:
    """Two steps whose completions have tool turns: weights in a file, and what was measured. Then greedy completions,
    of text rows on one rank and image rows on the other."""
    flags = ("--max_completion_length", "160", "--max_steps", "2", "--num_iterations", "1")
    trainer, plain = trainer_for(engine, out / "tools", data, *flags), transformers_rollout.sample_turn
    trainer.toolbox, trainer.agreement_checked = CalledByI(), True
    turns_by_key(trainer)
    trainer.train()
    transformers_rollout.sample_turn = plain
    save_weights(trainer, out / "tools.pt")
    trainer.toolbox, trainer.agreement_checked = Scripted(), False
    measured = ("tools/calls", "tools/answer_tokens", "vision/dependency")
    lines = [{name: line[name] for name in measured if name in line} for line in trainer.state.log_history]
    return {"logs": lines, "greedy": greedy_completions(trainer, 100)}


def trainer_for(engine: str, out: Path, data: Path, *flags: str, model: str = TINY) -> VLMGRPOTrainer:
    """A GRPO trainer with an engine of `ENGINES` on two ranks, or "one" process, with the same global batch."""
    AcceleratorState._reset_state()  # accelerate takes one engine a process, and this one starts several trainers
    ranks = 1 if engine == "one" else 2
    steps = PROMPTS // 2 // ranks  # micro-batches of two groups
    size = ["--per_device_train_batch_size", str(2 * GROUP), "--gradient_accumulation_steps", str(steps)]
    rollouts = ["--ds3_gather_for_generation", "false"] if engine == "zero3" else []
    flags = (*FLAGS.split(), *size, *ENGINES.get(engine, "").split(), *rollouts, *flags)
    return make_trainer(model, data, out, *flags)


def image_reward(completions: list[Any], images: list[Any], **columns: Any) -> list[float]:
    """A reward without signal for rows of text, so that a rank with such rows alone has none."""
    return [len(c[0]["content"]) % 7.0 if row else 0.0 for c, row in zip(completions, images, strict=True)]


image_reward.__name__ = "accuracy"  # so that `--vision_probe` has greedy answers graded by it


def probes(trainer: VLMGRPOTrainer) -> list[dict[str, float]]:
    """What `--vision_probe` measured, by step."""
    lines = ({k: v for k, v in line.items() if "vision/" in k} for line in trainer.state.log_history)
    return [line for line in lines if line]


def save_weights(trainer: VLMGRPOTrainer, path: Path) -> None:
    """Save all weights, gathered, as float32."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.accelerator.is_main_process:
        torch.save({name: value.detach().float().clone() for name, value in state.items()}, path)


def greedy_completions(trainer: VLMGRPOTrainer, most: int = 40) -> list[list[int]]:
    """Completions of all ranks by the trainer's own greedy generation, for text rows on one and image rows on the
    other."""
    trainer.generation_config.do_sample, trainer.generation_config.max_new_tokens = False, most
    ranks, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
    rows = [{"split": "train", "row": n} for n in range(2, 6)][rank * 4 // ranks : (rank + 1) * 4 // ranks]
    trainer.batch = trainer.new_batch(rows)
    ids = [prompt.ids.tolist() for prompt in trainer.batch.prompts]
    completion_ids, _ = VLMGRPOTrainer._generate_single_turn(trainer, ids, None, {}, 1)
    return gather_object(completion_ids)  # rows and ranks end at different steps


def noisy_completions(trainer: VLMGRPOTrainer) -> list[list[int]]:
    """As `greedy_completions`, of a group of an image row, half of which sees it under noise, on one rank, and
    of a text row on the other."""
    ranks, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
    rows = [{"split": "train", "row": n} for n in (3, 4)[rank * 2 // ranks : (rank + 1) * 2 // ranks]]
    trainer.args.noisy_rollouts, trainer.args.noise_step, trainer.state.global_step = 0.5, 999, 0
    trainer.batch = trainer.new_batch([row for row in rows for _ in range(GROUP)])
    ids = [prompt.ids.tolist() for prompt in trainer.batch.prompts]
    return gather_object(VLMGRPOTrainer._generate_single_turn(trainer, ids, None, {}, 1)[0])


def sft(engine: str, out: Path, data: Path) -> None:
    """Two steps of supervised fine-tuning on the same rows, so at first on text alone on one of two ranks."""
    AcceleratorState._reset_state()
    argv = f"--model_name_or_path {TINY} --data_file_paths {data} --image_folders {data.parent} --task_type digits"
    argv += f" --output_dir {out / 'sft'} --per_device_train_batch_size 4 --max_steps 2 --save_strategy no"
    argv += f" --gradient_accumulation_steps {2 if engine == 'one' else 1} --train_sampling_strategy sequential"
    argv += f" {OPTIMIZER} {ENGINES.get(engine, '')}"
    save_weights(run_sft(*sft_jsonl.parse_sft(argv.split())), out / "sft.pt")


def main(engine: str, out: Path, data: Path) -> None:
    hardware._refuse_fsdp_on_cpu = place_fsdp
    saves = ("--save_strategy", "steps", "--save_steps", "2")
    trainer = trainer_for(engine, out / "run", data, *saves)
    trainer._generate_single_turn = generate_by_key(trainer)
    trainer.train()
    save_weights(trainer, out / "weights.pt")
    assert weights_are_sharded(trainer) == (engine in ("zero3", "fsdp2"))
    assert (type(next(trainer.model.parameters()).data) is DTensor) == (engine == "fsdp2")
    trainer.save_model(str(out / "final"))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    results = {"losses": losses, "rollouts": greedy_completions(trainer), "noisy": noisy_completions(trainer)}

    if engine in RESUMED:
        resumed = trainer_for(engine, out / "resumed", data)
        resumed._generate_single_turn = generate_by_key(resumed)
        resumed.train(resume_from_checkpoint=str(out / "run" / "checkpoint-2"))
        save_weights(resumed, out / "resumed.pt")

    parts = ("--tokens_per_forward", "130") if engine in IN_PARTS else ()  # one rank has more of them than the other
    flags = ("--beta", "0", "--num_iterations", "1", "--max_steps", "1", *parts)
    quiet = trainer_for(engine, out / "quiet", data, *flags)
    quiet._generate_single_turn, quiet.reward_funcs = generate_by_key(quiet), [image_reward]
    quiet.train()
    results["probes"] = [entry for run in (trainer, quiet) for entry in probes(run)]
    save_weights(quiet, out / "quiet.pt")
    if engine in WITH_TOOLS:
        results["tools"] = with_tools(engine, out, data)
    sft(engine, out, data)
    if trainer.accelerator.is_main_process:
        (out / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
