"""Ping a dead man's switch outside the host (healthchecks and similar services). Never raises, never takes long."""

from __future__ import annotations

import threading
import urllib.parse
import urllib.request

_SUFFIX = {"start": "/start", "success": "", "fail": "/fail"}
_BODY = 10000  # bytes that services keep


def address(url: str, event: str) -> str:
    """Return the URL of an event: the check's own for success, with /start or /fail behind it otherwise."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(path=parts.path.rstrip("/") + _SUFFIX[event]))


def send(url: str, event: str, text: str = "", timeout: float = 10) -> str:
    """Report an event (start, success, fail) to `url`. Returns "" or why that failed.

    The reason leaves the URL out: knowing it is enough to silence the switch. timeout: seconds for all of it, looking
    the name up included.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        return "the ping's address is neither http nor https"
    problems = [f"no answer within {timeout:g} seconds"]

    def post() -> None:
        request = urllib.request.Request(
            address(url, event),
            data=text.encode("utf-8", "replace")[:_BODY],
            headers={"User-Agent": "sauvegarde", "Content-Type": "text/plain; charset=utf-8"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                answer.read(1000)
            problems.clear()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not fail a backup
            problems[0] = str(error).replace(url, "…") or type(error).__name__

    thread = threading.Thread(target=post, daemon=True)
    thread.start()
    thread.join(timeout)
    return "".join(problems)
