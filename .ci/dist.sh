#!/usr/bin/env bash
# Build what is released, into dist/ or the directory given: the sdist of what git tracks here, the
# wheel of that sdist, and their sums. Twice, from two directories with other modes and times; if a
# byte differs, nothing is left in dist/. The time in the archives is the commit's. No network.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "dist: $*" >&2; }
fail() { say "$*"; exit 1; }

python=$PWD/.venv/bin/python
[ -x "$python" ] || fail "there is no .venv; run make setup"
into=$(realpath -m "${1:-dist}")

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) || fail "this is no clone: what is released is what git tracks"
export SOURCE_DATE_EPOCH
if [ -n "$(git status --porcelain)" ]; then
    [ -n "${DIRTY-}" ] || fail "there are changes that no commit has; commit them, or set DIRTY=1 for a try"
    say "with changes that no commit has"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

hatch() { "$python" -m hatchling build -d "$work/$1" -t "$2" 2>&1; }

# build NAME: an sdist of the tracked files and libvirt's schemas, then the wheel of the sdist alone.
# libvirt's are not tracked; the build takes the sets that schemas/manifest.toml pins, and warns
# where one is missing. What is released has them all.
build() {
    mkdir "$work/$1-tree"
    git ls-files -z | tar -c --null -T - | tar -x -C "$work/$1-tree"
    if [ -d schemas/libvirt ]; then cp -r schemas/libvirt "$work/$1-tree/schemas/"; fi
    (cd "$work/$1-tree" && hatch "$1" sdist) >"$work/log"
    if grep 'without libvirt' "$work/log" >&2; then fail "a release carries libvirt's schemas"; fi
    mkdir "$work/$1-sdist"
    tar -xzf "$work/$1"/*.tar.gz --strip-components=1 -C "$work/$1-sdist"
    (cd "$work/$1-sdist" && hatch "$1" wheel) >"$work/log" || { cat "$work/log" >&2; fail "the sdist gives no wheel"; }
}

(umask 022 && build first)
(
    umask 077
    export TZ=Pacific/Kiritimati
    build a-second-and-longer-name
)
diff -r "$work/first" "$work/a-second-and-longer-name" >&2 || fail "two builds of one commit differ"

mkdir -p "$into"
rm -f "$into"/launcher_hook-*.whl "$into"/launcher_hook-*.tar.gz
cp "$work/first"/* "$into/"
(cd "$into" && sha256sum launcher_hook-*.tar.gz launcher_hook-*.whl | tee SHA256SUMS)
say "built twice, byte for byte the same; in ${into#"$PWD"/}"
