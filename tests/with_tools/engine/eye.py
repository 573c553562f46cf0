"""Reads and writes a bucket with nats-py, which shares no code with this project.

A line of JSON on standard input is a request, one on standard output its answer: {"ok": ...} or {"error": "..."}. Bytes
are strings of the characters U+0000 to U+00FF. The first request says where to connect.
"""

import asyncio
import json
import ssl
import sys
import time

import nats
from nats.errors import NoRespondersError, TimeoutError
from nats.js import api
from nats.js.errors import KeyNotFoundError, NoStreamResponseError, NotFoundError


def text(data):
    return data.decode("latin-1")


class Refused(Exception):
    """JetStream's answer is an error."""

    def __str__(self):
        return json.dumps(self.args[0])


class Eye:
    async def connect(self, servers, ca=None, **login):
        """Connects, and connects again for as long as the process lives."""
        more = dict(login)
        if ca:
            more["tls"] = ssl.create_default_context(cafile=ca)

        async def quiet(_error):
            pass

        self.nc = await nats.connect(
            servers=servers, max_reconnect_attempts=-1, reconnect_time_wait=0.2, connect_timeout=5, error_cb=quiet,
            allow_reconnect=True, **more
        )
        self.js = self.nc.jetstream(timeout=10)

    async def api(self, subject, body=None):
        """A request to JetStream as it is; a refusal is an error."""
        data = json.dumps(body).encode() if body is not None else b""
        answer = await self.nc.request("$JS.API." + subject, data, timeout=15)
        answer = json.loads(answer.data)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    async def kv(self, bucket):
        return await self.js.key_value(bucket)

    async def make_bucket(self, bucket, **more):
        """As nats-py makes it."""
        await self.js.create_key_value(api.KeyValueConfig(bucket=bucket, **more))

    async def all(self, bucket):
        """Each key with its value and its number in the stream. Deleted keys are left out."""
        for _ in range(20):
            watcher = await (await self.kv(bucket)).watchall(ignore_deletes=True, inactive_threshold=30.0)
            found = []
            async for entry in watcher:
                if entry is None:
                    break
                found.append([entry.key, text(entry.value), entry.revision])
            # At once, and not when nobody has read from it for a while: tests count the consumers of others.
            info = await watcher._sub.consumer_info()
            await watcher.stop()
            await self.js.delete_consumer("KV_" + bucket, info.name)
            # nats-py says too early that there is no more, if all was delivered and its task has handled nothing of it yet.
            if found or info.delivered.consumer_seq == 0:
                break
        return found

    async def get(self, bucket, key):
        try:
            entry = await (await self.kv(bucket)).get(key)
        except KeyNotFoundError:
            return None
        return [entry.key, text(entry.value), entry.revision]

    async def leader_get(self, bucket, key):
        """What the leader has: other reads may be answered by any node that has a copy."""
        try:
            message = await self.js.get_msg("KV_" + bucket, subject=f"$KV.{bucket}.{key}", direct=False)
        except NotFoundError:
            return None
        return [key, text(message.data), message.seq]

    async def put(self, bucket, key, value):
        return await (await self.kv(bucket)).put(key, value.encode("latin-1"))

    async def delete(self, bucket, key):
        return await (await self.kv(bucket)).delete(key)

    async def publish(self, subject, value):
        """A message of any subject that a stream has."""
        return (await self.js.publish(subject, value.encode("latin-1"), timeout=10)).seq

    async def consumers(self, stream):
        """The names of all consumers."""
        names, total = [], 1
        while len(names) < total:
            page = await self.api(f"CONSUMER.NAMES.{stream}", {"offset": len(names)})
            total = page["total"]
            if not page["consumers"]:
                break
            names += page["consumers"]
        return names

    async def backup(self, stream, file):
        """Writes a snapshot into a file, and returns the answer that restoring needs."""
        inbox, done, chunks = self.nc.new_inbox(), asyncio.Event(), []

        async def chunk(message):
            if not message.data:
                done.set()
                return
            chunks.append(message.data)
            if message.reply:
                await self.nc.publish(message.reply, b"")

        subscription = await self.nc.subscribe(inbox, cb=chunk)
        answer = await self.api(
            f"STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox, "no_consumers": True, "chunk_size": 65536}
        )
        await asyncio.wait_for(done.wait(), 30)
        await subscription.unsubscribe()
        with open(file, "wb") as out:
            out.write(b"".join(chunks))
        return {"config": answer["config"], "state": answer["state"]}

    async def restore(self, stream, file, of):
        """Makes the stream again as it was; there must be none of its name."""
        answer = await self.api(f"STREAM.RESTORE.{stream}", of)
        with open(file, "rb") as snapshot:
            while data := snapshot.read(65536):
                await self.nc.request(answer["deliver_subject"], data, timeout=15)
        end = await self.nc.request(answer["deliver_subject"], b"", timeout=15)
        end = json.loads(end.data)
        if "error" in end:
            raise Refused(end["error"])
        return end


def has_no_leader(error):
    """Whether NATS has no leader at present, as after a cut: it was asked for something, and has done nothing."""
    if isinstance(error, (NoRespondersError, NoStreamResponseError)):
        return True
    refused = error.args[0] if isinstance(error, Refused) else {"err_code": getattr(error, "err_code", None)}
    return refused.get("err_code") == 10008


async def insist(act, is_reading, seconds=30.0):
    """Does something again for as long as NATS has no leader, with a limit."""
    until = time.monotonic() + seconds
    while True:
        try:
            return await act()
        except Exception as error:
            is_unheard = has_no_leader(error) or (is_reading and isinstance(error, TimeoutError))
            if not is_unheard or time.monotonic() > until:
                raise
        await asyncio.sleep(0.3)


async def main():
    eye = Eye()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        try:
            name = request.pop("do")
            is_reading = name in ("all", "get", "leader_get", "consumers")
            answer = {"ok": await insist(lambda: getattr(eye, name)(**request), is_reading)}
        except Exception as error:  # Whatever it is, the test that asked fails by it.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


asyncio.run(main())
