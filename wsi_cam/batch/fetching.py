"""A slide that lies elsewhere is copied whole into a hidden folder of the run, for as long as it is needed.

Ranges of a remote file are never read: a network that stutters costs the copy, not patches. What is done to
the copy is done under the slide's lock.
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from wsi_cam.batch.locks import try_slide_lock
from wsi_cam.errors import OutputError, SettingsError, SlideError, WsiCamError, one_line
from wsi_cam.inputs import safe_name
from wsi_cam.slide_url import SlideUrl

log = logging.getLogger(__name__)

T = TypeVar("T")
StillAtIt = Callable[[bool], None]
"""Called several times a second, with whether anything has arrived since; may raise to give up."""

_FOLDER = ".fetched"
_TICK_S = 0.2
#: A source that sends nothing for so long is given up, and one that does not answer a question about a file.
SILENT_S = 120.0
_ANSWER_S = 30.0
#: Slides of several files; one of them is no slide.
_OF_SEVERAL_FILES = {".mrxs", ".dcm", ".vms", ".vmu"}
#: Names under which file systems give what changes when a file does; the first that is there counts.
_VERSIONS = ("etag", "md5hash", "content-md5", "generation", "digest")
_TIMES = ("last-modified", "lastmodified", "last_modified", "updated", "mtime", "modified")
_FULL = {errno.ENOSPC, errno.EDQUOT}


def require_protocol(url: SlideUrl) -> None:
    """Raises SettingsError, with what to install, where nothing here speaks the URL's protocol."""
    try:
        from fsspec import get_filesystem_class
    except ImportError as error:
        raise SettingsError(f"{url}: URLs need fsspec; pip install 'wsi-cam[remote]'") from error
    try:
        get_filesystem_class(url.protocol)
    except ImportError as error:
        raise SettingsError(
            f"{url}: {url.protocol}:// needs a package that is not installed ({one_line(error)}); "
            "for http and https: pip install 'wsi-cam[remote]'"
        ) from error
    except ValueError as error:
        raise SettingsError(f"{url}: fsspec knows no protocol {url.protocol}; check the URL") from error


def remote_facts(url: SlideUrl) -> dict[str, Any]:
    """What the source says of a file without sending it: ``size``, and ``version`` or ``modified`` if known.

    ``size`` is None where the source does not say it. Raises SlideError, or SettingsError for a protocol
    that needs another package.
    """
    require_protocol(url)
    try:
        info = _watched(lambda: _file_system(url).info(str(url)), lambda: 0, lambda arrived: None, _ANSWER_S)
    except WsiCamError:
        raise
    except Exception as error:  # noqa: BLE001
        # Every protocol has errors of its own, few of which are OSErrors. Not chained: addresses to which a
        # request was sent on may hold secrets, and the traceback is written to a log.
        raise SlideError(_why_not(url, error)) from None
    if info.get("type") == "directory":
        raise SlideError(f"{url}: this is a folder; copy it to this machine and name the copy")
    said = {str(name).lower(): value for name, value in info.items()}
    facts = {"size": said.get("size")}
    for kind, names in (("version", _VERSIONS), ("modified", _TIMES)):
        value = next((said[name] for name in names if said.get(name)), None)
        if value is not None:
            return {**facts, kind: str(value)}
    return facts


def fetch(url: SlideUrl, output: Path, sample_id: str, still_at_it: StillAtIt) -> tuple[Path, dict[str, Any]]:
    """Copy a slide to ``output/.fetched/<sample_id>/``; gives the copy and its :func:`remote_facts`.

    What lay there is removed first; what is copied stays, also after an error, until :func:`remove_fetched`.
    Raises SlideError naming the URL, OutputError where there is no room, SettingsError, or what
    ``still_at_it`` raises.
    """
    if url.suffix.lower() in _OF_SEVERAL_FILES:
        raise SlideError(
            f"{url}: a slide of this kind has several files; copy its folder to this machine and name that"
        )
    facts = remote_facts(url)
    remove_fetched(output, sample_id)
    copy = copy_path(url, output, sample_id)
    log.info("%s: fetching %s bytes", url, facts["size"])
    _make_room(copy, facts["size"], url)
    _copy(url, copy, still_at_it)
    size = copy.stat().st_size
    if facts["size"] is not None and size != facts["size"]:
        raise SlideError(
            f"{url}: {size} bytes came of {facts['size']}; run the same command again, it fetches it anew"
        )
    return copy, facts


def copy_path(url: SlideUrl, output: Path, sample_id: str) -> Path:
    """Where the copy of a slide lies while it is needed; whatever the URL, inside of ``output``."""
    # Readers go by the ending.
    suffix = url.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,10}", url.suffix) else ""
    return output / _FOLDER / sample_id / (safe_name(url.stem) + suffix)


def remove_fetched(output: Path, sample_id: str) -> None:
    """Remove the copy of a slide, if there is one."""
    shutil.rmtree(output / _FOLDER / sample_id, ignore_errors=True)
    with suppress(OSError):
        (output / _FOLDER).rmdir()


def clear_fetched(output: Path) -> None:
    """Remove the copies that no run works on: those of processes that were killed."""
    with suppress(OSError):
        for folder in list((output / _FOLDER).iterdir()):
            if lock := try_slide_lock(output, folder.name):
                remove_fetched(output, folder.name)
                lock.release()


def _file_system(url: SlideUrl) -> Any:
    import fsspec

    options: dict[str, Any] = {}
    if url.protocol in ("http", "https"):
        from aiohttp import ClientTimeout

        # aiohttp's own limit is five minutes for a whole download; silence is noticed in _watched.
        options["timeout"] = ClientTimeout(total=None, sock_connect=30)
    return fsspec.filesystem(url.protocol, **options)


def _make_room(copy: Path, size: int | None, url: SlideUrl) -> None:
    try:
        with suppress(FileNotFoundError):  # a run that ends has removed .fetched in this very moment
            copy.parent.mkdir(parents=True, exist_ok=True)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
        free = shutil.disk_usage(copy.parent).free
        if size is not None and size > free:
            raise OSError(errno.ENOSPC, f"{size} bytes are needed and {free} are free")
    except OSError as error:
        raise _unwritable(copy, url, error) from error


def _copy(url: SlideUrl, copy: Path, still_at_it: StillAtIt) -> None:
    def arrived() -> int:
        return copy.stat().st_size

    try:
        _watched(lambda: _file_system(url).get_file(str(url), str(copy)), arrived, still_at_it, SILENT_S)
    except WsiCamError:
        raise
    except Exception as error:
        # As in remote_facts.
        if isinstance(error, OSError) and error.errno in _FULL:
            raise _unwritable(copy, url, error) from error
        raise SlideError(_why_not(url, error)) from None


def _watched(
    work: Callable[[], T], arrived: Callable[[], int], still_at_it: StillAtIt, patience_s: float
) -> T:
    """What ``work`` gives, done in a thread that is left behind when it hangs or ``still_at_it`` raises.

    ``arrived`` tells how far it is. Raises TimeoutError when that stays the same for ``patience_s``.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # noqa: BLE001
            # Raised where the work was asked for.
            failure.append(error)

    thread = threading.Thread(target=run, name="wsi_cam-fetch", daemon=True)
    thread.start()
    before, heard = 0, time.monotonic()
    while thread.is_alive():
        thread.join(_TICK_S)
        has_grown = (now := arrived()) > before
        still_at_it(has_grown)
        if has_grown:
            before, heard = now, time.monotonic()
        elif time.monotonic() - heard > patience_s:
            raise TimeoutError(f"nothing came for {patience_s:g} s")
    if failure:
        raise failure[0]
    return result[0]


def _unwritable(copy: Path, url: SlideUrl, error: OSError) -> OutputError:
    return OutputError(
        f"{copy.parent}: no copy of {url} can be written ({error.strerror or one_line(error)})"
    )


def _why_not(url: SlideUrl, error: BaseException) -> str:
    """One line: why a slide cannot be fetched, and what to do."""
    if url.protocol in ("http", "https"):
        error = error.__cause__ or error  # whatever goes wrong there is first called a missing file
    status = _http_status(error)
    if status in (404, 410) or (status is None and isinstance(error, FileNotFoundError)):
        return f"{url}: there is no such file; check the URL"
    if status in (401, 403, 407) or isinstance(error, PermissionError):
        said = f"status {status}" if status else without_queries(one_line(error))
        return (
            f"{url}: it may not be read ({said}); give credentials as the protocol's package takes them "
            "(environment, configuration of fsspec)"
        )
    said = f"status {status}" if status else without_queries(one_line(error))
    return f"{url}: cannot be fetched ({said}); run the same command again when its source answers"


def _http_status(error: BaseException | None) -> int | None:
    """The status that a server gave, wherever in the chain of errors it is kept."""
    while error is not None:
        status = getattr(error, "status", None)
        if isinstance(status, int) and status:
            return status
        error = error.__cause__ or error.__context__
    return None


def without_queries(text: str) -> str:
    """A message without what follows a ``?`` in the URLs it names: signatures and tokens."""
    return re.sub(r"(\w+://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)
