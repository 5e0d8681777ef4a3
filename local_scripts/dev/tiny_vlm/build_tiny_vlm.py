"""Train the embedded models on a CPU, seeded: Qwen2.5-VLs of 1.3 M parameters that recognise simple pictures.

    python local_scripts/dev/tiny_vlm/build_tiny_vlm.py --out assets/tiny-vlm  # about 20 minutes on 2 cores
    OMP_NUM_THREADS=1 torchrun --nproc_per_node 2 local_scripts/dev/tiny_vlm/build_tiny_vlm.py --lessons shapes \\
        --out assets/tiny-vlm-shapes                                                # about 40 minutes on 2 cores

Two stages (`digit_lessons.py`, `shape_lessons.py`):
  1. eyes: from easy pictures to hard ones, with thinking and the right answer;
  2. habits: a short fine-tuning in which only a part of the answers is right (`HABITS`), as of a pretrained model that
     sees well but does not follow the task. GRPO has only that to correct.

They know no language, other pictures or other questions. They are for tests and for watching GRPO.
"""

import argparse
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import digit_lessons
import shape_lessons
import torch
from teaching import rank, teach
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

LESSONS = {"digits": digit_lessons, "shapes": shape_lessons}

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
SPECIAL += ["<|video_pad|>"]
VOCABULARY = 768
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(corpus: Iterator[str]) -> Qwen2Tokenizer:
    """Train a byte-level BPE on the prompts, with Qwen2's own pre-tokenizer, so that saving and reloading agree."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    state = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=state["vocab"],
        merges=[tuple(pair) for pair in state["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=SPECIAL[1:],
    )
    return tokenizer


def build_model(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    """The untrained model."""
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 128,
            "intermediate_size": 320,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 3,
            "hidden_size": 96,
            "num_heads": 3,
            "intermediate_size": 192,
            "out_hidden_size": 128,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [2],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    for module in model.modules():  # 0.02 is too small for layers of width 128: the loss stays on a plateau
        if isinstance(module, nn.Linear | nn.Conv3d):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
    model.tie_weights()
    model.config.eos_token_id, model.config.pad_token_id = ids["<|im_end|>"], ids["<|endoftext|>"]
    model.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    return model


def build_processor(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLProcessor:
    """The processor, with the chat template."""
    size = {"shortest_edge": 28 * 28, "longest_edge": 12845056}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        video_processor=Qwen2VLVideoProcessor(),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lessons", choices=sorted(LESSONS), default="digits")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--eye_steps", type=int, help="default: the lessons' own")
    parser.add_argument("--habit_steps", type=int, help="default: the lessons' own")
    parser.add_argument("--eyes", type=Path, help="where the model after its eyes is kept; taken from there if it is")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if "LOCAL_RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(args.seed)
    lessons = LESSONS[args.lessons]
    tokenizer = build_tokenizer(lessons.corpus())
    processor, model = build_processor(tokenizer), build_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    if args.eyes and args.eyes.exists():
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(args.eyes, dtype=torch.float32)
        processor = Qwen2_5_VLProcessor.from_pretrained(args.eyes)
    else:
        steps = args.eye_steps or lessons.EYE_STEPS
        teach(model, lessons.batches(processor, steps, args.seed, habits=False), steps, args.lr, "eyes")
        if args.eyes and rank() == 0:
            model.save_pretrained(args.eyes)
            processor.save_pretrained(args.eyes)
    print("eyes, held out:", lessons.accuracy(model, processor))
    steps = args.habit_steps or lessons.HABIT_STEPS
    teach(model, lessons.batches(processor, steps, args.seed, habits=True), steps, args.lr / 3, "habits")
    print("habits, held out:", lessons.accuracy(model, processor))
    if rank() == 0:
        model.save_pretrained(args.out)
        processor.save_pretrained(args.out)


if __name__ == "__main__":
    main()
