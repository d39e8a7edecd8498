"""First on the path of a child: it stops before it opens one more file for writing, and says so (`tests.helpers.stop`).

STOPS_AT is JSON: {pattern, after, said}. `pattern` is of whole paths, `after` how many such openings go on as always,
`said` a pipe that is told the number of the process that has stopped, and is closed by processes that end.
"""

import fnmatch
import json
import os
import signal
import sys

if "STOPS_AT" in os.environ:
    stop = json.loads(os.environ["STOPS_AT"])
    said = os.open(stop["said"], os.O_WRONLY)

    def seen(event: str, values: tuple) -> None:
        if event != "open" or not isinstance(values[0], str):
            return
        path, mode, flags = values
        writes = set(mode or "") & set("wxa+") or flags & (os.O_WRONLY | os.O_RDWR)
        if writes and fnmatch.fnmatch(os.path.abspath(path), stop["pattern"]):
            stop["after"] -= 1
            if stop["after"] == -1:
                os.write(said, f"{os.getpid()}\n".encode())
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(seen)
