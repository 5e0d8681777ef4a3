"""The labels that choices of a Label Studio export have, for their questions; golds in free words are said."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from open_r1.tasks.importers.items import ImportedItem, ImportedRow, Remark

MOST_CHOICES = 30  # labels that a question lists
KIND = "label_studio_kind"  # a field of rows on their way: what the answer is, and who asked


def with_labels(items: Iterable[ImportedItem], where: str) -> Iterator[ImportedItem]:
    """The items, where questions about a choice list all labels that the export has for it; a remark tells how many
    golds are texts that annotators wrote."""
    items = list(items)
    labels: dict[str, dict[str, None]] = {}
    texts = 0
    for item in items:
        kind, name = _kind(item)
        if kind == "choices" and name:
            labels.setdefault(name, {})[str(item.row["conversations"][-1]["value"])] = None
        texts += kind == "text"
    for item in items:
        kind, name = _kind(item)
        yield _listed(item, sorted(labels.get(name, ())) if kind == "choices" else []) if kind else item
    if texts:
        yield Remark(
            where, f"golds that annotators wrote as free text: {texts}; an answer must equal them word by word"
        )


def _kind(item: ImportedItem) -> tuple[str, str]:
    value: Any = item.row.get(KIND) if isinstance(item, ImportedRow) else None
    return value or ("", "")


def _listed(item: ImportedRow, labels: list[str]) -> ImportedRow:
    row: Mapping[str, Any] = {name: value for name, value in item.row.items() if name != KIND}
    turns = [dict(turn) for turn in row["conversations"]]
    if 1 < len(labels) <= MOST_CHOICES:
        turns[0]["value"] += f" Answer with one of: {', '.join(labels)}."
    return replace(item, row={**row, "conversations": turns})
