"""What YAML has against a text, in one line that a person can use. Only errors load it."""


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
