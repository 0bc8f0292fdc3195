"""Check domain XML: libvirt's schemas by version, the fault finder, rules over the whole domain.

`explain` stands in a module of its own, because it loads ``xmlschema``.
"""

from launcher_hook.schema.asked import check_options
from launcher_hook.schema.checks import check_written, look_before
from launcher_hook.schema.fault import Fault
from launcher_hook.schema.find import find_versions, load_schemas
from launcher_hook.schema.rules import rule_faults
from launcher_hook.schema.sets import SchemaSet, named_faults

__all__ = [
    "Fault",
    "SchemaSet",
    "check_options",
    "check_written",
    "find_versions",
    "load_schemas",
    "look_before",
    "named_faults",
    "rule_faults",
]
