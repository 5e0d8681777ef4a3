"""R1-V's geometry test: 754 problems of GeoQA, answers compared as mathematics (units, degrees, roots).

    python eval/geoqa.py --model output/geoqa/checkpoint --prompt_path geoqa_test_prompts.jsonl \\
        --image_root data/geoqa --output_dir output/geoqa-eval
    python eval/geoqa.py --from_predictions geoqa_logs.jsonl

The paths in the prompt file (./Geo170K/images/test/0.png) start from --image_root. R1-V reports 30.63 % for
Qwen2-VL-7B-Instruct and 38.72 % after GRPO, graded by plain math-verify, which reads 5√{3} as 5.
"""

import argparse
from pathlib import Path

from open_r1.errors import UsageError
from open_r1.evaluation.cli import main, parser_of
from open_r1.tasks.importers.r1v import convert_prompts


def find_rows(args: argparse.Namespace) -> tuple[str, str]:
    """(data file, image folder) of GeoQA's rows, converted."""
    for name in ("prompt_path", "image_root"):
        if getattr(args, name) is None:
            raise UsageError(f"--{name}: got nothing, expected where GeoQA lies; see --help")
    return str(convert_prompts(args.prompt_path, args.output_dir / "data" / "geoqa.jsonl")), str(args.image_root)


if __name__ == "__main__":
    parser = parser_of(__doc__, task="math", data=False)
    parser.add_argument("--prompt_path", type=Path, help="R1-V's geoqa_test_prompts.jsonl")
    parser.add_argument("--image_root", type=Path, help="folder that its paths start from")
    main(parser, find_rows=find_rows)
