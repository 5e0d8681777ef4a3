"""The rewards of training for an evaluation's completions, by the calls that training makes."""

from collections.abc import Sequence

from open_r1.data.images import load_images
from open_r1.rewards.custom import wants_pictures
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

    Pictures are opened where a reward asks for them. Raises RewardError as `BatchReward`.
    """
    records = [example.record for example in examples]
    pictures = load_images(records) if any(wants_pictures(reward.fn) for reward in rewards) else None
    columns = {
        "prompts": [example.conversation for example in examples],
        "completions": [messages_of(completion) for completion in completions],
        "completion_ids": ids,
        "record": records,
        "images": pictures,
    }
    values = {reward.__name__: reward(**columns) for reward in rewards}
    return [{name: column[number] for name, column in values.items()} for number in range(len(completions))]
