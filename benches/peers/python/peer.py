"""The same work by SQLAlchemy with asyncmy, on commands from compare-peers.

Usage: peer.py CONNECTIONS {ping|no-ping}, with DATABASE_URL set. Commands are lines of JSON on standard
input, answers lines of JSON on standard output. The answer to {"work", "tasks", "rehearsal",
"counted"} (seconds) is {"per_second", "p50", "p99"} of the latencies (microseconds); the answer to
{"work", "tasks", "times"} is {}.

Uses SQLAlchemy's defaults: Core and `text()`, one event loop, a rollback at each return. asyncmy has no
prepared statements: it inserts the parameters into the text.
"""

import asyncio
import json
import os
import sys
import time
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

ROWS = 1000
LOOKUP = text("SELECT value FROM mysql_warm_pool_peers WHERE id = :id")
SET = text("SET @peers = 7")


async def look_up(conn, id):
    found = (await conn.execute(LOOKUP, {"id": id})).scalar()
    if found != id * 3 + 1:
        raise ValueError(f"item {id} has value {id * 3 + 1}, but {found} was found")


async def nothing(conn, id):
    pass


async def committed_transaction(conn, id):
    async with conn.begin():
        await look_up(conn, id)


async def user_variable(conn, id):
    await conn.execute(SET)
    await look_up(conn, id)


WORK = {
    "nothing": nothing,
    "lookup": look_up,
    "committed-transaction": committed_transaction,
    "dropped-transaction": look_up,
    "user-variable": user_variable,
}


async def round(engine: AsyncEngine, work, tasks: int, rehearsal: float, counted: float):
    counted_from = time.perf_counter() + rehearsal
    until = counted_from + counted
    latencies = []

    async def drive(id):
        last = time.perf_counter()
        while last < until:
            id = (id + 7) % ROWS
            async with engine.connect() as conn:
                await work(conn, id)
            now = time.perf_counter()
            if last >= counted_from:
                latencies.append(now - last)
            last = now

    await asyncio.gather(*(drive(task) for task in range(tasks)))
    latencies.sort()

    def percentile(percent):
        return latencies[len(latencies) * percent // 100] * 1e6

    return {"per_second": len(latencies) / counted, "p50": percentile(50), "p99": percentile(99)}


async def times(engine: AsyncEngine, work, tasks: int, times: int):
    async def drive(task):
        for id in range((times + task) // tasks):
            async with engine.connect() as conn:
                await work(conn, id % ROWS)

    await asyncio.gather(*(drive(task) for task in range(tasks)))
    return {}


async def main():
    connections, ping = int(sys.argv[1]), sys.argv[2] == "ping"
    url = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(scheme="mysql+asyncmy"))
    engine = create_async_engine(url, pool_size=connections, max_overflow=0, pool_pre_ping=ping)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        work, tasks = WORK[order["work"]], order["tasks"]
        if "times" in order:
            answer = await times(engine, work, tasks, order["times"])
        else:
            answer = await round(engine, work, tasks, order["rehearsal"], order["counted"])
        print(json.dumps(answer), flush=True)
    await engine.dispose()


asyncio.run(main())
