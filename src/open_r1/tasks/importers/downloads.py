"""Downloads large archives over HTTP with resume and checksum, and unpacks them safely inside their folder."""

import hashlib
import http.client
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from open_r1.data.jsonl_io import atomic_write
from open_r1.errors import DataError, Problem, data_error

BLOCK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte
ProgressCallable = Callable[[int, int], None]  # (done, total)
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def download(
    url: str,
    path: Path,
    md5: str | None = None,
    watch: ProgressCallable = lambda done, total: None,
    attempts: int = 5,
    pause: float = 2.0,
) -> Path:
    """Downloads `url` to `path`; until it is complete its name is `path`.part.

    The part of an earlier run is continued by an HTTP Range request, and so is a broken connection, after `pause`
    seconds; `attempts` in a row without new bytes end the download. The size must be the server's, and the checksum
    `md5` where it is set.

    Raises DataError for a refusal of the server, a broken connection and a wrong checksum (the part is then deleted).
    """
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    remaining = attempts
    while True:
        before = _size(part)
        try:
            if _resume(url, part, watch):
                break
            reason = "the connection closed early"
        except _BROKEN as error:
            if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500:
                raise _download_error(url, f"HTTP status {error.code}", "correct the address") from error
            reason = str(error) or type(error).__name__
        remaining = attempts if _size(part) > before else remaining - 1
        if remaining <= 0:
            raise _download_error(url, f"{_size(part)} bytes, then: {reason}", "start again: the part is continued")
        time.sleep(pause)
    _verify(url, part, md5)
    return part.replace(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _resume(url: str, part: Path, watch: ProgressCallable) -> bool:
    """Appends the server's bytes after the end of `part`; returns whether the file is complete."""
    size = _size(part)
    if not url.startswith(("https://", "http://")):
        raise _download_error(url, "an address that is not of the web", "correct it", "http:// or https://")
    request = urllib.request.Request(url, headers={"Range": f"bytes={size}-"} if size else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # nosec B310 # of the web, as checked above
    except urllib.error.HTTPError as error:
        if error.code != 416:  # no bytes after the part: it is complete, or of another file
            raise
        is_complete = error.headers.get("Content-Range", "") == f"bytes */{size}"
        if not is_complete:
            part.unlink()
        return is_complete
    with response:
        start = size if response.status == 206 else 0  # a server without Range sends the file from its start
        total = start + int(response.headers.get("Content-Length") or -1 - start)
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise http.client.HTTPException(f"another range than asked for: {response.headers.get('Content-Range')}")
        return _append_to_part(response, part, start, total, watch)


def _append_to_part(
    response: http.client.HTTPResponse, part: Path, start: int, total: int, watch: ProgressCallable
) -> bool:
    with open(part, "ab" if start else "wb") as target:
        while block := response.read(BLOCK):
            target.write(block)
            watch(target.tell(), total)
        return total < 0 or target.tell() == total


def _verify(url: str, part: Path, md5: str | None) -> None:
    if md5 is None:
        return
    with open(part, "rb") as file:
        got = hashlib.file_digest(file, "md5").hexdigest()
    if got != md5:
        part.unlink()
        raise _download_error(url, f"a file with MD5 {got}", "start again: the file was deleted", f"MD5 {md5}")


def _download_error(url: str, got: str, remedy: str, expected: str = "the whole file") -> DataError:
    return data_error(url, "download", got, expected, remedy)


def unzip(
    archive: Path,
    folder: Path,
    select: Callable[[str], bool] = lambda name: True,
    watch: ProgressCallable = lambda d, t: None,
) -> None:
    """Unpacks the files of a ZIP archive that `select` accepts below `folder`; keeps existing files of equal size.

    All members are checked before the first is written. Raises DataError for a member outside `folder` or a link, and
    for a damaged archive.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _refuse_escapes(archive, members)
            files = [member for member in members if select(member.filename)]
            for done, member in enumerate(files, 1):
                _extract(opened, member, folder)
                watch(done, len(files))
    except (zipfile.BadZipFile, zlib.error) as error:
        raise data_error(str(archive), "archive", str(error), "a ZIP file", "delete it, start again") from error


def _refuse_escapes(archive: Path, members: Iterable[zipfile.ZipInfo]) -> None:
    expected, remedy = "files below the archive's folder", "do not use this archive"
    bad = [member.filename for member in members if _leaves_folder(member)]
    if bad:
        raise DataError([Problem(str(archive), "archive", repr(name), expected, remedy) for name in bad])


def _leaves_folder(member: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(member.filename)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    return is_link or path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in path.parts[0]


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Writes one member under another name until it is complete; zipfile compares its checksum at the end."""
    path = folder / member.filename
    if path.exists() and path.stat().st_size == member.file_size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, atomic_write(path) as target:
        shutil.copyfileobj(source, target, BLOCK)
