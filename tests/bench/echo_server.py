"""The floor of a hook in Python: a grpcio server that returns its input."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

server = grpc.server(ThreadPoolExecutor(max_workers=4))
same = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
handler = grpc.method_handlers_generic_handler(
    "kubevirt.hooks.v1alpha3.Callbacks", {"OnDefineDomain": same}
)
server.add_generic_rpc_handlers((handler,))
server.add_insecure_port(f"unix:{sys.argv[1]}")
server.start()
time.sleep(3600)
