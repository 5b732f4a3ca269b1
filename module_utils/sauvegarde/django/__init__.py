"""Dump, load, mask and compare a Django site's data, and export it to fixtures.

The outer half (this package) runs with the engine's own Python and never imports Django: `site` starts the worker,
`data_dump` and `data_load` move data, `fixture_sets` exports fixtures, `fixture_fingerprint` compares. The inner half
(`worker`) runs in the site's virtual environment. Its source is sent there through a pipe, so nothing is installed, and
the site's user needs no access to the engine's files. `worker_request` defines what the halves exchange;
`fixture_stream` and `masking` serve both.
"""
