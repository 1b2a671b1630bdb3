"""Real clients against a running `bipo serve`: openai (sync, async, streams) and LangChain. The vector is called "v".

    python clients.py http://127.0.0.1:8080/v1 [KEY]
"""

import asyncio
import sys

import openai
from langchain_openai import ChatOpenAI

url, key = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "none"
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
model = client.models.list().data[0].id
question = [{"role": "user", "content": "How was your day?"}]


def chat(**kwargs):
    return client.chat.completions.create(model=model, messages=question, max_tokens=24, temperature=0, **kwargs)


def steered(value):
    return {"extra_body": {"steering": value}}


def test_models():
    ids = [known.id for known in client.models.list()]
    assert ids == [model, f"{model}::v"], ids
    assert client.models.retrieve(f"{model}::v").parent == model


def test_chat_is_steered_by_each_form_of_the_field():
    plain = chat().choices[0].message.content
    assert plain == chat(**steered(0)).choices[0].message.content == chat(**steered("")).choices[0].message.content
    answers = [chat(**steered(value)) for value in (2, "v:2", {"vectors": [{"source": "v", "scale": 2}]})]
    texts = {answer.choices[0].message.content for answer in answers}
    assert len(texts) == 1 and texts != {plain}, (texts, plain)
    assert answers[0].steering["applied"][0]["magnitude"] == 2 and answers[0].steering["dose"] > 0
    named = client.chat.completions.create(model=f"{model}::v", messages=question, max_tokens=24, temperature=0)
    assert named.choices[0].message.content == chat(**steered(1)).choices[0].message.content


def test_a_stream_says_what_the_whole_answer_says():
    whole = chat(**steered(-1))
    chunks = list(chat(stream=True, stream_options={"include_usage": True}, **steered(-1)))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content, (text, whole.choices[0].message.content)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage and chunks[-1].choices == []


def test_several_answers_with_seeds():
    first, again = (chat(n=3, seed=5, **steered(1)) for _ in range(2))
    sampled = [
        client.chat.completions.create(model=model, messages=question, max_tokens=12, temperature=1, n=3, seed=5) for _ in range(2)
    ]
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in first.choices}) == 1, "greedy answers are the same"
    texts = [[choice.message.content for choice in answer.choices] for answer in sampled]
    assert texts[0] == texts[1] and len(set(texts[0])) > 1, texts
    assert first.usage == again.usage


def test_stop_and_log_probs_and_bias():
    whole = chat().choices[0].message.content
    word = whole.split()[2]
    stopped = chat(stop=[word, "@@"]).choices[0]
    assert stopped.message.content == whole[: whole.index(word)] and stopped.finish_reason == "stop"
    content = chat(logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert "".join(token.token for token in content).strip() == whole.strip()
    for token in content:
        assert len(token.top_logprobs) == 3 and token.top_logprobs[0].logprob == token.logprob
    first = client.completions.create(model=model, prompt="The sky is", max_tokens=1, temperature=0, logprobs=2)
    likeliest = first.choices[0].logprobs.tokens[0]
    assert likeliest in first.choices[0].logprobs.top_logprobs[0]


def test_completions_of_several_prompts():
    both = client.completions.create(model=model, prompt=["The sky is", "Two and two are"], max_tokens=6, temperature=0)
    alone = client.completions.create(model=model, prompt="Two and two are", max_tokens=6, temperature=0)
    assert [choice.index for choice in both.choices] == [0, 1] and both.choices[1].text == alone.choices[0].text


def test_what_is_wrong_is_said():
    for arguments, expected in [
        (steered("nobody:1"), "no vector"),
        (steered({"vektors": []}), "unknown key"),
        ({"n": 99}, "expected 1 to 16"),
        ({"extra_body": {"tools": [{"type": "function", "function": {"name": "f"}}]}}, "tools are not supported"),
        ({"frequency_penalty": 1}, "frequency_penalty is not supported"),
    ]:
        try:
            chat(**arguments)
        except openai.BadRequestError as error:
            assert expected in str(error), error
        else:
            raise AssertionError(f"{arguments} was taken")
    try:
        openai.OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list()
    except openai.AuthenticationError:
        assert key != "none"
    else:
        assert key == "none"


async def at_once():
    client = openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0)
    ask = lambda value: client.chat.completions.create(
        model=model, messages=question, max_tokens=24, temperature=0, extra_body={"steering": value}
    )
    magnitudes = [-2, -1, 0, 1, 2, 1, 0, -1]
    answers = await asyncio.gather(*(ask(value) for value in magnitudes))
    stream = await client.chat.completions.create(model=model, messages=question, max_tokens=24, temperature=0, stream=True)
    streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    return magnitudes, [answer.choices[0].message.content for answer in answers], streamed


def test_requests_at_once_answer_as_one_after_another():
    magnitudes, texts, streamed = asyncio.run(at_once())
    for value, text in zip(magnitudes, texts):
        assert text == chat(**steered(value)).choices[0].message.content, value
    assert streamed == texts[2]


def test_langchain():
    llm = ChatOpenAI(base_url=url, api_key=key, model=model, temperature=0, max_tokens=24, extra_body={"steering": 2})
    assert llm.invoke("How was your day?").content == chat(**steered(2)).choices[0].message.content
    assert "".join(chunk.content for chunk in llm.stream("How was your day?")) == chat(**steered(2)).choices[0].message.content


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        print("ok", name, flush=True)
