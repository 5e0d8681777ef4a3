"""Walk one group of a task through GRPO, from its rollout to two updates of the model, and print every number.

    python local_scripts/dev/walkthrough/walk_through_grpo.py --model assets/tiny-vlm-shapes --task area \\
        --options "--size 112 --dark"
    python local_scripts/dev/walkthrough/walk_through_grpo.py --model assets/tiny-vlm --task digits --json walk.json

The numbers come from a subclass of the trainer, which records two updates on one prompt. `--page FILE`
writes each printed section between the lines `<!-- walk: NAME -->` and `<!-- walk: end -->` of a page, as in
`assets/docs/grpo.md`, which says what they mean. `--json FILE` keeps them unrounded, for checking by hand.
"""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback
from walk_through_sections import sections, totals

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.data.jsonl_dataset import load_records
from open_r1.errors import UsageError
from open_r1.models.loading import load_model, load_processor
from open_r1.rewards.trl_adapter import BatchReward
from open_r1.rollout.annotation import annotator, box_frame
from open_r1.tasks.registry import TASKS
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer
from open_r1.trainer.outputs.rollout_log import newest_completions

UPDATES = 2  # on the same completions; in the first update every ratio is 1


class RecordingTrainer(VLMGRPOTrainer):
    """The trainer, which records the sampled batch and each update; tensors are (G, C), padded on the right."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.sampled: dict[str, Any] = {}
        self.updates: list[dict[str, Any]] = []

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        self.sampled = newest_completions(self._logs, self.accelerator, len(inputs)) | {"batch": output}
        return output

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor | None, ...]:
        logps, *rest = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self.newest_logps = None if logps is None else logps.detach()
        return logps, *rest

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        now = {"loss": loss.item(), "logps": self.newest_logps, "ref_logps": inputs["ref_per_token_logps"]}
        self.updates.append(now | {"old_logps": inputs["old_per_token_logps"]})
        return loss

    def logps_now(self) -> torch.Tensor:
        """Log-probs of the sampled tokens under the current model."""
        batch = self.sampled["batch"]
        with torch.no_grad():
            lengths = batch["completion_mask"].sum(dim=1).tolist()
            return self.score_completions(self.model, batch["prompts"], batch["completion_ids"], lengths).logps


def make_row(args: argparse.Namespace) -> Path:
    """Write a dataset of one row, row `args.row` of the task's training split; returns its file."""
    data, script = args.out / "data", Path(__file__).resolve().parents[2] / "make_dataset.py"
    dataset_flags = ["--out", data, "--rows", args.row + 1, "--heldout_rows", 1, "--seed", args.seed]
    command = [sys.executable, script, args.task, *dataset_flags, *shlex.split(args.options)]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    one = data / "one.jsonl"
    one.write_text((data / "train.jsonl").read_text(encoding="utf-8").splitlines()[args.row] + "\n", encoding="utf-8")
    return one


def make_trainer(args: argparse.Namespace, data: Path) -> RecordingTrainer:
    """The trainer of one prompt and its completions, made as in `open_r1.trainer.run`."""
    task = TASKS[args.task]
    values = {"model_name_or_path": args.model, "data_file_paths": data, "image_folders": data.parent}
    values |= {"output_dir": args.out, "seed": args.seed, "task_type": args.task, "beta": args.beta}
    values |= {"num_generations": args.generations, "per_device_train_batch_size": args.generations}
    values |= {"max_completion_length": args.max_completion_length, "learning_rate": args.learning_rate}
    values |= {"num_iterations": UPDATES, "max_steps": UPDATES, "lr_scheduler_type": "constant", "bf16": False}
    values |= {"save_strategy": "no", "disable_tqdm": True, "gradient_checkpointing": False, "rollout_groups": 0}
    flags, training, model_args = parse(JsonlArguments, [f"--{name}={value}" for name, value in values.items()])
    training.reward_weights = list(task.weights)
    processor, model = load_processor(model_args, flags), load_model(model_args, training)
    return RecordingTrainer(
        model=model,
        processor=processor,
        rewards=[BatchReward(name) for name in task.rewards],
        records=load_records(flags.data_file_paths, flags.image_folders, reward_methods=task.method),
        eval_records=None,
        instruction=task.prompts[flags.prompt_mode],
        annotate=annotator(box_frame(model.config.model_type, processor), flags.prompt_mode),
        args=training,
        task=flags,
    )


def walk(trainer: RecordingTrainer) -> dict[str, Any]:
    """Run two updates on one group; returns plain numbers: a row for each completion, without padding."""
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    batch, tokenizer = trainer.sampled["batch"], trainer.processing_class.tokenizer
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    ids = [row[:n] for row, n in zip(batch["completion_ids"].tolist(), lengths, strict=True)]

    def rows(values_GC: torch.Tensor) -> list[list[float]]:
        return [row[:n] for row, n in zip(values_GC.tolist(), lengths, strict=True)]

    logged = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    updates = [
        {"loss": update["loss"], "grad_norm": float(entry["grad_norm"])}
        | {name: rows(update[name]) for name in ("logps", "old_logps", "ref_logps")}
        for update, entry in zip(trainer.updates, logged, strict=True)
    ]
    record, args = trainer.records["train"][0], trainer.args
    return {
        "prompt": trainer.instruction.replace("{question}", record.turns[-1].text),
        "prompt_tokens": len(batch["prompts"][0].ids),
        "solution": record.solution,
        "image": str(Path(record.folder) / record.images[0]),
        "completions": trainer.sampled["completions"],
        "tokens": [[tokenizer.decode([token]) for token in row] for row in ids],
        "rewards": trainer.sampled["rewards"],
        "weights": args.reward_weights,
        "advantages": trainer.sampled["advantages"],
        "updates": updates,
        "after": rows(trainer.logps_now()),
        "beta": args.beta,
        "epsilon": args.epsilon,
        "loss_type": args.loss_type,
        "learning_rate": args.learning_rate,
        "max_grad_norm": args.max_grad_norm,
    }


def fill_page(page: Path, parts: dict[str, str]) -> None:
    """Write each section between its markers. Raises UsageError where the page has no markers for one."""
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        pattern = rf"(<!-- walk: {name} -->\n).*?(<!-- walk: end -->)"
        text, places = re.subn(pattern, lambda m, part=part: f"{m[1]}{part}\n{m[2]}", text, flags=re.DOTALL)
        if places != 1:
            raise UsageError(f"{page}: got {places} places <!-- walk: {name} -->, expected one")
    page.write_text(text, encoding="utf-8")


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or name of a model")
    parser.add_argument("--task", default="area", choices=sorted(name for name, t in TASKS.items() if t.generator))
    parser.add_argument("--options", default="", help='options of the task\'s generator, such as "--size 112 --dark"')
    parser.add_argument("--row", type=int, default=0, help="which row of the training split is asked")
    parser.add_argument("--seed", type=int, default=0, help="of the row and of what is sampled")
    parser.add_argument("--generations", type=int, default=8, help="completions in the group")
    parser.add_argument("--max_completion_length", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=1e-5)
    parser.add_argument("--beta", type=float, default=0.04, help="weight of KL; above 0, so that there is one")
    parser.add_argument("--out", type=Path, default=Path("output/walk_through"))
    parser.add_argument("--json", type=Path, help="file for all numbers, unrounded")
    parser.add_argument("--page", type=Path, help="page whose marked places are filled")
    parser.add_argument("--picture", type=Path, help="file for a copy of the picture")
    return parser


def main() -> None:
    args = options().parse_args()
    numbers = walk(make_trainer(args, make_row(args)))
    if len(set(totals(numbers))) == 1:
        sys.exit(
            f"--row: got {args.row}, whose {args.generations} completions all earn {totals(numbers)[0]:g}, expected a "
            "row whose rewards differ: without a difference every advantage is 0; try another --row or --seed"
        )
    parts = sections(numbers)
    print("\n\n".join(f"## {name}\n\n{part}" for name, part in parts.items()))
    if args.json:
        args.json.write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    if args.page:
        fill_page(args.page, parts)
    if args.picture:
        shutil.copyfile(numbers["image"], args.picture)


if __name__ == "__main__":
    main()
