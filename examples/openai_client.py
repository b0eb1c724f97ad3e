"""OpenAI's own client against the daemon: a streamed reply, then a conversation with long memory.

pip install openai
assistant daemon restart --listen 127.0.0.1:8123
export OPENAI_BASE_URL=http://127.0.0.1:8123/v1 OPENAI_API_KEY=$(assistant daemon token)
python examples/openai_client.py smollm2-135m
"""

import sys

from openai import OpenAI

model = sys.argv[1]
client = OpenAI()

message = {"role": "user", "content": "Say hello in one sentence."}
for chunk in client.chat.completions.create(model=model, messages=[message], stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

for text in ("We fly to Lisbon on Friday.", "Where do we fly, and when?"):
    reply = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], extra_body={"conversation": "flight"}
    )
    print(reply.choices[0].message.content)
    print(f"{reply.usage.prompt_tokens_details.cached_tokens} of {reply.usage.prompt_tokens} tokens were reused")
