"""Finds pictures, videos and sounds under keys that this project does not read, which would be lost. (torch-free)

A key is split into words: `imagePath`, `image_paths` and `IMG-FILE` are an image and a path or file. A key that says
nothing else (`image_path`, `img`, `image2`) names a picture whatever stands there, words excepted; one that says more
(`image_id`, `image_caption`) or less (`file_name`) does so only where its value looks like a file, a URL or bytes.
In a row without a picture, a value that is one by its looks or by an existing file is refused under every key.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import orjson

from open_r1.errors import Problem, shorten

PICTURE_KEY_WORDS = {"image", "img", "picture", "pic", "photo", "photograph", "pixel", "screenshot"}
PICTURE_KEY_WORDS |= {"jpg", "jpeg", "png", "webp"}
MOVING_WORDS = {
    "video": "video",
    "movie": "video",
    "clip": "video",
    "audio": "audio",
    "sound": "audio",
    "speech": "audio",
    "wav": "audio",
    "mp3": "audio",
    "mp4": "video",
}
CARRIER_WORDS = {"path", "file", "filename", "filepath", "name", "url", "uri", "link", "list", "src", "source", "data"}
CARRIER_WORDS |= {"base64", "b64", "byte", "value", "input", "raw", "decoded", "local", "relative", "absolute", "full"}
CARRIER_WORDS |= {"dir", "folder", "encoded", "string", "content"}
FILE_WORDS = {"file", "filename", "filepath", "path", "url", "uri", "src"}  # what says file, and not of what
OWN_KEYS = {"id", "image", "images", "conversations", "messages", "problem", "solution", "accu_reward_method"}
TEXT_KEYS = {
    "problem",
    "question",
    "query",
    "prompt",
    "instruction",
    "input",
    "solution",
    "answer",
    "response",
    "output",
}
TEXT_KEYS |= {"completion", "ground_truth", "target", "content", "text", "options", "choices", "answers"}
TEXT_ENDINGS = {".txt", ".md", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".html", ".yaml", ".yml", ".py", ".log"}
MAX_JSON = 10_000  # characters of a text that is looked into
INSIDE = "bytes", "path", "url", "base64"  # of an object that is a picture
_WORD = re.compile(r"[Mm][Pp][34]|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_JOINED = re.compile(r"(image|img|picture|pic|photo|video|audio)(s?(?:path|file|filename|filepath|name|url|uri)|)")
_PICTURE_FILE = re.compile(r"[^\n]{1,1000}\.(?:jpe?g|png|webp|bmp|gif|tiff?|heic|avif|svg)(?:\?\S*)?", re.I)
_MOVING_FILE = re.compile(r"[^\n]{1,1000}\.(?:mp4|avi|mov|mkv|webm|m4v|wav|mp3|flac|ogg|m4a|opus)(?:\?\S*)?", re.I)
_SOUND_ENDINGS = (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".opus")
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

    >>> [key_kind(key) for key in ("Image", "pixel_values", "videos", "mp4", "image_id", "file_name", "options")]
    ['image', 'image', 'video', 'video', 'image?', 'file?', '']
    """
    words = key_words(key)
    moving = next((MOVING_WORDS[word] for word in words if word in MOVING_WORDS), "")
    kind = moving or ("image" if words & PICTURE_KEY_WORDS else "")
    if not kind:
        return "file?" if words & FILE_WORDS else ""
    return kind if words <= PICTURE_KEY_WORDS | MOVING_WORDS.keys() | CARRIER_WORDS else f"{kind}?"


def media_problems(
    row: Mapping[str, object], where: str, pictures: tuple[str, ...], folder: str = ""
) -> Iterator[Problem]:
    """The problem of each key of a row that holds a picture, video or sound which the row's `pictures` do not, of
    which the files of its videos are some.

    In a row without pictures, a text that is the name of a file below `folder` is one too.
    """
    for key in [key for key in row if key not in OWN_KEYS]:
        if not (value := row[key]) or isinstance(value, (int, float)):
            continue
        if not pictures or isinstance(value, (dict, list)) or key_kind(key) or _is_data_uri(value):
            for problem in _problems_at(key, key, value, where, pictures, folder, 0):
                if not (pictures and "video" in key_words(key) and names_frame(row)):
                    yield problem


def _decoded(key: str, value: object) -> object:
    """The object or list that a text writes as JSON, else the value."""
    if not isinstance(value, str) or key in TEXT_KEYS or not value.startswith(("{", "[")) or len(value) > MAX_JSON:
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def _is_data_uri(value: object) -> bool:
    return isinstance(value, str) and value.startswith("data:")


def names_frame(row: Mapping[str, object]) -> bool:
    """Whether a row says which frame of a video its picture is."""
    return any(isinstance(row[key], (int, float, str)) and key_words(key) & {"frame", "timestamp"} for key in row)


def _problems_at(
    path: str, key: str, value: object, where: str, pictures: tuple[str, ...], folder: str, depth: int
) -> Iterator[Problem]:
    """The problem of a value at `path` and of what lies within, at most two levels deep."""
    kind = _held(key, value, pictures) or ("" if pictures or key in TEXT_KEYS else _shown(value, folder))
    if not kind and not pictures and depth < 2:
        value = _decoded(key, value)
    if kind:
        yield _problem(path, kind, value, where, bool(pictures))
    elif isinstance(value, dict) and depth < 2:
        for name, inner in value.items():
            yield from _problems_at(f"{path}.{name}", str(name), inner, where, pictures, folder, depth + 1)
    elif isinstance(value, list) and depth < 2:
        items = (item for item in value[:8] if isinstance(item, dict))
        inner = (p for item in items for p in _problems_at(path, "", item, where, pictures, folder, depth + 1))
        if (found := next(inner, None)) is not None:
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
    if not kind or all(_is_words(key, text) for text in texts):
        return ""
    if kind == "audio":
        return kind
    if kind == "video":
        names = {_stem(name) for name in pictures if _MOVING_FILE.fullmatch(name)}
        return "" if names and all(_stem(text) in names or not _is_moving(text) for text in texts) else kind
    if not pictures and any(map(_MOVING_FILE.fullmatch, texts)):
        return "video"
    if pictures:
        names = {_stem(name) for name in pictures}
        others = [text for text in texts if is_picture_text(text) and not _URL.match(text)]
        return "image" if kind == "image" and any(_stem(text) not in names for text in others) else ""
    if kind == "image":
        return kind
    return "image" if any(is_picture_text(text) for text in texts) else ""


def _is_moving(text: str) -> bool:
    """Whether a text looks like the file or the URL of a video or sound."""
    return bool(_MOVING_FILE.fullmatch(text) or _DATA_URI.match(text))


def _is_words(key: str, text: str) -> bool:
    """Whether a text under a key such as `picture` or `clip` is words, and no file: `a cat on a mat`, `first`."""
    if re.search(r"[/\\]|\.\w", text) or key_words(key) & CARRIER_WORDS or is_picture_text(text):
        return False
    return " " in text.strip() or (text.isalpha() and not key_words(key) & {"image", "img"})


def _shown(value: object, folder: str) -> str:
    """The kind of file that a value is by itself, whatever its key: by its ending, its bytes, or as a file there."""
    for text in _texts(value):
        if len(text) > 1000 or "\n" in text:
            if _DATA_URI.match(text) or _BASE64.match(text):
                return "image"
        elif "." in text[1:] or "/" in text[1:]:
            if text.count(" ") < 4 and _PICTURE_FILE.fullmatch(text):
                return "image"
            if text.count(" ") < 4 and (found := _MOVING_FILE.fullmatch(text)):
                return "audio" if found[0].lower().endswith(_SOUND_ENDINGS) else "video"
            if _is_data_uri(text) or _BASE64.match(text) or _is_file(text, folder):
                return "image"
        elif _BASE64.match(text):
            return "image"
    return ""


def _is_file(text: str, folder: str) -> bool:
    """Whether a text names a file below `folder` that is not one of text."""
    path = Path(folder, text)
    if not folder or len(text) > 255 or "\0" in text or ".." in text or path.suffix.lower() in TEXT_ENDINGS:
        return False
    return path.is_file()


def _texts(value: object) -> Iterator[str]:
    """The texts of a value that may be files: itself, those of a list, and of objects that are pictures."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, list):
        for item in value[:8]:
            if isinstance(item, (str, dict, list)):
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
    if kind == "audio":
        remedy = "rows with audio cannot be trained on yet: remove the field or row"
        return Problem(where, path, f"an audio, {shorten(value, 60)}", "pictures and videos", remedy)
    if kind == "video":
        ours = "videos" if isinstance(value, list) else "video"
        remedy = f"rename the field to {ours!r}, or give --fields {ours}={path}"
        if has_pictures:
            remedy = f"{remedy}; remove it where it is only the source of what the row shows"
        return Problem(where, path, f"a video, {shorten(value, 60)}", "videos under 'video' or 'videos'", remedy)
    if any(_DATA_URI.match(text) or _BASE64.match(text) for text in _texts(value)):
        remedy = "write it to a file: python -m open_r1.convert FILE --out DIR"
    elif any(map(_URL.match, _texts(value))):
        remedy = "download it below the image folder and write its path under 'image': nothing is fetched"
    elif not any(_texts(value)):
        remedy = "save the pictures as files, and write their paths under 'images'"
    elif has_pictures:
        remedy = "add it to 'images', or remove the field"
    else:
        ours = "images" if isinstance(value, list) else "image"
        remedy = f"rename the field to {ours!r}, or give --fields {ours}={path}"
    return Problem(where, path, f"a picture, {shorten(value, 60)}", "pictures under 'image' or 'images'", remedy)
