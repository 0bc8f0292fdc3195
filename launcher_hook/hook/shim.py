"""``onDefineDomain``: the program that KubeVirt's sidecar-shim image runs for each call."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from launcher_hook.errors import HookError, one_line
from launcher_hook.hook.call import DomainHook, HookOptions
from launcher_hook.schema import load_schemas


def main(argv: Sequence[str] | None = None) -> int:
    """Print the domain that the hook server would answer with; give the exit status."""
    parser = argparse.ArgumentParser(
        prog="onDefineDomain", description="The hook, as KubeVirt's sidecar-shim runs it."
    )
    parser.add_argument("--vmi", required=True, metavar="JSON", help="the VMI itself, not a file")
    parser.add_argument("--domain", required=True, metavar="XML", help="the domain itself")
    arguments = parser.parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.CRITICAL)
    hook = DomainHook(HookOptions(), load_schemas())
    try:
        domain = hook.define(os.fsencode(arguments.domain), os.fsencode(arguments.vmi))
    except HookError as error:
        print(f"launcher-hook: {one_line(str(error))}", file=sys.stderr)  # noqa: T201
        return error.exit_status
    sys.stdout.buffer.write(domain)
    sys.stdout.buffer.flush()
    return 0
