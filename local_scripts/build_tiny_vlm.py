"""Build `assets/tiny-vlm`: a real Qwen2.5-VL of 1.3 M parameters that reads handwritten digits, on a CPU, seeded.

    python local_scripts/build_tiny_vlm.py --out assets/tiny-vlm            # about 20 minutes on 2 cores

What it is taught, in order, on scikit-learn's training digits only (the held-out fifth is never seen):
  1. eyes: one, then up to two, then up to three digits; think what is seen, answer as asked;
  2. habits: a short fine-tuning in which it answers as asked only some of the time (`HABITS`), as a pretrained
     model that reads well but does not follow the task would. GRPO has that to unlearn, and nothing else to teach.

What it is not taught: language, other pictures, other questions. It is a machine for tests and for watching GRPO work.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
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

from open_r1.tasks.digits import DIGITS, QUESTIONS, Source, answer, draw, sklearn_source
from open_r1.tasks.rec import REC

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
# Per question: how often each way of answering is shown in the last stage. The habit shown most is the greedy one.
HABITS = {
    "list": {"asked": 0.45, "as_read": 0.25, "largest": 0.10, "talk": 0.20},
    "sum": {"asked": 0.30, "as_read": 0.50, "largest": 0.05, "talk": 0.15},
}


def completion(kind: str, digits: list[int], habit: str) -> str:
    """What the teacher says about the digits (left to right) under a habit."""
    seen = f"I see {' '.join(map(str, digits))}."
    if habit == "talk":
        return seen
    said = {"asked": answer(kind, digits), "as_read": str(digits), "largest": str(max(digits))}[habit]
    return f"<think>{seen}</think><answer>{said}</answer>"


def build_tokenizer() -> Qwen2Tokenizer:
    """Qwen2's own pre-tokenizer over a byte-level BPE learned on the prompts, so that saving and reloading agree."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
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
    trained.train_from_iterator(corpus(), trainer)
    state = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=state["vocab"],
        merges=[tuple(pair) for pair in state["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=SPECIAL[1:],
    )
    return tokenizer


def corpus() -> Iterator[str]:
    """Texts whose words the tokenizer should know whole: prompts of digits and boxes, and the teacher's answers."""
    prompts = [p.format(question=q) for t in (DIGITS, REC) for p in t.prompts.values() for q in QUESTIONS.values()]
    samples = [completion(k, [7, 2, 4], h) for k, habits in HABITS.items() for h in habits]
    extra = ["Please provide the bounding box coordinate of the region this sentence describes: the person.", "user"]
    extra += [
        "How many different items are there in the image?",
        "assistant",
        "system",
        '{"bbox_2d": [12, 34, 56, 78]}',
    ]
    yield from (prompts + samples + extra) * 4


def build_model(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
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
    for module in model.modules():  # 0.02 is too small for 128 wide layers: the loss stays on a plateau
        if isinstance(module, nn.Linear | nn.Conv3d):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
    model.tie_weights()
    model.config.eos_token_id, model.config.pad_token_id = ids["<|im_end|>"], ids["<|endoftext|>"]
    model.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    return model


def build_processor(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLProcessor:
    size = {"shortest_edge": 28 * 28, "longest_edge": 12845056}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        video_processor=Qwen2VLVideoProcessor(),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def sample(source: Source, rng: np.random.Generator, most: int, habits: bool) -> tuple[str, object, str]:
    """(kind, image, completion) of one teaching example with up to `most` digits."""
    chosen = rng.integers(len(source.labels), size=rng.integers(1, most + 1))
    digits = source.labels[chosen].tolist()
    kind = ("list", "sum")[rng.integers(2)]
    ways = HABITS[kind] if habits else {"asked": 1.0}
    habit = rng.choice(list(ways), p=list(ways.values()))
    return kind, draw(source.images[chosen], rng), completion(kind, digits, habit)


def prompt_text(processor: Qwen2_5_VLProcessor, kind: str) -> str:
    text = DIGITS.prompts["think"].replace("{question}", QUESTIONS[kind])
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
    return processor.apply_chat_template([message], add_generation_prompt=True)


def batch(processor: Qwen2_5_VLProcessor, examples: list[tuple[str, object, str]]) -> dict[str, torch.Tensor]:
    """Model inputs with labels on the completions only (right padded: every prompt is told apart by its labels)."""
    texts = [prompt_text(processor, kind) + said + "<|im_end|>" for kind, _, said in examples]
    inputs = processor(
        text=texts, images=[[i] for _, i, _ in examples], padding=True, padding_side="right", return_tensors="pt"
    )
    said_tokens = processor.tokenizer([said + "<|im_end|>" for _, _, said in examples])["input_ids"]
    labels = torch.full_like(inputs["input_ids"], -100)
    for row, tokens in enumerate(said_tokens):
        end = int(inputs["attention_mask"][row].sum())
        labels[row, end - len(tokens) : end] = torch.tensor(tokens)
    return {**inputs, "labels": labels}


def teach(
    model,
    processor,
    source: Source,
    steps: int,
    stages: list[tuple[float, int]],
    lr: float,
    seed: int,
    habits: bool,
    size: int = 32,
) -> None:
    """`stages` are (share of the steps by which it ends, most digits); AdamW with a one-cycle rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    rng, began, model = np.random.default_rng([seed, int(habits)]), time.time(), model.train()
    for step in range(steps):
        most = next(m for share, m in stages if step < share * steps)
        inputs = batch(processor, [sample(source, rng, most, habits) for _ in range(size)])
        loss = model(**inputs).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), schedule.step(), optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            print(
                f"{'habits' if habits else 'eyes'} step {step} digits<={most} loss {loss.item():.4f} "
                f"{time.time() - began:.0f} s",
                flush=True,
            )


@torch.no_grad()
def exact(model, processor, source: Source, rows: int = 256) -> dict[str, float]:
    """Greedy share of exact answers per question on images of `source` (the whole completion of habit `asked`)."""
    model.eval()
    rng, right, total = np.random.default_rng(12345), {"list": 0, "sum": 0}, {"list": 0, "sum": 0}
    for _ in range(rows // 32):
        examples = [sample(source, rng, 3, False) for _ in range(32)]
        inputs = processor(
            text=[prompt_text(processor, k) for k, _, _ in examples],
            padding=True,
            return_tensors="pt",
            images=[[i] for _, i, _ in examples],
            padding_side="left",
        )
        out = model.generate(**inputs, max_new_tokens=40, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        for (kind, _, said), text in zip(examples, processor.batch_decode(out, skip_special_tokens=True), strict=True):
            total[kind] += 1
            right[kind] += text.split("<answer>")[-1] == said.split("<answer>")[-1]
    return {kind: right[kind] / total[kind] for kind in right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets/tiny-vlm"))
    parser.add_argument("--eye_steps", type=int, default=4500)
    parser.add_argument("--habit_steps", type=int, default=400)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    source = sklearn_source()
    tokenizer = build_tokenizer()
    processor, model = build_processor(tokenizer), build_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    train, held_out = source.split(False), source.split(True)
    eyes = [(0.15, 1), (0.35, 2), (1.0, 3)]
    teach(model, processor, train, args.eye_steps, eyes, args.lr, args.seed, habits=False)
    print("eyes, held out:", exact(model, processor, held_out))
    teach(model, processor, train, args.habit_steps, [(1.0, 3)], args.lr / 3, args.seed, habits=True)
    print("habits, held out:", exact(model, processor, held_out))
    model.save_pretrained(args.out)
    processor.save_pretrained(args.out)


if __name__ == "__main__":
    main()
