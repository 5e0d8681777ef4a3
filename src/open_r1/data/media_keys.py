"""Finds pictures, videos and sounds under keys that this project does not read, which would be lost. (torch-free)

A key is split into words: `imagePath`, `image_paths` and `IMG-FILE` are an image and a path or file. A key that says
nothing else (`image_path`, `img`, `image2`) names a picture whatever stands there; one that says more (`image_id`,
`image_caption`) or less (`file_name`) does so only where its value looks like a file, a URL or bytes.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from open_r1.errors import Problem, shorten

PICTURE_KEY_WORDS = {"image", "img", "picture", "pic", "photo", "photograph", "pixel", "screenshot"}
MOVING_WORDS = {
    "video": "video",
    "movie": "video",
    "clip": "video",
    "audio": "audio",
    "sound": "audio",
    "speech": "audio",
}
CARRIER_WORDS = {"path", "file", "filename", "filepath", "name", "url", "uri", "link", "list", "src", "source", "data"}
CARRIER_WORDS |= {"base64", "b64", "byte", "value", "input", "raw", "decoded", "local", "relative", "absolute", "full"}
CARRIER_WORDS |= {"dir", "folder", "encoded", "string", "content"}
FILE_WORDS = {"file", "filename", "filepath", "path", "url", "uri", "src"}  # what says file, and not of what
OWN_KEYS = {"id", "image", "images", "conversations", "messages", "problem", "solution", "accu_reward_method"}
INSIDE = "bytes", "path", "url", "base64"  # of an object that is a picture
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_JOINED = re.compile(r"(image|img|picture|pic|photo|video|audio)(s?(?:path|file|filename|filepath|name|url|uri)|)")
_PICTURE_FILE = re.compile(r"[^\n]{1,1000}\.(?:jpe?g|png|webp|bmp|gif|tiff?|heic|avif|svg)(?:\?\S*)?", re.I)
_MOVING_FILE = re.compile(r"[^\n]{1,1000}\.(?:mp4|avi|mov|mkv|webm|m4v|wav|mp3|flac|ogg|m4a|opus)(?:\?\S*)?", re.I)
_BASE64 = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/=\s]{20,}")  # PNG, JPEG, GIF, WebP
_DATA_URI = re.compile(r"data:(?:image|video|audio)/", re.I)
_URL = re.compile(r"(?:https?|s3|gs|hdfs|oss)://", re.I)


@lru_cache(4096)
def key_words(key: str) -> frozenset[str]:
    """The words of a key, in the singular.

    >>> sorted(key_words("imagePaths")), sorted(key_words("IMGS_2")), sorted(key_words("imgpath"))
    (['image', 'path'], ['img'], ['img', 'path'])
    """
    words: set[str] = set()
    for part in _WORD.findall(key):
        word = part.lower()
        joined = _JOINED.fullmatch(word.removesuffix("s"))
        words |= {joined[1], joined[2].removeprefix("s")} if joined else {word}
    return frozenset(word if len(word) < 4 and word != "imgs" else word.removesuffix("s") for word in words if word)


@lru_cache(4096)
def key_kind(key: str) -> str:
    """What a key names: "" nothing of a picture, "image", "video" or "audio", with a "?" where its value decides.

    >>> [key_kind(key) for key in ("Image", "pixel_values", "videos", "image_id", "file_name", "options", "image_wh")]
    ['image', 'image', 'video', 'image?', 'file?', '', 'image?']
    """
    words = key_words(key)
    moving = next((MOVING_WORDS[word] for word in words if word in MOVING_WORDS), "")
    kind = moving or ("image" if words & PICTURE_KEY_WORDS else "")
    if not kind:
        return "file?" if words & FILE_WORDS else ""
    return kind if words <= PICTURE_KEY_WORDS | MOVING_WORDS.keys() | CARRIER_WORDS else f"{kind}?"


def media_problems(row: Mapping[str, object], where: str, pictures: tuple[str, ...]) -> Iterator[Problem]:
    """The problem of each key of a row that holds a picture, video or sound which the row's `pictures` do not."""
    for key in [key for key in row if key not in OWN_KEYS]:
        if not (value := row[key]):
            continue
        if isinstance(value, (dict, list)) or key_kind(key) or (isinstance(value, str) and value.startswith("data:")):
            yield from _problems_at(key, key, value, where, pictures, 0)


def _problems_at(
    path: str, key: str, value: object, where: str, pictures: tuple[str, ...], depth: int
) -> Iterator[Problem]:
    """The problem of a value at `path` and of what lies within, at most two levels deep."""
    kind = _held(key, value, pictures)
    if kind:
        yield _problem(path, kind, value, where, bool(pictures))
    elif isinstance(value, dict) and depth < 2:
        for name, inner in value.items():
            yield from _problems_at(f"{path}.{name}", str(name), inner, where, pictures, depth + 1)
    elif isinstance(value, list) and depth < 2:
        items = (item for item in value[:8] if isinstance(item, dict))
        found = next((p for item in items for p in _problems_at(path, "", item, where, pictures, depth + 1)), None)
        if found is not None:
            yield found


def _held(key: str, value: object, pictures: tuple[str, ...]) -> str:
    """The kind of file that a value under `key` holds and `pictures` do not name, "" for none."""
    texts = list(_texts(value))
    if not texts:
        is_array = isinstance(value, list) and bool(value) and isinstance(value[0], list)
        return "image" if is_array and not pictures and key_kind(key) == "image" else ""
    if any(_DATA_URI.match(text) for text in texts):
        return "image"
    kind = key_kind(key)
    if not kind:
        return ""
    if kind in ("video", "audio"):
        return kind
    if not pictures and any(map(_MOVING_FILE.fullmatch, texts)):
        return "video"
    if pictures:
        names = {_stem(name) for name in pictures}
        others = [text for text in texts if is_picture_text(text) and not _URL.match(text)]
        return "image" if kind == "image" and any(_stem(text) not in names for text in others) else ""
    if kind == "image":
        return kind
    return "image" if any(is_picture_text(text) for text in texts) else ""


def _texts(value: object) -> Iterator[str]:
    """The texts of a value that may be files: itself, those of a list, and of objects that are pictures."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, list):
        for item in value[:8]:
            if isinstance(item, (str, dict)):
                yield from _texts(item)
    elif isinstance(value, dict):
        yield from (inner for name in INSIDE if isinstance(inner := value.get(name), str) and inner.strip())


def is_picture_text(text: str) -> bool:
    """Whether a text looks like the name, the URL or the content of a picture.

    >>> [is_picture_text(text) for text in ("a/b.PNG", "data:image/png;base64,AA", "a picture of a cat", "391895")]
    [True, True, False, False]
    """
    return bool(_PICTURE_FILE.fullmatch(text) or _DATA_URI.match(text) or _BASE64.match(text))


def _stem(name: str) -> str:
    return re.split(r"[/\\]", name)[-1].rpartition(".")[0]


def _problem(path: str, kind: str, value: object, where: str, has_pictures: bool) -> Problem:
    if kind != "image":
        expected, remedy = (
            "pictures, under 'image'",
            f"rows with {kind} cannot be trained on yet: remove the field or row",
        )
        return Problem(where, path, f"a {kind}, {shorten(value, 60)}", expected, remedy)
    if any(_DATA_URI.match(text) or _BASE64.match(text) for text in _texts(value)):
        remedy = "write it to a file: python -m open_r1.convert FILE --out DIR"
    elif has_pictures:
        remedy = "add it to 'images', or remove the field"
    else:
        ours = "images" if isinstance(value, list) else "image"
        remedy = f"rename the field to {ours!r}, or give --fields {ours}={path}"
    return Problem(where, path, f"a picture, {shorten(value, 60)}", "pictures under 'image' or 'images'", remedy)
