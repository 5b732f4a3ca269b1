"""Give tests the commands of the documentation."""

import pytest


@pytest.fixture
def page_blocks(request):
    """The blocks of the pages whose markers name this test, in order. A test that takes them runs them."""
    from sauvegarde_cli import pages

    path = request.path.relative_to(pages.ROOT).as_posix()
    return pages.run_by(f"{path}::{request.function.__name__}")
