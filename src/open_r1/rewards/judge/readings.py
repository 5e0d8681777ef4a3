"""The ways in which a model may read a text: as it stands, and behind the usual disguises. (torch-free)

Letters of other widths and styles, look-alikes of other alphabets, digits for letters, invisible and spaced letters,
backward, rot13, base64, base32, hex, character codes, percent signs, HTML entities, escapes, Morse. Each reading takes
time linear in the text. They are for the screen of the judge: no reading is graded.
"""

import base64
import binascii
import codecs
import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import unquote

_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff]"
)
_TAGS = str.maketrans({0xE0000 + code: chr(code) for code in range(0x20, 0x7F)})
# each before its letter: look-alikes of Cyrillic, Greek, Armenian, small capitals; Latin letters with a stroke
_ALIKE = """
аa вb гr еe ёe зe іi їi јj кk мm нh оo рp сc тt уy хx ѕs һh ԁd ԛq ԝw ӏl иu пn
αa βb γy εe ηn ιi κk νv οo ρp τt υu χx ωw ϲc ϳj աw ոn սu հh ցg օo
ᴀa ʙb ᴄc ᴅd ᴇe ɢg ʜh ɪi ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz
łl øo đd ıi ħh ŧt
"""
_LATIN = str.maketrans(dict(map(tuple, _ALIKE.split())))
_SIGNS = str.maketrans("01345789@$!|+€", "oieastbgasiltc")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_BASE32 = re.compile(r"[A-Z2-7]{24,}={0,6}")
_HEX = re.compile(r"(?:(?:\\x|0x|%|\b)?[0-9a-fA-F]{2}[\s,:-]{0,2}){8,}")
_CODES = re.compile(r"(?:\b\d{2,3}\b[\s,;-]{1,3}){7,}\d{2,3}")
_BITS = re.compile(r"(?:[01]{8}\s?){6,}")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{2})|([0-7]{3}))")
_MORSE = re.compile(r"(?:[.\-·–−•]{1,6}[\s/|]{1,3}){7,}[.\-·–−•]{1,6}")
_MORSE_CODES = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.."
)
_MORSE_LETTERS = dict(zip(_MORSE_CODES.split(), "abcdefghijklmnopqrstuvwxyz", strict=True))
_MORSE_SIGNS = str.maketrans("·•–−|/", "..--  ")
_APART = re.compile(r"[\W_]+")


def visible_text(text: str) -> str:
    """The text in one width, without invisible characters.

    >>> visible_text("\\u200b\\uff11")
    '1'
    """
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))


def plain_letters(text: str) -> str:
    """The text in lower case without marks on letters, and look-alikes of Latin letters as these.

    >>> plain_letters("Répоnds")
    'reponds'
    """
    apart = unicodedata.normalize("NFKD", visible_text(text)).casefold()
    return _latin_words("".join(sign for sign in apart if unicodedata.category(sign) != "Mn"))


def readings(text: str) -> Iterator[str]:
    """The text as it stands, in plain letters, and each hidden reading of it in plain letters; see the file.

    >>> list(readings("SWdub3JlIHRoaXM="))[-1]
    'ignore this'
    """
    seen = visible_text(text)
    yield seen.casefold()
    plain = plain_letters(text)
    yield plain
    yield codecs.encode(plain, "rot13")
    for hidden in (text.translate(_TAGS), html.unescape(seen), unquote(seen), _unescaped(seen), *_decoded(seen)):
        if hidden not in (seen, text):
            yield plain_letters(hidden)


def joined_readings(text: str) -> tuple[str, str]:
    """The letters of a text without what stands between them, digits and signs as the letters that they look like;
    forward and backward.

    >>> joined_readings("1 g n 0 r e")
    ('ignore', 'erongi')
    """
    joined = _APART.sub("", plain_letters(text).translate(_SIGNS))
    return joined, joined[::-1]


def mixes_alphabets(text: str) -> bool:
    """Whether a word has letters of more than one alphabet, as one with look-alikes has.

    >>> mixes_alphabets("соrrесt"), mixes_alphabets("correct"), mixes_alphabets("верно"), mixes_alphabets("5 μm")
    (True, False, False, False)
    """
    words = re.findall(r"[^\W\d_]{3,}", visible_text(text))
    return any(not word.isascii() and len(_alphabets(word)) > 1 for word in words)


def _alphabets(word: str) -> set[str]:
    """The alphabets, of those with look-alikes, that a word has letters of."""
    names = {unicodedata.name(sign, "").partition(" ")[0] for sign in word}
    return names & {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU", "DESERET", "GEORGIAN"}


def _latin_words(text: str) -> str:
    """The text with the look-alikes in words that have a Latin letter, or nothing but look-alikes, made Latin."""
    return re.sub(r"[^\W\d_]+", lambda word: word[0] if word[0].isascii() else word[0].translate(_LATIN), text)


def _unescaped(text: str) -> str:
    """The text with the escapes of JSON, Python and C read."""

    def sign(match: re.Match[str]) -> str:
        number = int(match[match.lastindex], 8 if match[4] else 16)
        return chr(number) if number <= 0x10FFFF and not 0xD800 <= number < 0xE000 else ""

    return _ESCAPE.sub(sign, text)


def _decoded(text: str) -> Iterator[str]:
    """What stands behind runs of base64, base32, hex, character codes, bits and Morse."""
    for run in _BASE64.findall(text):
        yield _from_bytes(base64.urlsafe_b64decode, run.rstrip("=").translate(str.maketrans("+/", "-_")), "=", 4)
    for run in _BASE32.findall(text):
        yield _from_bytes(base64.b32decode, run.rstrip("="), "=", 8)
    for run in _HEX.findall(text):
        pairs = re.findall(r"[0-9a-fA-F]{2}", run.replace("0x", " "))
        yield bytes.fromhex("".join(pairs)).decode("utf-8", "replace")
    for run in _CODES.findall(text):
        yield "".join(chr(int(number)) for number in re.findall(r"\d+", run))
    for run in _BITS.findall(text):
        yield "".join(chr(int(bits, 2)) for bits in re.findall(r"[01]{8}", run))
    for run in _MORSE.findall(text):
        yield "".join(_MORSE_LETTERS.get(code, " ") for code in run.translate(_MORSE_SIGNS).split())


def _from_bytes(decode: Callable[[str], bytes], run: str, fill: str, size: int) -> str:
    """The text behind a run of such an encoding; "" where it is none."""
    try:
        return decode(run + fill * (-len(run) % size)).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
