"""Ask about a text longer than the model's window, under one budget, with transformers and `memory` alone.

python examples/memory_alone.py MODEL_FOLDER 900MiB talk.txt "Where did we meet?"     # /dev/stdin reads a pipe
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import AutoModelForCausalLM, AutoTokenizer

from memory.alone import memory_of
from memory.budget import parse_size

if len(sys.argv) != 5:
    sys.exit(__doc__)
source, budget, file, question = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(source)
model = AutoModelForCausalLM.from_pretrained(source, dtype="float32")
ends = model.generation_config.eos_token_id

said = [{"role": "user", "content": f"{Path(file).read_text('utf-8')}\n\n{question}"}]
ids = tokenizer.apply_chat_template(said, add_generation_prompt=True)["input_ids"]
with TemporaryDirectory() as kv, memory_of(model, parse_size(budget), Path(kv), weights=source) as memory:
    memory.open("talk")
    answer = [int(memory.read(ids[memory.resume(ids).reused :]).argmax())]
    while answer[-1] not in (ends if isinstance(ends, list) else [ends]) and len(answer) < 128:
        answer.append(int(memory.step(answer[-1]).argmax()))

print(tokenizer.decode(answer, skip_special_tokens=True))
print(f"{len(ids)} tokens read, {memory.resident} resident, {memory.stored} stored; {memory.plan.sentence()}")
