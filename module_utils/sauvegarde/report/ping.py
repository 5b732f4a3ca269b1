"""A ping to a dead man's switch outside the host (healthchecks and its like). It never raises and never takes long."""

import threading
import urllib.parse
import urllib.request

_SUFFIX = {"start": "/start", "success": "", "fail": "/fail"}
_BODY = 10000  # bytes that services keep


def address(url, event):
    """The URL of an event: the check's own for success, /start and /fail behind it otherwise."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(path=parts.path.rstrip("/") + _SUFFIX[event]))


def send(url, event, text="", timeout=10):
    """Tell `url` of an event (start, success, fail). Returns "" or why it could not be told, the URL left out: whoever
    knows it can silence the switch.

    timeout: seconds for all of it, looking the name up included.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        return "the ping's address is neither http nor https"
    outcome = [f"no answer within {timeout:g} seconds"]

    def tell():
        request = urllib.request.Request(
            address(url, event),
            data=text.encode("utf-8", "replace")[:_BODY],
            headers={"User-Agent": "sauvegarde", "Content-Type": "text/plain; charset=utf-8"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                answer.read(1000)
            outcome[0] = ""
        except Exception as error:  # noqa: BLE001 - nothing that a ping meets may fail a backup
            outcome[0] = str(error).replace(url, "…") or type(error).__name__

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    thread.join(timeout)
    return outcome[0]
