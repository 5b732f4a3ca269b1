"""Move a Django site's data from one site to another: dumped and masked at the source, loaded into a side database that
the target's own migrations created, proven, and swapped in. The terms and guarantees are those of a restore."""
