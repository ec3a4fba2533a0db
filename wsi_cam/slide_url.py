"""A slide that is named by a URL: what counts as one, and what may be said of it in results."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from wsi_cam.errors import SettingsError

#: At least two letters: ``C://`` is a drive of Windows.
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
#: Their paths are percent-encoded; the keys of object stores are taken as they are.
_WEB = {"http", "https"}


@dataclass(frozen=True)
class SlideUrl:
    """The URL of a slide, without anything secret in it: it is written into results. See :func:`located`."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def protocol(self) -> str:
        """In lower case, such as ``s3``."""
        return self.text.partition("://")[0].lower()

    @property
    def name(self) -> str:
        """The last part of the path, decoded. It may hold anything but is never empty: no safe file name."""
        last = self.text.rpartition("/")[2]
        return unquote(last) if self.protocol in _WEB else last

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return os.path.splitext(self.name)[0]

    @property
    def suffix(self) -> str:
        """The ending of the name, such as ``.svs``, or nothing."""
        return os.path.splitext(self.name)[1]

    @property
    def folder_name(self) -> str:
        """The part of the path before the last, or the host."""
        return self.text.split("/")[-2]


def located(text: str) -> Path | SlideUrl:
    """A path or, for what begins with ``protocol://``, a URL; ``file://`` and ``local://`` are paths.

    Raises SettingsError for a URL that names no file, or that may hold a secret: it would be written into
    results, so it is not repeated in the message either.
    """
    found = _PROTOCOL.match(text)
    if found is None:
        return Path(text)
    protocol, rest = found[1].lower(), text[found.end() :]
    if protocol == "local":
        return Path(rest)
    if protocol == "file":
        return _local_path(text, rest)
    return _checked(protocol, text, rest)


def folder_name(location: Path | SlideUrl) -> str:
    """The name of the folder that a slide lies in."""
    return location.folder_name if isinstance(location, SlideUrl) else location.absolute().parent.name


def _local_path(text: str, rest: str) -> Path:
    # Not urlsplit: a file may have # and ? in its name.
    host, slash, path = rest.partition("/")
    if host.lower() not in ("", "localhost") or not slash:
        raise SettingsError(f"{text}: a file on this machine has three slashes: file:///folder/slide.svs")
    from urllib.request import url2pathname  # slow to import, and seldom wanted

    return Path(url2pathname("/" + path))


def _checked(protocol: str, text: str, rest: str) -> SlideUrl:
    shown = f"{protocol}://{rest.partition('?')[0].partition('#')[0].rpartition('@')[2]}"
    try:
        parts = urlsplit(text)
        secret = bool(parts.password) or (protocol in _WEB and "@" in parts.netloc)
    except ValueError as error:
        raise SettingsError(f"{shown}: this is no URL; check it") from error
    if secret or "?" in rest or "#" in rest:
        raise SettingsError(
            f"{shown}: a URL with a password, '?' or '#' may hold a secret, and URLs are written into "
            "results; give credentials by the environment or the configuration of fsspec"
        )
    if not text.isprintable() or "::" in rest or "*" in rest:
        raise SettingsError(f"{shown!r}: a URL names one file, without '*', '::' or control characters")
    url = SlideUrl(f"{protocol}://{rest}")
    if url.name.strip("./\\ ") == "" or "/" not in rest:
        raise SettingsError(f"{shown}: this URL names no file; folders and buckets are not searched")
    if url.suffix.lower() == ".csv":
        raise SettingsError(f"{shown}: a manifest has to be a local file; copy it, URLs may stand in it")
    return url
