"""Names of resources as NVIDIA's plugin gives them, as Kubernetes takes them; names of sockets."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.deviceplugin.names import (
    check_resource,
    name_device,
    name_mdev_type,
    name_socket,
    nearest_legal,
)

KUBELET = Path("/var/lib/kubelet/device-plugins")


@pytest.mark.parametrize(
    ("listed", "name"),
    [
        ("TU106 [GeForce RTX 2060 Rev. A]", "TU106_GEFORCE_RTX_2060_REV__A"),
        ("GH100 [H100 SXM5 80GB]", "GH100_H100_SXM5_80GB"),
        ("GK107 [GeForce GT 640 / GTX 650]", "GK107_GEFORCE_GT_640___GTX_650"),
        ("GA100\t[A100  PCIe-40GB]", "GA100_A100_PCIE40GB"),
        ("NV44 [Quadro NVS 285, 128MB]", "NV44_QUADRO_NVS_285_128MB"),
    ],
)
def test_a_device_is_named_as_nvidias_plugin_names_it(listed: str, name: str) -> None:
    assert name_device(listed) == name


def test_an_mdev_type_keeps_its_case_and_hyphens() -> None:
    assert name_mdev_type("GRID  T4-1Q\n") == "GRID_T4-1Q"


@pytest.mark.parametrize(
    ("resource", "fix"),
    [
        ("nvidia.com/GeForce RTX 2060 Rev. A", "write e.g. nvidia.com/GeForce_RTX_2060_Rev._A$"),
        ("GH100", "write e.g. example.com/GH100$"),
        ("nvidia.com/" + "A" * 64, f"63 are allowed; write e.g. nvidia.com/{'A' * 63}$"),
        ("NVIDIA.com/GH100", "write e.g. nvidia.com/GH100$"),
        ("nvidia.com/", "write e.g. nvidia.com/device$"),
        ("nvidia.com/A_", "write e.g. nvidia.com/A$"),
        ("a/b/c", "write e.g. "),
        ("kubernetes.io/gpu", "keeps for itself; write e.g. example.com/gpu$"),
        ("requests.nvidia.com/gpu", "keeps for itself; write e.g. nvidia.com/gpu$"),
        ("requests.requests.a/x", "keeps for itself; write e.g. a/x$"),
        ("b" * 229 + ".kubernetes.io-x/y", "before the slash; write e.g. example.com/y$"),
    ],
)
def test_a_name_that_kubelet_would_refuse_comes_with_the_nearest_legal_one(
    resource: str, fix: str
) -> None:
    with pytest.raises(ValueError, match=fix):
        check_resource(resource)
    check_resource(nearest_legal(resource))


@given(st.text(max_size=300))
def test_the_nearest_legal_name_is_legal_and_of_a_legal_name_itself(text: str) -> None:
    legal = nearest_legal(text)
    check_resource(legal)
    assert nearest_legal(legal) == legal


def test_a_socket_has_the_name_that_nvidias_has() -> None:
    assert name_socket("nvidia.com/TU106_GEFORCE", KUBELET, ()) == "kubevirt-TU106_GEFORCE.sock"


def test_equal_names_of_two_vendors_have_different_sockets() -> None:
    first = name_socket("amd.com/X", KUBELET, ())
    second = name_socket("nvidia.com/X", KUBELET, (first,))
    assert first == "kubevirt-X.sock"
    assert second.startswith("kubevirt-X-")
    assert second == name_socket("nvidia.com/X", KUBELET, (first,))


@pytest.mark.parametrize("directory", [KUBELET, Path("/" + "d" * 80)])
def test_a_socket_whose_path_would_be_too_long_is_shortened_and_stays_unique(
    directory: Path,
) -> None:
    names = {name_socket(f"nvidia.com/{'A' * 62}{i}", directory, ()) for i in range(10)}
    assert len(names) == 10
    assert all(len(str(directory / name)) <= 107 for name in names)
