"""Tells a data file that is no JSONL: each kind is one problem, with the command that helps. (torch-free)"""

import ast
import json
import re
import shlex
from collections.abc import Iterable

import orjson

from open_r1.data.gold_answers import ANSWER_NAMES
from open_r1.data.row_formats import QUESTION_NAMES
from open_r1.errors import Problem

HEAD_BYTES = 1 << 16
WHOLE_BYTES = 256 << 20  # a larger file is judged by its head
_BOM = b"\xef\xbb\xbf"
_ROWS = "JSONL: one object a line"
_CONVERT = "convert it: python -m open_r1.convert {0} --out DIR"
_PYTHON = (
    "python -c 'import ast,json,sys; [print(json.dumps(ast.literal_eval(s))) for s in open(sys.argv[1]) if s.strip()]'"
)
_YAML = "python -c 'import json,sys,yaml; [print(json.dumps(r)) for r in yaml.safe_load(open(sys.argv[1]))]'"
# first bytes -> (what the file is, what helps; {0} is its path)
MAGICS: dict[bytes, tuple[str, str]] = {
    b"\xff\xfe": ("UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 {0} > FILE"),
    b"\xfe\xff": ("UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 {0} > FILE"),
    b"PAR1": ("a parquet file", "give it as it is; its name may end with .parquet"),
    b"ARROW1": ("an Arrow file", "give its folder to grpo.py --dataset_name, or save it as parquet"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "give its folder to grpo.py --dataset_name, or save it as parquet"),
    b"\x1f\x8b": ("a gzip file", "unpack it: gunzip -c {0} > FILE"),
    b"\x28\xb5\x2f\xfd": ("a zstd file", "unpack it: zstd -d {0}"),
    b"BZh": ("a bzip2 file", "unpack it: bunzip2 -k {0}"),
    b"\xfd7zXZ": ("an xz file", "unpack it: unxz -k {0}"),
    b"7z\xbc\xaf": ("a 7-Zip archive", "unpack it: 7z x {0}"),
    b"Rar!": ("a RAR archive", "unpack it: unrar x {0}"),
    b"PK\x03\x04": ("a zip archive", "unpack it: unzip {0}"),
    b"%PDF": ("a PDF", "give the file of the rows"),
    b"\x89PNG": ("a picture", "give the file of the rows; pictures lie below --image_folders"),
    b"\xff\xd8\xff": ("a picture", "give the file of the rows; pictures lie below --image_folders"),
    b"GIF8": ("a picture", "give the file of the rows; pictures lie below --image_folders"),
    b"RIFF": ("a picture or a sound", "give the file of the rows; pictures lie below --image_folders"),
    b"\x80\x04": ("a Python pickle", _CONVERT),
    b"\x93NUMPY": ("a NumPy array", "give the file of the rows"),
    b"version https://git-lfs": ("a Git LFS pointer, without the data", "fetch the data: git lfs pull"),
}


def file_problem(path: str) -> Problem | None:
    """The one problem of a file that holds no JSON lines; None of one whose lines are to be read one by one."""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    quoted = shlex.quote(path)
    for magic, (kind, remedy) in MAGICS.items():
        if head.startswith(magic):
            if magic.startswith(b"PK") and (path.lower().endswith(".xlsx") or b"xl/" in head):
                kind, remedy = "an Excel workbook", f"save it as CSV, then {_CONVERT}"
            return Problem(path, "file", kind, _ROWS, remedy.format(quoted))
    kind = _text_kind(head.removeprefix(_BOM).lstrip(), path)
    return Problem(path, "file", kind[0], _ROWS, kind[1].format(quoted)) if kind else None


def _text_kind(head: bytes, path: str) -> tuple[str, str] | None:
    """(what it is, what helps) of a text that is no JSON lines, None of one that is, or that is unknown."""
    if not head:
        return None
    if b"\0" in head[:4096]:
        return "a binary file", "give the file of the rows"
    lines = [line.strip() for line in head.split(b"\n") if line.strip()]
    first, second = lines[0], lines[1] if len(lines) > 1 else b""
    if head.startswith(b"["):
        single = second.startswith(b"{") and _is_json(first)  # a line that is an array, among lines of objects
        return None if single else ("a JSON array", _CONVERT)
    if head.startswith(b"{"):
        return _object_kind(first, second, len(lines), path)
    return _markup_kind(head, first) or _table_kind(first, second)


def _object_kind(first: bytes, second: bytes, lines: int, path: str) -> tuple[str, str] | None:
    if _is_json(first):
        return ("one JSON object that holds lists of others", _CONVERT) if lines == 1 and _holds_rows(first) else None
    if first.endswith(b",") and _is_json(first[:-1]):
        return "lines that end with commas", "remove them: sed 's/,[[:space:]]*$//' {0} > FILE"
    if first.startswith((b"{'", b'{"')) and _is_python(first):
        return "objects as Python writes them", f"write JSON: {_PYTHON} {{0}} > FILE"
    if first != b"{" and (not second or second.startswith(b"{")):
        return None  # a broken line among others
    count = _objects(path)
    if count == 0:
        return "a JSON object over several lines, which is broken", "correct the JSON, or " + _CONVERT
    if count == 1:
        return "one JSON object over several lines", _CONVERT
    return f"{count} JSON objects, each over several lines", "join each to one line: jq -c . {0} > FILE"


def _objects(path: str) -> int:
    """The number of JSON values in a file, one after another; 0 where it is broken or too large."""
    with open(path, "rb") as file:
        content = file.read(WHOLE_BYTES + 1)
    if len(content) > WHOLE_BYTES:
        return 0
    text, decoder, place, count = content.decode("utf-8", "replace"), json.JSONDecoder(), 0, 0
    text = text.removeprefix("\ufeff").rstrip()
    while place < len(text):
        while text[place].isspace():
            place += 1
        try:
            _, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return 0
        count += 1
    return count


def _holds_rows(line: bytes) -> bool:
    """Whether an object is no row and holds a list of objects, as exports of annotation tools are."""
    value = orjson.loads(line)
    if not isinstance(value, dict) or value.keys() & {"conversations", "messages", *QUESTION_NAMES, *ANSWER_NAMES}:
        return False
    return any(isinstance(inner, list) and inner and isinstance(inner[0], dict) for inner in value.values())


def _markup_kind(head: bytes, first: bytes) -> tuple[str, str] | None:
    begin = head[:200].lower()
    if begin.startswith((b"<!doctype html", b"<html")):
        return "a web page", "download the file itself: the link leads to a page, or asks for a login"
    if begin.startswith((b"<?xml", b"<annotation", b"<svg")):
        return "XML", _CONVERT
    if first == b"---" or re.match(rb"- +[\w\"']+ *:( |$)", first) or re.match(rb"[A-Za-z_]\w*:( +\S.*)?$", first):
        return "YAML", f"write JSON: {_YAML} {{0}} > FILE"
    return None


def _table_kind(first: bytes, second: bytes) -> tuple[str, str] | None:
    for sign, name in ((b"\t", "TSV"), (b",", "CSV"), (b";", "CSV")):
        titles = first.split(sign)
        if len(titles) > 1 and all(re.fullmatch(rb"\s*\"?[\w .\-]{1,60}\"?\s*", title) for title in titles):
            return (f"a table of text ({name})", _CONVERT) if sign in second or not second else None
    return None


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_python(text: bytes) -> bool:
    try:
        return isinstance(ast.literal_eval(text.decode()), dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def folder_remedy(folder: str, names: Iterable[str]) -> str:
    """The remedy for a folder that is given as a file."""
    rows = sorted(name for name in names if name.lower().endswith((".jsonl", ".json", ".parquet", ".ndjson")))
    hint = f"such as {folder.rstrip('/')}/{rows[0]}" if rows else "or python -m open_r1.convert FOLDER --out DIR"
    return f"name the file inside it, {hint}"
