#!/usr/bin/env python3
"""Make tests/parity/chat/chat.json: what transformers' apply_chat_template makes of conversations.

    python tests/parity/chat/make_chat.py [GGUF ...]

Needs transformers (4.57) and jinja2; the tests read only what this wrote. The templates are those that models publish in
tokenizer_config.json. From GGUF files given, the templates inside are compared with the ones here.

{"templates": [{"name", "jinja", "rendered": [text or null where the template raises]}],
 "refused": [templates that kfuse does not know], "conversations": [[{"role", "content"}]],
 "tokens": [{"model", "name", "ids": [ids of each conversation, null where it raises]}]}
"""
import json
import os
import re
import sys

from transformers import AutoTokenizer, PreTrainedTokenizerFast
from tokenizers import Tokenizer, models

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "..", "models")

CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
FIRST = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nDEFAULT<|im_end|>\n' }}"
         "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
QWEN25 = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
ALTERNATE = ("{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
             "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}")
GEMMA = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
         "{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}"
         "{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
         "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}")
GEMMA3 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""
LLAMA2 = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
          "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}" +
          ALTERNATE + "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + "
          "'\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}"
          "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
          "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
LLAMA3 = ("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
          "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
          "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
MISTRAL = ("{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + "
           "' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}"
           "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}")
MISTRAL_V1 = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.first and system_message is defined %}
            {{- " [INST] " + system_message + "\\n\\n" + message["content"] + " [/INST]" }}
        {%- else %}
            {{- " [INST] " + message["content"] + " [/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""
OPENCHAT = ("{{ bos_token }}{% for message in messages %}{{ 'GPT4 Correct ' + message['role'].title() + ': ' + message['content'] + "
            "'<|end_of_turn|>'}}{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}")
SOLAR = ("{% for message in messages %}{% if message['role'] == 'system' %}{% if message['content']%}{{'### System:\n' + message['content']+'\n\n'}}"
         "{% endif %}{% elif message['role'] == 'user' %}{{'### User:\n' + message['content']+'\n\n'}}{% elif message['role'] == 'assistant' %}"
         "{{'### Assistant:\n'  + message['content']}}{% endif %}{% if loop.last and add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
         "{% endfor %}")
ZEPHYR = ("{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
          "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
          "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
          "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")

SMOLLM2 = FIRST.replace("DEFAULT", "You are a helpful AI assistant named SmolLM, trained by Hugging Face")
TEMPLATES = [
    ("chatml", CHATML),                                          # OpenHermes, NousHermes 2
    ("chatml", CHATML.replace("['role']", ".role").replace("['content']", ".content").replace("'", '"')),
    ("smollm2", SMOLLM2),
    ("qwen2.5", QWEN25),
    ("qwen2", FIRST.replace("DEFAULT", "You are a helpful assistant.")),
    ("qwen1.5", FIRST.replace("DEFAULT", "You are a helpful assistant")),
    ("internlm2", "{{ bos_token }}" + CHATML),
    ("gemma", GEMMA), ("gemma3", GEMMA3), ("llama-2", LLAMA2), ("llama-3", LLAMA3),
    ("mistral", MISTRAL), ("mistral-v0.1", MISTRAL.replace("+ eos_token}}", "+ eos_token + ' ' }}")), ("mistral-v1", MISTRAL_V1),
    ("openchat", OPENCHAT),                                      # and Starling
    ("solar", SOLAR), ("zephyr", ZEPHYR),
]
# Near relatives and strangers: templates that would render something else.
REFUSED = [
    FIRST.replace("DEFAULT", "You are a pirate."),
    # Hermes 3: a BOS before what Qwen2's says
    "{{bos_token}}" + FIRST.replace("DEFAULT", "You are a helpful assistant."),
    FIRST.replace("DEFAULT", "You are a helpful assistant.") + "{{ eos_token }}",
    # Qwen1.5 as first published: the last message is left open
    FIRST.replace("DEFAULT", "You are a helpful assistant").replace(
        " + '<|im_end|>' + '\n'}}", "}}{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>' + '\n'}}{% endif %}"),
    CHATML.replace("message['content']", "message['content'].split('</think>')[-1]"),
    LLAMA2.replace("{% else %}{% set loop_messages = messages %}",
                   "{% elif true == true %}{% set loop_messages = messages %}{% set system_message = 'You are a helpful, respectful and "
                   "honest assistant.' %}{% else %}{% set loop_messages = messages %}", 1),
    "{{- bos_token }}{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}{{- 'Cutting Knowledge Date: December 2023\n' }}" + LLAMA3,
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + message['content'] + '<|end|>' + "
    "'\n' + '<|assistant|>' + '\n'}}{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}",
    "{% for message in messages %}{{bos_token + message['role'] + '\n' + message['content'] + eos_token + '\n'}}{% endfor %}",
    "", "{{ messages }}", "{% for '<|im_start|>",
]

# Near relatives that render other line ends, or more: transformers keeps a line end after what is written and drops it after what is done.
_zephyr, _chatml = dict(TEMPLATES)["zephyr"], "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
REFUSED += [
    re.sub(r"}}\n{", "}}{", _zephyr), _zephyr.replace("{%", "{%-"),
    _chatml.replace(" + '\\n'}}", "}}"), _chatml.replace("+ '\\n'}}", "+ eos_token + '\\n'}}"), _chatml.replace("}}{%", "}}\n{%"),
    "{{ bos_token }}\n{% for message in messages %}\n{{ 'GPT4 Correct ' + message['role'].title() + ': ' + message['content'] + '<|end_of_turn|>'}}\n{% endfor %}",
    "Talk: " + _chatml,
]


def m(*turns):
    return [{"role": r, "content": c} for r, c in turns]


CONVERSATIONS = [
    m(("user", "What did the miller leave him?"), ("assistant", "The cat.\nNothing remained for the youngest.")),
    m(("system", "You speak of mills."), ("user", "Who took it?"), ("assistant", "The eldest."), ("user", "And the donkey?"),
      ("assistant", "def second(sons):\n    return sons[1]  # the second")),
    m(("user", "Größe: 8,848 m?"), ("assistant", "日本語 ja."), ("user", "Why?")),
    m(("system", "Be brief."), ("user", "x"), ("assistant", "y")),
    m(("user", "a"), ("user", "b"), ("assistant", "c")),
    m(("assistant", "I begin."), ("user", "Do.")),
    m(("user", "a"), ("system", "Now be kind."), ("assistant", "c")),
    m(("user", "a"), ("assistant", "b"), ("assistant", "c"), ("user", "d"), ("assistant", "e")),
    m(("system", "Alone.")),
]


def apply(tok, jinja, conversation, tokenize):
    try:
        return tok.apply_chat_template(conversation, chat_template=jinja, tokenize=tokenize)
    except Exception as e:
        if "alternate" in str(e) or "not supported" in str(e) or "are supported" in str(e) or "no element 0" in str(e):
            return None
        raise


def main():
    for path in sys.argv[1:]:
        from gguf import GGUFReader
        field = GGUFReader(path).fields.get("tokenizer.chat_template")
        assert field is None or field.contents() in [t for _, t in TEMPLATES], path
    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>")
    out = {"templates": [], "refused": REFUSED, "conversations": CONVERSATIONS, "tokens": []}
    for name, jinja in TEMPLATES:
        out["templates"].append({"name": name, "jinja": jinja,
                                 "rendered": [apply(plain, jinja, c, False) for c in CONVERSATIONS]})
    published = dict(TEMPLATES)
    for model, name in (("llama-tiny", "smollm2"), ("llama-tiny", "zephyr"), ("qwen2-tiny", "qwen2.5"), ("qwen2-tiny", "solar"),
                        ("gemma3-tiny", "gemma3"), ("gemma3-tiny", "mistral-v0.1"), ("llama-untied", "mistral-v1"),
                        ("endtoend/mixtral", "chatml"), ("endtoend/mixtral", "mistral-v1"), ("endtoend/openchat", "openchat"),
                        ("endtoend/llama2", "llama-2")):
        tok = AutoTokenizer.from_pretrained(os.path.join(MODELS, model))
        out["tokens"].append({"model": model, "name": name,
                              "ids": [apply(tok, published[name], c, True) for c in CONVERSATIONS]})
    with open(os.path.join(HERE, "chat.json"), "w", encoding="utf-8") as f:
        json.dump(out, f, ensure_ascii=False, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
