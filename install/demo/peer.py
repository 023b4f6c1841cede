"""Both ends of the demo's tries. Run inside a network namespace.

    peer.py serve          TCP on every port of PORTS, all addresses
    peer.py dns ADDRESS    UDP on port 53
    peer.py try            reads a JSON list of [protocol, address, port], makes all tries at once, and
                           prints a JSON list: what came of each, and which source the server saw

Servers tell each client which address they see it with.
"""

import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

PORTS = [25, 80, 443, 5432, 6379, 8080]
# Seconds without an answer that mean "denied". A lost first packet is sent again after one.
PATIENCE = float(os.environ.get("DEMO_PATIENCE", 1.8))


def listen(family, port):
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("", port))
        listener.listen()
        while True:
            client, peer = listener.accept()
            with client:
                client.sendall(peer[0].encode())


def dns(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        while True:
            _, peer = server.recvfrom(2048)
            server.sendto(peer[0].encode(), peer)


def attempt(protocol, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[protocol]
    with socket.socket(family, kind) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect((address, port))
            if protocol == "udp":
                client.send(b"?")
            return {"seen": "allow", "source": client.recv(64).decode()}
        except TimeoutError:
            return {"seen": "deny", "source": ""}
        except OSError:
            return {"seen": "reject", "source": ""}


def main():
    match sys.argv[1:]:
        case ["serve"]:
            for port in PORTS:
                for family in socket.AF_INET, socket.AF_INET6:
                    Thread(target=listen, args=(family, port)).start()
        case ["dns", address]:
            dns(address)
        case ["try"]:
            tries = json.load(sys.stdin)
            with ThreadPoolExecutor(len(tries)) as pool:
                print(json.dumps(list(pool.map(lambda one: attempt(*one), tries))))


main()
