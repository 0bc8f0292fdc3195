"""Fuzzes one target in this process, guided by what of launcher_hook its inputs reach.

``python -m fuzz.child TARGET SECONDS CORPUS... FINDINGS``; what was found is in FINDINGS, an input
and a trace each, and the fuzzer goes on. It ends by itself, or by libxml2's crash.
"""

import gc
import logging
import pkgutil
import resource
import sys
import time
import traceback
import zlib
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from random import Random

import atheris

MOST_CPU_S = 5.0
"""Of an instrumented input; the replay, which is not, has the limit that counts."""

# Not of a target, or what is not installed.
_LEFT_OUT = (
    "launcher_hook.libvirt_check",
    "launcher_hook.cli",
    "launcher_hook.deviceplugin.endpoint",
)


def import_instrumented() -> None:
    """Import all of the program that somebody's bytes reach, also what is imported late."""
    import launcher_hook

    for module in pkgutil.walk_packages(launcher_hook.__path__, "launcher_hook."):
        if module.name not in _LEFT_OUT:
            import_module(module.name)


class Findings:
    """One input for each place and kind of trouble."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: set[str] = set()

    def note(self, data: bytes, error: BaseException) -> None:
        """Keep the input and the trace, if it is new."""
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-4:]]
        key = f"{type(error).__name__} {' '.join(places)}"
        if key in self._seen:
            return
        self._seen.add(key)
        stem = self._directory / f"{zlib.crc32(key.encode()):08x}"
        stem.with_suffix(".bin").write_bytes(data)
        stem.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))


def main() -> None:
    name, seconds, corpus, findings = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=["launcher_hook"]):
        import_instrumented()
        target = import_module("fuzz.target").load_target(name)
    found = Findings(findings)

    def run(data: bytes) -> None:
        start = time.process_time()
        try:
            target.check(data)
        except Exception as error:
            found.note(data, error)
        cpu_s = time.process_time() - start
        if cpu_s > MOST_CPU_S:
            with suppress(TimeoutError):
                raise TimeoutError(f"{cpu_s:.1f} s of CPU")
            found.note(data, TimeoutError(f"{cpu_s:.1f} s of CPU"))

    dictionary = findings / "words.dict"
    lines = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
    dictionary.write_text("".join(f'"{line}"\n' for line in lines))
    gc.disable()  # libFuzzer compares the coverage of two runs of one input
    counter = 0

    def collecting(data: bytes) -> None:
        nonlocal counter
        counter += 1
        if counter % 500 == 0:
            gc.collect()
        run(data)

    def change(data: bytes, most_bytes: int, seed: int) -> bytes:
        """Every other input is made by the target, where it can; a fuzzer makes the rest."""
        random = Random(seed)
        if random.random() < 0.5:
            other = bytes(target.change(data, random))
            if len(other) <= most_bytes:
                return other
        return bytes(atheris.Mutate(data, most_bytes))

    options = [
        f"-max_total_time={seconds}",
        f"-dict={dictionary}",
        f"-artifact_prefix={findings}/crash-",
        "-timeout=60",
        "-rss_limit_mb=2048",
        "-max_len=65536",
        "-len_control=20",
        "-print_final_stats=1",
    ]
    more = {} if target.change is None else {"custom_mutator": change}
    atheris.Setup([sys.argv[0], *options, corpus], collecting, **more)
    atheris.Fuzz()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
