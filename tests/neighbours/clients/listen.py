"""Subscribes with a client library and prints the data of every message that the library delivers, a line each.

    python listen.py LIBRARY URL
"""

import json
import sys

library, url = sys.argv[1:]
base, path = url[: url.index("/stream")], url[url.index("/stream") :]


def with_httpx_sse():
    import httpx
    from httpx_sse import connect_sse

    with httpx.Client(timeout=None) as client, connect_sse(client, "GET", url) as source:
        yield from (message.data for message in source.iter_sse())


# In the next two, an application calls a path of its own server for which its library has no method.
def with_openai():
    from openai import OpenAI, Stream

    client = OpenAI(base_url=base, api_key="none", max_retries=0)
    for data in client.get(path, cast_to=object, stream=True, stream_cls=Stream[object]):
        yield json.dumps(data, separators=(",", ":"))


def with_anthropic():
    from anthropic import Anthropic, Stream

    client = Anthropic(base_url=base, api_key="none", max_retries=0)
    stream = client.get(path, cast_to=object, stream=True, stream_cls=Stream[object])
    # The messages as the library passes them to its own loop, which skips those without a name.
    yield from (message.data for message in Stream.raw_events(stream.response))


for data in {"httpx-sse": with_httpx_sse, "openai": with_openai, "anthropic": with_anthropic}[library]():
    print(data, flush=True)
