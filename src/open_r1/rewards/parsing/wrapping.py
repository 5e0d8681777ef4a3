"""Takes the wrapping from an answer: tags, code fences, JSON, end tokens, remarks, environments. (torch-free)"""

import re

from open_r1.rewards.parsing.formula_spans import DELIMITED
from open_r1.rewards.parsing.latex import FACTORIAL, without_styles
from open_r1.rewards.parsing.number_words import han_numbers_in_digits

_FENCE = r"(?:```(?:json)?\s*)?"
_JSON = re.compile(rf'\s*{_FENCE}\{{\s*"(?:final_?)?answer"\s*:\s*"?(.{{1,400}}?)"?\s*\}}\s*{_FENCE}', re.IGNORECASE)
_END_TOKEN = re.compile(  # with what follows an end; the marks of a box alone
    r"(?:</s>|<\|(?:im_start|im_end|eot_id|endoftext|end)\|>|<eos>|<end_of_(?:turn|utterance)>).*|<\|[^|<>\s]{1,30}\|>",
    re.DOTALL,
)
_TAG = re.compile(
    r"</?[A-Za-z_]{2,20}>|```\w{0,10}|^\s{0,3}>\s|^\s?(?:Q:[^\n]{0,200}\n\s?)?(?:A|Assistant|ASSISTANT|Bot|Model):\s",
    re.MULTILINE,
)
_CHECK = re.compile(
    r"(?:\s|[✓✔✅☑∎■□\U0001f300-\U0001faff]|[:;]-?\)|\\\(?\\(?:blacksquare|square|checkmark)\\?\)?|\$\\(?:black)?square\$|\bQ\.?E\.?D\.?|\bCorrect!)+$"
)
_EMPHASIS = re.compile(
    r"\*\*(?=\S)([^*\n]{1,400}?)\*\*|(?<![\w*])\*(?=[^\s*])([^*\n]{1,200}?)(?<=\S)\*(?![\w*])|(?<!\w)__(?=\S)([^_\n]{1,200}?)__"
)
_POWER = re.compile(r"(?<=[\w)])\*\*(?=[\d({])")
_THAT_IS = re.compile(r"[,(]?\s?\b(?:i\.\s?e\.|e\.\s?g\.),?\s")
_ABOUT = re.compile(r",?\s(?:or|which is)\s(?:about|approximately|roughly|approx\.?)\s(?=[\d$\\])")
_REMARK = re.compile(r"\s\((?:since|because|as|where|for|which|so)\b[^()\n]{0,200}\)")
_REJECTED = re.compile(  # "or x = -4 (rejected)"
    r"(?:,|，|\bor\b|\band\b|或)\s?\$?(?:[a-z]\s?=\s?)?[-−\d./\\{}a-z√]{1,40}\$?\s?"
    r"[(（,，]\s?(?:rejected|reject|discarded?|extraneous|invalid|not valid|舍去|舍)[)）]?"
)
_ROWS = r"(?:align(?:ed|at)?|equation|gather(?:ed)?|split|eqnarray|multline|center|array\}\{[lcr|]{1,9})\*?"
_ENVIRONMENT = re.compile(rf"\\begin\{{{_ROWS}\}}|\\end\{{(?:{_ROWS}|array)\}}")
_STOP = re.compile(r"\n|\.(?=\s|\$|\\[\])])")
_COMPARISONS = {
    r"\ge ": "at least|no less than|no fewer than|not less than|至少|不少于|不小于|大于等于",
    r"\le ": "at most|up to|no more than|not more than|至多|最多|不超过|不大于|小于等于",
    ">": "more than|greater than|larger than|over|above|exceeds|超过|大于|多于",
    "<": "less than|fewer than|smaller than|under|below|小于|少于|不到",
}
_COMPARISON = re.compile(
    rf"(?<![\d}}$)]\s)(?<!\w)(?:{'|'.join(f'({words})' for words in _COMPARISONS.values())})\s?(?=[$\\(]?\d)|"
    r"(?<!\d)(\d{1,20})\s?(?:or (?:more|above|greater)|以上)|(?<!\d)(\d{1,20})\s?(?:or (?:less|fewer|below)|以下)",
    re.IGNORECASE,
)


def unwrapped(text: str) -> str:
    r"""A text with its answer bare, and formulas that end neither a line nor a sentence.

    >>> unwrapped('{"answer": "12"}'), unwrapped("<CONCLUSION> 3 </CONCLUSION>"), unwrapped("**A:** 5 ✓")
    ('12', '3', 'A: 5')
    >>> unwrapped("x = 4 or x = -4 (rejected)"), unwrapped("at least 5")
    ('x = 4', '\\ge 5')
    >>> unwrapped(r"\begin{align} x &= 1 \\ &= 2 \end{align}")
    'x  = 1  = 2'
    """
    json = _JSON.fullmatch(text)
    text = _CHECK.sub("", _TAG.sub(" ", _END_TOKEN.sub("", json[1] if json else text)))
    text = _EMPHASIS.sub(lambda match: match[1] or match[2] or match[3], _POWER.sub("^", text))
    text = _rows_joined(without_styles(text))
    if r"\begin" not in text:
        text = text.replace("\\\\", "\\")  # escaped twice
    text = DELIMITED.sub(lambda match: _STOP.sub(" ", match[0]).replace("!", FACTORIAL), text)
    text = _REJECTED.sub("", _REMARK.sub("", _ABOUT.sub(r" \\approx ", _THAT_IS.sub(" that is ", text))))
    return _COMPARISON.sub(_symbol, han_numbers_in_digits(text)).strip()


def _rows_joined(text: str) -> str:
    """Environments of lines as one line: "=" goes on with a line, other lines are apart."""
    if not _ENVIRONMENT.search(text):
        return text
    text = re.sub(r"\\\\\s*&?\s*(?==)", " ", _ENVIRONMENT.sub(" ", text).replace("\n", " "))
    return (
        re.sub(r"(?<!\\)&", " ", text.replace("\\\\", " , ")) if "matrix" not in text and "cases" not in text else text
    )


def _symbol(match: re.Match[str]) -> str:
    """The sign of a comparison in words."""
    signs = list(_COMPARISONS)
    least, most = match[len(signs) + 1], match[len(signs) + 2]
    if least or most:
        return rf"\ge {least}" if least else rf"\le {most}"
    return next(sign for sign, words in zip(signs, match.groups(), strict=False) if words)
