"""The rewards of training for completions that were made elsewhere, by the calls that training makes."""

from collections.abc import Sequence

from open_r1.config.task_arguments import TaskArguments
from open_r1.config.validation import rewards_of
from open_r1.data.images import load_images
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.rewards.custom import TRAINER_ARGUMENTS, load_reward, parameter_names, user_file, wants_pictures
from open_r1.rewards.trl_adapter import BatchReward
from open_r1.rewards.turns import CompletionMessages, messages_of
from open_r1.rollout.prompts import Example

RewardValues = dict[str, float | None]  # name of a reward -> its value; None where it does not apply


def training_rewards(
    rewards: Sequence[BatchReward],
    examples: Sequence[Example],
    completions: Sequence[CompletionMessages],
    ids: Sequence[Sequence[int]],
) -> list[RewardValues]:
    """The values of each of N completions; `completions` and token `ids` are theirs, `examples` their rows, one each.

    Raises RewardError as `reward_columns`.
    """
    records, prompts = [example.record for example in examples], [example.conversation for example in examples]
    columns = reward_columns(rewards, records, prompts, completions, ids)
    values = {reward.__name__: column for reward, column in zip(rewards, columns, strict=True)}
    return [{name: column[number] for name, column in values.items()} for number in range(len(completions))]


def reward_columns(
    rewards: Sequence[BatchReward],
    records: Sequence[Record],
    prompts: Sequence[list[dict[str, str]]],
    completions: Sequence[CompletionMessages],
    ids: Sequence[Sequence[int]],
) -> list[list[float | None]]:
    """Of each reward the values of N completions; `records` and `prompts`, conversations as text, are of their rows.

    Pictures are opened where a reward asks for them. Raises RewardError as `BatchReward`.
    """
    pictures = load_images(records) if any(wants_pictures(reward.fn) for reward in rewards) else None
    columns = {
        "prompts": prompts,
        "completions": [messages_of(completion) for completion in completions],
        "completion_ids": ids,
        "record": records,
        "images": pictures,
    }
    return [reward(**columns) for reward in rewards]


def refuse_trainers_rewards(task: TaskArguments, what: str) -> None:
    """Raises UsageError for a user's reward that asks for what only a trainer has, which `what` ("a survey") lacks."""
    for name in rewards_of(task):
        if user_file(name)[0] and (needs := parameter_names(load_reward(name)) & TRAINER_ARGUMENTS):
            raise UsageError(
                f"--reward_funcs: got {name}, which asks for {min(needs)}, but {what} has no trainer; leave that "
                "reward out"
            )
