"""What each of two ranks under ZeRO-3 does for `test_hybrid_on_ranks.py`: `python hybrid_on_ranks.py MODEL OUT DATA`.

The model, which has layers with a state, takes one step with packed groups and one, from the same weights and
completions, with padded rows.
"""

import json
import sys
from pathlib import Path

from helpers.ranks import generate_by_key, save_weights, trainer_for
from open_r1.trainer.checks.packing_check import check_packing

FLAGS = ("--max_steps", "1", "--num_iterations", "1", "--beta", "0")


def main(model: str, out: Path, data: Path) -> None:
    results = {}
    for name, flag in (("packed", "true"), ("rows", "false")):
        trainer = trainer_for("zero3", out / name, data, *FLAGS, "--shared_prefix", flag, model=model)
        trainer._generate_single_turn = generate_by_key(trainer)
        trainer.train()
        save_weights(trainer, out / f"{name}.pt")
        results[name] = trainer.optimizations["shared_prefix"]
        if name == "packed":
            trainer.packing_checked = False
            results["change"] = check_packing(trainer, trainer.new_batch([{"split": "train", "row": 0}]).prompts)
    if trainer.accelerator.is_main_process:
        (out / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
