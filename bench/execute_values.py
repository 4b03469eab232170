"""Inserts the rows of a file by psycopg2's execute_values: one order a line on stdin, its seconds on stdout.

Only what the server and psycopg2 do is timed, not the reading of the file.
"""

import itertools
import json
import sys
import time
from datetime import datetime

import psycopg2
from psycopg2.extras import execute_values

ROWS_A_TRANSACTION = 10_000

READ = {
    "timestamp": lambda text: datetime.fromisoformat(text.replace("Z", "+00:00")),
    "real": float,
    "integer": int,
    "boolean": lambda text: text == "true",
}


def ingest(connection, order):
    readers = [READ.get(column["type"], str) for column in order["columns"]]
    names = ", ".join(column["name"] for column in order["columns"])
    insert = f"INSERT INTO {order['table']} ({names}) VALUES %s"
    seconds = 0.0
    with open(order["path"], encoding="utf-8") as file:
        while lines := list(itertools.islice(file, ROWS_A_TRANSACTION)):
            rows = [
                tuple(read(text) for read, text in zip(readers, line.rstrip("\n").split("\t")))
                for line in lines
            ]
            start = time.perf_counter()
            with connection, connection.cursor() as cursor:
                execute_values(cursor, insert, rows, page_size=order["pageSize"])
            seconds += time.perf_counter() - start
    return seconds


for line in sys.stdin:
    order = json.loads(line)
    connection = psycopg2.connect(order["url"])
    print(json.dumps({"seconds": ingest(connection, order)}), flush=True)
    connection.close()
