"""Sends rows to an endpoint in parallel and writes their results in order: accepted, or rejected with a reason.

The answers are cached on disk, so that a killed run repeats no request when it is started again, and writes the same
files. (torch-free)
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
from open_r1.endpoint.answer_cache import AnswerCache, answer_key
from open_r1.endpoint.client import Endpoint, EndpointAnswer, EndpointError, RequestFailed

UNANSWERED = "unanswered"
GIVE_UP_AFTER = 20  # unanswered questions in a row: the endpoint is down
_T = TypeVar("T")


@dataclass(frozen=True)
class Accepted:
    """The result of an accepted row: the line to write."""

    line: dict[str, Any]


@dataclass(frozen=True)
class Rejected:
    """The result of a rejected row: its place, a short reason that is counted, details, and the last reply."""

    where: str
    reason: str
    details: str = ""
    reply: str = ""


@dataclass(frozen=True)
class CachedEndpoint:
    """An endpoint behind a cache of its answers; `options` are sent with every request."""

    endpoint: Endpoint
    cache: AnswerCache
    options: dict[str, Any]

    def ask(
        self, row: Any, messages: list[dict[str, Any]], images: Callable[[], Sequence[Any]] = tuple
    ) -> EndpointAnswer:
        """The answer to `messages` about `row` (JSON); `images` is called only for an answer that is not cached."""
        key = answer_key(row, messages, self.endpoint.model)
        fields = self.cache.get_or_ask(key, lambda: asdict(self.endpoint.chat(messages, images(), **self.options)))
        return EndpointAnswer(**fields)


def run_batch(
    items: Sequence[_T],
    work: Callable[[_T], Accepted | Rejected],
    where: Callable[[_T], str],
    workers: int,
    title: str,
) -> list[Accepted | Rejected]:
    """The results of `work` on every item, in order, `workers` at a time, with a progress bar on stderr.

    An item whose work raises RequestFailed is rejected as "unanswered". Raises EndpointError after GIVE_UP_AFTER of
    them in a row, and every other error of `work`; waits for requests under way first, so that no answer is lost.
    """
    results: list[Accepted | Rejected] = []
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
    """The flags of a script that asks an endpoint about its rows; `run_batch_command` reads them."""
    parser.add_argument("--out", type=Path, required=True, help="JSONL of what is kept")
    parser.add_argument("--rejected", type=Path, help="default: OUT.rejected.jsonl")
    parser.add_argument("--journal", type=Path, help="every answer so far; default: OUT.journal.jsonl")
    parser.add_argument("--model", required=True, help="model behind $OPENAI_BASE_URL")
    parser.add_argument("--limit", type=int, help="only the first so many rows, or scenes")
    parser.add_argument("--workers", type=int, default=8, help="requests under way at once")
    parser.add_argument("--max_tokens", type=int, help="of a reply; default: the endpoint's")
    parser.add_argument("--temperature", type=float, help="default: the endpoint's")
    parser.add_argument("--timeout", type=float, default=600, help="seconds of one attempt")


def run_batch_command(
    items: Sequence[_T], work: Callable[[_T, CachedEndpoint], Accepted | Rejected], args: Namespace
) -> tuple[int, str]:
    """Runs `work(item, endpoint)` on every item and writes the files that `add_flags` names; `item.where` is its
    place.

    Returns (exit status, counts in one line); the status is 1 where a question stayed unanswered.
    """
    endpoint = Endpoint(args.model, timeout=args.timeout, concurrency=args.workers)
    with closing(AnswerCache(args.journal or args.out.with_suffix(".journal.jsonl"))) as cache:
        cached = CachedEndpoint(endpoint, cache, {"max_tokens": args.max_tokens, "temperature": args.temperature})
        results = run_batch(items, lambda item: work(item, cached), lambda item: item.where, args.workers, args.model)
    write_results(results, args.out, args.rejected or args.out.with_suffix(".rejected.jsonl"))
    return exit_status(results), batch_summary(results, cache)


def _attempt(work: Callable[[_T], Accepted | Rejected], item: _T, where: str) -> Accepted | Rejected:
    try:
        return work(item)
    except RequestFailed as error:
        return Rejected(where, UNANSWERED, str(error))


def _is_unanswered(result: Accepted | Rejected) -> bool:
    return isinstance(result, Rejected) and result.reason == UNANSWERED


def write_results(results: Sequence[Accepted | Rejected], out: Path, rejected: Path) -> None:
    """Writes accepted lines to `out` and rejected rows with reasons to `rejected`, each file in one step."""
    write_lines(out, [result.line for result in results if isinstance(result, Accepted)])
    write_lines(rejected, [asdict(result) for result in results if isinstance(result, Rejected)])


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes a file of JSON lines in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, owner=str(os.getpid())) as file:
        file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def batch_summary(results: Sequence[Accepted | Rejected], cache: AnswerCache) -> str:
    """Counts of accepted and rejected rows, of requests and of cache hits, in one line."""
    reasons = Counter(result.reason for result in results if isinstance(result, Rejected))
    by_reason = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    counts = (
        f"kept {len(results) - reasons.total()}, rejected {reasons.total()}{f' ({by_reason})' if by_reason else ''}"
    )
    return f"{len(results)} rows: {counts}; {cache.requests} answers asked for, {cache.hits} taken from {cache.path}"


def exit_status(results: Sequence[Accepted | Rejected]) -> int:
    """0, or 1 with a hint on stderr where a row stayed unanswered."""
    unanswered = any(map(_is_unanswered, results))
    if unanswered:
        Console(stderr=True).print("the same command asks for the unanswered rows again")
    return int(unanswered)
