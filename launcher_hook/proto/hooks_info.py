"""Made from hooks_info.proto by ``make proto``: change that, not this."""

from collections.abc import Iterable

from launcher_hook.proto.wire import Field, Message


class InfoParams(Message):
    __slots__ = ()


class HookPoint(Message):
    __slots__ = ("name", "priority")
    FIELDS = (
        Field(1, "name", "string"),
        Field(2, "priority", "int32"),
    )

    def __init__(
        self,
        name: str = "",
        priority: int = 0,
    ) -> None:
        self.name = name
        self.priority = priority


class InfoResult(Message):
    __slots__ = ("name", "hookPoints", "versions")
    FIELDS = (
        Field(1, "name", "string"),
        Field(3, "hookPoints", HookPoint, repeated=True),
        Field(4, "versions", "string", repeated=True),
    )

    def __init__(
        self,
        name: str = "",
        hookPoints: Iterable[HookPoint] = (),
        versions: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.hookPoints: list[HookPoint] = list(hookPoints)
        self.versions: list[str] = list(versions)
