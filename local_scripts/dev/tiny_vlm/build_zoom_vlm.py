"""Teach an embedded model to call `zoom`, on a CPU, seeded: `assets/tiny-vlm` becomes the start of `zoom_digits`.

    python local_scripts/dev/tiny_vlm/build_zoom_vlm.py --out assets/tiny-vlm-zoom

Its tokenizer first gets merges for the list of tools and for calls (`longer_tokenizer.py`); then come the stages of
`zoom_lessons.py`.
"""

import argparse
from pathlib import Path

import torch
import zoom_lessons
from longer_tokenizer import lengthen_embeddings, longer_tokenizer
from teaching import teach
from transformers import AutoProcessor, ProcessorMixin, Qwen2_5_VLForConditionalGeneration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", default="assets/tiny-vlm")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kept", type=Path, help="where the model after each stage is kept, and taken from if it is")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    processor, model = load(args.start)
    before = processor.tokenizer
    processor.tokenizer = longer_tokenizer(before, zoom_lessons.corpus(processor))
    lengthen_embeddings(model, before, processor.tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens")
    for name, stage in zoom_lessons.STAGES.items():
        kept = args.kept / name if args.kept else None
        if kept and kept.exists():
            processor, model = load(kept)
            continue
        teach(model, zoom_lessons.batches(processor, name, args.seed), stage.steps, stage.lr, name)
        print(f"{name}, held out:", zoom_lessons.figures(model, processor, name))
        if kept:
            save(model, processor, kept)
    save(model, processor, args.out)


def load(folder: str | Path) -> tuple[ProcessorMixin, Qwen2_5_VLForConditionalGeneration]:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    return AutoProcessor.from_pretrained(folder, trust_remote_code=False), model


def save(model: Qwen2_5_VLForConditionalGeneration, processor: ProcessorMixin, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    main()
