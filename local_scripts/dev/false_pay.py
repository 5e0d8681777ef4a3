"""Print how often a reward pays the gold of one row as the answer to another, over all pairs of each file and method.

    python local_scripts/dev/false_pay.py tests/rewards/corpus/*.jsonl
    python local_scripts/dev/false_pay.py geoqa.jsonl --gold ground_truth --reward_method math --pairs false_pairs.txt

Rows hold a gold (`--gold` names the field), what their method needs (`options`, `image_wh`), and their `method`, or
`--reward_method` names it. Pairs whose golds a person takes for equal are left out (`rewards/gold_table.py`).
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

from rich.progress import track

from open_r1.data.gold_answers import solution_text
from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.report.attack_table import false_pay_text
from open_r1.rewards.attacks import FalsePay, attacked, other_golds
from open_r1.rewards.gold import gold_score
from open_r1.rewards.trl_adapter import BatchReward


def read_golds(path: Path, field: str, method: str | None) -> list[Record]:
    """A record of each row with a gold; further fields become `extra`."""
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        row, where = json.loads(line), f"{path.name}:{number}"
        gold = solution_text(row.pop(field), field, where)
        records.append(Record(where, (), "", (), gold, row, where, method or row.get("method")))
    return records


def is_usable(record: Record) -> bool:
    """Whether the row's gold earns the maximum of its method; the doctor tells why where it does not."""
    try:
        score, best = gold_score(record)
    except (DataError, ValueError):
        return False
    return score >= best - 1e-6


def measured(records: list[Record], most: int) -> list[FalsePay]:
    """The FalsePay of each method of the rows."""
    targets = attacked([BatchReward("accuracy")], records, ask_judge=False)
    return [other_golds(target, track_quietly, most, seconds=float("inf")) for target in targets]


def track_quietly(items: list, title: str, total: int) -> object:
    """The items with a progress bar that goes when it is done."""
    return track(items, title, total, transient=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--gold", default="gold", help="field of the gold")
    parser.add_argument("--reward_method", help="accuracy method of all rows")
    parser.add_argument("--most", type=int, default=10**6, help="pairs of a file and method, drawn beyond that")
    parser.add_argument("--pairs", type=Path, help="append every false pair to this file")
    args = parser.parse_args()
    found: dict[str, list[FalsePay]] = defaultdict(list)
    for path in args.files:
        rows = read_golds(path, args.gold, args.reward_method)
        usable = [row for row in rows if is_usable(row)]
        found[path.name] = measured(usable, args.most)
        print(f"{path.name}: {len(usable)} of {len(rows)} golds earn the maximum")
        for result in found[path.name]:
            print(f"  {false_pay_text(result)}")
    if args.pairs:
        with args.pairs.open("a", encoding="utf-8") as file:
            for name, results in found.items():
                for result in results:
                    file.writelines(f"{name}\t{result.reward}\t" + "\t".join(map(repr, p)) + "\n" for p in result.paid)


if __name__ == "__main__":
    main()
