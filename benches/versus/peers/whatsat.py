"""WHATSAT over aiohttp, as the report has it: asyncio streams in front, HTTPS behind.

    whatsat.py PORT SERVICE-URL CA-FILE each|kept

`each` makes a ClientSession, and so a connection, for each request, as the report does; `kept`
keeps one. IAMAT and WHATSAT alone, no log: what is measured is the way to the service.
"""

import asyncio
import json
import re
import ssl
import sys

import aiohttp

METRES_PER_MILE = 1609.344
KEY = "key"


class Server:
    def __init__(self, url, tls, is_kept):
        self.url = url
        self.tls = tls
        self.kept = self.session() if is_kept else None
        self.clients = {}

    def session(self):
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.tls))

    async def places(self, location, radius, bound):
        latitude, longitude = re.fullmatch(r"([+-][\d.]+)([+-][\d.]+)/?", location).groups()
        query = {"location": f"{latitude},{longitude}", "radius": radius * METRES_PER_MILE, "key": KEY}
        if self.kept:
            text = await self.fetch(self.kept, query)
        else:
            async with self.session() as session:
                text = await self.fetch(session, query)
        answer = json.loads(text)
        answer["results"] = answer["results"][:bound]
        return re.sub("\n\n+", "\n", json.dumps(answer, indent=3).strip("\n"))

    async def fetch(self, session, query):
        async with session.get(self.url, params=query) as response:
            return await response.text()

    async def answer(self, line):
        match line.split():
            case ["IAMAT", client, location, timestamp]:
                self.clients[client] = (location, timestamp)
                return f"AT AT {client} {location} {timestamp}\n"
            case ["WHATSAT", client, radius, bound] if client in self.clients:
                location, timestamp = self.clients[client]
                body = await self.places(location, float(radius), int(bound))
                return f"AT AT {client} {location} {timestamp}\n{body}\n\n"
        return f"? {line}"

    async def serve(self, reader, writer):
        while line := await reader.readline():
            writer.write((await self.answer(line.decode())).encode())
            await writer.drain()
        writer.close()


async def main(port, url, ca, style):
    # Once: to make it for each request would cost 40 ms of CPU.
    tls = ssl.create_default_context(cafile=ca)
    server = Server(url, tls, style == "kept")
    listener = await asyncio.start_server(server.serve, "127.0.0.1", port)
    async with listener:
        await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
