"""The configuration's model: keys, values and what they mean. Imported only when there is one."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from launcher_hook.errors import shorten
from launcher_hook.model import Companions, Layout, Managed, Settings
from launcher_hook.pci import BDF_EXAMPLE, PciAddress


def _parse_guest_address(value: Any) -> PciAddress:
    if isinstance(value, PciAddress):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{shorten(value)} is not a guest address; {BDF_EXAMPLE}")
    return PciAddress.parse(value)


GuestAddress = Annotated[PciAddress, BeforeValidator(_parse_guest_address)]


class Config(BaseModel):
    """What a user may say about passed-through devices."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)

    layout: Layout = Field(
        default="auto",
        description="Where devices go in the guest: root-port puts each host slot behind a "
        "pcie-root-port of its own, root-bus puts it on bus 0; auto is root-port on q35 and "
        "virt, root-bus on i440fx.",
    )
    companions: Companions = Field(
        default="attach",
        description="Other functions of an allocated function's slot (GPU audio, USB, UCSI) that "
        "share its IOMMU group and are bound to vfio-pci: attach or ignore.",
    )
    managed: Managed = Field(
        default="yes",
        description="libvirt's managed attribute: yes lets libvirt bind and reset the function, "
        "keep leaves what the launcher wrote.",
    )
    slots: dict[str, GuestAddress] = Field(
        default_factory=dict,
        description="Guest addresses by device name, alias, host BDF or mdev UUID, e.g. "
        '{gpu0: "0000:00:08.0"}.',
    )

    def settings(self) -> Settings:
        """Give the plain values that the rest of the program works with."""
        return Settings(self.layout, self.managed, self.companions, dict(self.slots))
