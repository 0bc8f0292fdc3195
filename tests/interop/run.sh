#!/usr/bin/env bash
# Runs the Go harnesses one after the other and prints their tables; arguments go to `go test`.
# Everything that a build needs is there (.ci/setup.sh interop); one that fails stops no other.
set -uo pipefail
cd "$(dirname "$0")"

export LC_ALL=C.UTF-8
status=0
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
    printf 'interop: gofmt -w these: %s\n' "$unformatted" >&2
    status=1
fi
rm -f ../../build/conformance/interop-*.md
for module in launcher oldest kubelet; do
    start=$SECONDS
    # -p 2: these builds are wide, and not alone here. Without symbols they are linked in half the
    # time. tini reaps the QEMUs that libvirt has probed.
    (cd $module && nice -n 10 go test -p 2 -count=1 -timeout 30m -tags libvirt_dlopen -ldflags '-s -w' \
        -exec 'tini -s --' "$@" ./...) || status=1
    echo "interop: $module: $((SECONDS - start)) s, build included" >&2
done
for table in ../../build/conformance/interop-*.md; do
    if [ -f "$table" ]; then
        echo
        cat "$table"
    fi
done
exit $status
