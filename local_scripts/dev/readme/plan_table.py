"""Write the table of hardware and flags in assets/docs/scaling.md; every row is an answer of the memory planner.

python local_scripts/dev/readme/plan_table.py            # rewrites the page between its markers
python local_scripts/dev/readme/plan_table.py --check    # exit status 1 when the page is not up to date

The configurations are those in assets/configs: the published dimensions, so that nothing is downloaded.
"""

from dataclasses import dataclass
from pathlib import Path

from readme_sections import Section

from open_r1.plan.cli import check_arguments, command, plan_parser, planned_run, search
from open_r1.plan.dims import read_dims
from open_r1.plan.memory import GIB, total_bytes

ROOT = Path(__file__).resolve().parents[3]
HEAD = "| GPUs | model | flags | rollout, training: GiB a GPU | main memory, GiB a node |"


@dataclass(frozen=True)
class Row:
    """A line of the table: the machine in words, the model and what is said of it, the planner's arguments."""

    machine: str
    model: str  # size of Qwen2.5-VL, or a folder of assets/configs; then words
    arguments: str


FOUR_BITS = "--use_peft --lora_r 32 --load_in_4bit --use_bnb_nested_quant --optim adamw_bnb_8bit"
FOUR_BITS += " --freeze_vision_modules --max_pixels 401408 --completion 512 --batch 8 --global_batch 32"

ROWS = (
    *(
        Row(f"1 x {memory} GB", f"{model}, 4 bits, LoRA", f"--gpu_memory {memory} {FOUR_BITS}")
        for memory in (16, 24)
        for model in ("7B", "Qwen3-VL-8B")
    ),
    Row("1 x 24 GB", "3B, LoRA", "--gpu_memory 24 --use_peft --max_pixels 401408 --completion 512"),
    Row("1 x 80 GB", "3B", "--gpu_memory 80"),
    Row("1 x 80 GB", "7B, LoRA", "--gpu_memory 80 --use_peft"),
    Row("8 x 80 GB", "3B", "--gpus 8"),
    Row("8 x 80 GB", "7B", "--gpus 8"),
    Row("8 x 80 GB", "7B, vLLM", "--gpus 8 --use_vllm"),
    Row("2 x 8 x 80 GB", "32B", "--gpus 16 --nodes 2"),
    Row("2 x 8 x 80 GB", "72B, LoRA", "--gpus 16 --nodes 2 --use_peft --engine zero3"),
    Row(
        "4 x 8 x 80 GB, and those of a vLLM server",
        "72B, vLLM",
        "--gpus 32 --nodes 4 --global_batch 256 --use_vllm --vllm_mode server",
    ),
)


def line(row: Row) -> str:
    name = row.model.split(",")[0]
    folder = str(ROOT / "assets" / "configs" / (name if "-" in name else f"Qwen2.5-VL-{name}"))
    args = plan_parser().parse_args(["--model", folder, *row.arguments.split()])
    check_arguments(args)
    dims, config = read_dims(folder)
    found, least, _ = search(dims, args, planned_run(args, config))
    planned = found or least
    assert planned is not None
    peaks = ", ".join(f"{total_bytes(parts) / GIB:.0f}" for parts in (planned.rollout, planned.training))
    said = f"`{' '.join(command(planned, args))}`" if found else "does not fit; the smallest need is on the right"
    asked = f"{row.model} (`{row.arguments}`)"
    return f"| {row.machine} | {asked} | {said} | {peaks} | {total_bytes(planned.host) / GIB:.0f} |"


def table() -> str:
    return "\n".join([HEAD, "|---|---|---|---|---|", *map(line, ROWS)])


if __name__ == "__main__":
    Section("plan", "assets/docs/scaling.md", "local_scripts/dev/readme/plan_table.py", table).run(__doc__)
