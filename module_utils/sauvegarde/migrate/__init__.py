"""Move a Django site's data from one site to another: dumped and masked at the source, put into a side database that
the target's own migrations made, proven, and swapped in. The words and the guarantees are those of `restore`."""
