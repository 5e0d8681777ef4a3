"""Reads whether a text states that there is nothing to find: an empty list, or sentences that all deny. (torch-free)

A hedge ("maybe"), an exception ("but", "only", "除了") or a number of things makes a sentence no denial.
"""

import re

from open_r1.rewards.parsing.answer import without_markup
from open_r1.rewards.parsing.characters import plain_characters
from open_r1.rewards.parsing.statement import stated_answer

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
    r"(?:(?:(?:after|based on) [a-z ]{1,60},|it (?:appears|seems)(?: that)?"
    rf"|(?:so|thus|therefore|hence|well|sorry|unfortunately|no|answer|result|output|in {_IMAGE}"
    r"|(?:the|my) (?:final )?(?:answer|result|output)(?: is)?)\s?[,:]?)\s){0,4}"
)
_THERE = (
    r"(?:there (?:is|are|was|were|(?:appears?|seems?) to be)"
    r"|(?:i|we) (?:can |could )?(?:see|find|found|detect|detected|saw)"
    rf"|(?:{_IMAGE}|it) (?:contains?|contained|shows?|has|includes?|depicts?))"
)
_NOT = r"(?:do not|don't|does not|doesn't|did not|didn't|cannot|can't|can not|could not|couldn't)"
_LOOK = r"(?:see|find|detect|spot|locate|identify|observe)"
_NOT_THERE = (
    r"(?:there (?:is not|isn't|are not|aren't|was not|wasn't|were not|weren't)"
    rf"|there {_NOT} (?:appear|seem) to be|(?:i|we) {_NOT} {_LOOK}|(?:i was|we were) (?:unable|not able) to {_LOOK}"
    rf"|(?:{_IMAGE}|it) {_NOT} (?:contain|show|have|include|depict))"
)
_THINGS = r"(?P<{}>[a-z\"'][a-z'\"/ ,_-]{{0,80}}?)"
_TO_FIND = rf"(?:\sto\s(?:be\s)?(?:{_LOOK}|found|detected|report|box|label|annotate))?"
_TAIL = (
    rf"(?:\s{_BE})?(?:\s{_SEEN})?{_PLACE}"
    r"(?:,? (?:so|thus|hence|therefore) (?:the|my) (?:list|answer|result|output) is (?:empty|none))?"
)
_DENIAL = re.compile(
    rf"{_LEAD}(?:(?:(?:{_THERE}\s)?(?:no|zero|0|none of|neither)|{_NOT_THERE} (?:any|an?))\s"
    rf"{_THINGS.format('no')}{_TAIL}"
    rf"|(?:(?:{_THERE}\s)?(?:nothing|none)|{_NOT_THERE} anything){_TO_FIND}{_TAIL}"
    rf"|(?:{_THINGS.format('subject')}\s(?:(?:is|are|was|were)(?:\snot|n't)|(?:cannot|can not|can't) be)\s|not\s)"
    rf"(?:{_SEEN}{_PLACE}|(?:in|on) {_IMAGE})"
    rf"|(?:the )?number of {_THINGS.format('counted')}{_PLACE} is (?:0|zero)"
    r"|(?:an? )?empty list|(?:the|my) (?:list|answer|result|output) is empty)"
)
_NO_THINGS = re.compile(  # words by which "no ..." is no denial of things
    r"\b(?:but|only|except|however|although|though|than|besides|while|yet|just|instead|rather|apart|aside|unless|if"
    r"|one|two|three|four|five|six|seven|eight|nine|ten|several|many|some|few|both|an?|more|less|fewer|longer"
    r"|is|are|was|were|has|have|had|i|we|there|it|maybe|perhaps|probably|possibly|might|may|could|sure|certain|think"
    r"|doubt|idea|image|picture|photo|answer|problem|clue|comment|question|way|information|access|response|need"
    r"|reason|objection|matter)\b"
)
_CHINESE_PLACE = (
    r"(?:在)?(?:这|该|此|本)?(?:张|幅|个)?(?:图|图片|图像|图中|画面|照片|截图|场景|画)?"
    r"(?:中|里|上|内|里面)?[,:]?"
)
_PLACE_ALONE = re.compile(_CHINESE_PLACE)
_CHINESE = re.compile(
    rf"(?:答案[是为]?:?|因此,?|所以,?|经过?(?:检查|分析|观察),?)?{_CHINESE_PLACE}(?:我)?(?:什么)?(?:都|并|也)?"
    r"(?:没有|没|未|无法|无|不存在|不包含|不含|找不到|看不到|检测不到|空)(?P<rest>[\u4e00-\u9fffa-z ]{0,24})"
    r"|(?:要找的|目标|物体|对象){1,2}(?:并)?不存在|(?:结果|列表|答案)[是为]?空"
)
_CHINESE_BUT = re.compile(
    r"但|只|除|而|不过|可能|也许|大概|或许|[二两三四五六七八九十几多][只个辆条张位头匹名]|(?<![没所])有"
    r"|确定|判断|看清|识别|问题|答案|回答|信息|足够|[看收]到(?:[这该].)?图|是"
)
_LAST_LIST = re.compile(r"(?:^|\n|:|\bis|[.,])\s{0,9}\[\s{0,9}\][.}\s]{0,9}$")
_ASIDE = re.compile(r"\([^()]{0,40}\)")
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
    plain = _plain(text[-4 * MAX_STATEMENT :])
    if _LAST_LIST.search(plain[-60:]) and not re.search(r"\bor\s*\S{0,9}\s*\[\s*\]", plain[-60:]):
        return True
    if not plain or len(text) > MAX_STATEMENT:
        return False
    sentences = [" ".join(part.split()).strip("*_`\"' :,") for part in re.split(r"[.!;\n]+", plain.lower())]
    said = [sentence for sentence in sentences if sentence and sentence != "[]"]
    return bool(said) and all(_denies(sentence) or (sentence == "no" and len(said) > 1) for sentence in said)


def _plain(text: str) -> str:
    """The answer that a text states, or all of it, without fences, emphasis and asides."""
    plain = _FENCE.sub("", plain_characters(text)).replace("**", "").strip()
    stated = stated_answer(plain) if len(plain) <= MAX_STATEMENT else None
    return _ASIDE.sub("", without_markup(stated or plain)).strip().strip("\"'`*")


def _denies(sentence: str) -> bool:
    """Whether one sentence, in lower case, denies that there is something."""
    if match := _DENIAL.fullmatch(sentence):
        things = next((value for value in match.groupdict().values() if value), "")
        return not _NO_THINGS.search(things)
    clauses = [clause for part in sentence.split(",") if not _PLACE_ALONE.fullmatch(clause := part.strip())]
    denials = list(map(_CHINESE.fullmatch, clauses))
    return bool(denials) and all(denial and not _CHINESE_BUT.search(denial["rest"] or "") for denial in denials)
