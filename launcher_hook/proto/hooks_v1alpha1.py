"""Made from hooks_v1alpha1.proto by ``make proto``: change that, not this."""

from launcher_hook.proto.wire import Field, Message


class OnDefineDomainParams(Message):
    __slots__ = ("domainXML", "vmi")
    FIELDS = (
        Field(1, "domainXML", "bytes"),
        Field(2, "vmi", "bytes"),
    )

    def __init__(
        self,
        domainXML: bytes = b"",
        vmi: bytes = b"",
    ) -> None:
        self.domainXML = domainXML
        self.vmi = vmi


class OnDefineDomainResult(Message):
    __slots__ = ("domainXML",)
    FIELDS = (
        Field(1, "domainXML", "bytes"),
    )

    def __init__(
        self,
        domainXML: bytes = b"",
    ) -> None:
        self.domainXML = domainXML
