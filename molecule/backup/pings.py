"""A dead man's switch that only writes down who called, and when."""

import http.server
import time
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        with Path("/srv/pings").open("a") as file:
            print(time.time(), self.path, file=file)
        self.send_response(200)
        self.end_headers()


http.server.ThreadingHTTPServer(("", 8001), Handler).serve_forever()
