"""Tells the container of a video by its first bytes, and names a file that is none. (torch-free)"""

PROBED_BYTES = 512  # of the file that are looked at
PICTURE_MAGIC = {b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"II*\x00": "TIFF", b"MM\x00*": "TIFF"}
ARCHIVE_MAGIC = {b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf": "a 7z archive"}
SOUND_MAGIC = {
    b"ID3": "MP3",
    b"fLaC": "FLAC",
    b"#!AMR": "AMR",
    b"MThd": "MIDI",
    b"caff": "CAF",
    b"wvpk": "WavPack",
    b"MAC ": "Monkey's Audio",
}
SOUND_FORMS = {
    (b"RIFF", b"WAVE"): "WAV",
    (b"RF64", b"WAVE"): "WAV",
    (b"FORM", b"AIFF"): "AIFF",
    (b"FORM", b"AIFC"): "AIFF",
}
PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")
ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # of MP4 and QuickTime, behind a length
CONTAINER_MAGIC = {
    b"\x1aE\xdf\xa3": "mkv",
    b"GIF8": "gif",
    b"FLV\x01": "flv",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "wmv",
    b"OggS": "ogv",
    b"\x00\x00\x01\xba": "mpg",
    b"\x00\x00\x01\xb3": "mpg",
    b"\x06\x0e\x2b\x34": "mxf",
    b".RMF": "rm",
    b"DKIF": "ivf",
    b"YUV4MPEG2": "y4m",
    b"\x00\x00\x00\x01": "h264",  # or HEVC, without a container
}
PACKET_BYTES = {188: 0, 192: 4}  # of MPEG-TS: length of a packet -> where its sync byte stands


def video_ending(head: bytes) -> str | None:
    """The ending of a file of videos, by its first PROBED_BYTES; None for what is no container that is known here.

    >>> video_ending(b"\\0\\0\\0\\x20ftypisom"), video_ending(b"RIFF....AVI LIST"), video_ending(b"RIFF....WAVE")
    ('mp4', 'avi', None)
    """
    if head[4:8] in ATOMS:
        return None if head[8:12] in PICTURE_BRANDS else "mp4"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if any(len(head) > 2 * size and head[at::size][:2] == b"GG" for size, at in PACKET_BYTES.items()):
        return "ts"
    return next((ending for magic, ending in CONTAINER_MAGIC.items() if head.startswith(magic)), None)


def no_video(head: bytes) -> tuple[str, str] | None:
    """(what a file that is no video is, what helps), by its first PROBED_BYTES; None for what may be one.

    >>> no_video(b"%PDF-1.7")
    ('a PDF', 'name the file of the video')
    """
    if (sound := sound_kind(head)) is not None:
        return f"sound without pictures ({sound})", "name the file of the video, or remove the row"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, without the video", "fetch the videos: git lfs pull"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page", "download the video itself: the link leads to a page, or asks for a login"
    if text.startswith((b"{", b"[")):
        return "JSON", "download the video itself: this is an answer of a server, or another file"
    if text.startswith(b"#extm3u"):
        return "a playlist, which names other files", "download the video itself, as one file"
    if head.startswith(b"%PDF"):
        return "a PDF", "name the file of the video"
    kind = next((name for magic, name in PICTURE_MAGIC.items() if head.startswith(magic)), None)
    if head[4:8] == b"ftyp" and head[8:12] in PICTURE_BRANDS:
        kind = "HEIC or AVIF"
    if kind is not None:
        return f"a still picture ({kind})", "name it under 'image', or list the pictures of the frames under 'video'"
    archive = next((name for magic, name in ARCHIVE_MAGIC.items() if head.startswith(magic)), None)
    return (archive, "unpack it, and name the file of the video") if archive else None


def sound_kind(head: bytes) -> str | None:
    """The name of the sound that a file of sound alone begins with, None for what may be another file. Sound within
    containers that hold videos too (M4A, Ogg, WMA) is not told by its first bytes.

    >>> sound_kind(b"ID3\\x04"), sound_kind(bytes([0xFF, 0xFB, 0x90, 0x64])), sound_kind(b"\\xff\\xd8\\xff\\xe0")
    ('MP3', 'MP3', None)
    """
    named = next((name for magic, name in SOUND_MAGIC.items() if head.startswith(magic)), None)
    return named or SOUND_FORMS.get((head[:4], head[8:12])) or _frame_kind(head)


def _frame_kind(head: bytes) -> str | None:
    """MP3 or AAC, by the header of the first frame: 12 bits of ones, the layer, and values that headers may have."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer, bitrate, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    if layer == 0:
        return "AAC" if head[1] & 0xF0 == 0xF0 and (head[2] >> 2 & 15) < 13 else None
    is_audio = version != 1 and layer != 3 and 0 < bitrate < 15 and rate != 3
    return "MP3" if is_audio else None
