"""A restore of 1 GB against what people use today, on a lab host; `_restore.py` measures there."""

import _host

if __name__ == "__main__":
    _host.run("_restore.py", packages="restic")
