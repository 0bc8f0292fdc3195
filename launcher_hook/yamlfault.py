"""YAML in which no key is written twice, and what it has against a text, in one line for a person.

PyYAML takes the last of two values of one key without a word, and somebody's setting is lost.
"""

from typing import Any

import yaml


def refuse_double_keys(loader: type[yaml.SafeLoader]) -> type[yaml.SafeLoader]:
    """Make a loader that refuses a mapping with a key that stands in it twice."""

    class Loader(loader):  # type: ignore[misc, valid-type]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if (key.tag, key.value) in keys:
                    problem = f"key {key.value!r} is written twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                keys.add((key.tag, key.value))
            return super().construct_mapping(node, deep)

    return Loader


def explain_yaml(error: Exception) -> str:
    """Say what is wrong and where, without the parser's own names for the text.

    Args:
        error: What PyYAML raised: its own with a place, or whatever a constructor stumbled over.
    """
    problem = getattr(error, "problem", None)
    mark = getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return " ".join(str(error).split())
    context = getattr(error, "context", None)
    what = f"{context}, {problem}" if context else str(problem)
    return f"{' '.join(what.split())}, in line {mark.line + 1}, column {mark.column + 1}"
