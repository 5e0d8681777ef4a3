"""Write a page of a model's attention: a heat map over pictures and frames for each token of its completion.

    python eval/attention.py --model assets/tiny-vlm --task digits --image digits.png \\
        --question "What is the sum of the digits in this image?" --out output/attention.html

With --tools the pictures of tools follow those of the question, and tokens are those that the model sampled.
    python eval/attention.py --model M --video clip.mp4 --question "What comes first?" --out output/attention.html

The page steps with the arrow keys and plays with the space bar. Attention is the softmax of one layer (--layer, the
middle one by default), the mean of its heads (or --head), of the query that predicts the token.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from open_r1.config.video_flags import check_videos, frame_sampling
from open_r1.data.images import open_image
from open_r1.data.video.files import load_videos
from open_r1.errors import UsageError
from open_r1.evaluation.attention.maps import chosen_layer
from open_r1.evaluation.flags import add_video_flags, refuse_idle_video_flags
from open_r1.evaluation.question import SOURCE, Question
from open_r1.evaluation.session import ModelSession
from open_r1.evaluation.settings import EvaluationSettings, video_settings
from open_r1.report.attention_film import frames, require_ffmpeg, write_gif, write_mp4
from open_r1.report.attention_page import write_attention_page
from open_r1.report.heat import mapped_pictures
from open_r1.tasks.find import TASK_HELP, find_task
from open_r1.tasks.recipe import read_recipe


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="hub name or folder of a checkpoint, or of an adapter")
    parser.add_argument("--image", type=Path, nargs="+", help="one picture or several")
    parser.add_argument("--video", type=Path, nargs="+", help="one video or several: files, or folders of frames")
    parser.add_argument("--question", required=True, help="<image>, <video> where each stands, or they come first")
    parser.add_argument("--task", default="default", help=f"whose prompt is put around it: {TASK_HELP}")
    parser.add_argument("--prompt_mode", default="think", choices=("think", "direct"))
    parser.add_argument("--completion", help="look at this completion instead of one that the model generates")
    parser.add_argument("--max_completion_length", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--seed", type=int, default=0, help="of a sampled completion")
    parser.add_argument("--layer", type=int, help="from 0; default: the middle one")
    parser.add_argument("--head", type=int, help="from 0; default: the mean of all")
    parser.add_argument("--max_pixels", type=int, help="largest image area after resizing")
    parser.add_argument("--min_pixels", type=int, help="smallest; both only for processors that resize by area")
    add_video_flags(parser)
    parser.add_argument("--out", type=Path, default=Path("attention.html"), help="the page")
    parser.add_argument("--gif", type=Path, help="also a GIF, a token a frame")
    parser.add_argument("--mp4", type=Path, help="also an MP4 (needs ffmpeg)")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, ...")
    parser.add_argument("--tools", nargs="+", help="zoom, or path/to/file.py:function, which the completion may call")
    parser.add_argument("--max_tool_turns", type=int, default=4, help="most calls that get an answer")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    return parser


def write_attention(args: argparse.Namespace) -> None:
    """Answer the question, or take --completion as the answer; write the page, the GIF and the MP4."""
    if not args.image and not args.video:
        raise UsageError("--image: got nothing, and no --video, expected one of both; name a file")
    if args.mp4:
        require_ffmpeg()
    refuse_idle_video_flags(args)
    settings, images, videos = attention_settings(args), tuple(args.image or ()), tuple(args.video or ())
    check_videos(settings)
    for path in map(Path.resolve, images):  # what cannot be read is refused before a model is loaded
        open_image(str(path.parent), path.name, where=str(path))
    question = Question(args.question, images, videos=videos)
    load_videos([question.record(settings.methods[0])], frame_sampling(settings))
    session = ModelSession(settings)
    chosen_layer(session.engine.model, args.layer, args.head)
    if args.completion is None:
        *_, answer = session.ask(question)
    else:
        answer = session.teacher_forced(question, args.completion)
    attention, pictures = session.attention(answer, args.layer, args.head), answer.pictures

    facts = {"model": args.model, "question": args.question}
    facts |= {name: ", ".join(path.name for path in paths) for name, paths in named(images, videos).items()}
    write_attention_page(args.out, attention, pictures, facts, answer.example.videos)
    for path, write in ((args.gif, write_gif), (args.mp4, write_mp4)):
        if path:
            write(path, frames(attention, list(mapped_pictures(attention, pictures, answer.example.videos))))
    seen = f"{attention.on_images.sum(axis=1).mean():.1%} of it on {' and '.join(named(images, videos))}"
    print(f"{len(answer.ids)} tokens, {attention.source}, {seen}: {args.out}")


def named(images: Sequence[Path], videos: Sequence[Path]) -> dict[str, Sequence[Path]]:
    """The files by what they are, without kinds of which there are none."""
    return {name: paths for name, paths in (("pictures", images), ("videos", videos)) if paths}


def attention_settings(args: argparse.Namespace) -> EvaluationSettings:
    """The settings of these flags; unlike in an evaluation, their defaults do not come from the checkpoint."""
    return EvaluationSettings(
        model=args.model,
        prompt_mode=args.prompt_mode,
        max_completion_length=args.max_completion_length,
        temperature=args.temperature,
        seed=args.seed,
        max_pixels=args.max_pixels,
        min_pixels=args.min_pixels,
        dtype=args.dtype,
        device=args.device,
        trust_remote_code=args.trust_remote_code,
        **video_settings(args, read_recipe(args.model)),
        data_file_paths=[SOURCE],
        image_folders=None,
        output_dir=Path(),
        tasks=[args.task],
        methods=[find_task(args.task).method],
        batch_size=1,
        tools=args.tools,
        max_tool_turns=args.max_tool_turns,
    )


def main() -> None:
    try:
        write_attention(options().parse_args())
    except UsageError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
