"""A LanceDB table with a thin FastAPI in front, through LanceDB's asynchronous interface.

`python lancedb_app.py PORT FOLDER PROBES`.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import lancedb
import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response

TABLE = "predictions"
COLUMNS = (
    "transaction_id customer_id terminal_id happened_at amount score model_version scored_at day"
).split()
encode = msgspec.json.Encoder().encode
state: dict[str, Any] = {}


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[None]:
    """The table is opened once."""
    connection = await lancedb.connect_async(sys.argv[2])
    state["table"] = await connection.open_table(TABLE)
    yield


app = FastAPI(lifespan=opened, openapi_url=None)


@app.get("/v1/fraud/predictions/{id}")
async def prediction(id: str) -> Response:
    """The prediction of one transaction, by the BTREE index of its key."""
    quoted = id.replace("'", "''")
    query = state["table"].query().where(f"transaction_id = '{quoted}'").select(COLUMNS).limit(1)
    rows = (await query.to_arrow()).to_pylist()
    if not rows:
        return Response(status_code=404)
    return Response(encode(rows[0]), media_type="application/json")


@app.post("/v1/fraud/similar")
async def similar(request: Request) -> Response:
    """The nearest neighbours of a vector, by the IVF index."""
    asked = msgspec.json.decode(await request.body())
    query = state["table"].vector_search(asked["vector"]).limit(asked["k"])
    query = query.nprobes(int(sys.argv[3])).select([*COLUMNS, "_distance"])
    rows = (await query.to_arrow()).to_pylist()
    for row in rows:
        row["distance"] = row.pop("_distance")
    return Response(encode({"neighbours": rows}), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, workers=1
    )
