"""Shows what cheap strategies earn: the table, and in words what a finding means and what to do. (torch-free)"""

from collections.abc import Collection, Iterable, Sequence

from rich.markup import escape
from rich.table import Column, Table

from open_r1.errors import shorten
from open_r1.rewards.attacks import RIGHT_ANSWER, AttackedReward, Earning, FalsePay
from open_r1.rewards.strategies import STRATEGIES

SHOWN_CHARS = 100  # of a completion in a sentence
SHOWN_EXAMPLES = 3
ATTACK_REMEDY = (
    "Training finds such an answer soon. Correct the reward, choose another --reward_method, or balance the rows; "
    "--allow_attack NAME of open_r1.check accepts a strategy, or a reward that is meant to pay for any answer"
)
GOLD_TITLE = "the right answer"


def attack_table(earnings: Sequence[Earning], findings: Collection[Earning]) -> Table:
    """Strategies down, rewards across: the mean, and its share of what the gold earns; findings are red."""
    rewards = list(dict.fromkeys(earning.reward for earning in earnings))
    cells = {(earning.strategy, earning.reward): earning for earning in earnings}
    columns = [Column(escape(reward), justify="right", no_wrap=True) for reward in rewards]
    title = f"what answers earn that need no picture, on {_rows(earnings)} (mean, share of the right answer's)"
    table = Table(Column("strategy", no_wrap=True), "it answers with", *columns, title=title)
    for name in (RIGHT_ANSWER, *STRATEGIES):
        found = [cells.get((name, reward)) for reward in rewards]
        if any(found):
            what = GOLD_TITLE if name == RIGHT_ANSWER else STRATEGIES[name].title
            table.add_row(name, escape(what), *(_cell(earning, earning in findings) for earning in found))
    return table


def _rows(earnings: Sequence[Earning]) -> str:
    """How many rows the rewards graded; fewer where one is slow, or says nothing about some."""
    counts = {earning.rows for earning in earnings if earning.strategy == RIGHT_ANSWER}
    return " to ".join(map(str, sorted({min(counts, default=0), max(counts, default=0)}))) + " rows"


def _cell(earning: Earning | None, is_finding: bool) -> str:
    if earning is None:
        return ""
    share = "    –" if earning.share is None else f"{earning.share:5.0%}"
    text = f"{earning.mean:6.2f} {share}"
    return f"[bold red]{text}[/]" if is_finding else text


def attack_findings(
    earnings: Iterable[Earning], targets: Iterable[AttackedReward], limit: float, allowed: Collection[str]
) -> list[Earning]:
    """The earnings above `limit` and above what a guess may earn, of rewards that pay for right answers.

    `allowed` holds strategies and rewards that the user accepts.
    """
    judged = {target.title for target in targets if target.is_judged and target.reward.__name__ not in allowed}
    return [
        earning
        for earning in earnings
        if earning.reward in judged
        and earning.strategy not in (RIGHT_ANSWER, *allowed)
        and earning.share is not None
        and min(earning.share, 1.0) > max(limit, earning.allowed) + 1e-9
    ]


def finding_lines(findings: Sequence[Earning], limit: float) -> list[str]:
    """Findings in sentences, by reward, with the strategies that earn most, and what to do."""
    lines = []
    for reward in dict.fromkeys(finding.reward for finding in findings):
        found = sorted((each for each in findings if each.reward == reward), key=lambda each: -(each.share or 0.0))
        names = ", ".join(each.strategy for each in found)
        lines.append(f"{reward} pays over {limit:g} of what the right answer earns for: {names}")
        lines += [
            f"  {each.strategy}: {each.mean:.2f} on {each.rows} rows, {each.share:.0%} of the right answer's; "
            f"for example {shorten(each.completion, SHOWN_CHARS)} at {each.where}"
            for each in found[:SHOWN_EXAMPLES]
        ]
    return [*lines, ATTACK_REMEDY] if findings else []


def false_pay_text(result: FalsePay) -> str:
    """The rate at which another row's gold is paid, in a sentence, with examples in further lines."""
    paid, shown = len(result.paid), result.paid[:SHOWN_EXAMPLES]
    rate = f"{paid:,} of {result.pairs:,} pairs ({paid / max(result.pairs, 1):.2%})"
    examples = (
        f"\n  {giver}'s gold {shorten(answer, 40)} is paid for {place}'s {shorten(gold, 40)}"
        for place, gold, giver, answer in shown
    )
    return f"another row's gold: {result.reward} pays it in {rate}{''.join(examples)}"
