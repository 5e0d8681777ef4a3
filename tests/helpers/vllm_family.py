"""A random model of another family behind vLLM; started by `tests/rollout/test_vllm_runs.py`.

    python tests/helpers/vllm_family.py FAMILY OUT DATA

Writes to OUT/differences.json the largest |log-prob of vLLM - of the trainer| of each of DATA's first rows. No token
is banned: a random model would put a hundredth of its mass on those.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PretrainedConfig,
    Qwen2VLProcessor,
    Qwen3VLProcessor,
)

from helpers.repository import REPO
from helpers.trainers import make_trainer, rows

TINY = str(REPO / "assets" / "tiny-vlm")
EYES = {"depth": 3, "num_heads": 4, "patch_size": 14, "spatial_merge_size": 2}
FLAGS = "--use_vllm true --vllm_max_model_length 256 --gradient_accumulation_steps 1 --max_steps 1"


def qwen2_vl(base: PretrainedConfig) -> tuple[dict, dict, type]:
    return {}, {**EYES, "embed_dim": 48, "hidden_size": base.text_config.hidden_size, "mlp_ratio": 2}, Qwen2VLProcessor


def qwen3_vl(base: PretrainedConfig) -> tuple[dict, dict, type]:
    """Interleaved M-RoPE, and two layers of the eye that feed layers of the language model."""
    text = base.text_config
    changes = {"head_dim": text.hidden_size // text.num_attention_heads}
    changes |= {"rope_parameters": {**text.rope_parameters, "mrope_interleaved": True}}
    eyes = {**EYES, "hidden_size": 48, "intermediate_size": 96, "out_hidden_size": text.hidden_size}
    return changes, {**eyes, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}, Qwen3VLProcessor


FAMILIES = {"qwen2_vl": qwen2_vl, "qwen3_vl": qwen3_vl}


def build(family: str, out: Path) -> Path:
    """A model folder with the tiny VLM's tokens and pictures."""
    base, processor = AutoConfig.from_pretrained(TINY), AutoProcessor.from_pretrained(TINY)
    changes, vision, processor_class = FAMILIES[family](base)
    text = {name: value for name, value in base.text_config.to_dict().items() if name != "model_type"} | changes
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    special = {name: getattr(base, name) for name in names}
    config = AutoConfig.for_model(family, text_config=text, vision_config=vision, tie_word_embeddings=True, **special)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(out)
    parts = {name: getattr(processor, name) for name in ("image_processor", "video_processor", "tokenizer")}
    processor_class(**parts, chat_template=processor.chat_template).save_pretrained(out)
    return out


def main(family: str, out: Path, data: Path) -> None:
    model = str(build(family, out / "model"))
    os.chdir(data.parent)  # seeds follow from the name of the data: an image token drawn by chance would end it
    trainer = make_trainer(model, Path(data.name), out / "run", *FLAGS.split())
    trainer.engine.sampling = replace(trainer.engine.sampling, banned=())
    trainer.model.train()
    largest = []
    for row in range(3):
        batch = trainer._generate_and_score_completions(rows(row, group=4))
        differences = (batch["sampling_per_token_logps"] - batch["old_per_token_logps"]).abs()
        largest.append(differences[batch["completion_mask"].bool()].max().item())
    (out / "differences.json").write_text(json.dumps(largest))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
