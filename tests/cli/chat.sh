# Conversations from end to end on tiny models whose chat templates differ: what each stage makes of them, and its errors.
. tests/lib.sh

C=$TMP/corpus
python3 - "$TMP" <<'END'
import json, os, shutil, sys
tmp = sys.argv[1]
talks = [
    [("system", "You speak of mills."), ("user", "What did the miller leave him?"), ("assistant", "The cat.\nNothing remained for the youngest."),
     ("user", "And the donkey?"), ("assistant", "def second(sons):\n    return sons[1]  # the second")],
    [("user", "Größe: 8,848 m?"), ("assistant", "Nach Hause, antwortete sie leise.")],
    [("user", "x"), ("assistant", "<|im_end|> is text here, <end_of_turn> too.")],
]
with open(tmp + "/chat.jsonl", "w", encoding="utf-8") as f:
    for i, t in enumerate(talks):
        f.write(json.dumps({"id": str(i), "domain": "talk", "messages": [{"role": r, "content": c} for r, c in t]}) + "\n")
    f.write(json.dumps({"id": "text", "domain": "prose", "text": "Water boils at 100 degrees at sea level."}) + "\n")
# the models with their families' templates, each in another of the ways that folders have
published = {t["name"]: t["jinja"] for t in json.load(open("tests/parity/chat/chat.json", encoding="utf-8"))["templates"]}
for name, template, how in (("qwen2-tiny", "qwen2.5", "string"), ("gemma3-tiny", "gemma3", "file"), ("llama-tiny", "smollm2", "list")):
    d = f"{tmp}/{name}"
    shutil.copytree("tests/models/" + name, d)
    c = json.load(open(d + "/tokenizer_config.json"))
    if how == "file":
        open(d + "/chat_template.jinja", "w").write(published[template])
    else:
        c["chat_template"] = published[template] if how == "string" else [
            {"name": "tool_use", "template": "{{ tools }}"}, {"name": "default", "template": published[template]}]
        json.dump(c, open(d + "/tokenizer_config.json", "w"))
shutil.copytree(tmp + "/qwen2-tiny", tmp + "/strange")
c = json.load(open(tmp + "/strange/tokenizer_config.json"))
c["chat_template"] = "{{ messages | reverse }}"
json.dump(c, open(tmp + "/strange/tokenizer_config.json", "w"))
# as base models have it: what ends a text is not what ends a turn
for name, template in (("base", None), ("ends", published["qwen2.5"])):
    shutil.copytree("tests/models/qwen2-tiny", f"{tmp}/{name}")
    for file, key, value in (("config.json", "eos_token_id", 410), ("generation_config.json", "eos_token_id", 410),
                             ("tokenizer_config.json", "eos_token", "<|endoftext|>"), ("tokenizer_config.json", "chat_template", template)):
        c = json.load(open(f"{tmp}/{name}/{file}"))
        c[key] = value
        json.dump({k: v for k, v in c.items() if v is not None}, open(f"{tmp}/{name}/{file}", "w"))
END
check "chat: prepare" "$BIN/kf-prepare" --quiet --out "$C" --shards 2 "$TMP/chat.jsonl"
extract() { local m=$1; shift; "$BIN/kf-extract" --quiet --model "$TMP/$m" --corpus "$C" --out "$TMP/l-$m" --precision f32 "$@"; }
for m in qwen2-tiny gemma3-tiny llama-tiny; do check "chat: extract $m" extract $m --top-k 20; done
check "chat: extract in small batches" "$BIN/kf-extract" --quiet --model "$TMP/qwen2-tiny" --corpus "$C" --out "$TMP/small" --precision f32 --top-k 20 --batch-tokens 1 --threads 2
show() { "$BIN/kf-inspect" "$1" --json; }
for m in qwen2-tiny gemma3-tiny llama-tiny small; do [ $m = small ] && s=$TMP/small || s=$TMP/l-$m; show "$s" >"$TMP/$m.jsonl"; done
show "$C" >"$TMP/corpus.jsonl"

check "chat: templates are named, tokens are those of transformers, only replies are predicted" python3 - "$TMP" <<'END'
import json, sys
tmp = sys.argv[1]
parity = json.load(open("tests/parity/chat/chat.json", encoding="utf-8"))
corpus = [json.loads(l) for l in open(tmp + "/corpus.jsonl", encoding="utf-8")]
for model, template in (("qwen2-tiny", "qwen2.5"), ("gemma3-tiny", "gemma3"), ("llama-tiny", "smollm2")):
    manifest = json.load(open(f"{tmp}/l-{model}/manifest.json"))
    assert manifest["format"] == 2 and manifest["info"]["chat_template"] == template == manifest["options"]["chat-template"], manifest["info"]
    docs = [json.loads(l) for l in open(f"{tmp}/{model}.jsonl")]
    # the first conversation is one of the parity fixture's
    want = next(t for t in parity["tokens"] if t["model"] == model and t["name"] == template)["ids"][1]
    if model == "gemma3-tiny": want = want[1:]  # its BOS is added by the runner
    assert docs[0]["tokens"][:10] == want[:10]  # the same system message
    for d, c in zip(docs, corpus):
        n = len(d["tokens"])
        assert d["start"][n] == d["bytes"] == c["bytes"]
        if "messages" not in c:
            assert "context" not in d
            continue
        replies = [(m["start"], m["end"]) for m in c["messages"] if m["role"] == "assistant"]
        inside = lambda p: any(a <= d["start"][p] and d["start"][p + 1] <= b for a, b in replies)
        ends = 0
        for p in range(n):
            span = d["start"][p + 1] - d["start"][p]
            if d["context"][p]:
                assert d["ce"][p] is None and d["top_ids"][p] == []
                assert not span or not inside(p), (model, p)
            else:
                assert d["ce"][p] is not None and len(d["top_ids"][p]) == 20
                assert inside(p)
                ends += not span
        assert ends == len(replies) and d["context"][n] == 1, (model, ends)
        covered = sum(d["start"][p + 1] - d["start"][p] for p in range(n) if not d["context"][p])
        assert covered == sum(b - a for a, b in replies)
END
check "chat: batches change nothing but rounding" python3 - "$TMP" <<'END'
import json, sys
for a, b in zip(open(sys.argv[1] + "/qwen2-tiny.jsonl"), open(sys.argv[1] + "/small.jsonl"), strict=True):
    a, b = json.loads(a), json.loads(b)
    assert a["tokens"] == b["tokens"] and a.get("context") == b.get("context")
    assert all(x == y or abs(x - y) < 1e-4 for x, y in zip(a["ce"], b["ce"]))
END

# What a template spells as text is a control token where the tokenizer has one of that name, as transformers has it; in messages it stays text. And a
# template of a tokenizer without BOS says none, whatever number config.json has.
python3 - "$TMP" <<'END'
import json, shutil, sys
tmp = sys.argv[1]
d = tmp + "/spells"
shutil.copytree("tests/models/llama-tiny", d)
j = json.load(open(d + "/tokenizer.json"))
v, names = j["model"]["vocab"], {399: "<|user|>", 398: "<|assistant|>"}
gone = {p for p, i in v.items() if i in names}
joined = lambda m: "".join(m.split(" ") if isinstance(m, str) else m)
j["model"]["merges"] = [m for m in j["model"]["merges"] if joined(m) not in gone and not gone & set(m.split(" ") if isinstance(m, str) else m)]
j["model"]["vocab"] = {names.get(i, p): i for p, i in v.items()}
j["added_tokens"] += [{"id": i, "content": n, "special": True, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False} for i, n in names.items()]
json.dump(j, open(d + "/tokenizer.json", "w"))
c = json.load(open(d + "/tokenizer_config.json"))
c.get("added_tokens_decoder", {}).update({str(a["id"]): {k: x for k, x in a.items() if k != "id"} for a in j["added_tokens"] if a["id"] in names})
json.dump(c, open(d + "/tokenizer_config.json", "w"))
published = {t["name"]: t["jinja"] for t in json.load(open("tests/parity/chat/chat.json", encoding="utf-8"))["templates"]}
shutil.copytree("tests/models/qwen2-tiny", tmp + "/nameless")
c = json.load(open(tmp + "/nameless/tokenizer_config.json"))
c.update(bos_token=None, chat_template=published["internlm2"])
json.dump(c, open(tmp + "/nameless/tokenizer_config.json", "w"))
END
printf '{"messages": [{"role": "user", "content": "Say <|user|> twice."}, {"role": "assistant", "content": "No."}]}\n' | "$BIN/kf-prepare" --quiet --out "$TMP/c-spells" -
check "chat: a template with words that are control tokens" "$BIN/kf-extract" --quiet --model "$TMP/spells" --corpus "$TMP/c-spells" --out "$TMP/l-spells" --chat-template zephyr
check "chat: a template's BOS that the tokenizer does not name" "$BIN/kf-extract" --quiet --model "$TMP/nameless" --corpus "$TMP/c-spells" --out "$TMP/l-nameless"
check "chat: they are these, of messages they are not; no BOS" python3 - "$(show "$TMP/l-spells")" "$(show "$TMP/l-nameless")" <<'END'
import json, sys
a, b = map(json.loads, sys.argv[1:])
assert a["tokens"].count(399) == 1 and a["tokens"].count(398) == 1 and a["tokens"][0] == 399, a["tokens"]
assert 410 not in b["tokens"] and not b["bos"], b
END

align() { "$BIN/kf-align" --quiet --source "$TMP/l-$1" --target "$TMP/l-qwen2-tiny" --out "$TMP/a-$1${2:+-$2}" ${2:+--method $2 --vocab-map exact}; }
for m in gemma3-tiny llama-tiny; do check "chat: align $m" align $m; done
check "chat: align by warping" align gemma3-tiny dtw
check "chat: align by warping, mixing" "$BIN/kf-align" --quiet --source "$TMP/l-gemma3-tiny" --target "$TMP/l-qwen2-tiny" --out "$TMP/a-mixed" --method dtw-chat --one-to-many weighted
for s in gemma3-tiny llama-tiny gemma3-tiny-dtw; do show "$TMP/a-$s" >"$TMP/a-$s.jsonl"; done
check "chat: aligned ce sums to the source's own over every reply, its end of turn is the source's" python3 - "$TMP" <<'END'
import json, math, sys
tmp = sys.argv[1]
load = lambda f: [json.loads(l) for l in open(f"{tmp}/{f}.jsonl", encoding="utf-8")]
corpus, target = load("corpus"), load("qwen2-tiny")
for model in ("gemma3-tiny", "llama-tiny"):
    for which in (model, model + "-dtw") if model == "gemma3-tiny" else (model,):
        for c, t, s, a in zip(corpus, target, load(model), load("a-" + which), strict=True):
            assert a["tokens"] == t["tokens"] and a.get("context") == t.get("context")
            for i, l in zip(a["top_ids"], a["top_logprobs"]): assert sum(map(math.exp, l)) < 1 + 1e-5
            if "messages" not in c: continue
            def over(d, lo, hi):
                p = [i for i in range(len(d["tokens"])) if not d["context"][i] and lo <= d["start"][i] < d["start"][i + 1] <= hi]
                e = next(i for i in range(p[-1] + 1, len(d["tokens"])) if not d["context"][i])
                assert d["start"][e] == d["start"][e + 1] == hi
                return sum(d["ce"][i] for i in p), d["ce"][e], e
            for m in c["messages"]:
                if m["role"] != "assistant": continue
                (x, xe, e), (y, ye, _) = over(a, m["start"], m["end"]), over(s, m["start"], m["end"])
                assert abs(x - y) < 1e-3 and abs(xe - ye) < 1e-5, (which, x, y)
                at = a["top_ids"][e].index(a["tokens"][e])
                assert abs(-a["top_logprobs"][e][at] - xe) < 1e-4
            for p in range(len(a["tokens"]) + 1):
                if a["context"][p]: assert a["top_ids"][p] == [] and (p == len(a["tokens"]) or a["ce"][p] is None)
END

check "chat: fuse" "$BIN/kf-fuse" --quiet --target "$TMP/l-qwen2-tiny" --aligned "$TMP/a-gemma3-tiny" --aligned "$TMP/a-llama-tiny" --out "$TMP/targets"
show "$TMP/targets" >"$TMP/targets.jsonl"
check "chat: a source's nats a byte are the same for kf-align and kf-fuse: without the ends of turns" python3 - "$TMP" <<'END'
import json, sys
stats = lambda d: json.load(open(f"{sys.argv[1]}/{d}/manifest.json"))["stats"]["domains"]["talk"]
for m in ("gemma3-tiny", "llama-tiny"): assert abs(stats("a-" + m)["ce_byte"] - stats("targets")["models"][m]["ce_byte"]) < 1e-5, (m, stats("a-" + m), stats("targets"))
END
check "chat: what is context stays context" python3 - "$TMP" <<'END'
import json, sys
for t, f in zip(open(sys.argv[1] + "/qwen2-tiny.jsonl"), open(sys.argv[1] + "/targets.jsonl"), strict=True):
    t, f = json.loads(t), json.loads(f)
    assert t.get("context") == f.get("context")
    for p, c in enumerate(f.get("context", [])): assert (f["top_ids"][p] == []) == bool(c)
END
train() { "$BIN/kf-train" --quiet --model "$TMP/qwen2-tiny" --targets "$1" --out "$2" --valid "$C" --epochs 2 --lr 1e-3 --dtype f32 --lambda "$3" --threads 1; }
check "chat: train" train "$TMP/targets" "$TMP/trained" 0.5
check "chat: train on logits alone" train "$TMP/l-qwen2-tiny" "$TMP/clm" 1
check "chat: the template is written as it was" python3 - "$TMP" <<'END'
import json, sys
read = lambda d: json.load(open(f"{sys.argv[1]}/{d}/tokenizer_config.json"))["chat_template"]
assert read("trained") == read("qwen2-tiny")
END
check "chat: eval" "$BIN/kf-eval" --quiet --model a="$TMP/qwen2-tiny" --model b="$TMP/trained" --logits s="$TMP/l-gemma3-tiny" --mixture m="$TMP/targets" --corpus "$C" --per-document --report "$TMP/report.json" --threads 1
check "chat: bits per byte are of the replies; loss and validation too" python3 - "$TMP" <<'END'
import json, math, sys
tmp = sys.argv[1]
report = json.load(open(tmp + "/report.json"))
corpus = [json.loads(l) for l in open(tmp + "/corpus.jsonl", encoding="utf-8")]
docs = [json.loads(l) for l in open(tmp + "/qwen2-tiny.jsonl")]
nats = count = text = loss = rows = 0
for c, d, r in zip(corpus, docs, report["per_document"], strict=True):
    n = len(d["tokens"])
    if "messages" in c:
        assert r["bytes"] == sum(m["end"] - m["start"] for m in c["messages"] if m["role"] == "assistant")
        own = sum(d["ce"][p] for p in range(n) if not d["context"][p] and d["start"][p] < d["start"][p + 1])
        assert abs(r["bits"]["a"] - own / math.log(2)) < 1e-2
        nats, count = nats + own, count + r["bytes"]
    else:
        text = sum(x for x in d["ce"][1:]), c["bytes"] - d["start"][1]
    loss += sum(x for x in d["ce"] if x is not None)
    rows += sum(x is not None for x in d["ce"])
log = [json.loads(l) for l in open(tmp + "/clm/log.jsonl")]
valid = next(l["valid_bits_per_byte"] for l in log if l.get("epoch") == 0)
assert abs(valid - (nats + text[0]) / math.log(2) / (count + text[1])) < 1e-3, valid
step = next(l for l in log if l.get("step") == 1 and "loss" in l)
assert abs(step["clm"] - loss / rows) < 1e-3, (step["clm"], loss / rows)
assert step["clm"] == step["loss"]
END

# Validation text in another form is another text.
check "chat: logits with another template" "$BIN/kf-extract" --quiet --model "$TMP/qwen2-tiny" --corpus "$C" --out "$TMP/l-other" --chat-template chatml
check_fails 1 "l-other renders conversations with the template chatml, what is trained on with $(python3 -c 'import json, sys
print(json.load(open(sys.argv[1]))["info"]["chat_template"])' "$TMP/targets/manifest.json"): .*the corpus itself" "chat: validation with another template than the targets'" \
	"$BIN/kf-train" --quiet --model "$TMP/qwen2-tiny" --targets "$TMP/targets" --out "$TMP/none" --valid "$TMP/l-other"
check "chat: validation with logits of the same template" "$BIN/kf-train" --quiet --model "$TMP/qwen2-tiny" --targets "$TMP/targets" --out "$TMP/same" --valid "$TMP/l-qwen2-tiny" --max-steps 1

# Errors.
run() { "$BIN/kf-extract" --quiet --model "$1" --corpus "$C" --out "$TMP/$2" "${@:3}"; }
check_fails 1 "corpus: document 0 .\"0\", piece 0. is a conversation: tests/models/qwen2-tiny has no chat template, which conversations need; give one with --chat-template: smollm2" "chat: a model without template" run tests/models/qwen2-tiny none
check_fails 1 "document 0 .\"0\", piece 0. is a conversation: .*strange: the chat template is none that kfuse knows; .*: smollm2, qwen2.5, .*plain" "chat: an unknown template" run "$TMP/strange" none
check "chat: an unknown template, and one chosen" run "$TMP/strange" none --chat-template chatml
check_fails 1 "document 0 .*is a conversation: .*strange: the chat template is none" "chat: an unknown template to evaluate" "$BIN/kf-eval" --quiet --model "$TMP/strange" --corpus "$C"
check_fails 1 'no chat template "alpaca"; there are smollm2' "chat: a name that is none" run "$TMP/strange" none2 --chat-template alpaca
check_fails 1 "needs the token <start_of_turn>, which the tokenizer does not have" "chat: a template of another family" run "$TMP/strange" none2 --chat-template gemma3
check_fails 1 'option --chat-template: "chatml" there, "qwen2" here' "chat: the template is part of what a set is" run "$TMP/strange" none --chat-template qwen2
check_fails 1 'document 0 \("0", piece 0\): message 1: a system message; the chat template gemma has no place' "chat: an order that the template does not allow" run "$TMP/gemma3-tiny" none3 --chat-template gemma
printf '{"text": "plain text"}\n' >"$TMP/text.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/text" "$TMP/text.jsonl"
check_fails 0 "notice: .*text has no conversations: --chat-template chatml changes nothing" "chat: a template for a corpus without conversations" "$BIN/kf-extract" --model "$TMP/qwen2-tiny" --corpus "$TMP/text" --out "$TMP/none4" --chat-template chatml
check "chat: it is the set that one without is" grep -q "up to date" <("$BIN/kf-extract" --model "$TMP/qwen2-tiny" --corpus "$TMP/text" --out "$TMP/none4")
check_fails 1 "corpus has conversations, and neither the model nor what it is trained on has a chat template. Give --valid the logits" "chat: validation by conversations, where nothing says how to render them" \
	"$BIN/kf-train" --quiet --model tests/models/qwen2-tiny --targets "$TMP/none4" --valid "$C" --out "$TMP/none6"
for p in kf-extract kf-eval; do
	check_fails 1 'no chat template "chatlm"; there are smollm2' "chat: $p, a name that is none, and no conversations" "$BIN/$p" --model "$TMP/qwen2-tiny" --corpus "$TMP/text" --chat-template chatlm $([ $p = kf-eval ] || echo --out "$TMP/none5")
done

# A template that was chosen, for a model with none and one with another, is in the folder of what is trained with it, of its epochs, and of what they
# are merged into.
for m in tests/models/qwen2-tiny "$TMP/strange" "$TMP/base"; do
	n=${m##*/}
	check "chat: $n with a chosen template: logits" "$BIN/kf-extract" --quiet --model "$m" --corpus "$C" --out "$TMP/chosen-$n" --chat-template chatml
	check "chat: $n with a chosen template: train" "$BIN/kf-train" --quiet --model "$m" --targets "$TMP/chosen-$n" --out "$TMP/tuned-$n" --valid "$C" --lambda 1 \
		--lr 1e-3 --keep-epochs --threads 1
	check "chat: $n with a chosen template: merge" "$BIN/kf-merge" --quiet --pivot "$m" --models "$TMP/tuned-$n" --models "$TMP/tuned-$n/epoch-1" \
		--out "$TMP/merged-$n" --threads 1
	for d in tuned-$n tuned-$n/epoch-1 merged-$n; do
		check "chat: $d has the template as Jinja text, and generation stops where its turns end" python3 - "$TMP/$d" <<'END'
import json, os, sys
written = json.load(open("tests/parity/chat/written.json", encoding="utf-8"))["chatml"]["jinja"]
assert json.load(open(sys.argv[1] + "/tokenizer_config.json"))["chat_template"] == written
assert not os.path.exists(sys.argv[1] + "/chat_template.jinja")
base = sys.argv[1].endswith("-base") or sys.argv[1].endswith("-base/epoch-1")
ends = lambda f: json.load(open(f"{sys.argv[1]}/{f}.json"))["eos_token_id"]
assert ends("generation_config") == ([410, 412] if base else 412) and ends("config") == (410 if base else 412)
END
		check "chat: $d is evaluated with it" "$BIN/kf-eval" --quiet --model "$TMP/$d" --corpus "$C" --threads 1
	done
	check "chat: $n again, from the trained folder" "$BIN/kf-extract" --quiet --model "$TMP/tuned-$n" --corpus "$C" --out "$TMP/again-$n"
	check "chat: whose set says the name" grep -q '"chat_template": *"chatml"' "$TMP/again-$n/manifest.json"
	check "chat: and is trained on without another" "$BIN/kf-train" --quiet --model "$TMP/tuned-$n" --targets "$TMP/again-$n" --out "$TMP/more-$n" --lambda 1 --threads 1
	check_same "chat: generation stops where it did" "$TMP/tuned-$n/generation_config.json" "$TMP/more-$n/generation_config.json"
	check_same "chat: its template stays" <(grep chat_template "$TMP/tuned-$n/tokenizer_config.json") <(grep chat_template "$TMP/more-$n/tokenizer_config.json")
done
check "chat: a merge of models with one template of their own" "$BIN/kf-merge" --quiet --method linear --models "$TMP/ends" --models "$TMP/ends" --out "$TMP/ends-merged" --threads 1
json() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1])))' "$1"; }
check_same "chat: is as these are" <(json "$TMP/ends/generation_config.json") <(json "$TMP/ends-merged/generation_config.json")
template_of() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1] + "/tokenizer_config.json"))["chat_template"])' "$1"; }
check "chat: merge what was trained with two templates" "$BIN/kf-merge" --quiet --pivot "$TMP/qwen2-tiny" --models "$TMP/trained" --models "$TMP/tuned-qwen2-tiny" \
	--out "$TMP/mixed" --threads 1
check_same "chat: models that do not agree leave the pivot's template" <(template_of "$TMP/qwen2-tiny") <(template_of "$TMP/mixed")
