"""Answers that say the gold's words and take them back, or put others beside them. (torch-free)"""

import re

from open_r1.rewards.judge.readings import visible_text

_NOT = (
    "not cannot never neither nor without "  # a plain "no" may answer the question
    "nicht kein keine keinen keinem keiner nie niemals weder ohne pas jamais ni sans nunca tampoco sin não nem sem "
    "né senza niet geen nooit noch zonder inte ingen inget aldrig ikke ingen aldri nie żaden bez není žádný "
    "не нет ни никогда без değil yok không chẳng bukan tidak δεν όχι לא ليس لا"
)
_NO = "no non nein nee nej nei naan não nie нет ні hayır"  # may answer a question
_NO_BEFORE = re.compile(r"\bno[ \t]+(?=\w)", re.IGNORECASE)  # "no red car", and not "No, a red car"
_WRITTEN_ON = re.compile("不是|没有|不|沒有|ではな|じゃな|아니|없")  # where words are written together
_OR = (
    "or either but except instead rather maybe perhaps possibly otherwise unless if oder entweder aber außer ou mais "
    "sauf o pero salvo oppure ma tranne of maar behalve eller men lub albo ale nebo или либо но кроме veya ama atau "
    "tapi hoặc nhưng hay"
)
_ALTERNATIVE_SIGNS = re.compile(r"[/|;]|或|还是|但|または|か|또는|하지만")
_ARTICLES = (
    "a an the it its this that these those there here is are was were be been he she they i we you of to answer "
    "das der die den dem ein eine einen einem es ist sind dies le la les un une de ce cest est il elle ne n c l d "
    "el los las uno una es son esto lo gli i e è het een dit dat 这 這 那 是 一 个 個 это"
)
_NEGATIONS, _DENIALS, _ALTERNATIVES, _FILLERS = (frozenset(words.split()) for words in (_NOT, _NO, _OR, _ARTICLES))


def negates_gold(answer: str, gold: str, question: str) -> bool:
    """Whether an answer is the gold's words with a negation and nothing else, where gold and question have none.

    >>> [negates_gold(text, "a red car", "What?") for text in ("It isn't a red car.", "no red car", "No, a red car")]
    [True, True, False]
    >>> negates_gold("not a red car", "a red car", "What is it not?")
    False
    """
    if not is_negated(answer) or is_negated(gold) or is_negated(question):
        return False
    said = {word for word in _words(_WRITTEN_ON.sub(" ", _NO_BEFORE.sub(" ", answer))) if not _is_negation(word)}
    asked_for = _words(gold) - _FILLERS
    return bool(asked_for) and said - _FILLERS == asked_for


def is_negated(text: str) -> bool:
    """Whether a text has a word of negation, in any of some thirty languages."""
    text = visible_text(text)
    return any(map(_is_negation, _words(text))) or any(p.search(text) for p in (_NO_BEFORE, _WRITTEN_ON))


def turns_gold(answer: str, gold: str) -> bool:
    """Whether an answer has a negation or an alternative where the gold has none, so that its words say little.

    >>> turns_gold("a red car or a bus", "a red car"), turns_gold("a red automobile", "a red car")
    (True, False)
    """
    offers = [bool(_words(text) & _ALTERNATIVES or _ALTERNATIVE_SIGNS.search(text)) for text in (answer, gold)]
    denies = [is_negated(text) or bool(_words(text) & _DENIALS) for text in (answer, gold)]
    return (offers[0] and not offers[1]) or (denies[0] and not denies[1])


def _words(text: str) -> set[str]:
    """The words of a text, without apostrophes."""
    return set(re.findall(r"\w+", re.sub("['’]", "", visible_text(text).casefold())))


def _is_negation(word: str) -> bool:
    return word in _NEGATIONS or (
        word.endswith("nt") and word[:-2] in ("is", "are", "was", "were", "do", "does", "did")
    )
