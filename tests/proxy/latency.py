"""Measures the time that Gatebird adds to a request through a proxy, in at most 20 rounds of 2 x 400 requests."""

import socket
import statistics
import time


def added(port, token, open_path, gated_path, enough):
    """Prints p50 and p99. Returns the microseconds that Gatebird adds at p99, by the best rounds, which other work on the
    machine disturbed least. Ends after 7 rounds if that is at most `enough`."""
    without, gated = [], []
    for done in range(1, 21):       # alternating, so that load on the machine affects both
        without.append(percentiles(port, open_path, token))
        gated.append(percentiles(port, gated_path, token))
        best = min(p99 for _, p99 in gated) - min(p99 for _, p99 in without)
        if done >= 7 and best <= enough:
            break
    for at, name in enumerate(("p50", "p99")):
        for what, of in (("medians", statistics.median), ("best", min)):
            before, after = (of(figures[at] for figures in rounds) for rounds in (without, gated))
            print(f"     {name}: {before:.0f} µs, with Gatebird {after:.0f} µs ({what} of {len(gated)} rounds)")
    return best


def percentiles(port, path, token, connections=4, requests=400):
    """p50 and p99 in microseconds. Sends one request at a time, on the connections in turn. The body of the answer must be
    `ok`."""
    request = f"GET {path} HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    took = []
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(connections)]
    try:
        for connection in sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(requests + connections):
            connection = sockets[at % connections]
            started = time.perf_counter()
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"\r\n\r\nok"):
                more = connection.recv(65536)
                assert more, f"closed after {answer!r}"
                answer += more
            if at >= connections:       # the first request of each connection also opens one behind the proxy
                took.append((time.perf_counter() - started) * 1e6)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
    finally:
        for connection in sockets:
            connection.close()
    cuts = statistics.quantiles(took, n=100)
    return cuts[49], cuts[98]
