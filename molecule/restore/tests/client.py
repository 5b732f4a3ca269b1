"""A site's process on the host: writes and counts in a loop, and connects anew when it was thrown out.

client.py DATABASE STOP_FILE: until the file is there; then one JSON line {written, counts, fences}: numbers written,
all the counts there were, and for each time it was thrown out [last number before, seconds without an answer].
"""

import json
import sys
import time
from pathlib import Path

import psycopg2

database, stop = sys.argv[1:]
connection = None
written, counts, fences = [], set(), []
number = 0
answered = time.monotonic()
thrown_out = False
while not Path(stop).exists():
    try:
        if connection is None:
            connection = psycopg2.connect(host="/var/run/postgresql", dbname=database)
            connection.autocommit = True
        with connection.cursor() as cursor:
            number += 1
            cursor.execute("INSERT INTO offers (title) VALUES (%s)", (f"written {number}",))
            cursor.execute("SELECT count(*) FROM offers WHERE title LIKE 'Offre%'")
            counts.add(cursor.fetchone()[0])
        if thrown_out:
            fences.append([written[-1], time.monotonic() - answered])
            thrown_out = False
        written.append(number)
        answered = time.monotonic()
    except psycopg2.Error:
        connection = None
        thrown_out = True
print(json.dumps({"written": written, "counts": sorted(counts), "fences": fences}))
