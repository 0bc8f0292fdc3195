"""Made from hooks_v1alpha3.proto by ``make proto``: change that, not this."""

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


class PreCloudInitIsoParams(Message):
    __slots__ = ("cloudInitNoCloudSource", "vmi", "cloudInitData")
    FIELDS = (
        Field(1, "cloudInitNoCloudSource", "bytes"),
        Field(2, "vmi", "bytes"),
        Field(3, "cloudInitData", "bytes"),
    )

    def __init__(
        self,
        cloudInitNoCloudSource: bytes = b"",
        vmi: bytes = b"",
        cloudInitData: bytes = b"",
    ) -> None:
        self.cloudInitNoCloudSource = cloudInitNoCloudSource
        self.vmi = vmi
        self.cloudInitData = cloudInitData


class PreCloudInitIsoResult(Message):
    __slots__ = ("cloudInitNoCloudSource", "cloudInitData")
    FIELDS = (
        Field(1, "cloudInitNoCloudSource", "bytes"),
        Field(3, "cloudInitData", "bytes"),
    )

    def __init__(
        self,
        cloudInitNoCloudSource: bytes = b"",
        cloudInitData: bytes = b"",
    ) -> None:
        self.cloudInitNoCloudSource = cloudInitNoCloudSource
        self.cloudInitData = cloudInitData


class ShutdownParams(Message):
    __slots__ = ()


class ShutdownResult(Message):
    __slots__ = ()
