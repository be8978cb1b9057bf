"""Redis with a thin FastAPI in front: the answer as JSON under the key, given on as it is.

`python redis_app.py PORT SOCKET`. As Redis' and redis-py's documentation say for speed: a Unix
socket on the same host, a pool of connections, hiredis; uvicorn with uvloop and httptools.
"""

import sys

import uvicorn
from fastapi import FastAPI, Response
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import UnixDomainSocketConnection

app = FastAPI(openapi_url=None)
pool = BlockingConnectionPool(
    connection_class=UnixDomainSocketConnection, path=sys.argv[2], max_connections=32
)
redis = Redis(connection_pool=pool)


@app.get("/v1/fraud/predictions/{id}")
async def prediction(id: str) -> Response:
    """The prediction of one transaction."""
    found = await redis.get(id)
    if found is None:
        return Response(status_code=404)
    return Response(found, media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, workers=1
    )
