"""What cheap strategies and other rows' golds earn by a user's rewards on a user's rows. (torch-free)"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from open_r1.data.chat import messages, plain_messages
from open_r1.data.images import load_images
from open_r1.data.record import Record
from open_r1.rewards.base import is_direct
from open_r1.rewards.custom import TRAINER_ARGUMENTS, parameter_names, wants_pictures
from open_r1.rewards.gold import gold_answer, gold_completion, in_format
from open_r1.rewards.gold_table import GoldTable, gold_key, gold_table
from open_r1.rewards.registry import ABOUT_FORM, is_remote
from open_r1.rewards.strategies import STRATEGIES, TO_ANY_JUDGE
from open_r1.rewards.trl_adapter import BatchReward
from open_r1.rewards.turns import CALLED_ZOOM

RIGHT_ANSWER = "gold"
ANSWERED_ROWS_AT_ONCE = 8  # at most; each has some thirty completions
PAIRS_AT_ONCE = 128
MAX_PAIRS = 4_096
STRATEGY_SECONDS, PAIR_SECONDS = 5.0, 2.0  # of a reward; what is graded until then is shown
MAX_JUDGED_ROWS = 4  # of a remote judge: each strategy of each row is a request
GradedText = tuple[str, Record]  # a completion and its row
ProgressBar = Callable[[Iterable, str, int], Iterable]


@dataclass(frozen=True)
class AttackedReward:
    """One reward on the rows of one accuracy method; `title` names both where the data has several methods.

    `stand_in`: the rows' judge is not asked but a stand-in that obeys, so only what speaks to a judge is tried.
    """

    reward: BatchReward
    title: str
    records: tuple[Record, ...]
    golds: GoldTable
    stand_in: bool = False

    @property
    def is_judged(self) -> bool:
        """Whether it should pay for right answers only, and not for their form."""
        return self.reward.name not in ABOUT_FORM


@dataclass(frozen=True)
class Earning:
    """What a strategy earns from a reward: the mean, and the `share` of the gold's mean on the same rows.

    `allowed` is the share that a guess may earn: the frequency of the most frequent gold of these rows, or 0 for a
    strategy that does not guess. `share` is None where the gold itself earns nothing. `where` and `completion` are of
    the row where it earned the most.
    """

    strategy: str
    reward: str
    rows: int
    mean: float
    share: float | None
    allowed: float
    where: str
    completion: str


@dataclass(frozen=True)
class FalsePay:
    """The `paid` ones of `pairs` of rows with different golds: one row's gold earns over half of what the other's
    earns there. Each is (place, gold) of the row that is answered, then of the row whose gold answers it."""

    reward: str
    pairs: int
    paid: tuple[tuple[str, str, str, str], ...]


def attacked(rewards: Sequence[BatchReward], records: Sequence[Record], ask_judge: bool) -> list[AttackedReward]:
    """Every reward with the rows of every accuracy method, in a random but fixed order; rows of a judge that is not to
    be asked are a stand-in's."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for index in np.random.default_rng(0).permutation(len(records)):
        groups[records[index].accu_reward_method or "default"].append(records[index])
    result = []
    for reward in rewards:
        for method, rows in groups.items():
            remote = is_remote(reward.name, rows[0])
            kept = rows[:MAX_JUDGED_ROWS] if remote else rows
            title = f"{reward.__name__} ({method})" if len(groups) > 1 else reward.__name__
            stand_in = remote and not ask_judge
            title += ", by a stand-in" if stand_in else ""
            result.append(AttackedReward(reward, title, tuple(kept), gold_table(rows), stand_in))
    return result


def only_in_training(reward: BatchReward) -> str | None:
    """The argument of a user's reward that exists in training only; None where it can be graded here."""
    needs = parameter_names(reward.fn) & {*TRAINER_ARGUMENTS, "completion_ids"}
    return min(needs) if needs and not reward.is_builtin else None


def strategy_completions(record: Record, golds: GoldTable, names: Iterable[str] = STRATEGIES) -> dict[str, str]:
    """Strategy -> its completion, of all of `names` that apply to a row, and the gold's own."""
    found = {name: STRATEGIES[name].complete(record, golds) for name in names}
    return {RIGHT_ANSWER: right_completion(record), **{name: text for name, text in found.items() if text is not None}}


def right_completion(record: Record) -> str:
    """A perfect completion in the format of the record's prompt mode."""
    completion = gold_completion(record)
    return completion[completion.rfind("<answer>") :] if is_direct(record) else completion


def try_strategies(target: AttackedReward, progress: ProgressBar) -> list[Earning]:
    """The Earning of each strategy; raises RewardError as the reward does."""
    values: dict[str, list[tuple[float, float | None, Record, str]]] = defaultdict(list)
    until = time.monotonic() + STRATEGY_SECONDS
    names = TO_ANY_JUDGE if target.stand_in else STRATEGIES
    parts = growing(target.records, ANSWERED_ROWS_AT_ONCE)
    for part in progress(parts, f"trying cheap strategies on {target.title}", len(parts)):
        completions = [(row, strategy_completions(row, target.golds, names)) for row in part]
        answers = [(name, text, row) for row, texts in completions for name, text in texts.items()]
        grades = graded(target.reward, [(text, row) for _, text, row in answers])
        best = {id(row): value for (name, _, row), value in zip(answers, grades, strict=True) if name == RIGHT_ANSWER}
        for (name, text, row), value in zip(answers, grades, strict=True):
            if value is not None:
                values[name].append((value, best[id(row)], row, text))
        if time.monotonic() > until:
            break
    return [_earning(name, target.title, values[name]) for name in (RIGHT_ANSWER, *STRATEGIES) if values[name]]


def _earning(name: str, reward: str, values: Sequence[tuple[float, float | None, Record, str]]) -> Earning:
    gold = [best for _, best, _, _ in values if best is not None]
    mean = sum(value for value, _, _, _ in values) / len(values)
    top = sum(gold) / len(gold) if gold else 0.0
    keys = Counter(gold_key(row) for _, _, row, _ in values)
    guesses = name in STRATEGIES and STRATEGIES[name].guesses
    allowed = max(keys.values()) / len(values) if guesses else 0.0
    _, _, row, text = max(values, key=lambda value: value[0])
    share = max(mean / top, 0.0) if top > 0 else None
    return Earning(name, reward, len(values), mean, share, allowed, row.where, text)


def other_golds(
    target: AttackedReward, progress: ProgressBar, most: int = MAX_PAIRS, seconds: float | None = None
) -> FalsePay:
    """How often another row's gold is paid, over all pairs of rows with different golds, or `most` of them."""
    rows = list({gold_key(row): row for row in reversed(target.records)}.values())
    best: dict[int, float | None] = {}
    done, paid = 0, []
    until = time.monotonic() + (PAIR_SECONDS if seconds is None else seconds)
    said = [gold_answer(row) for row in rows]
    pairs = [(i, j) for i, j in gold_pairs(len(rows), most) if said[i] != said[j]]
    parts = growing(pairs, PAIRS_AT_ONCE)
    for part in progress(parts, f"pairing golds on {target.title}", len(parts)):
        new = sorted({i for i, _ in part} - best.keys())
        answers = [(right_completion(rows[i]), rows[i]) for i in new]
        answers += [(in_format(said[j], rows[i]), rows[i]) for i, j in part]
        grades = graded(target.reward, answers)
        best |= zip(new, grades, strict=False)
        for (i, j), value in zip(part, grades[len(new) :], strict=True):
            if value is not None and value > (best[i] or math.inf) / 2:
                paid.append((rows[i].where, gold_answer(rows[i]), rows[j].where, gold_answer(rows[j])))
        done += len(part)
        if time.monotonic() > until:
            break
    return FalsePay(target.title, done, tuple(paid))


def gold_pairs(count: int, most: int) -> list[tuple[int, int]]:
    """Ordered pairs of different numbers below `count`: all, or `most` of them drawn evenly, in a fixed order.

    >>> sorted(gold_pairs(2, 9)), len(gold_pairs(100, 50))
    ([(0, 1), (1, 0)], 50)
    """
    total = count * (count - 1)
    drawn = np.random.default_rng(0).choice(total, min(total, most), replace=False) if total > 0 else []
    places = [divmod(int(number), count - 1) for number in drawn]
    return [(i, j + (j >= i)) for i, j in places]


def graded(reward: BatchReward, answers: Sequence[GradedText]) -> list[float | None]:
    """The reward of each answer, as in training: with prompts, and where the function asks for them with pictures, and
    a tool's answer before it."""
    records = [record for _, record in answers]
    images = load_images(records) if wants_pictures(reward.fn) else None
    prompts = [plain_messages(messages(record)) for record in records] if not reward.is_builtin else records
    before = CALLED_ZOOM if "trajectory" in parameter_names(reward.fn) else ()
    texts = [[*before, {"role": "assistant", "content": text}] for text, _ in answers]
    return reward(prompts=prompts, completions=texts, record=records, images=images)


def growing(items: Sequence, most: int) -> list[Sequence]:
    """The items in parts of 1, 2, 4, ... up to `most`, so that a slow reward ends soon after its time.

    >>> growing("abcdefghij", 4)
    ['a', 'bc', 'defg', 'hij']
    """
    parts, start, size = [], 0, 1
    while start < len(items):
        parts.append(items[start : start + size])
        start, size = start + size, min(2 * size, most)
    return parts
