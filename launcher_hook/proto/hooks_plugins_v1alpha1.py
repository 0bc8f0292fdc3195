"""Made from hooks_plugins_v1alpha1.proto by ``make proto``: change that, not this."""

from launcher_hook.proto.wire import Field, Message


class SidecarContext(Message):
    __slots__ = ("invocation_context",)
    FIELDS = (
        Field(1, "invocation_context", "string"),
    )

    def __init__(
        self,
        invocation_context: str = "",
    ) -> None:
        self.invocation_context = invocation_context


class MutateDomainRequest(Message):
    __slots__ = ("domain_type", "domain", "vmi", "sidecar_context")
    FIELDS = (
        Field(1, "domain_type", "string"),
        Field(2, "domain", "bytes"),
        Field(3, "vmi", "bytes"),
        Field(4, "sidecar_context", SidecarContext),
    )

    def __init__(
        self,
        domain_type: str = "",
        domain: bytes = b"",
        vmi: bytes = b"",
        sidecar_context: SidecarContext | None = None,
    ) -> None:
        self.domain_type = domain_type
        self.domain = domain
        self.vmi = vmi
        self.sidecar_context = sidecar_context


class MutateDomainResponse(Message):
    __slots__ = ("domain",)
    FIELDS = (
        Field(1, "domain", "bytes"),
    )

    def __init__(
        self,
        domain: bytes = b"",
    ) -> None:
        self.domain = domain
