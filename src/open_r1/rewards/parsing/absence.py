"""Reads whether a text states that there is nothing to find: an empty list, or sentences that all deny. (torch-free)

A hedge ("maybe"), an exception ("but", "only", "除了") or a number of things makes a sentence no denial.
"""

import re

from open_r1.rewards.parsing.characters import plain_characters

MAX_STATEMENT = 600  # most characters of a text that is read; of a longer one its last line, which may be a list

_IMAGE = (
    r"(?:the|this|that|your|my)\s(?:\w{4,9}\s){0,2}"
    r"(?:image|picture|photo|photograph|scene|screenshot|frame|view|figure)"
)
_PLACE = rf"(?:\s(?:anywhere\s)?(?:in|within|on|from|inside)\s(?:{_IMAGE}|it))?"
_SEEN = (
    r"(?:found|detected|visible|present|seen|shown|identified|located|observed|spotted|depicted|here|there|in view)"
)
_BE = r"(?:is|are|was|were|can be|could be|have been|has been)"
_LEAD = (
    rf"(?:(?:(?:after|based on) [a-z ]{{1,60}},|(?:so|thus|therefore|hence|well|sorry|unfortunately|no|answer|result"
    rf"|output|in {_IMAGE}|(?:the|my) (?:final )?(?:answer|result|output)(?: is)?)\s?[,:]?)\s){{0,4}}"
)
_THERE = (
    r"(?:there (?:is|are|was|were|appears? to be)|(?:i|we) (?:can |could )?(?:see|find|found|detect|detected|saw)"
    rf"|{_IMAGE} (?:contains?|contained|shows?|has|includes?|depicts?))"
)
_NOT = r"(?:do not|don't|does not|doesn't|did not|didn't|cannot|can't|can not|could not|couldn't)"
_NOT_THERE = (
    r"(?:there (?:is not|isn't|are not|aren't|was not|wasn't|were not|weren't)"
    rf"|(?:i|we) {_NOT} (?:see|find|detect|spot|locate|identify|observe)"
    rf"|{_IMAGE} {_NOT} (?:contain|show|have|include|depict)) (?:any|a|an)"
)
_THINGS = r"(?P<things>[a-z\"'][a-z'\"/ ,_-]{0,80}?)"
_TAIL = rf"(?:\s{_BE})?(?:\s{_SEEN})?{_PLACE}"
_DENIAL = re.compile(
    rf"{_LEAD}(?:(?:(?:{_THERE}\s)?(?:no|zero|0|none of)|{_NOT_THERE})\s{_THINGS}{_TAIL}"
    rf"|(?:{_THERE}\s)?(?:nothing|none)(?:\sto\s(?:find|detect|see|report|box|label|annotate|locate))?{_TAIL}"
    r"|(?:an? )?empty list)"
)
_NO_THINGS = re.compile(  # words by which "no ..." is no denial of things
    r"\b(?:but|only|except|however|although|though|than|besides|while|yet|just|instead|rather|apart|aside|unless|if"
    r"|one|two|three|four|five|six|seven|eight|nine|ten|several|many|some|few|both|an?|more|less|fewer|longer"
    r"|is|are|was|were|has|have|had|i|we|there|it|maybe|perhaps|probably|possibly|might|may|could|sure|certain|think"
    r"|doubt|idea|image|picture|photo|answer|problem|clue|comment|question|way|information|access|response|need"
    r"|reason)\b"
)
_CHINESE_PLACE = (
    r"(?:在)?(?:这|该|此|本)?(?:张|幅|个)?(?:图|图片|图像|图中|画面|照片|截图|场景|画)?"
    r"(?:中|里|上|内|里面)?[,:]?"
)
_CHINESE = re.compile(
    rf"(?:答案[是为]?:?|因此,?|所以,?|经过?(?:检查|分析|观察),?)?{_CHINESE_PLACE}(?:我)?(?:都|并|也)?"
    r"(?:没有|没|未|无法|无|不存在|不包含|不含|找不到|看不到|检测不到|空)(?P<rest>[\u4e00-\u9fff,a-z ]{0,24})"
)
_CHINESE_BUT = re.compile(
    r"但|只|除|而|不过|可能|也许|大概|或许|[一二两三四五六七八九十几多]|(?<![没所])有"
    r"|确定|判断|看清|识别|问题|答案|回答|是"
)
_LAST_LIST = re.compile(r"(?:^|\n|:|\bis|[.,])\s{0,9}\[\s{0,9}\][.\s]{0,9}$")
_FENCE = re.compile(r"```(?:json)?")


def without_fence(text: str) -> str:
    """A text without the Markdown fence around all of it.

    >>> without_fence("```json\\n[]\\n```"), without_fence(" [] ")
    ('[]', '[]')
    """
    return text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()


def states_no_object(text: str) -> bool:
    """Whether a text states that there is no object: it ends in an empty list, or all of its sentences deny.

    >>> states_no_object("There are no cats in the image."), states_no_object("I looked twice.\\n```json\\n[ ]\\n```")
    (True, True)
    >>> states_no_object("There are no dogs but two cats"), states_no_object("Maybe none"), states_no_object("")
    (False, False, False)
    >>> states_no_object("图中没有目标。"), states_no_object("图中没有狗，但有两只猫")
    (True, False)
    """
    plain = _FENCE.sub("", plain_characters(text[-4 * MAX_STATEMENT :])).strip().strip("\"'`*")
    if _LAST_LIST.search(plain[-40:]) and not re.search(r"\bor\s*\S{0,9}\s*\[\s*\]", plain[-60:]):
        return True
    if not plain or len(text) > MAX_STATEMENT:
        return False
    sentences = [" ".join(part.split()).strip("*_`\"' ") for part in re.split(r"[.!;\n]+", plain.lower())]
    return all(_denies(sentence) for sentence in sentences if sentence and sentence != "[]")


def _denies(sentence: str) -> bool:
    """Whether one sentence, in lower case, denies that there is something."""
    if match := _DENIAL.fullmatch(sentence):
        return not _NO_THINGS.search(match["things"] or "")
    chinese = _CHINESE.fullmatch(sentence)
    return chinese is not None and not _CHINESE_BUT.search(chinese["rest"])
