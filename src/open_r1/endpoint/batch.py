"""Rows -> what an endpoint made of them: asked in parallel, kept or rejected with a reason, written in their order.

The answers live in a journal, so a run that was killed starts again at its first row and is back within seconds; its
files come out as if it had never stopped. (torch-free)
"""

import json
import os
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from open_r1.data.jsonl_io import atomic_write
from open_r1.endpoint.answer_cache import AnswerCache, journal_key
from open_r1.endpoint.client import Endpoint, EndpointAnswer, EndpointError, RequestFailed

UNANSWERED = "unanswered"
GIVE_UP_AFTER = 20  # questions in a row without an answer: the endpoint is down
_T = TypeVar("T")


@dataclass(frozen=True)
class Kept:
    """A row that came out well: its line."""

    line: dict[str, Any]


@dataclass(frozen=True)
class Rejected:
    """A row that did not: a short reason that can be counted, details, and the last reply."""

    where: str
    reason: str
    details: str = ""
    reply: str = ""


@dataclass(frozen=True)
class BatchAsker:
    """Asks an endpoint through a journal; `options` go with every request."""

    endpoint: Endpoint
    journal: AnswerCache
    options: dict[str, Any]

    def ask(
        self, row: Any, messages: list[dict[str, Any]], images: Callable[[], Sequence[Any]] = tuple
    ) -> EndpointAnswer:
        """The answer to `messages` about `row` (JSON); `images` gives the pictures, only where it is not kept yet."""
        key = journal_key(row, messages, self.endpoint.model)
        kept = self.journal.once(key, lambda: asdict(self.endpoint.chat(messages, images(), **self.options)))
        return EndpointAnswer(**kept)


def harvest(
    items: Sequence[_T], work: Callable[[_T], Kept | Rejected], where: Callable[[_T], str], workers: int, title: str
) -> list[Kept | Rejected]:
    """`work` of every item, in order, `workers` at a time, with a progress bar on stderr.

    An item whose work raises RequestFailed is rejected as "unanswered". Raises EndpointError after GIVE_UP_AFTER of
    them in a row, and whatever else `work` raises; answers under way are waited for, so that none is lost.
    """
    results: list[Kept | Rejected] = []
    failed_in_a_row = 0
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(_attempt, work, item, where(item)) for item in items]
        try:
            for future in track(futures, title, console=Console(stderr=True)):
                results.append(future.result())
                failed_in_a_row = failed_in_a_row + 1 if _is_unanswered(results[-1]) else 0
                if failed_in_a_row == GIVE_UP_AFTER:
                    raise EndpointError(f"{GIVE_UP_AFTER} questions in a row got no answer; {results[-1].details}")
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return results


def add_flags(parser: ArgumentParser) -> None:
    """The flags of a script that asks an endpoint about its rows; `run_harvest` reads them."""
    parser.add_argument("--out", type=Path, required=True, help="JSONL of what is kept")
    parser.add_argument("--rejected", type=Path, help="default: OUT.rejected.jsonl")
    parser.add_argument("--journal", type=Path, help="every answer so far; default: OUT.journal.jsonl")
    parser.add_argument("--model", required=True, help="model behind $OPENAI_BASE_URL")
    parser.add_argument("--limit", type=int, help="only the first so many rows, or scenes")
    parser.add_argument("--workers", type=int, default=8, help="requests under way at once")
    parser.add_argument("--max_tokens", type=int, help="of a reply; default: the endpoint's")
    parser.add_argument("--temperature", type=float, help="default: the endpoint's")
    parser.add_argument("--timeout", type=float, default=600, help="seconds of one attempt")


def run_harvest(
    items: Sequence[_T], work: Callable[[_T, BatchAsker], Kept | Rejected], args: Namespace
) -> tuple[int, str]:
    """`work(item, asker)` of every item, which has its place as `where`; the files that `add_flags` names.

    Returns the exit status (1 where a question stayed unanswered) and the counts in one line.
    """
    endpoint = Endpoint(args.model, timeout=args.timeout, concurrency=args.workers)
    with closing(AnswerCache(args.journal or args.out.with_suffix(".journal.jsonl"))) as journal:
        asker = BatchAsker(endpoint, journal, {"max_tokens": args.max_tokens, "temperature": args.temperature})
        results = harvest(items, lambda item: work(item, asker), lambda item: item.where, args.workers, args.model)
    write_results(results, args.out, args.rejected or args.out.with_suffix(".rejected.jsonl"))
    return exit_status(results), batch_summary(results, journal)


def _attempt(work: Callable[[_T], Kept | Rejected], item: _T, where: str) -> Kept | Rejected:
    try:
        return work(item)
    except RequestFailed as error:
        return Rejected(where, UNANSWERED, str(error))


def _is_unanswered(result: Kept | Rejected) -> bool:
    return isinstance(result, Rejected) and result.reason == UNANSWERED


def write_results(results: Sequence[Kept | Rejected], out: Path, rejected: Path) -> None:
    """Lines of the kept rows to `out`, the others with their reasons to `rejected`; each appears whole."""
    write_lines(out, [result.line for result in results if isinstance(result, Kept)])
    write_lines(rejected, [asdict(result) for result in results if isinstance(result, Rejected)])


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A file of JSON lines, which appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, owner=str(os.getpid())) as file:
        file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def batch_summary(results: Sequence[Kept | Rejected], journal: AnswerCache) -> str:
    """The counts in one line."""
    reasons = Counter(result.reason for result in results if isinstance(result, Rejected))
    lost = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    kept = len(results) - reasons.total()
    asked = f"{journal.asked} answers asked for, {journal.found} taken from {journal.path}"
    return f"{len(results)} rows: kept {kept}, rejected {reasons.total()}{f' ({lost})' if lost else ''}; {asked}"


def exit_status(results: Sequence[Kept | Rejected]) -> int:
    """0, or 1 where a row stayed unanswered, with a word on stderr."""
    unanswered = any(map(_is_unanswered, results))
    if unanswered:
        Console(stderr=True).print("the same command asks for the unanswered rows again")
    return int(unanswered)
