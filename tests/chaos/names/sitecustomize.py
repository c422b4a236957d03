"""Python imports this at its start if it is on the path: names below ``.chaos`` are looked up in a file.

The file named by CHAOS_NAMES holds a JSON object, read at every look-up: ``{"a.chaos": {"addresses": ["127.0.0.2"],
"seconds": 0}}``. A name without addresses is not known; ``seconds`` is how long the answer takes. So a test changes the
DNS without changing the machine; everything above the resolver is as always.

NOTE: ``socket`` and gevent's resolver both look the function up in ``_socket``, and gevent does so later than this.
"""

import _socket
import json
import os
import time
from pathlib import Path
from typing import Any

_real = _socket.getaddrinfo


def _look_up(host: Any, port: Any, *more: Any, **named: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    if not isinstance(name, str) or not name.endswith(".chaos"):
        return _real(host, port, *more, **named)
    entry = json.loads(Path(os.environ["CHAOS_NAMES"]).read_text()).get(name, {})
    time.sleep(entry.get("seconds", 0))
    if not entry.get("addresses"):
        raise _socket.gaierror(_socket.EAI_NONAME, "Name or service not known")
    return [info for address in entry["addresses"] for info in _real(address, port, *more, **named)]


if "CHAOS_NAMES" in os.environ:
    _socket.getaddrinfo = _look_up
