"""Trains on rows with and without videos, on each rank of `tests/trainer/test_videos_on_ranks.py`.

    torchrun --nproc_per_node 2 tests/helpers/videos_on_ranks.py ENGINE OUT DATA MODEL

As `tests/helpers/ranks.py`, two steps; what a rank holds of pictures and videos is the order of the rows. Then greedy
completions of four rows.
"""

import json
import sys
from pathlib import Path

from helpers.ranks import generate_by_key, greedy_completions, place_fsdp, save_weights, trainer_for
from open_r1.config import hardware
from open_r1.trainer.distributed import weights_are_sharded


def main(engine: str, out: Path, data: Path, model: str) -> None:
    hardware._refuse_fsdp_on_cpu = place_fsdp
    flags = ("--max_steps", "2", "--num_iterations", "1", "--vision_probe", "0")
    trainer = trainer_for(engine, out / "run", data, *flags, model=model)
    trainer._generate_single_turn = generate_by_key(trainer)
    trainer.train()
    assert trainer.accelerator.num_processes == (1 if engine == "one" else 2)
    assert weights_are_sharded(trainer) == (engine in ("zero3", "fsdp2"))
    save_weights(trainer, out / "weights.pt")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    greedy = greedy_completions(trainer, 8)
    if trainer.accelerator.is_main_process:
        (out / "results.json").write_text(json.dumps({"losses": losses, "greedy": greedy}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
