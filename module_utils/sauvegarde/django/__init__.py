"""A Django site's data: dumped, loaded, masked, compared and exported to fixtures.

Two halves. The outer one (`site`, `dump`, `load`, `proof`, `sets`) runs with the engine's own Python and never imports
Django. The inner one (`worker*`) runs in the site's virtual environment and is sent there through a pipe, so that
nothing is installed in it, and it needs no file of ours that the site's user could read. `fixture` and `masking` are
pure and serve both.
"""
