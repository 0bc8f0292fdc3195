module launcher-hook/interop/harness

go 1.26.0
