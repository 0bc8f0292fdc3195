"""Which companions come along where iommufd opens a device."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import pytest

from launcher_hook.iommufd import Openable, leave_out_companions
from launcher_hook.model import Assignment, HostFacts, HostFunction, PresentHostdev
from launcher_hook.pci import PciAddress
from launcher_hook.settings import DeviceOptions, Settings

GPU = PciAddress.parse("0000:86:00.0")
AUDIO = GPU.with_function(1)
OTHER = PciAddress.parse("0000:af:00.0")
COMPANION = Assignment(AUDIO, "ua-pci-0000-86-00-1", "companion", is_companion=True)
YES, NO = DeviceOptions(driver_iommufd="yes"), DeviceOptions(driver_iommufd="no")


def facts(**cdevs: str | None) -> HostFacts:
    """A GPU with audio in group 42, and one alone in group 71."""
    names = {GPU: cdevs.get("gpu", "vfio0"), AUDIO: cdevs.get("audio", "vfio1"), OTHER: "vfio2"}
    groups = {GPU: 42, AUDIO: 42, OTHER: 71}
    return HostFacts(
        known=True,
        functions={
            address: HostFunction(address, iommu_group=groups[address], vfio_device=name)
            for address, name in names.items()
        },
    )


def device(written: Literal["yes", "no"] | None = None, *, is_claimed: bool = False) -> Assignment:
    present = PresentHostdev(GPU, "ua-gpu-g", None, iommufd=written)
    return Assignment(GPU, "ua-gpu-g", "test", name="g", present=present, is_claimed=is_claimed)


def run(
    given: Assignment,
    *,
    by_default: bool = False,
    options: Mapping[str, DeviceOptions] | None = None,
    companions: Literal["attach", "always"] = "attach",
    known: HostFacts | None = None,
) -> Openable:
    settings = Settings(devices=options or {}, companions=companions)
    other = Assignment(OTHER, "ua-gpu-other", "test", name="other")
    return leave_out_companions(
        [given, COMPANION, other], known or facts(), settings, by_default=by_default
    )


def comes_along(openable: Openable) -> bool:
    kept = [assignment.source for assignment in openable.assignments]
    assert kept in ([GPU, AUDIO, OTHER], [GPU, OTHER])  # what is allocated always is attached
    assert len(openable.warnings) == (kept == [GPU, OTHER])
    return AUDIO in kept


@pytest.mark.parametrize("is_claimed", [False, True], ids=["resource", "claim"])
def test_by_its_group_a_function_is_opened_with_its_companions(is_claimed: bool) -> None:
    assert comes_along(run(device(is_claimed=is_claimed)))
    assert comes_along(run(device("no", is_claimed=is_claimed)))


@pytest.mark.parametrize("is_claimed", [False, True], ids=["resource", "claim"])
@pytest.mark.parametrize("written", [None, "yes"])
def test_with_kubevirts_gate_the_pod_has_the_allocated_functions_node_only(
    written: Literal["yes"] | None, is_claimed: bool
) -> None:
    openable = run(device(written, is_claimed=is_claimed), by_default=True)
    assert not comes_along(openable)
    assert openable.warnings == (
        "0000:86:00.1 comes along with ua-gpu-g, and is not attached: iommufd opens it through a "
        "device node of its own, which the pod may not have; write companions: always if the "
        "device plugin is launcher-hook's or NVIDIA's, which give the nodes of the whole IOMMU "
        "group",
    )


def test_the_configuration_says_that_the_pod_has_every_node() -> None:
    assert comes_along(run(device(), by_default=True, companions="always"))
    assert comes_along(run(device(is_claimed=True), by_default=True, companions="always"))


def test_an_option_alone_works_only_with_a_plugin_that_gives_the_whole_group() -> None:
    """Without KubeVirt's gate /dev/iommu comes from such a plugin; from a DRA driver alone."""
    assert comes_along(run(device(), options={"g": YES}))
    assert comes_along(run(device("yes"), options={"g": YES}))  # the next pass
    assert not comes_along(run(device(is_claimed=True), options={"g": YES}))
    assert not comes_along(run(device(), by_default=True, options={"g": YES}))
    assert comes_along(run(device(), by_default=True, options={"g": NO}))


@pytest.mark.parametrize(
    ("written", "by_default", "how"),
    [("yes", False, "by iommufd"), ("no", True, "by its IOMMU group")],
)
@pytest.mark.parametrize("companions", ["attach", "always"])
def test_no_group_is_opened_in_two_ways(
    written: Literal["yes", "no"],
    by_default: bool,
    how: str,
    companions: Literal["attach", "always"],
) -> None:
    openable = run(device(written), by_default=by_default, companions=companions)
    assert not comes_along(openable)
    assert f"ua-gpu-g is opened {how}, otherwise than the domain says" in openable.warnings[0]


def test_a_function_without_a_node_does_not_come_along() -> None:
    openable = run(device(), by_default=True, companions="always", known=facts(audio=None))
    assert not comes_along(openable)
    assert "and the node has none for it" in openable.warnings[0]
    # Linux before 6.1 shows no device node of any.
    unknown = facts(audio=None, gpu=None)
    assert comes_along(run(device(), by_default=True, companions="always", known=unknown))


def test_what_the_configuration_says_of_one_that_is_left_out_keeps_no_vm_from_starting() -> None:
    slots = {str(AUDIO).upper(): GPU, "g": GPU}
    options = {"pci-0000-86-00-1": DeviceOptions(rom_bar="off"), "g": DeviceOptions(rom_bar="on")}
    settings = replace(Settings(), slots=slots, devices=options)
    openable = leave_out_companions([device(), COMPANION], facts(), settings, by_default=True)
    assert openable.settings == replace(
        settings, slots={"g": GPU}, devices={"g": DeviceOptions(rom_bar="on")}
    )


def test_without_companions_nothing_is_looked_at() -> None:
    settings = Settings(devices={"nobody": YES})
    openable = leave_out_companions([device()], HostFacts(), settings, by_default=True)
    assert openable == Openable((device(),), settings)
