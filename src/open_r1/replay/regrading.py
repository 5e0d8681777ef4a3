"""Grades the completions of a kept step anew, by the calls that training makes."""

from collections.abc import Sequence

import torch

from open_r1.data.chat import messages, plain_messages
from open_r1.data.record import Record
from open_r1.evaluation.training_rewards import reward_columns
from open_r1.models.loading import load_processor
from open_r1.replay.flags import Arguments
from open_r1.replay.kept import KeptStep, completions_of
from open_r1.rewards.trl_adapter import BatchReward
from open_r1.rollout.annotation import annotator
from open_r1.rollout.turns import with_tool_list
from open_r1.tasks.find import find_task
from open_r1.trainer.run import frame_of_run
from open_r1.trainer.tool_turns import listed_tools


def regraded(
    kept: KeptStep, records: Sequence[Record], rewards: Sequence[BatchReward], arguments: Arguments
) -> torch.Tensor:
    """(completions, functions) what `rewards` give, NaN where one does not apply; `records`: the rows of the groups.

    The completions of a rank and generation are graded together, as in the run. Raises RewardError as training does.
    """
    task, training, model = arguments.task, arguments.training, arguments.model
    processor = load_processor(model, task, training.trust_remote_code)
    annotate = annotator(frame_of_run(processor, task, training, model), task.prompt_mode)
    instruction = find_task(task.task_type, task.prompt_template).prompts[task.prompt_mode]
    toolbox = listed_tools(training, processor)
    found, first = [], 0
    for part in kept.parts:
        own = [annotate(records[first + group]) for group in range(len(part.rows)) for _ in range(part.group)]
        first += len(part.rows)
        prompts = [plain_messages(with_tool_list(messages(record, instruction), toolbox)) for record in own]
        columns = reward_columns(rewards, own, prompts, completions_of(part), part.ids)
        found += [[torch.nan if value is None else value for value in row] for row in zip(*columns, strict=True)]
    return torch.tensor(found, dtype=torch.float32)
