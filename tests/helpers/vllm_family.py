"""Tiny models of other families behind vLLM; `tests/rollout/test_vllm_families.py` starts it, and anyone by hand.

    PYTHONPATH=tests python tests/helpers/vllm_family.py OUT DATA FAMILY ... [--flag value ...]

Writes to OUT/FAMILY.json, for each of DATA's first three rows, the largest |log-prob of vLLM - of the trainer|, once
`before` and once `after` all trained weights have changed. A family has a fork of this process, which has vLLM.
"""

import json
import os
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, PreTrainedConfig

from helpers.families.tiny import config_of, processor_of, widen
from helpers.trainers import make_trainer, rows
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

FLAGS = "--use_vllm true --vllm_max_model_length 2048 --gradient_accumulation_steps 1 --max_steps 1"
TRIES = 40


def with_wide_heads(config: PreTrainedConfig) -> PreTrainedConfig:
    """Two heads of 32 in place of four of 16, which vLLM's CPU build has no attention for; fields that it reads of
    published configurations and that transformers has no more."""
    fields: dict[str, Any] = config.to_dict()
    text = fields["text_config"]
    if "glm4v" in config.model_type:
        text["attention_bias"] = True
    if "moe" in config.model_type:
        text["norm_topk_prob"] = True
    if text.get("head_dim") == 16:
        text |= {"head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
        if section := (text.get("rope_parameters") or {}).get("mrope_section"):
            text["rope_parameters"]["mrope_section"] = [2 * pairs for pairs in section]
    return type(config).from_dict(fields)


def save(family: str, folder: Path) -> Path:
    """Write the family's model and processor."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(with_wide_heads(config_of(family)), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            widen(parameter)
    model.save_pretrained(folder)
    processor_of(family).save_pretrained(folder)
    from vllm import ModelRegistry  # where it is installed

    known = type(model).__name__
    if known in ModelRegistry.models:  # else vLLM starts a process that imports the class
        ModelRegistry.register_model(known, ModelRegistry.models[known].load_model_cls())
    return folder


def largest_difference(trainer: VLMGRPOTrainer, row: int) -> float:
    """Of a rollout of a row. Drawn again while a token stands for an image: a random model would put a fiftieth of its
    mass on those if they were not banned, and bans change log-probs."""
    examples = trainer.loader.take(rows(row, group=4))
    for step in range(TRIES):
        completions, logps = trainer.engine.rollout(examples, step=step)
        if not set(trainer.banned_ids) & {token for row in completions for token in row}:
            break
    else:
        raise ValueError(f"row {row}: {TRIES} rollouts with image tokens")
    lengths = [len(ids) for ids in completions]
    padded = torch.tensor([ids + [0] * (max(lengths) - len(ids)) for ids in completions])
    with torch.no_grad():
        prompts = trainer.prompts_on_device(examples)
        scores = trainer.score_completions(trainer.model, prompts, padded, lengths)
    pairs = zip(scores.logps, logps, lengths, strict=True)
    return max((ours[:n] - torch.tensor(theirs)).abs().max().item() for ours, theirs, n in pairs)


def compare(family: str, out: Path, data: Path, flags: list[str]) -> dict[str, list[float]]:
    """The differences before and after the weights changed."""
    model = save(family, out / family)
    trainer = make_trainer(str(model), data, out / f"{family}-run", *FLAGS.split(), *flags)
    trainer.engine.sampling = replace(trainer.engine.sampling, banned=())
    trainer.model.train()
    before = [largest_difference(trainer, row) for row in range(3)]
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if parameter.requires_grad:
                parameter.mul_(1 + 0.2 * torch.randn_like(parameter))
                parameter.add_(0.05 * torch.randn_like(parameter) * ("lora_B" in name))  # zeros at first
    trainer.engine.engine_policy = None  # as after a step
    return {"before": before, "after": [largest_difference(trainer, row) for row in range(3)]}


def main(out: Path, data: Path, words: list[str]) -> None:
    import_module("open_r1.rollout.vllm.colocate")  # once, before the forks; it imports vLLM
    flags = next((at for at, word in enumerate(words) if word.startswith("--")), len(words))
    for family in words[:flags]:
        if (child := os.fork()) == 0:
            (out / f"{family}.json").write_text(json.dumps(compare(family, out, data, words[flags:])))
            return
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
