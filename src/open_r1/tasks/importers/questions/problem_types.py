"""What Video-R1 says of a row's answer in `problem_type`, and which method grades it here. (torch-free)

Its rewards: equality of a choice and of a number, 1 - word error rate of OCR, the mean of three ROUGE scores of a
free-form answer, and how near the number of a regression is (arXiv:2503.21776, `grpo.py` of its code).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from open_r1.tasks.importers.items import Remark
from open_r1.tasks.importers.sources import Source

METHODS_OF_TYPES = {"ocr": "cer"}
# types that no method grades as there -> (what there earns a part, what helps here)
GRADED_OTHERWISE = {
    "free-form": (
        "words in common with the gold",
        "Here --reward_method llm asks a judge, and anls pays for letters in common; as it is, a sentence is equal or "
        "wrong",
    ),
    "regression": ("numbers near the gold", "Here a reward of your own can; as it is, a number is equal or wrong"),
}


def method_of_type(row: Mapping[str, Any]) -> str:
    """The method of a row by its `problem_type`, "" for the usual one.

    >>> method_of_type({"problem_type": "OCR"}), method_of_type({"problem_type": "numerical"}), method_of_type({})
    ('cer', '', '')
    """
    return METHODS_OF_TYPES.get(_type_of(row), "")


def type_remarks(source: Source) -> Iterator[Remark]:
    """How many rows have an answer that is graded otherwise than where the source was made, and what helps."""
    counts = Counter(_type_of(row) for _, row in source.rows() if isinstance(row, Mapping))
    for name, (there, helps) in GRADED_OTHERWISE.items():
        if count := counts[name]:
            yield Remark(str(source.path), f"{name} rows: {count}; Video-R1 pays them for {there}. {helps}")


def _type_of(row: Mapping[str, Any]) -> str:
    return str(row.get("problem_type") or "").strip().lower()
