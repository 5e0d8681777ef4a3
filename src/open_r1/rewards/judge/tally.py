"""What the judge did and cost in this process, as counts and as metrics. (torch-free)"""

import threading
from collections import Counter

from open_r1.endpoint.client import EndpointAnswer

LOST = ("asked", "failures", "too_long", "addressed")
SPENT = ("calls", "tokens_in", "tokens_out", "seconds", "cache_hits")
UNUSUAL = ("malformed", "swayed")
MILLION = 1e6
MOST_COMPARED = 262_144  # keys that are remembered


class Tally:
    """Counts since the start, from many threads.

    - `asked`: answers that a verdict was asked for; `failures`: those without one; `too_long`, `addressed`: not paid
      for their length, or for addressing the judge.
    - `malformed`: replies that were no verdict (of a group they are asked for again); `swayed`: calls about a group in
      which the judge did as an answer told it, after which each of its answers was asked about alone.
    - `pairs`: of answers that were ranked in two orders; `alike`: those that both ranked alike.
    - `calls`, `tokens_in`, `tokens_out`, `seconds` (of waiting, calls at the same time added), `cache_hits`.
    - `compared`: verdicts beside which a verifiable method has its own; `agreed`: those that say the same.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._compared: set[str] = set()
        self._lock = threading.Lock()

    def add(self, name: str, number: float = 1) -> None:
        """Adds to a count."""
        with self._lock:
            self._counts[name] += number

    def spent(self, answer: EndpointAnswer, seconds: float) -> None:
        """Adds one call."""
        with self._lock:
            self._counts.update(calls=1, tokens_in=answer.tokens_in, tokens_out=answer.tokens_out, seconds=seconds)

    def is_new(self, key: str) -> bool:
        """Whether the verdict of this key is not compared yet; it then counts as compared."""
        with self._lock:
            known = key in self._compared
            if len(self._compared) >= MOST_COMPARED:
                self._compared.clear()
            self._compared.add(key)
            return not known

    def counts(self) -> Counter[str]:
        """The counts so far, which may be added to those of other processes."""
        with self._lock:
            return self._counts.copy()

    def clear(self) -> None:
        """Begins again."""
        with self._lock:
            self._counts.clear()
            self._compared.clear()


TALLY = Tally()


def lost_verdicts(counts: Counter[str]) -> dict[str, int]:
    """The counts of `LOST` alone."""
    return {name: int(counts[name]) for name in LOST}


def judge_costs(counts: Counter[str], price_in: float = 0.0, price_out: float = 0.0) -> dict[str, float]:
    """What a judge cost by its counts, as `judge/...`; `judge/agreement` and `judge/order_agreement` in [0, 1]; {}
    where no verdict was needed. The prices are of a million tokens.

    >>> judge_costs(Counter(calls=2, tokens_in=100, compared=4, agreed=3), price_in=5)["judge/cost"]
    0.0005
    """
    if not counts["calls"] and not counts["cache_hits"]:
        return {}
    found = {f"judge/{name}": round(float(counts[name]), 3) for name in SPENT}
    if price_in or price_out:
        money = (counts["tokens_in"] * price_in + counts["tokens_out"] * price_out) / MILLION
        found["judge/cost"] = round(money, 6)
    found |= {f"judge/{name}": float(counts[name]) for name in UNUSUAL if counts[name]}
    if counts["pairs"]:
        found["judge/order_agreement"] = counts["alike"] / counts["pairs"]
    if counts["compared"]:
        found["judge/compared"] = float(counts["compared"])
        found["judge/agreement"] = counts["agreed"] / counts["compared"]
    return found
