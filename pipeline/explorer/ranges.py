"""Answers to HTTP requests for a part of a file, which a player sends to jump in it."""

import re

from starlette.responses import Response

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def ranged(content: bytes, kind: str, asked: str | None, headers: dict[str, str]) -> Response:
    """The whole (200), the part (206), or what is wrong (416).

    Args:
        content: The whole file.
        kind: Its media type.
        asked: The request's Range header; several ranges or another unit get the whole, as
            RFC 9110, section 14.2 allows.
        headers: Of every answer.
    """
    headers = headers | {"Accept-Ranges": "bytes"}
    match = _RANGE.fullmatch(asked.strip()) if asked else None
    if not match or not (match[1] or match[2]):
        return Response(content, media_type=kind, headers=headers)
    total = len(content)
    if match[1]:
        first, last = int(match[1]), min(int(match[2] or total - 1), total - 1)
    else:  # the last so many bytes
        first, last = max(0, total - int(match[2])), total - 1
    if first > last:
        return Response(b"", 416, headers=headers | {"Content-Range": f"bytes */{total}"})
    headers |= {"Content-Range": f"bytes {first}-{last}/{total}"}
    return Response(content[first : last + 1], 206, headers=headers, media_type=kind)
