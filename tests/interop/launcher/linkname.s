// Empty: lets the compiler accept functions without a body, which launcher.go links to KubeVirt's.
