"""A node, as the layers above ask about it: its ``/sys`` or a snapshot of that, all the same.

What cannot be read, or is no value that Linux writes, is None: not known, never guessed.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import replace

from launcher_hook.model import HostFacts, HostFunction, HostSource, MediatedDevice
from launcher_hook.pci import MAX_FUNCTION, PciAddress


class Host(ABC):
    """The PCI functions, IOMMU groups and mediated devices of one node."""

    @property
    @abstractmethod
    def known(self) -> bool:
        """Whether PCI functions can be seen at all; if not, absence means nothing."""

    @abstractmethod
    def addresses(self) -> tuple[PciAddress, ...]:
        """Every function's address, in order; names that are no addresses are left out.

        Raises:
            HostError: The functions are there but cannot be listed.
        """

    @abstractmethod
    def function(self, address: PciAddress) -> HostFunction | None:
        """Read one function.

        Returns:
            None if the (known) node has no such function, or it goes while it is read. Without
            a known node: the function with no fact about it.
        """

    @abstractmethod
    def group_addresses(self, groups: Collection[int]) -> Mapping[PciAddress, int]:
        """The PCI functions in some IOMMU groups, with their group.

        Raises:
            HostError: The functions are there but cannot be listed.
        """

    @abstractmethod
    def is_in_group(self, address: PciAddress, iommu_group: int) -> bool | None:
        """Whether a group still lists a function; None where that cannot be seen."""

    @abstractmethod
    def answers(self, address: PciAddress) -> bool | None:
        """Whether a function answers: one whose configuration space reads all ones does not.

        Returns:
            None where that cannot be seen.
        """

    @abstractmethod
    def bars64(self, address: PciAddress) -> tuple[int, ...] | None:
        """The size in bytes of each 64-bit memory BAR of a function, in order.

        Returns:
            None where that cannot be seen.

        Raises:
            HostError: They are no sizes that a BAR can have, or the node has no room for one.
        """

    @abstractmethod
    def mdev_exists(self, uuid: str) -> bool | None:
        """Whether a mediated device exists; None where the node shows no such devices at all."""

    @abstractmethod
    def mediated_device(self, uuid: str) -> MediatedDevice | None:
        """Read a mediated device; None for one that is not there."""

    @abstractmethod
    def node_cpus(self, node: int) -> Set[int] | None:
        """The CPUs of a NUMA node; None where that is not known."""

    @abstractmethod
    def mdev_uuids(self) -> tuple[str, ...] | None:
        """The UUID (lower case) of every mediated device, in order.

        Returns:
            None where the node shows no such devices at all.
        """

    def functions(self, vendors: Collection[int] | None = None) -> tuple[HostFunction, ...]:
        """Every function, in order.

        Args:
            vendors: Only functions of these vendors, those whose vendor is not known, and those
                that share an IOMMU group with one of them.

        Raises:
            HostError: The functions are there but cannot be listed.
        """
        functions = [f for f in map(self.function, self.addresses()) if f is not None]
        if vendors is None:
            return tuple(functions)
        wanted = {f.address for f in functions if f.vendor_id in vendors or f.vendor_id is None}
        groups = {f.iommu_group for f in functions if f.address in wanted} - {None}
        return tuple(f for f in functions if f.address in wanted or f.iommu_group in groups)

    def group_members(
        self, iommu_group: int, read: Iterable[HostFunction] = ()
    ) -> tuple[HostFunction, ...]:
        """Every PCI function of an IOMMU group, in order; ``()`` for a group that is not there.

        Members that are no PCI functions (platform and mediated devices) are left out. One that
        the group lists but about which nothing else is known is in.

        Args:
            iommu_group: Which group.
            read: Functions that have just been read.

        Raises:
            HostError: The functions are there but cannot be listed.
        """
        if not self.known:
            return ()
        members = self._read_groups({iommu_group}, {f.address: f for f in read})
        return tuple(members[address] for address in sorted(members))

    def facts(self, sources: Iterable[HostSource], *, placing: bool = False) -> HostFacts:
        """Read what a decision about these devices needs; every function once.

        Args:
            sources: The devices.
            placing: Whether it is asked where they are on the node: their NUMA nodes' CPUs, and
                the functions that mediated devices are a part of, are read too.

        Raises:
            HostError: The functions are there but cannot be listed.
        """
        if not self.known:
            return HostFacts()
        sources = set(sources)
        addresses = {source for source in sources if isinstance(source, PciAddress)}
        functions: dict[PciAddress, HostFunction] = {}
        for address in {function for other in addresses for function in _slot(other)}:
            function = self.function(address)
            if function is not None:
                functions[address] = function
        assigned = (functions[address] for address in addresses if address in functions)
        groups = {f.iommu_group for f in assigned if f.iommu_group is not None}
        functions |= self._read_groups(groups, functions)
        uuids = [source for source in sources if isinstance(source, str)]
        mediated = {uuid: self.mdev_exists(uuid) for uuid in uuids}
        parents = self._read_parents(uuids, functions) if placing else {}
        nodes = {f.numa_node for f in functions.values()} - {None} if placing else set()
        cpus = {node: self.node_cpus(node) for node in nodes if node is not None}
        return HostFacts(
            known=True,
            functions={address: functions[address] for address in sorted(functions)},
            mediated_devices={u: exists for u, exists in mediated.items() if exists is not None},
            mediated_parents=parents,
            node_cpus={node: found for node, found in cpus.items() if found is not None},
        )

    def _read_parents(
        self, uuids: Iterable[str], functions: dict[PciAddress, HostFunction]
    ) -> dict[str, PciAddress]:
        """The function of each mediated device, which is read into ``functions``."""
        parents = {}
        for uuid in uuids:
            parent = self.mdev_parent(uuid)
            if parent is not None:
                functions.setdefault(parent.address, parent)
                parents[uuid] = parent.address
        return parents

    def mdev_parent(self, uuid: str) -> HostFunction | None:
        """The function that a mediated device is a part of; None where that is not known."""
        device = self.mediated_device(uuid)
        return None if device is None or device.parent is None else self.function(device.parent)

    def _read_groups(
        self, groups: set[int], functions: Mapping[PciAddress, HostFunction]
    ) -> dict[PciAddress, HostFunction]:
        """Read the members of some groups; ``functions`` has what has been read already."""
        members = {}
        for address, group in self.group_addresses(groups).items():
            function = functions.get(address) or self.function(address)
            if function is None:
                # Gone, or a copy that has the groups and not every function.
                if self.is_in_group(address, group) is False:
                    continue
                function = HostFunction(address)
            if function.iommu_group is None:
                function = replace(function, iommu_group=group)
            members[address] = function
        return members


def _slot(address: PciAddress) -> tuple[PciAddress, ...]:
    return tuple(address.with_function(function) for function in range(MAX_FUNCTION + 1))
