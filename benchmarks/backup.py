"""A `pg_dump` job of 1 GB against what people use today, on a lab host; `_backup.py` measures there.

An argument says how often the rows are in the database, 4 to see that memory does not grow with it: then only the job
itself is measured.
"""

import sys

import _host

if __name__ == "__main__":
    _host.run("_backup.py", *sys.argv[1:2])
