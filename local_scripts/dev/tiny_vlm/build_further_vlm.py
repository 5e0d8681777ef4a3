"""Teach an embedded model more, on a CPU, seeded: to call `zoom` (`assets/tiny-vlm` becomes the start of
`zoom_digits`), or to see what changes in a clip (`assets/tiny-vlm-shapes` becomes the start of `motion`).

    python local_scripts/dev/tiny_vlm/build_further_vlm.py --lessons zoom --out assets/tiny-vlm-zoom
    python local_scripts/dev/tiny_vlm/build_further_vlm.py --lessons motion --out assets/tiny-vlm-motion

The model is first made ready: merges of its tokenizer for new texts (`longer_tokenizer.py`), and for clips its chat
template and sizes; then come the stages of `zoom_lessons.py` or `motion_lessons.py`.
"""

import argparse
from pathlib import Path

import motion_lessons
import torch
import zoom_lessons
from longer_tokenizer import lengthen_embeddings, longer_tokenizer
from teaching import teach
from transformers import AutoProcessor, ProcessorMixin, Qwen2_5_VLForConditionalGeneration

from open_r1.models.repairs import repair

LESSONS = {"zoom": zoom_lessons, "motion": motion_lessons}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lessons", choices=sorted(LESSONS), required=True)
    parser.add_argument("--start", help="default: the lessons' own")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kept", type=Path, help="where the model after each stage is kept, and taken from if it is")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    lessons = LESSONS[args.lessons]
    processor, model = load(args.start or lessons.START)
    lessons.make_ready(processor, model)
    before = processor.tokenizer
    processor.tokenizer = longer_tokenizer(before, lessons.corpus(processor))
    lengthen_embeddings(model, before, processor.tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens")
    for name, stage in lessons.STAGES.items():
        kept = args.kept / name if args.kept else None
        if kept and kept.exists():
            processor, model = load(kept)
            continue
        teach(model, lessons.batches(processor, name, args.seed), stage.steps, stage.lr, name)
        print(f"{name}, held out:", lessons.figures(model, processor, name), flush=True)
        if kept:
            save(model, processor, kept)
    save(model, processor, args.out)


def load(folder: str | Path) -> tuple[ProcessorMixin, Qwen2_5_VLForConditionalGeneration]:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    return AutoProcessor.from_pretrained(folder, trust_remote_code=False), repair(model)


def save(model: Qwen2_5_VLForConditionalGeneration, processor: ProcessorMixin, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    main()
