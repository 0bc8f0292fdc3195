"""Any bytes as an environment: as ``env`` prints it (--env-file), as kubelet sets it."""

from fuzz.domain import SCHEMAS, check_refusal, check_rendered
from fuzz.target import CASES, Target, case_files

from launcher_hook.env import parse_allocations, parse_assignment, parse_env_file
from launcher_hook.errors import HookError, SchemaError
from launcher_hook.model import HostSource
from launcher_hook.pci import PciAddress
from launcher_hook.render import Inputs, render_domain
from launcher_hook.vmi import parse_vmi

DOMAIN = (CASES / "no-devices" / "domain.xml").read_bytes()
TAKEN = (CASES / "stock-sidecar" / "domain.xml").read_bytes()  # two GPUs of TU106 are in it
CLAIMS = parse_vmi(
    b"""{"kind": "VirtualMachineInstance", "spec": {"domain": {"devices": {"gpus": [
    {"name": "gpu0", "deviceName": "nvidia.com/TU106_GEFORCE_RTX_2060_REV__A"},
    {"name": "gpu1", "deviceName": "nvidia.com/TU106_GEFORCE_RTX_2060_REV__A"},
    {"name": "vgpu", "deviceName": "nvidia.com/GRID_T4-1Q"}],
    "hostDevices": [{"name": "nic", "deviceName": "A"}]}}}}""",
    "VMI",
)
"""What entries of a VM take, an address each."""


def check(data: bytes) -> None:
    """Refused in one sentence, or: what is allocated stands in the text, and only that."""
    text = data.decode("utf-8", "surrogateescape")  # as os.environ has it
    lines = text.split("\n")
    try:
        parse_assignment(lines[0], "--env")
    except HookError as error:
        check_refusal(error)
    environ = dict(line.partition("=")[::2] for line in lines)
    for variables in (environ, None):
        try:
            read = parse_env_file(lines, "pod.env") if variables is None else variables
            allocations = parse_allocations(read)
            for allocation in allocations.values():
                for source in allocation.sources:
                    assert _spelled(source) in text.lower(), f"{source} is not in the text"
            inputs = Inputs(DOMAIN, allocations=allocations)
            check_rendered(inputs, render_domain(inputs, SCHEMAS).xml)
            inputs = Inputs(TAKEN, vmi=CLAIMS, allocations=allocations)
            check_rendered(inputs, render_domain(inputs, SCHEMAS).xml)
        except SchemaError:
            raise
        except HookError as error:
            check_refusal(error)


def _spelled(source: HostSource) -> str:
    """The end of an address, of which a domain may have leading zeros."""
    return str(source).partition(":")[2] if isinstance(source, PciAddress) else source


def seeds() -> list[bytes]:
    """Fixtures' variables, and what a plugin writes."""
    return [
        *case_files("env"),
        b"PCI_RESOURCE_A=0000:86:00.0,0000:af:00.0,\nMDEV_PCI_RESOURCE_B="
        b"4b20d080-1b54-4048-85b3-a6a62d165c01\nHOME=/\nexport PCI_RESOURCE_C='0000:3B:00.1'",
        b"PCI_RESOURCE_A=\nMDEV_PCI_RESOURCE_A=,",
        b"PCI_RESOURCE_A=10000:e1:00.0, 00010000:e1:00.0",
        b"PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX_2060_REV__A=0000:86:00.0,0000:af:00.0\n"
        b"MDEV_PCI_RESOURCE_NVIDIA_COM_GRID_T4-1Q=4b20d080-1b54-4048-85b3-a6a62d165c01\n"
        b"PCI_RESOURCE_A=0000:3b:00.0,0000:3b:00.1",
    ]


WORDS = [
    word.encode()
    for word in (
        "PCI_RESOURCE_",
        "MDEV_PCI_RESOURCE_",
        "NVIDIA_COM_TU106_GEFORCE_RTX_2060_REV__A",
        "NVIDIA_COM_GRID_T4-1Q",
        "=",
        ",",
        "\n",
        "0000:86:00.0",
        "0000:86:1f.7",
        "0000:86:00.8",
        "FFFFFFFF:FF:1F.7",
        "4B20D080-1B54-4048-85B3-A6A62D165C01",
        "export ",
        "#",
        "'",
        '"',
        " ",
        "\t",
        "\r",
        "\u2028",
        "\U0001f600",
        "\0",
        "\u0660",
    )
]

TARGET = Target("variables", check, seeds, WORDS, ("env", "pci", "mdev", "assign"))
