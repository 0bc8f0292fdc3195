"""One JSON line an event, with KubeVirt's keys, so that one query finds launcher and hook."""

import json
import logging
from datetime import UTC, datetime

_KEYS = ("namespace", "name_", "uid", "pass", "resource", "socket", "devices", "duration_ms")


class JsonLines(logging.Formatter):
    """Prints component, level, msg, pos, timestamp, and what a call has added."""

    def format(self, record: logging.LogRecord) -> str:
        """Print one record on one line."""
        line = {
            "component": record.name,
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            "pos": f"{record.filename}:{record.lineno}",
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        for key in _KEYS:
            value = getattr(record, key, None)
            if value not in (None, ""):
                line[key.rstrip("_")] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
