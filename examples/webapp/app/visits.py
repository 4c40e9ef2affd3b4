"""A page that counts its visits: in PostgreSQL for good, in Redis since the start."""

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import psycopg2
import redis

CACHE = redis.Redis(host=os.environ["CACHE_HOST"])


def connect():
    return psycopg2.connect(
        host=os.environ["DATABASE_HOST"],
        user=os.environ["DATABASE_USER"],
        dbname=os.environ["DATABASE_NAME"],
        password=Path(os.environ["DATABASE_PASSWORD_FILE"]).read_text().strip(),
    )


def count_visit() -> int:
    with closing(connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute("create table if not exists visits (at timestamptz default now())")
        cursor.execute("insert into visits default values")
        cursor.execute("select count(*) from visits")
        return cursor.fetchone()[0]


def application(environ: dict, start_response: Callable) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/health":
        with closing(connect()):
            CACHE.ping()
        body = "ok\n"
    else:
        body = (
            f"{os.environ.get('GREETING', 'Hello')}: visit {count_visit()} on record,"
            f" {CACHE.incr('visits')} since the cache started.\n"
        )
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [body.encode()]
