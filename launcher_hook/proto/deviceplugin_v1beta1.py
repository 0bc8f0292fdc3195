"""Made from deviceplugin_v1beta1.proto by ``make proto``: change that, not this."""

from collections.abc import Iterable, Mapping

from launcher_hook.proto.wire import Field, Message


class Empty(Message):
    __slots__ = ()


class DevicePluginOptions(Message):
    __slots__ = ("pre_start_required", "get_preferred_allocation_available")
    FIELDS = (
        Field(1, "pre_start_required", "bool"),
        Field(2, "get_preferred_allocation_available", "bool"),
    )

    def __init__(
        self,
        pre_start_required: bool = False,
        get_preferred_allocation_available: bool = False,
    ) -> None:
        self.pre_start_required = pre_start_required
        self.get_preferred_allocation_available = get_preferred_allocation_available


class RegisterRequest(Message):
    __slots__ = ("version", "endpoint", "resource_name", "options")
    FIELDS = (
        Field(1, "version", "string"),
        Field(2, "endpoint", "string"),
        Field(3, "resource_name", "string"),
        Field(4, "options", DevicePluginOptions),
    )

    def __init__(
        self,
        version: str = "",
        endpoint: str = "",
        resource_name: str = "",
        options: DevicePluginOptions | None = None,
    ) -> None:
        self.version = version
        self.endpoint = endpoint
        self.resource_name = resource_name
        self.options = options


class NUMANode(Message):
    __slots__ = ("ID",)
    FIELDS = (
        Field(1, "ID", "int64"),
    )

    def __init__(
        self,
        ID: int = 0,
    ) -> None:
        self.ID = ID


class TopologyInfo(Message):
    __slots__ = ("nodes",)
    FIELDS = (
        Field(1, "nodes", NUMANode, repeated=True),
    )

    def __init__(
        self,
        nodes: Iterable[NUMANode] = (),
    ) -> None:
        self.nodes: list[NUMANode] = list(nodes)


class Device(Message):
    __slots__ = ("ID", "health", "topology")
    FIELDS = (
        Field(1, "ID", "string"),
        Field(2, "health", "string"),
        Field(3, "topology", TopologyInfo),
    )

    def __init__(
        self,
        ID: str = "",
        health: str = "",
        topology: TopologyInfo | None = None,
    ) -> None:
        self.ID = ID
        self.health = health
        self.topology = topology


class ListAndWatchResponse(Message):
    __slots__ = ("devices",)
    FIELDS = (
        Field(1, "devices", Device, repeated=True),
    )

    def __init__(
        self,
        devices: Iterable[Device] = (),
    ) -> None:
        self.devices: list[Device] = list(devices)


class ContainerPreferredAllocationRequest(Message):
    __slots__ = ("available_deviceIDs", "must_include_deviceIDs", "allocation_size")
    FIELDS = (
        Field(1, "available_deviceIDs", "string", repeated=True),
        Field(2, "must_include_deviceIDs", "string", repeated=True),
        Field(3, "allocation_size", "int32"),
    )

    def __init__(
        self,
        available_deviceIDs: Iterable[str] = (),
        must_include_deviceIDs: Iterable[str] = (),
        allocation_size: int = 0,
    ) -> None:
        self.available_deviceIDs: list[str] = list(available_deviceIDs)
        self.must_include_deviceIDs: list[str] = list(must_include_deviceIDs)
        self.allocation_size = allocation_size


class PreferredAllocationRequest(Message):
    __slots__ = ("container_requests",)
    FIELDS = (
        Field(1, "container_requests", ContainerPreferredAllocationRequest, repeated=True),
    )

    def __init__(
        self,
        container_requests: Iterable[ContainerPreferredAllocationRequest] = (),
    ) -> None:
        self.container_requests: list[ContainerPreferredAllocationRequest] = list(container_requests)


class ContainerPreferredAllocationResponse(Message):
    __slots__ = ("deviceIDs",)
    FIELDS = (
        Field(1, "deviceIDs", "string", repeated=True),
    )

    def __init__(
        self,
        deviceIDs: Iterable[str] = (),
    ) -> None:
        self.deviceIDs: list[str] = list(deviceIDs)


class PreferredAllocationResponse(Message):
    __slots__ = ("container_responses",)
    FIELDS = (
        Field(1, "container_responses", ContainerPreferredAllocationResponse, repeated=True),
    )

    def __init__(
        self,
        container_responses: Iterable[ContainerPreferredAllocationResponse] = (),
    ) -> None:
        self.container_responses: list[ContainerPreferredAllocationResponse] = list(container_responses)


class ContainerAllocateRequest(Message):
    __slots__ = ("devices_ids",)
    FIELDS = (
        Field(1, "devices_ids", "string", repeated=True),
    )

    def __init__(
        self,
        devices_ids: Iterable[str] = (),
    ) -> None:
        self.devices_ids: list[str] = list(devices_ids)


class AllocateRequest(Message):
    __slots__ = ("container_requests",)
    FIELDS = (
        Field(1, "container_requests", ContainerAllocateRequest, repeated=True),
    )

    def __init__(
        self,
        container_requests: Iterable[ContainerAllocateRequest] = (),
    ) -> None:
        self.container_requests: list[ContainerAllocateRequest] = list(container_requests)


class Mount(Message):
    __slots__ = ("container_path", "host_path", "read_only")
    FIELDS = (
        Field(1, "container_path", "string"),
        Field(2, "host_path", "string"),
        Field(3, "read_only", "bool"),
    )

    def __init__(
        self,
        container_path: str = "",
        host_path: str = "",
        read_only: bool = False,
    ) -> None:
        self.container_path = container_path
        self.host_path = host_path
        self.read_only = read_only


class DeviceSpec(Message):
    __slots__ = ("container_path", "host_path", "permissions")
    FIELDS = (
        Field(1, "container_path", "string"),
        Field(2, "host_path", "string"),
        Field(3, "permissions", "string"),
    )

    def __init__(
        self,
        container_path: str = "",
        host_path: str = "",
        permissions: str = "",
    ) -> None:
        self.container_path = container_path
        self.host_path = host_path
        self.permissions = permissions


class CDIDevice(Message):
    __slots__ = ("name",)
    FIELDS = (
        Field(1, "name", "string"),
    )

    def __init__(
        self,
        name: str = "",
    ) -> None:
        self.name = name


class ContainerAllocateResponse(Message):
    __slots__ = ("envs", "mounts", "devices", "annotations", "cdi_devices")
    FIELDS = (
        Field(1, "envs", "map"),
        Field(2, "mounts", Mount, repeated=True),
        Field(3, "devices", DeviceSpec, repeated=True),
        Field(4, "annotations", "map"),
        Field(5, "cdi_devices", CDIDevice, repeated=True),
    )

    def __init__(
        self,
        envs: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        mounts: Iterable[Mount] = (),
        devices: Iterable[DeviceSpec] = (),
        annotations: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        cdi_devices: Iterable[CDIDevice] = (),
    ) -> None:
        self.envs: dict[str, str] = dict(envs)
        self.mounts: list[Mount] = list(mounts)
        self.devices: list[DeviceSpec] = list(devices)
        self.annotations: dict[str, str] = dict(annotations)
        self.cdi_devices: list[CDIDevice] = list(cdi_devices)


class AllocateResponse(Message):
    __slots__ = ("container_responses",)
    FIELDS = (
        Field(1, "container_responses", ContainerAllocateResponse, repeated=True),
    )

    def __init__(
        self,
        container_responses: Iterable[ContainerAllocateResponse] = (),
    ) -> None:
        self.container_responses: list[ContainerAllocateResponse] = list(container_responses)


class PreStartContainerRequest(Message):
    __slots__ = ("devices_ids",)
    FIELDS = (
        Field(1, "devices_ids", "string", repeated=True),
    )

    def __init__(
        self,
        devices_ids: Iterable[str] = (),
    ) -> None:
        self.devices_ids: list[str] = list(devices_ids)


class PreStartContainerResponse(Message):
    __slots__ = ()
