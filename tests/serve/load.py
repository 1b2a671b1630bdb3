"""Load on a running `bipo serve`: 64 connections on loopback, among them readers so slow that the server waits for them, readers
that leave, half-closed sockets, bodies that never end and requests that are no HTTP. Counts streams that end without their
end, and compares the server's memory after warming up with that at the end.

    python load.py http://127.0.0.1:8080 PID [SECONDS]
"""

import json
import random
import socket
import sys
import threading
import time
import urllib.request
from collections import Counter
from urllib.parse import urlparse

url, pid, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 60
host, port = urlparse(url).hostname, urlparse(url).port
counts, lock = Counter(), threading.Lock()


def count(what):
    with lock:
        counts[what] += 1


def memory():
    """MiB of the process that are its own: mapped files can be dropped."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["RssAnon"].split()[0]) / 1024


def body(rng, **kwargs):
    words = ["sea", "moon", "bread", "train", "garden", "clock", "bridge", "winter"]
    content = "Tell me about " + " and ".join(rng.choices(words, k=rng.randint(1, 6))) + "."
    request = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": rng.randint(2, 24),
        "temperature": rng.choice([0, 1]),
        "steering": rng.choice([0, 1, -2, "v:1.5", ""]),
        "stream": True,
        **kwargs,
    }
    return json.dumps(request).encode()


def post(payload, path="/v1/chat/completions", length=None, window=None):
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {length or len(payload)}\r\n\r\n"
    connection = socket.socket()
    if window:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.settimeout(60)
    connection.connect((host, port))
    connection.sendall(head.encode() + payload)
    return connection


def read_stream(connection, pause=0.0):
    """Reads until the stream's end: "done", "busy" (429), or "lost"."""
    text = b""
    while b"[DONE]" not in text:
        piece = connection.recv(4096 if pause else 65536)
        if not piece:
            return "lost"
        text += piece
        if text.startswith(b"HTTP/1.1 429"):
            return "busy"
        if text.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")) or b'"error"' in text:
            return "error " + text[-200:].decode(errors="replace")
        time.sleep(pause)
    return "done"


def whole(rng):
    with post(body(rng)) as connection:
        count(read_stream(connection))


def slow(rng):
    """Reads much less than comes: 20 log-probabilities of each of 120 tokens are about 300 kB, the client's window is 4 kB."""
    payload = body(rng, max_tokens=120, logprobs=True, top_logprobs=20)
    with post(payload, window=4096) as connection:
        count(read_stream(connection, pause=0.02))


def leaves(rng):
    with post(body(rng, max_tokens=200)) as connection:
        connection.recv(300)
    count("left")


def half_closed(rng):
    with post(body(rng)) as connection:
        connection.shutdown(socket.SHUT_WR)
        result = read_stream(connection)
        # To the server a client that closes its half has gone (docs/serving.md): no answer, or a piece of one.
        count("half-closed, taken as gone" if result == "lost" else f"half-closed, {result}")


def never_ends(rng):
    payload = body(rng)
    with post(payload, length=len(payload) + 100):
        time.sleep(rng.random() * 0.5)
    count("left")


def no_http(rng):
    with socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall(bytes(rng.randrange(256) for _ in range(rng.randint(1, 400))))
        time.sleep(rng.random() * 0.1)
    count("left")


def broken_json(rng):
    payload = body(rng)[: rng.randint(0, 60)]
    with post(payload) as connection:
        answer = connection.recv(65536)
        count("refused" if answer.startswith(b"HTTP/1.1 4") else "broken JSON was taken")


def work(seed, until):
    rng = random.Random(seed)
    kinds = [whole] * 10 + [slow] * 3 + [leaves, half_closed, never_ends, no_http, broken_json]
    while time.time() < until:
        try:
            rng.choice(kinds)(rng)
        except OSError as error:
            count(f"{type(error).__name__}")


def load(duration):
    until = time.time() + duration
    threads = [threading.Thread(target=work, args=(seed, until)) for seed in range(64)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]


def idle():
    for _ in range(600):
        with urllib.request.urlopen(f"{url}/health") as answer:
            streams = json.load(answer)["streams"]
        if streams["running"] + streams["waiting"] == 0:
            return
        time.sleep(0.1)
    raise SystemExit(f"texts are left behind: {streams}")


load(min(15, seconds / 4))
idle()
before = memory()
counts.clear()
load(seconds)
idle()
after = memory()
print(dict(counts), f"memory {before:.0f} -> {after:.0f} MiB")
known = ("done", "busy", "left", "refused", "half-closed, taken as gone", "half-closed, done", "half-closed, busy")
bad = {what: number for what, number in counts.items() if what not in known}
assert not bad, bad
assert counts["done"] > 0
assert abs(after / before - 1) <= 0.05, f"memory {before:.0f} -> {after:.0f} MiB"
print("ok load")
