"""Print output for users: colour on a terminal, plain lines in a log."""

from rich.console import Console

# Commands run as children write to the same stream: every line goes out at once, none is wrapped or reordered.
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line of progress."""
    console.print(text, style="cyan", markup=False)
    console.file.flush()


def heading(text: str) -> None:
    """Print the heading of a part of the work."""
    console.print(f"\n== {text}", style="bold", markup=False)
    console.file.flush()


def complain(what: str, why: str = "", fix: str = "") -> None:
    """Print an error: what happened, why, what to do."""
    errors.print(f"sauvegarde: {what}", style="bold red", markup=False)
    for label, text in (("Why", why), ("Fix", fix)):
        if text:
            errors.print(f"  {label}: " + text.replace("\n", "\n       "), markup=False)
