"""Hostile and unusual completions, for tests of all rewards and methods."""

from open_r1.data.record import Record
from open_r1.rewards.registry import METHODS, REWARDS

MB = 1_000_000
CONTENTS = {
    "power tower": "9**9**9**9",
    "LaTeX tower": r"$9^{9^{9^{9^{9}}}}$",
    "nested fractions": r"\frac{1}{" * 300 + "2" + "}" * 300,
    "nested roots": r"\sqrt{" * 5_000 + "2" + "}" * 5_000,
    "factorials": "99999!!!!!!!!",
    "NaN": "NaN",
    "infinity": "-Infinity",
    "1e999": "1e999",
    "zero": "1/0",
    "10,000 digits": "9" * 10_000,
    "lone surrogates": "\ud800\udfff 3 \udc00",
    "NUL": "3\x00",
    "right to left": "\u202e3\u202c \u200f\u2067A\u2069",
    "other digits": "\u0663\uff13\u2462\u00b3",
    "combining marks": "3" + "\u0301" * 5_000,
    "empty": "",
    "brackets": "[" * 100_000,
    "braces": '{"a":' * 100_000,
    "pairs of brackets": "[" * 50_000 + "]" * 50_000,
    "1 MB of digits": "7" * MB,
    "1 MB of words": "no " * (MB // 3),
    "1 MB of boxes": "[1, 2, 30, 40]," * (MB // 15),
    "1 MB of tags": "<answer>" * (MB // 8),
}
HANGS = ("power tower", "LaTeX tower", "nested fractions")  # sympy works on them for ever
LARGE = tuple(name for name, text in CONTENTS.items() if len(text) >= 100_000)
FORMS = {
    "answer tag": "<think>well</think><answer>{}</answer>",
    "boxed": r"<think>well</think><answer>\boxed{{{}}}</answer>",
    "bare": "{}",
    "JSON box": '<answer>[{{"bbox_2d": [{0}, 2, {0}, 40], "label": "{0}"}}]</answer>',
    "JSON polygon": '<answer>{{"centre": [{0}, 40], "coeffs": [{0}, 3.5], "size": [80, {0}]}}</answer>',
    "letters": "<think><chars>{0}</chars></think><answer>{0}</answer>",
}
GOLDS = {
    **dict.fromkeys(METHODS, r"\frac{1}{2}"),
    "mcq": "(A)",
    "mcq_partial": "A, C",
    "yes_no": "no",
    "digits": "[0, 1]",
    "rec": "[1, 2, 30, 40]",
    **dict.fromkeys(("iou", "point_in_box", "point_distance"), "[1, 2, 30, 40]"),
    **dict.fromkeys(
        ("od_ap", "od_ap50", "odLength", "weighted_sum", "map"), '[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}]'
    ),
    "decode": "cat",
    "mask_iou": '{"centre": [50, 40], "coeffs": [20, 3.5], "size": [80, 100]}',
    "area": "616.50",
}
RANGES = {  # what each pays at least and at most; of accuracy it is the method's
    "length": (-0.5, 1.0),
    "repetition": (-1.0, 0.0),
    "two_decimals": (0.0, 0.5),
    "area_format": (0.0, 0.5),
}


def record(method: str, family: str = "qwen2_5_vl") -> Record:
    """A row whose gold the method accepts, for the boxes of a family that converts them."""
    extra = {"image_wh": [100, 80], "model_family": family, "coded": "xyz", "prompt_mode": "think"}
    return Record("7", (), "", (), GOLDS[method], extra, "a.jsonl:7", method)


def rewards_of(method: str) -> list[str]:
    """All rewards that a text can earn, those of messages for a gold that is one."""
    of_texts = [name for name in REWARDS if name != "environment"]
    return [name for name in of_texts if method == "decode" or not name.startswith("decode_")]


def range_of(reward: str, method: str) -> tuple[float, float]:
    """(least, most) that a reward pays."""
    if reward == "accuracy":
        return METHODS[method].minimum, METHODS[method].maximum
    return RANGES.get(reward, (0.0, 1.0))


def completions(names: tuple[str, ...]) -> list[str]:
    """The contents of these names in all forms."""
    return [form.format(CONTENTS[name]) for name in names for form in FORMS.values()]
