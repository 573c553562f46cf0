"""asyncio streams, as the report has it: one coroutine a connection, one line at a time.

    streams.py PORT LOG|off [--uvloop] [--neighbours PORT ...]

`--uvloop` runs the same on uvloop. With neighbours an update that is new is sent on to each of
them over a new connection, as the report does it.
"""

import asyncio
import logging
import re
import sys
import time

LOCATION = re.compile(
    rb"[+-](\d{1,2}|\d{4}|\d{6})(\.\d+)?[+-](\d{1,3}|\d{5}|\d{7})(\.\d+)?"
    rb"([+-]\d+(\.\d+)?)?(CRSWGS_84)?/?"
)
TIMESTAMP = re.compile(rb"\d{1,18}(\.\d+)?")
AHEAD = 300  # seconds that a timestamp may lie in the future
LINE_BYTES = 4096


def is_angle(digits, fraction, width, greatest):
    minutes, seconds = digits[width : width + 2] or b"0", digits[width + 2 :] or b"0"
    degrees = int(digits[:width]) + int(minutes) / 60 + int(seconds) / 3600
    exact = not (fraction or b"").strip(b".0")
    within = degrees < greatest or degrees == greatest and exact
    return int(minutes) < 60 and int(seconds) < 60 and within


def is_location(text):
    parts = LOCATION.fullmatch(text)
    return (
        parts
        and len(text) <= 64
        and is_angle(parts[1], parts[2], 2, 90)
        and is_angle(parts[3], parts[4], 3, 180)
    )


def is_timestamp(text):
    return TIMESTAMP.fullmatch(text) and len(text) <= 40 and float(text) <= time.time() + AHEAD


class Server:
    def __init__(self, neighbours):
        self.neighbours = neighbours
        self.clients = {}

    def store(self, client, location, timestamp):
        """Whether it was new."""
        known = self.clients.get(client)
        if known and float(known[1]) >= float(timestamp):
            return False
        self.clients[client] = (location, timestamp)
        return True

    async def flood(self, client, location, timestamp):
        line = b"UPDATELOC %b %b %b\n" % (client, location, timestamp)
        for port in self.neighbours:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                if is_logging:
                    logging.info("Sending %s location at %s to %d.", client, location, port)
                writer.write(line)
                await writer.drain()
                writer.close()
            except OSError:
                logging.info("Port %d is down. Cannot send %s at %s to %d.", port, client, location, port)

    async def answer(self, line):
        match line.split():
            case [b"IAMAT", client, location, timestamp] if (
                len(client) <= 256 and is_location(location) and is_timestamp(timestamp)
            ):
                if self.store(client, location, timestamp) and self.neighbours:
                    asyncio.create_task(self.flood(client, location, timestamp))
                return b"AT AT %b %b %b\n" % (client, location, timestamp)
            case [b"UPDATELOC", client, location, timestamp] if self.neighbours:
                if self.store(client, location, timestamp):
                    asyncio.create_task(self.flood(client, location, timestamp))
                return b""
            case [b"WHATSAT", client, b"0", b"0"] if client in self.clients:
                return b'AT AT %b %b %b\n{"results" : []}\n\n' % (client, *self.clients[client])
            case _:
                return b"? " + line.removesuffix(b"\n").removesuffix(b"\r") + b"\n"

    async def serve(self, reader, writer):
        peer = "%s:%d" % writer.get_extra_info("peername")[:2]
        logging.info("Client %s is connected.", peer)
        try:
            while line := await reader.readline():
                if is_logging:
                    logging.info("Received from %s: %s", peer, line.rstrip().decode(errors="replace"))
                answer = await self.answer(line)
                if answer:
                    writer.write(answer)
                    await writer.drain()
                    if is_logging:
                        logging.info("Sent to %s: %s", peer, answer.rstrip().decode(errors="replace"))
        except (ConnectionError, ValueError):
            pass
        logging.info("Client %s is disconnected.", peer)
        writer.close()


async def main(port, neighbours):
    server = Server(neighbours)
    listener = await asyncio.start_server(
        server.serve, "127.0.0.1", port, backlog=4096, limit=LINE_BYTES
    )
    async with listener:
        await listener.serve_forever()


if __name__ == "__main__":
    port, log, *options = sys.argv[1:]
    is_logging = log != "off"
    if is_logging:
        logging.basicConfig(
            filename=log,
            level=logging.INFO,
            format="%(asctime)s - %(levelname)s: %(message)s",
            datefmt="%d-%b-%y %H:%M:%S",
        )
    if "--uvloop" in options:
        import uvloop

        options.remove("--uvloop")
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(int(port), [int(one) for one in options[1:]]))
