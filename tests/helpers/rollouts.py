"""Rollouts as a run writes them, without a run."""

from PIL import Image

from open_r1.data.record import Record
from open_r1.rollout.prompts import Example
from open_r1.trainer.outputs.rollout_log import RolloutLog

HOSTILE = '<script>alert("x")</script> \ud800 \u2028 {{ 7 * 7 }}'


def store(folder, keep: int, steps: range, group: int = 2, method: str = "rec", graded: bool = True) -> RolloutLog:
    rollouts = RolloutLog(str(folder), 1, rank=0, keep=keep, graded=graded)
    for step in steps:
        picture = Image.new("RGB", (8, 8), (step % 256, step // 256, 0))
        record = Record("r", ("a.png",), "", (), "[0, 0, 4, 8]", {"image_wh": [8, 8]}, "a:1", method)
        example = Example(record, [{"role": "user", "content": "where?"}], [picture], None)
        scored = {
            "completions": ["<answer>[0, 0, 8, 8]</answer>", HOSTILE],
            "rewards": {"accuracy": [0.5, 0.0]},
            "advantages": [1.0, -1.0],
            **{"parsed": [(0.0, 0.0, 8.0, 8.0), None], "tokens": [9, 8], "truncated": [False, True]},
        }
        rollouts.add(step, [example] * group, scored, group)
    return rollouts
