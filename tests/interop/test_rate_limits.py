"""The official openai package against a rate limit: it waits as told and succeeds by itself."""

import openai
import pytest

from outlast_node import Node

QUESTION = [{"role": "user", "content": "What is the river's promise?"}]


@pytest.fixture
def limited_node(upstream, tmp_path):
    folder = tmp_path / "limited"
    folder.mkdir()
    limits = [{"scope": "key:*", "requests_per_minute": 60, "burst": 1}]
    node = Node(folder, [upstream], rate_limits=limits).start()
    yield node
    node.kill()


def test_the_sdk_retries_by_itself_and_succeeds(limited_node):
    with openai.OpenAI(base_url=f"http://{limited_node.http}/v1", api_key=limited_node.key) as client:
        first = client.chat.completions.with_raw_response.create(model="smart", messages=QUESTION)
        assert first.headers["x-ratelimit-remaining-requests"] == "0"
        second = client.chat.completions.with_raw_response.create(model="smart", messages=QUESTION)
        assert second.parse().choices[0].message.content
        assert second.retries_taken == 1
        text = "".join(
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(model="smart", messages=QUESTION, stream=True)
        )
        assert len(text.split()) == 32


def test_without_retries_the_sdk_raises_its_rate_limit_error(limited_node):
    with openai.OpenAI(base_url=f"http://{limited_node.http}/v1", api_key=limited_node.key, max_retries=0) as client:
        client.chat.completions.create(model="smart", messages=QUESTION)
        with pytest.raises(openai.RateLimitError) as raised:
            client.chat.completions.create(model="smart", messages=QUESTION)
    assert raised.value.code == "rate_limit_exceeded" and raised.value.type == "requests"
    assert raised.value.response.headers["x-should-retry"] == "true"
