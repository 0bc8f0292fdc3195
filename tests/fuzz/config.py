"""Any bytes as the configuration: of the hook (file, annotation, --set), of the device plugin."""

from fuzz.domain import SCHEMAS, check_refusal, check_rendered
from fuzz.target import CASES, REPOSITORY, Target, case_files

from launcher_hook.config import read_settings
from launcher_hook.deviceplugin.configfile import read_selection
from launcher_hook.deviceplugin.names import check_resource
from launcher_hook.env import parse_allocations
from launcher_hook.errors import HookError, SchemaError
from launcher_hook.render import Inputs, render_domain

DOMAIN = (CASES / "pins" / "domain.xml").read_bytes()
ALLOCATIONS = parse_allocations({"PCI_RESOURCE_A": "0000:86:00.0,0000:86:00.1,0000:af:00.0"})


def check(data: bytes) -> None:
    """Refused in one sentence, or done; the first byte picks whose configuration it is."""
    kind, content = data[:1], data[1:]
    try:
        if kind in (b"p", b"P"):
            check_selection(content)
            return
        text = content.decode("utf-8", "replace")
        if kind == b"s":
            settings = read_settings(None, None, [text])
        elif kind == b"a":
            settings = read_settings(None, ("annotation", text))
        else:
            settings = read_settings(("file", content), None, ["companions=ignore"])
        inputs = Inputs(DOMAIN, allocations=ALLOCATIONS, settings=settings)
        check_rendered(inputs, render_domain(inputs, SCHEMAS).xml)
    except SchemaError:
        raise
    except HookError as error:
        check_refusal(error)


def check_selection(content: bytes) -> None:
    """Every resource that we would offer has a name that kubelet takes."""
    selection = read_selection(content, "file")
    for selector in (*selection.pci, *selection.mdev):
        if selector.external and selector.resource is not None:
            check_resource(selector.resource)


def seeds() -> list[bytes]:
    """Fixtures' configurations and the plugin's examples."""
    manifests = REPOSITORY / "sidecar-image" / "manifests"
    plugins = [
        (manifests / name).read_bytes() for name in ("device-plugin/config.yaml", "kubevirt.yaml")
    ]
    plugins.append(
        b"selectors: [{resourceName: a.com/b, vendor: '10de:1f08', class: '0302', numaNode: 0,"
        b"driver: vfio-pci, address: '0000:3b:00.0'}]\nidsPerGroup: all\npermittedHostDevices:\n"
        b" pciHostDevices: [{pciVendorSelector: '10DE:1F08', resourceName: a.com/c,"
        b" externalResourceProvider: true}]\n mediatedDevices: [{mdevNameSelector: GRID T4-1Q,"
        b" resourceName: a.com/d, externalResourceProvider: true}]\n"
    )
    hooks = [
        *case_files("config.yaml"),
        b"slots: {0000:86:00.0: '0000:00:08.0', ua-pci-0000-af-00-0: '0000:30:00.0'}\n",
        b"layout: root-port\nmanaged: keep\ncompanions: ignore\n",
    ]
    sets = [b"slayout=root-bus", b"sslots.0000:86:00.0=0000:00:09.0", b"sslots={a: b}"]
    return (
        [b"p" + content for content in plugins]
        + [kind + content for content in hooks for kind in (b"f", b"a")]
        + sets
    )


WORDS = [
    word.encode()
    for word in (
        "layout: ",
        "root-port",
        "root-bus",
        "auto",
        "companions: ",
        "attach",
        "ignore",
        "managed: ",
        "keep",
        "yes",
        "slots: ",
        "slots.",
        "0000:86:00.0",
        "'0000:00:08.0'",
        "'0000:20:00.1'",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        "\n",
        "\n- ",
        "&a ",
        "*a",
        "<<: *a",
        "!!int ",
        "!!binary ",
        "? ",
        "| ",
        "null",
        "~",
        "---\n",
        "...\n",
        "%TAG ! x\n",
        "%YAML 1.1\n",
        "\t",
        "#",
        "resourceName: ",
        "vendor: ",
        "class: ",
        "address: ",
        "driver: ",
        "numaNode: ",
        "idsPerGroup: ",
        "selectors:",
        "permittedHostDevices:",
        "pciHostDevices:",
        "mediatedDevices:",
        "kind: KubeVirt",
        "items: ",
        "spec:",
        "configuration:",
        "externalResourceProvider: ",
        "a.com/b",
        "\U0001f600",
        "\x85",
        "\0",
    )
]

TARGET = Target(
    "config",
    check,
    seeds,
    WORDS,
    ("config", "configkeys", "deviceplugin.configfile", "deviceplugin.names"),
)
