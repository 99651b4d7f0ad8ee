"""Reads what a web address answers, and notices when it does not arrive whole."""

import http.client
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tfpt.weights.package_index import CONNECT_SECONDS, SourceError

_CHUNK = 1 << 20


def download(url: str, path: Path, *, token: str = "") -> None:
    """Writes what an address answers into a file.

    Args:
        url: the address.
        path: the file; its folder exists.
        token: says who asks. It is not shown to whom the address redirects to.

    Raises:
        SourceError: there is no answer within seconds, or the connection breaks.
    """
    with _answer(url, token) as answer, path.open("wb") as file:
        while True:
            try:
                chunk = answer.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise SourceError(f"the connection broke ({error})") from error
            if not chunk:
                break
            file.write(chunk)
        expected = answer.headers.get("Content-Length")
        if expected and file.tell() != int(expected):
            raise SourceError(f"the connection broke after {file.tell()} of {expected} bytes")
        file.flush()
        os.fsync(file.fileno())


def download_json(url: str, *, token: str = "") -> Any:
    """Returns what an address answers, as JSON.

    Raises:
        SourceError: there is no answer within seconds, or it is something else.
    """
    with _answer(url, token) as answer:
        try:
            return json.load(answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceError(f"its answer cannot be read ({error})") from error


def _answer(url: str, token: str) -> Any:
    request = urllib.request.Request(url)
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        return urllib.request.urlopen(request, timeout=CONNECT_SECONDS)
    except urllib.error.HTTPError as error:
        raise SourceError(f"it answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SourceError(f"it cannot be reached ({getattr(error, 'reason', error)})") from error
