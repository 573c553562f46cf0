#!/usr/bin/env python3
"""Records what a real NATS server says, for tests/nats_wire.rs.

Usage: tests/nats/record.py NATS_SERVER      (writes tests/nats/<version>/*.txt)

A line begins with `C: ` (client) or `S: ` (server); CR, LF, backslashes and other bytes than printable ASCII are escaped,
and a run of 100 equal letters or more is written as \\{x*120000}. What is sent are the bytes that `herd_mio::nats` writes;
the test compares them.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time

EPOCH = "0123456789abcdef"
STREAM = "KV_herd"
CONFIG = (
    '{"name":"KV_herd","subjects":["$KV.herd.>"],"retention":"limits","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,'
    '"max_age":0,"max_msgs_per_subject":1,"max_msg_size":-1,"storage":"file","discard":"new","num_replicas":1,'
    '"duplicate_window":120000000000,"allow_direct":true,"allow_rollup_hdrs":true,"deny_delete":true}'
)
VALUE = b"AT Goloman +0.263873386 kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503"


def escaped(data):
    text = "".join(
        {13: "\\r", 10: "\\n", 92: "\\\\"}.get(byte, chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in data
    )
    return re.sub(r"([a-z])\1{99,}", lambda run: f"\\{{{run[1]}*{len(run[0])}}}", text)


class Conversation:
    def __init__(self, port, path):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(0.1)
        self.file = open(path, "w")
        self.received = b""

    def send(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        self.file.write(f"C: {escaped(data)}\n")
        self.socket.sendall(data)

    def hear(self, until, within=10):
        """Reads until the pattern is there, and notes all that came."""
        deadline = time.monotonic() + within
        heard = b""
        while not re.search(until, heard, re.S):
            if time.monotonic() > deadline:
                raise SystemExit(f"no {until!r} in {heard!r}")
            try:
                part = self.socket.recv(65536)
            except TimeoutError:
                continue
            if not part:
                break
            heard += part
        self.file.write(f"S: {escaped(heard)}\n")
        return heard

    def begin(self, extra=""):
        self.hear(rb"INFO .*\r\n")
        self.send(
            'CONNECT {"verbose":false,"pedantic":false,"name":"herd-mio/Goloman/' + EPOCH + '","lang":"rust","version":"0.1.0",'
            '"protocol":1,"headers":true,"no_responders":true,"echo":true,"tls_required":false' + extra + "}\r\n"
        )
        self.send("PING\r\n")

    def request(self, subject, body, number, until=rb"\r\n.*\r\n$"):
        self.send(f"PUB {subject} _INBOX.{EPOCH}.r.{number} {len(body)}\r\n{body}\r\n")
        return self.hear(until)

    def update(self, key, expected, number, value=VALUE, hear=True):
        headers = f"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {expected}\r\n\r\n".encode()
        line = f"HPUB $KV.herd.{key} _INBOX.{EPOCH}.r.p{number} {len(headers)} {len(headers) + len(value)}\r\n"
        self.send(line.encode() + headers + value + b"\r\n")
        return self.hear(rb"\r\n.*\r\n$") if hear else b""


def consumer(name, heartbeat, start="", deliver="d1"):
    policy = f'"by_start_sequence","opt_start_seq":{start}' if start else '"all"'
    return (
        f'{{"stream_name":"KV_herd","config":{{"name":"{name}","deliver_policy":{policy},"ack_policy":"none","max_deliver":1,'
        f'"replay_policy":"instant","flow_control":true,"idle_heartbeat":{heartbeat},"deliver_subject":"_INBOX.{EPOCH}.{deliver}",'
        '"num_replicas":1,"mem_storage":true,"inactive_threshold":30000000000}}'
    )


def bucket(port, folder):
    talk = Conversation(port, f"{folder}/bucket.txt")
    talk.begin()
    talk.hear(rb"PONG\r\n")
    talk.send(f"SUB _INBOX.{EPOCH}.r.> 1\r\n")
    api = "$JS.API"
    talk.request(f"{api}.INFO", "", 1)
    talk.request(f"{api}.STREAM.INFO.{STREAM}", "", 2)
    talk.request(f"{api}.STREAM.CREATE.{STREAM}", CONFIG, 3)
    talk.request(f"{api}.STREAM.INFO.{STREAM}", "", 4)
    talk.update("kiwi=2Ecs=2Eucla=2Eedu", 0, 1)
    talk.update("kiwi=2Ecs=2Eucla=2Eedu", 0, 2)
    talk.update("kiwi=2Ecs=2Eucla=2Eedu", 1, 3)
    talk.request(f"{api}.STREAM.MSG.GET.{STREAM}", '{"last_by_subj":"$KV.herd.kiwi=2Ecs=2Eucla=2Eedu"}', 5)
    talk.request(f"{api}.STREAM.MSG.GET.{STREAM}", '{"last_by_subj":"$KV.herd.nobody"}', 6)
    talk.request(f"{api}.DIRECT.GET.{STREAM}.$KV.herd.kiwi=2Ecs=2Eucla=2Eedu", "", 7, rb"HMSG.*\r\n\r\n.*\r\n$")
    talk.request(f"{api}.DIRECT.GET.{STREAM}.$KV.herd.nobody", "", 8, rb"HMSG.*\r\n\r\n.*\r\n$")
    # A consumer does not see a subscription with a wildcard.
    talk.send(f"SUB _INBOX.{EPOCH}.d1 2\r\n")
    talk.request(f"{api}.CONSUMER.CREATE.{STREAM}.herd1", consumer("herd1", 200_000_000), 9, rb"consumer_create_r.*Idle Heartbeat.*\r\n\r\n\r\n$")
    talk.request(f"{api}.CONSUMER.DELETE.{STREAM}.herd1", "", 10, rb"consumer_delete_r.*\r\n$")
    talk.request(f"{api}.CONSUMER.CREATE.{STREAM}.herd2", consumer("herd2", 2_000_000_000, "7"), 11, rb"consumer_create_r.*\r\n$")
    talk.request("nobody.is.here", "", 12, rb"HMSG.*\r\n\r\n\r\n$")
    talk.send("PUB $KV.herd.* 2\r\nno\r\n")
    talk.send("PING\r\n")
    talk.hear(rb"PONG\r\n")
    talk.send("UNSUB 1\r\n")
    talk.send("SAY WHAT\r\n")
    talk.hear(rb"-ERR.*\r\n")


def flow(port, folder):
    """A reader that answers no request of flow control: the consumer stalls, and says so."""
    talk = Conversation(port, f"{folder}/flow.txt")
    talk.begin()
    talk.hear(rb"PONG\r\n")
    talk.send(f"SUB _INBOX.{EPOCH}.r.> 1\r\n")
    talk.send(f"SUB _INBOX.{EPOCH}.d2 2\r\n")
    for number in range(20):
        talk.update(f"k{number}", 0, number, b"x" * 120_000)
    heard = talk.request(
        f"$JS.API.CONSUMER.CREATE.{STREAM}.herd3", consumer("herd3", 200_000_000, deliver="d2"), 1, rb"Nats-Consumer-Stalled: [^\r]*\r\n\r\n\r\n$"
    )
    stalled = re.search(rb"Nats-Consumer-Stalled: ([^\r]*)", heard)[1].decode()
    talk.send(f"PUB {stalled} 0\r\n\r\n")
    talk.hear(rb"k19 .*Idle Heartbeat.*\r\n\r\n\r\n$")


def refused(port, folder):
    talk = Conversation(port, f"{folder}/refused.txt")
    talk.begin(',"user":"herd","pass":"wrong \\"\\\\ word"')
    talk.hear(rb"-ERR.*\r\n")


def permissions(port, folder):
    talk = Conversation(port, f"{folder}/permissions.txt")
    talk.begin(',"user":"herd","pass":"right"')
    talk.hear(rb"PONG\r\n")
    talk.send(f"SUB _INBOX.{EPOCH}.r.> 1\r\n")
    talk.send(f"PUB $JS.API.STREAM.INFO.{STREAM} _INBOX.{EPOCH}.r.1 0\r\n\r\n")
    talk.send("SUB $KV.herd.> 2\r\n")
    talk.hear(rb"-ERR.*-ERR.*\r\n")


def main():
    program = sys.argv[1]
    version = re.search(r"v([\d.]+)", subprocess.run([program, "--version"], capture_output=True, text=True).stdout)[1]
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), version)
    os.makedirs(folder, exist_ok=True)
    users = 'authorization { users = [{user: herd, password: right, permissions: {publish: ["_INBOX.>"], subscribe: ["_INBOX.>"]}}] }'
    for config, conversations in [("", [bucket, flow]), (users, [refused, permissions])]:
        with tempfile.TemporaryDirectory() as store:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            with open(f"{store}/nats.conf", "w") as file:
                file.write(f'listen: "127.0.0.1:{port}"\nserver_name: one\njetstream {{ store_dir: "{store}" }}\n{config}\n')
            server = subprocess.Popen([program, "-c", f"{store}/nats.conf"], stderr=subprocess.DEVNULL)
            try:
                for _ in range(100):
                    try:
                        socket.create_connection(("127.0.0.1", port)).close()
                        break
                    except ConnectionRefusedError:
                        time.sleep(0.05)
                for conversation in conversations:
                    conversation(port, folder)
            finally:
                server.kill()
                server.wait()


main()
