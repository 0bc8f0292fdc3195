#!/usr/bin/env bash
# Set-up for the Makefile, one step a call: see the end.
# Each step brings what is missing and says what it brings; done twice, it does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

retry() {
    local pause
    for pause in 3 10; do
        if "$@"; then return; fi
        say "failed: $1 ${2-}; trying again in $pause s"
        sleep "$pause"
    done
    "$@"
}

# apt_install PACKAGE...: as root. The lists are renewed only if they do not do as they are.
apt_install() {
    local get=(apt-get -q -y -o Acquire::Retries=3 -o Dpkg::Use-Pty=0)
    export DEBIAN_FRONTEND=noninteractive
    say "apt-get install $*"
    if "${get[@]}" install --no-install-recommends "$@" >/dev/null 2>&1 </dev/null; then return; fi
    retry "${get[@]}" update >/dev/null </dev/null
    retry "${get[@]}" install --no-install-recommends "$@" >/dev/null </dev/null
}

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# The uv of this machine, or one of our own in .cache. Debian has neither uv nor, by default,
# pip and venv, and its pip refuses to install for everybody: hence four ways.
uv=
find_uv() {
    local way
    for way in uv .cache/uv/bin/uv .cache/uv-target/bin/uv; do
        if "$way" --version >/dev/null 2>&1; then uv=$way; return; fi
    done
    return 1
}

install_uv_in_venv() {
    rm -rf .cache/uv
    python3 -m venv .cache/uv >/dev/null 2>&1 && retry pip_install .cache/uv/bin/python
}

install_uv_by_target() {
    rm -rf .cache/uv-target
    python3 -m pip --version >/dev/null 2>&1 && retry pip_install python3 --target .cache/uv-target
}

pip_install() {
    local python=$1
    shift
    "$python" -m pip install --quiet --disable-pip-version-check --no-input \
        --require-hashes --only-binary :all: -r .ci/uv.lock "$@" </dev/null
}

need_uv() {
    if find_uv; then return; fi
    command -v python3 >/dev/null || fail "no python3 on PATH; install Python 3.11 or newer"
    say "uv, into .cache"
    mkdir -p .cache
    if install_uv_in_venv || install_uv_by_target; then
        :
    elif can_apt; then
        apt_install python3-venv ca-certificates
        install_uv_in_venv || true
    fi
    find_uv || fail "cannot install uv; do 'apt-get install python3-venv' as root, or put uv on PATH, and see that the package index is reachable"
}

setup_python() {
    local start=$SECONDS
    need_uv
    export UV_PYTHON_DOWNLOADS=never
    if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        "$uv" venv --quiet --clear --no-project --python '>=3.11' .venv ||
            fail "no Python 3.11 or newer found; install one"
    fi
    say "Python packages of requirements.lock, into .venv"
    export VIRTUAL_ENV=$PWD/.venv
    local sync=("$uv" pip sync --quiet --require-hashes requirements.lock)
    "${sync[@]}" --offline 2>/dev/null || retry "${sync[@]}" # uv's cache may have it all
    "$uv" pip install --quiet --offline --no-deps --no-build-isolation -e .
    if pkg-config --exists libvirt 2>/dev/null; then install_binding; fi
    say "Python packages: $((SECONDS - start)) s"
}

# Without libvirt's grammars (exit status 3: no Debian archive) the rest still works, less well.
setup_schemas() {
    local status=0
    .venv/bin/python schemas/fetch.py || status=$?
    case $status in
    0) ;;
    3) say "going on without libvirt's own schemas; tests that need them are skipped" ;;
    *) fail "libvirt's schemas did not come; when the network is back, run make again" ;;
    esac
}

# The real libvirt qemu driver for the tests. It runs inside virsh, no daemon is needed, only
# the user that the driver is built to look up: with libvirt 9 it is libvirt-daemon-system that
# makes it, later ones make it with the driver.
packages=(libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-system-arm tini
    graphviz                      # draws what plan --output dot writes
    ovmf                          # UEFI firmware, to see it map large BARs
    libxml2-utils                 # what virt-xml-validate runs
    libfaketime                   # clocks that jump, for tests/faults
    libvirt-dev pkg-config gcc) # for libvirt-python, which is built here

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
has_user() { getent passwd libvirt-qemu >/dev/null; }
has_binding() { .venv/bin/python -c 'import libvirt' 2>/dev/null; }
python_header() { .venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")'; }

# `validate --libvirt` and its tests. Not in requirements.lock: who has no libvirt cannot build it.
install_binding() {
    if has_binding; then return; fi
    need_uv
    say "libvirt-python, into .venv"
    retry "$uv" pip install --quiet --python .venv/bin/python --require-hashes -r .ci/libvirt.lock ||
        say "libvirt-python does not build here: its tests are skipped (in CI they fail)"
}

setup_system() {
    local package start=$SECONDS missing=()
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian: bring virsh, libvirt's qemu driver, QEMU for x86 and arm, and tini yourself"
        return
    fi
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if ! has_binding && ! [ -e "$(python_header)" ]; then missing+=(python3-dev); fi
    if [ ${#missing[@]} = 0 ] && has_user; then
        install_binding
        return
    fi
    if can_apt; then
        if [ ${#missing[@]} != 0 ]; then apt_install "${missing[@]}"; fi
        has_user || apt_install libvirt-daemon-system
        say "system packages: $((SECONDS - start)) s"
        install_binding
        return
    fi
    has_user || missing+=(libvirt-daemon-system)
    say "for the tests with a real libvirt, as root:"
    say "apt-get install --no-install-recommends ${missing[*]}"
}

# The UEFI firmware of the next Debian, which maps what is behind expander buses, into .cache/ovmf.
setup_firmware() {
    .venv/bin/python tests/ovmf.py ||
        say "going on without it: the tests with a newer OVMF are skipped (in CI they fail)"
}

# libvirt's own test domains, and other libvirts in chroots, all into .cache/conformance. As
# somebody else than root there is no chroot, and its tests are skipped.
setup_conformance() {
    .venv/bin/python tests/conformance/corpus.py
    if [ "$(id -u)" != 0 ]; then
        say "not root: without the other libvirts, which run in chroots"
        return
    fi
    command -v mmdebstrap >/dev/null || { can_apt && apt_install mmdebstrap; } ||
        fail "no mmdebstrap on PATH; install it"
    .venv/bin/python tests/conformance/chroot.py
}

# What builds the image: not of everybody's set-up. docker, where it has an engine, does as well.
setup_image() {
    local program start=$SECONDS missing=()
    local programs=(mmdebstrap)
    docker info >/dev/null 2>&1 || programs+=(buildah)
    for program in "${programs[@]}"; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    if [ ${#missing[@]} = 0 ]; then return; fi
    if can_apt; then
        apt_install "${missing[@]}"
        say "what builds the image: $((SECONDS - start)) s"
        return
    fi
    say "to build the image, as root: apt-get install --no-install-recommends ${missing[*]}"
}

# The Go modules of tests/interop, into Go's own cache. libvirt's headers are not needed: the tag
# libvirt_dlopen has the bindings load the library that is there.
go_minor=26

setup_interop() {
    local module start=$SECONDS
    command -v go >/dev/null && command -v gcc >/dev/null ||
        fail "no go or no gcc on PATH; install Go 1.$go_minor or newer and a C compiler"
    [ "$(go env GOVERSION | cut -d. -f2 | tr -cd 0-9)" -ge $go_minor ] ||
        fail "$(go env GOVERSION) is too old for KubeVirt 1.9; install Go 1.$go_minor or newer"
    for module in tests/interop/*/go.mod; do
        (cd "${module%/*}" && retry go_list) || fail "the Go modules of ${module%/*} did not come; run make again"
    done
    say "Go modules: $((SECONDS - start)) s"
}

go_list() { go list -deps -test -tags libvirt_dlopen ./... >/dev/null; }

# What builds and runs the emulated machine of tests/e2e.
e2e_packages=(qemu-system-x86 mmdebstrap cpio kmod xz-utils zstd)

setup_e2e() {
    local package start=$SECONDS missing=()
    command -v dpkg-query >/dev/null || fail "make e2e needs a Debian or an Ubuntu"
    for package in "${e2e_packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if [ ${#missing[@]} != 0 ]; then
        can_apt || fail "for make e2e, as root: apt-get install --no-install-recommends ${missing[*]}"
        apt_install "${missing[@]}"
        say "packages of make e2e: $((SECONDS - start)) s"
    fi
}

# mutmut, into .venv: not of everybody's set-up.
setup_mutation() {
    if .venv/bin/python -c 'import mutmut' 2>/dev/null; then return; fi
    need_uv
    say "mutmut, into .venv"
    retry "$uv" pip install --quiet --python .venv/bin/python --require-hashes -r .ci/mutation.lock
}

# atheris, for make fuzz. Not in requirements.lock: it has no wheels for other machines and newer
# Pythons, and builds with clang only.
setup_fuzz() {
    if .venv/bin/python -c 'import atheris' 2>/dev/null; then return; fi
    need_uv
    say "atheris, into .venv"
    retry "$uv" pip install --quiet --python .venv/bin/python --require-hashes --only-binary :all: -r .ci/fuzz.lock ||
        fail "there is no atheris for $(.venv/bin/python -V) on $(uname -m); make fuzz needs Python 3.11 to 3.14 on x86_64"
}

# The machine's own settings of pip and uv must not get into what everybody uses.
make_lock() {
    need_uv
    local clean=(env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS
        UV_CUSTOM_COMPILE_COMMAND="make lock")
    local compile=("${clean[@]}" "$uv" pip compile --quiet --no-config --universal --python-version 3.11
        --generate-hashes --no-emit-index-url --no-emit-find-links)
    "${compile[@]}" pyproject.toml --group dev "$@" -o requirements.lock
    "${compile[@]}" .ci/uv.in "$@" -o .ci/uv.lock
    "${compile[@]}" .ci/libvirt.in "$@" -o .ci/libvirt.lock
    # Beside what is in .venv already.
    "${compile[@]}" --group mutation -c requirements.lock "$@" -o .ci/mutation.lock
    "${compile[@]}" --group fuzz "$@" -o .ci/fuzz.lock
    # The image's: what the program needs, and what builds its wheel, in the same versions.
    "${compile[@]}" pyproject.toml -c requirements.lock -o sidecar-image/runtime.lock
    "${compile[@]}" sidecar-image/build.in -c requirements.lock -o sidecar-image/build.lock
}

case ${1-} in
python) setup_python ;;
schemas) setup_schemas ;;
system) setup_system ;;
firmware) setup_firmware ;;
conformance) setup_conformance ;;
image) setup_image ;;
interop) setup_interop ;;
e2e) setup_e2e ;;
mutation) setup_mutation ;;
fuzz) setup_fuzz ;;
lock) make_lock "${@:2}" ;;
*) fail "usage: .ci/setup.sh STEP; see the end of it for the steps" ;;
esac
