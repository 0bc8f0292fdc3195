"""One line an event: JSON with KubeVirt's keys, so that one query finds launcher and hook; text."""

import json
import logging
from datetime import UTC, datetime

from launcher_hook.errors import one_line

_KEYS = ("namespace", "name_", "uid", "pass", "resource", "socket", "devices", "duration_ms")


# What else than a line feed, which JSON escapes itself, may be taken for the end of a line.
_LINE_ENDS = {ord(c): f"\\u{ord(c):04x}" for c in "\x7f\x85\u2028\u2029"}


def added(record: logging.LogRecord) -> dict[str, object]:
    """What a call has added to its event."""
    values = {key.rstrip("_"): getattr(record, key, None) for key in _KEYS}
    return {key: value for key, value in values.items() if value not in (None, "")}


class JsonLines(logging.Formatter):
    """Prints component, level, msg, pos, timestamp, and what a call has added."""

    def format(self, record: logging.LogRecord) -> str:
        """Print one record on one line."""
        line: dict[str, object] = {
            "component": record.name,
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            "pos": f"{record.filename}:{record.lineno}",
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        line |= added(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False).translate(_LINE_ENDS)


class TextLines(logging.Formatter):
    """Prints level, message and what a call has added, for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Print one record on one line; where a defect happened is on the lines after it."""
        more = (
            f"{key}={','.join(map(str, value)) if isinstance(value, list) else value}"
            for key, value in added(record).items()
        )
        text = one_line(" ".join((record.levelname, record.getMessage(), *more)))
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
