"""Tokens of hostile text by kind, and random mutations of inputs with them, for the fuzzer."""

import random
import re

NUMBERS = ["0", "-0.0", "1e308", "-1e308", "1e999", "NaN", "Infinity", "-Infinity", "9" * 5000, "1e-320", "5", "٣"]
NUMBERS += ["1/0", "1000001", "-1", "0.5", "18446744073709551616", "true", "null"]
TAGS = ["<think>", "</think>", "<answer>", "</answer>", "<chars>", "</chars>", "<image>", "<loc0001>", "<box>"]
TAGS += ["```json\n", "\n```", "<|object_ref_start|>", "<|box_end|>"]
WORDS = ["yes", "no", "The answer is (B).", r"\boxed{", r"\frac{1}{2}", "A. 9 cm", "√{2}π", "None", "50%", "[0, 1]"]
WORDS += ["$", "\n", " ", "area =", "cm²", "x1=1, y1=2, x2=3, y2=4", "cat", "答案是：B"]
SIGNS = ["\0", "\u202e", "\ud800", "\udc80", "\ufeff", "İ", "ﷺ", "e\u0301\u0316", "\U0001f600", "{", "}", "[", "]"]
SIGNS += ['"', "\\", ":", "'", ",", "../", "C:\\", "\u0316\u0301", r"\ud83d"]
OBJECTS = [
    '{"bbox_2d": [1, 2, 30, 40], "label": "cat"}',
    '{"bbox_2d": [NaN, 1e999, 1e308, -1], "label": "\\ud800"}',
    "<|ref|>cat<|/ref|><box>(1,2),(3,4)</box>",
    '{"centre": [32, 24], "coeffs": [1e6, -1e6, 3], "size": [48, 64]}',
    '{"centre": [0, 0], "coeffs": [NaN], "size": [1e-300, 1e6], "basis": []}',
    '{"size": [48, 64], "counts": "oooooooo"}',
]
FIELDS = ["id", "image", "images", "problem", "solution", "conversations", "messages", "accu_reward_method", "options"]
FIELDS += ["image_wh", "model_family", "min_pixels", "max_pixels", "segmentation", "ceiling", "coded", "max_units"]
TOKENS = [
    token.encode("utf-8", "surrogatepass")
    for group in (NUMBERS, TAGS, WORDS, SIGNS, OBJECTS, FIELDS)
    for token in group
]
_NUMBER = re.compile(rb"-?\d[\d.eE+-]{0,20}")
_VALUE = re.compile(rb'"[^"]{0,40}"(?=\s{0,3}[,}\]])|\[[^\[\]]{0,60}\]|-?\d+(?:\.\d+)?')


def worse(data: bytes, rng: random.Random, longest: int) -> bytes:
    """The input after one to four format-aware changes, at most `longest` bytes."""
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_CHANGES)(data, rng)
    if rng.random() < 0.002 or longest > 10 * max(len(data), 1_000):
        data = _longer(data, rng, longest)
    return data[:longest]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(TOKENS) + data[at:]


def _cut(data: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + data[start + rng.randint(1, 20) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(data))
    piece = data[start : start + rng.randint(1, 40)]
    return data[:start] + piece * rng.randint(2, 8) + data[start:]


def _move(data: bytes, rng: random.Random) -> bytes:
    start, to = rng.randint(0, len(data)), rng.randint(0, len(data))
    return data[:to] + data[start : start + rng.randint(1, 60)] + data[to:]


def _number(data: bytes, rng: random.Random) -> bytes:
    return _replaced(_NUMBER, data, rng.choice(NUMBERS).encode(), rng)


def _value(data: bytes, rng: random.Random) -> bytes:
    return _replaced(_VALUE, data, rng.choice([b"null", b"[]", b"{}", b"true", b'""', b"[[]]", *TOKENS]), rng)


def _replaced(pattern: re.Pattern[bytes], data: bytes, token: bytes, rng: random.Random) -> bytes:
    places = list(pattern.finditer(data[:4000]))
    if not places:
        return data
    place = rng.choice(places)
    return data[: place.start()] + token + data[place.end() :]


def _nested(data: bytes, rng: random.Random) -> bytes:
    opening, closing = rng.choice(
        [(b"[", b"]"), (b"{", b"}"), (b'{"a":', b"}"), (b"<answer>", b"</answer>"), (b"(", b")")]
    )
    levels, at = rng.choice([1, 1, 2, 3, 300]), rng.randint(0, len(data))
    return data[:at] + opening * levels + data[at:] + closing * levels


def _longer(data: bytes, rng: random.Random, longest: int) -> bytes:
    start = rng.randint(0, len(data))
    piece = rng.choice([rng.choice(TOKENS), data[start : start + 200] or b" "])
    return data[:start] + piece * ((longest - len(data)) // len(piece)) + data[start:]


_CHANGES = (_insert, _insert, _cut, _repeat, _move, _number, _value, _nested)
