#!/usr/bin/env python3
"""Make tests/parity/chat/written.json: what Jinja makes of the templates that kf-train writes into a model's folder.

    make build/tests/text/test_chat && python tests/parity/chat/make_written.py

Needs jinja2, set as transformers sets it and as it comes; the tests read only what this wrote. Where models publish a template of that name
(chat.json), ours has to render the same, with a generation prompt too.

{name: {"jinja", "rendered": [text of each of chat.json's conversations, or null where the template raises]}}
"""
import json
import os
import subprocess

from jinja2 import Environment
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))


def raise_exception(message):
    raise TemplateError(message)


ENVIRONMENTS = [ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True), Environment()]
for e in ENVIRONMENTS:
    e.globals["raise_exception"] = raise_exception


def render(environment, jinja, conversation, prompt=False):
    try:
        return environment.from_string(jinja).render(messages=conversation, bos_token="<s>", eos_token="</s>", add_generation_prompt=prompt)
    except TemplateError:
        return None


def main():
    written = json.loads(subprocess.run([os.path.join(HERE, "../../../build/tests/text/test_chat"), "written"], check=True, text=True,
                                        cwd=os.path.join(HERE, "../../.."), stdout=subprocess.PIPE).stdout)
    with open(os.path.join(HERE, "chat.json"), encoding="utf-8") as f:
        parity = json.load(f)
    talks, out = parity["conversations"], {}
    for name, jinja in written.items():
        rendered = [render(ENVIRONMENTS[0], jinja, c) for c in talks]
        assert rendered == [render(ENVIRONMENTS[1], jinja, c) for c in talks], name
        padded = [[{"role": m["role"], "content": "\n " + m["content"] + " \t\n"} for m in c] for c in talks]
        assert rendered == [render(ENVIRONMENTS[0], jinja, c) for c in padded], name
        out[name] = {"jinja": jinja, "rendered": rendered}
    for t in parity["templates"]:
        for c in talks:
            for prompt in (False, True):
                theirs, ours = (render(ENVIRONMENTS[0], j, c, prompt) for j in (t["jinja"], written[t["name"]]))
                # (of an unknown order of roles some render less, and we nothing)
                assert ours == theirs or ours is None and c[1]["role"] == "system", (t["name"], prompt, c, theirs, ours)
    with open(os.path.join(HERE, "written.json"), "w", encoding="utf-8") as f:
        json.dump(out, f, ensure_ascii=False, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
