"""The launcher's hook protocols: our .proto files and the message classes made from them.

Package, service, message and field names and numbers are KubeVirt's (pkg/hooks/info,
pkg/hooks/v1alpha1 to v1alpha3, pkg/hooks/plugins of v1.9); they are the wire contract. The classes
are committed, and tests/test_proto.py makes them again and compares.
"""
