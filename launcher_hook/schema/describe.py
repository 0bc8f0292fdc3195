"""Say in words what a pattern allows."""

from launcher_hook.schema.pattern import Choice, Data, Grammar, Nothing, Pattern, Ref, Text, Value

# The names under which basictypes.rng and domaincommon.rng define what people get wrong most.
_IN_WORDS = {
    "pciDomain": "0x0000 to 0xffffffff",
    "pciBus": "0x00 to 0xff",
    "pciSlot": "0x00 to 0x1f",
    "pciFunc": "0x0 to 0x7",
    "uint8": "0 to 255, or 0x00 to 0xff",
    "uint16": "0 to 65535, or 0x0000 to 0xffff",
    "uint32": "0 to 4294967295, or 0x00000000 to 0xffffffff",
    "UUID": "a UUID, e.g. 4fac1d3e-6f3a-4d43-8f0e-9d1a4e6b2c10",
    "aliasName": "letters, digits, '_', '-' and '.'",
    "absFilePath": "an absolute path",
    "unsignedInt": "a decimal number from 0",
    "unsignedLong": "a decimal number from 0",
    "positiveInteger": "a decimal number from 1",
    "memoryKB": "a decimal number",
    "macAddr": "a MAC address, e.g. 52:54:00:12:34:56",
    "uniMacAddr": "a MAC address, e.g. 52:54:00:12:34:56",
}

_MOST_WORDS = 16


def describe(grammar: Grammar, content: Pattern) -> str:
    """Allowed texts: ``0x00 to 0x1f``, ``on or off``, ``text like [0-7]+``."""
    match content:
        case Ref(name):
            return _IN_WORDS.get(name) or describe(grammar, grammar.defines.get(name, Text()))
        case Choice(parts):
            words = [part.text for part in parts if isinstance(part, Value)]
            others = [describe(grammar, part) for part in parts if not isinstance(part, Value)]
            return ", or ".join(dict.fromkeys([*([one_of(words)] if words else []), *others]))
        case Value(text):
            return text
        case Nothing():
            return "nothing"
        case Data():
            return _describe_data(content)
        case _:
            return "text"


def one_of(words: list[str]) -> str:
    """``on or off``; ``one of pci, usb, scsi``."""
    if len(words) < 3:
        return " or ".join(words)
    more = ", ..." if len(words) > _MOST_WORDS else ""
    return f"one of {', '.join(words[:_MOST_WORDS])}{more}"


def _describe_data(data: Data) -> str:
    params = dict(data.params)
    if "pattern" in params:
        return f"text like {params['pattern']}"
    low, high = params.get("minInclusive"), params.get("maxInclusive")
    if low or high:
        bounds = [f"from {low}" if low else "", f"to {high}" if high else ""]
        return " ".join(["a decimal number", *filter(None, bounds)])
    return "text" if data.type == "string" else f"a value of type {data.type}"
