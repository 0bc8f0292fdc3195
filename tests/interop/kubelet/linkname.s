// Empty: lets the compiler accept a function without a body, which kubelet.go links to Kubernetes' own.
