"""R1-V's counting test: 200 renders of Super-CLEVR, "How many different items are there in the image?", exact number.

    python eval/superclevr.py --model output/counting/checkpoint --download --output_dir output/superclevr
    python eval/superclevr.py --model Qwen/Qwen2-VL-2B-Instruct --prompt_mode both \\
        --prompt_path superclevr_test200_counting_problems.jsonl --image_root images --output_dir output/superclevr
    python eval/superclevr.py --from_predictions counting_logs.jsonl

R1-V reports 48.0 % for Qwen2-VL-2B-Instruct and 82.5 % after 100 steps of GRPO; a fifth of the first one's answers
could not be read, which is why the parse rate stands beside the accuracy and `--prompt_mode both` asks for direct
answers too. `--download` fetches R1-V's prompt file and the renders (a ZIP of Johns Hopkins University) to --data_dir.
"""

import argparse
from pathlib import Path

from rich.progress import Progress

from open_r1.evaluation.cli import main, parser_of
from open_r1.tasks.importers.downloads import download, unzip
from open_r1.tasks.importers.r1v import convert_prompts

PROMPTS = "https://raw.githubusercontent.com/Deep-Agent/R1-V/main/src/eval/prompts/superclevr_test200_counting_problems.jsonl"
IMAGES = "https://www.cs.jhu.edu/~zhuowan/zhuowan/SuperCLEVR/to_be_released/images.zip"


def fetch(folder: Path) -> None:
    """Download the prompt file and the renders to `folder`; skips finished ones and continues broken ones."""
    folder.mkdir(parents=True, exist_ok=True)
    download(PROMPTS, prompts_in(folder))
    if (folder / "images").is_dir():
        return
    with Progress() as bar:
        task = bar.add_task("images.zip", total=None)
        archive = download(IMAGES, folder / "images.zip", watch=lambda d, t: bar.update(task, completed=d, total=t))
    unzip(archive, folder)


def prompts_in(folder: Path) -> Path:
    """The path of the downloaded prompt file."""
    return folder / PROMPTS.rpartition("/")[2]


def find_rows(args: argparse.Namespace) -> tuple[str, str]:
    """(data file, image folder) of the converted rows, downloaded first with `--download`."""
    if args.download:
        fetch(args.data_dir)
    rows = convert_prompts(
        args.prompt_path or prompts_in(args.data_dir), args.output_dir / "data" / "superclevr.jsonl"
    )
    return str(rows), str(args.image_root or args.data_dir)


if __name__ == "__main__":
    parser = parser_of(__doc__, task="counting", data=False)
    parser.add_argument("--download", action="store_true", help="fetch prompts and images to --data_dir first")
    parser.add_argument("--data_dir", type=Path, default=Path("data/superclevr"), help="default: data/superclevr")
    parser.add_argument("--prompt_path", type=Path, help="R1-V's prompt file (default: the one in --data_dir)")
    parser.add_argument("--image_root", type=Path, help="folder that its paths start from (default: --data_dir)")
    main(parser, find_rows=find_rows)
