"""What a model looks at while it answers: a page with a heat map over the pictures for each token of the completion.

    python eval/attention.py --model assets/tiny-vlm --task digits --image digits.png \\
        --question "What is the sum of the digits in this image?" --out output/attention.html

The page steps with the arrow keys and plays with the space bar. Attention is the softmax of one layer (--layer, the
middle one by default), the mean of its heads (or --head), of the query that predicts the token.
"""

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, PreTrainedModel, ProcessorMixin

from open_r1.config.arguments import TaskArguments, VLMConfig
from open_r1.config.remote_code import remote_code_errors
from open_r1.data.chat import messages, with_images
from open_r1.data.images import open_image
from open_r1.data.record import parse_row
from open_r1.errors import UsageError
from open_r1.evaluation.attention.layout import Fields
from open_r1.evaluation.attention.maps import attend, chosen_layer
from open_r1.models.families import image_token_ids
from open_r1.models.loading import load_processor
from open_r1.report.attention_film import frames, require_ffmpeg, write_gif, write_mp4
from open_r1.report.attention_page import write_attention_page
from open_r1.tasks.registry import TASKS


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="hub name or folder of a checkpoint, or of an adapter")
    parser.add_argument("--image", type=Path, nargs="+", required=True, help="one picture or several")
    parser.add_argument("--question", required=True, help="<image> where each picture stands, or pictures come first")
    parser.add_argument("--task", default="default", choices=sorted(TASKS), help="whose prompt is put around it")
    parser.add_argument("--prompt_mode", default="think", choices=("think", "direct"))
    parser.add_argument("--completion", help="look at this completion instead of one that the model generates")
    parser.add_argument("--max_completion_length", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--seed", type=int, default=0, help="of a sampled completion")
    parser.add_argument("--layer", type=int, help="from 0; default: the middle one")
    parser.add_argument("--head", type=int, help="from 0; default: the mean of all")
    parser.add_argument("--max_pixels", type=int, help="largest image area after resizing")
    parser.add_argument("--min_pixels", type=int, help="smallest; both only for processors that resize by area")
    parser.add_argument("--out", type=Path, default=Path("attention.html"), help="the page")
    parser.add_argument("--gif", type=Path, help="also a GIF, a token a frame")
    parser.add_argument("--mp4", type=Path, help="also an MP4 (needs ffmpeg)")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, ...")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    return parser


def look(args: argparse.Namespace) -> None:
    if args.mp4:
        require_ffmpeg()
    paths = [path.resolve() for path in args.image]
    pictures = [open_image(str(path.parent), path.name, where=str(path)) for path in paths]
    row = {"problem": args.question, "solution": "-", "images": list(map(str, paths))}
    record = parse_row(row, where="--question", line=1)
    conversation = with_images(messages(record, TASKS[args.task].prompts[args.prompt_mode]), pictures)

    limits = TaskArguments(max_pixels=args.max_pixels, min_pixels=args.min_pixels)
    processor = load_processor(VLMConfig(model_name_or_path=args.model), limits, args.trust_remote_code)
    with remote_code_errors(args.model):
        model = AutoModelForImageTextToText.from_pretrained(
            args.model, dtype=args.dtype, device_map=args.device, trust_remote_code=args.trust_remote_code
        ).eval()
    layer = chosen_layer(model, args.layer, args.head)
    fields = processor.apply_chat_template(
        [conversation], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    ).to(model.device)
    said = completion(model, processor, dict(fields), args)
    seen = attend(model, processor, dict(fields), [picture.size for picture in pictures], said, layer, args.head)

    facts = {"model": args.model, "question": args.question, "pictures": ", ".join(path.name for path in paths)}
    write_attention_page(args.out, seen, pictures, facts)
    for path, write in ((args.gif, write_gif), (args.mp4, write_mp4)):
        if path:
            write(path, frames(seen, pictures))
    print(f"{len(said)} tokens, {seen.source}, {seen.on_images.sum(axis=1).mean():.1%} of it on pictures: {args.out}")


def completion(
    model: PreTrainedModel, processor: ProcessorMixin, fields: Fields, args: argparse.Namespace
) -> list[int]:
    """Token ids: those of --completion, or generated, without tokens that stand for images."""
    if args.completion is not None:
        return processor.tokenizer(args.completion, add_special_tokens=False)["input_ids"]
    torch.manual_seed(args.seed)
    sampling = {"temperature": args.temperature, "top_p": 1.0, "top_k": 0} if args.temperature else {}
    out = model.generate(
        **fields,
        do_sample=bool(args.temperature),
        **(sampling or {"temperature": None, "top_p": None, "top_k": None}),
        max_new_tokens=args.max_completion_length,
        repetition_penalty=1.0,
        suppress_tokens=image_token_ids(model.config, processor),
    )
    return out[0, fields["input_ids"].shape[1] :].tolist()


def main() -> None:
    try:
        look(options().parse_args())
    except UsageError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
