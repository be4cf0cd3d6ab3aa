# kf-align over sets of tiny models with three tokenizers.
. tests/lib.sh

python_text='def f(x):\n    return x + 1\n\n\nfor i in range(10):\n    print(f(i), \"ünïcödé 日本語 🙂\")\n'
cat >"$TMP/text.jsonl" <<END
{"id": "a", "domain": "prose", "text": "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife."}
{"id": "b", "domain": "code", "text": "$python_text"}
{"id": "c", "domain": "prose", "text": "However little known the feelings   of such a man may be\n\n\non his first entering"}
{"id": "d", "domain": "hostile", "text": "\u0001\u0007 \u200b\u00a0\u3000 <|im_start|>user<|endoftext|></s> e\u0301\u0323 1234567890"}
{"id": "e", "domain": "prose", "text": "x"}
END
check "a corpus of five documents" "$BIN/kf-prepare" --quiet --out "$TMP/corpus" --shards 2 "$TMP/text.jsonl"
models="llama-tiny qwen2-tiny gemma3-tiny"
for m in $models; do
	check "logits of $m" "$BIN/kf-extract" --quiet --model "tests/models/$m" --corpus "$TMP/corpus" --out "$TMP/$m"
done
for s in $models; do
	for t in $models; do
		[ "$s" = "$t" ] && continue
		check "$s to $t" "$BIN/kf-align" --source "$TMP/$s" --target "$TMP/$t" --out "$TMP/$s-$t"
	done
done

# tokenizers whose stored form says where a space goes in front: the Llama 2 and the Mixtral kind
for m in llama2 mixtral; do
	check "logits of $m" "$BIN/kf-extract" --quiet --model "tests/models/endtoend/$m" --corpus "$TMP/corpus" --out "$TMP/$m"
done
for pair in "llama2 mixtral" "mixtral llama2" "llama2 qwen2-tiny" "gemma3-tiny mixtral"; do
	set -- $pair
	check "$1 to $2" "$BIN/kf-align" --quiet --source "$TMP/$1" --target "$TMP/$2" --out "$TMP/$1-$2"
done

align() { "$BIN/kf-align" --source "$TMP/llama-tiny" --target "$TMP/gemma3-tiny" "$@"; }
says() { # REGEX CMD...: succeeds, and standard error matches
	local regex=$1; shift
	"$@" 2>"$TMP/.says" && grep -Eq -- "$regex" "$TMP/.says"
}
same_shards() { # two sets with the same shards, byte for byte
	local f
	for f in "$1"/*; do
		case $f in */manifest.json | */times.log) continue ;; esac
		cmp -s "$f" "$2/${f##*/}" || return 1
	done
}
check "the second time there is nothing to do" says "up to date" align --out "$TMP/llama-tiny-gemma3-tiny"
check "a report by domain" says "^hostile +[0-9]+ +[0-9]+ +[0-9.]+ " align --out "$TMP/again"
check "FuseLLM's way" align --out "$TMP/dtw" --method dtw --vocab-map exact
check "warping through the prefix map" align --out "$TMP/dtw-prefix" --method dtw
check "FuseChat's way" says "^hostile +[0-9]+ +[0-9]+ +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+$" align --out "$TMP/chat" --method dtw-chat
check "FuseChat's first way, mixing" says "^hostile +[0-9]+ +[0-9]+ +[0-9.]+ " align --out "$TMP/mixed" --method dtw-chat --one-to-many weighted --threads 1
check "with the map that is counted, too" align --out "$TMP/mixed-stats" --method dtw-chat --one-to-many weighted --vocab-map stats --map "$TMP/mixed.map"
check "which is the map without it" align --out "$TMP/last-stats" --method dtw-chat --vocab-map stats --map "$TMP/mixed.map"
check_fails 1 "option --one-to-many" "which is another set than the last position's" align --out "$TMP/chat" --method dtw-chat --one-to-many weighted
check "its parts" align --out "$TMP/mixed-parts" --method dtw-chat --one-to-many weighted --shard 1/2 --quiet
check "and the other" align --out "$TMP/mixed-parts" --method dtw-chat --one-to-many weighted --shard 0/2 --quiet
check "are weighed by the whole text" same_shards "$TMP/mixed" "$TMP/mixed-parts"
check "something was mixed" eval '! same_shards "$TMP/mixed" "$TMP/chat"'
check_fails 2 "one-to-many is for --method dtw-chat" "byte mixes nothing" align --out "$TMP/x" --one-to-many weighted
check_fails 2 "reference-quirks is .*August" "the published code mixes logits" align --out "$TMP/x" --method dtw-chat --one-to-many weighted --reference-quirks
check "as the published code of FuseLLM" align --out "$TMP/quirks" --method dtw --vocab-map exact --reference-quirks
check_fails 1 "option" "which is another set" align --out "$TMP/quirks" --method dtw --vocab-map exact
check "as the published code of FuseChat" align --out "$TMP/chat-quirks" --method dtw-chat --reference-quirks
check_fails 2 "reference-quirks.*dtw" "byte has no published code" align --out "$TMP/x" --reference-quirks
check "another number of threads" align --out "$TMP/threads" --threads 1 --quiet
check "the same shards whatever the threads" same_shards "$TMP/threads" "$TMP/again"
check "one part" align --out "$TMP/parts" --shard 1/2 --quiet
check_fails 1 "parts" "a part is no set" "$BIN/kf-fuse" --target "$TMP/gemma3-tiny" --aligned "$TMP/parts" --out "$TMP/none"
check "the other part" align --out "$TMP/parts" --shard 0/2 --quiet
check "parts give the same shards" same_shards "$TMP/parts" "$TMP/again"

# ---- folds: each document by a model of its own; here the same one, so that together they are the set of the whole text ----

for f in 0 1 2; do
	check "fold $f of the text" "$BIN/kf-extract" --quiet --model tests/models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/fold$f" --fold $f/3
done
folds=(--source "$TMP/fold2" --source "$TMP/fold0" --source "$TMP/fold1" --target "$TMP/gemma3-tiny")
check "the folds together" "$BIN/kf-align" --quiet "${folds[@]}" --out "$TMP/folds"
for s in folds again; do "$BIN/kf-inspect" "$TMP/$s" --json >"$TMP/$s.json"; done
check "are the whole, but for rounding in batches of other documents" python3 - "$TMP/folds.json" "$TMP/again.json" <<'END'
import json, sys
a, b = ([json.loads(line) for line in open(f)] for f in sys.argv[1:])
assert len(a) == len(b) == 5
for x, y in zip(a, b):
    assert x["tokens"] == y["tokens"] and x["id"] == y["id"]
    assert len(x["ce"]) == len(y["ce"]) and all(p == q or abs(p - q) < 0.01 for p, q in zip(x["ce"], y["ce"]))
END
check_fails 2 "is the whole text" "one fold is none" "$BIN/kf-extract" --model tests/models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/x" --fold 0/1
for f in 0 1 2; do "$BIN/kf-extract" --model tests/models/llama-tiny --corpus "$TMP/corpus" --plan --json --fold $f/3; done >"$TMP/plans.json"
check "the plans of the folds are of what the folds are" python3 - "$TMP/plans.json" "$TMP/again.json" <<'END'
import json, sys
text, at, plans = open(sys.argv[1]).read(), 0, []
while text[at:].strip():
    plan, at = json.JSONDecoder().raw_decode(text, at)
    while at < len(text) and text[at].isspace(): at += 1
    plans.append(plan["corpus"])
docs = len(open(sys.argv[2]).readlines())
assert len(plans) == 3 and sum(p["documents"] for p in plans) == docs, (plans, docs)
END
# a text in pieces: all of them are in one fold, the same in kf-extract and kf-train
python3 - >"$TMP/long.jsonl" <<'END'
import json
for i in range(8):
    print(json.dumps({"id": f"long {i}", "domain": "prose", "text": "\n".join(f"The {w} of chapter {i} came to the mill and went home again." for w in ("cat", "ass", "son", "ox"))}))
END
check "long texts" "$BIN/kf-prepare" --quiet --out "$TMP/long" --doc-bytes 120 --shards 3 "$TMP/long.jsonl"
check "their logits" "$BIN/kf-extract" --quiet --model tests/models/llama-tiny --corpus "$TMP/long" --out "$TMP/long-logits"
for f in 0 1; do
	check "fold $f of long texts" "$BIN/kf-extract" --quiet --model tests/models/llama-tiny --corpus "$TMP/long" --out "$TMP/long$f" --fold $f/2
	check "and a model that has not seen it" "$BIN/kf-train" --quiet --model tests/models/llama-tiny --targets "$TMP/long-logits" --out "$TMP/model$f" --fold $f/2 --lambda 1 --threads 1
	"$BIN/kf-inspect" "$TMP/long$f" --json >"$TMP/long$f.json"
done
"$BIN/kf-inspect" "$TMP/long-logits" --json >"$TMP/long-logits.json"
check "pieces of a text are in one fold, and the model of that fold has seen none of them" python3 - "$TMP" <<'END'
import json, sys
of = lambda name: [json.loads(line) for line in open(f"{sys.argv[1]}/{name}.json")]
whole, seen = of("long-logits"), []
rows = lambda d: len(d["tokens"]) + d["bos"]
assert len(whole) >= 16
for f in 0, 1:
    fold = of(f"long{f}")
    ids = {d["id"] for d in fold if d["tokens"]}
    assert 0 < len(ids) < 8, ids
    assert all(bool(d["tokens"]) == (d["id"] in ids) for d in fold)
    seen += ids
    log = [json.loads(line) for line in open(f"{sys.argv[1]}/model{f}/log.jsonl")]
    assert log[-1]["tokens"] == sum(rows(d) for d in whole if d["id"] not in ids), f
assert len(seen) == len(set(seen)) == 8
END
check_fails 1 '0/2 by id.*1/2 by id' "another fold is another set" "$BIN/kf-extract" --model tests/models/llama-tiny --corpus "$TMP/long" --out "$TMP/long0" --fold 1/2
check_fails 2 "fold 2/3 of the text: give the sets of all 3" "one of them is not" "$BIN/kf-align" "${folds[@]:0:2}" --target "$TMP/gemma3-tiny" --out "$TMP/x"
check_fails 2 "kf-extract --fold" "whole sets are no folds" "$BIN/kf-align" --source "$TMP/llama-tiny" --source "$TMP/qwen2-tiny" --target "$TMP/gemma3-tiny" --out "$TMP/x"
check_fails 2 "nothing to count in" "counting wants a whole text" "$BIN/kf-align" "${folds[@]}" --out "$TMP/x" --method dtw-chat --vocab-map stats
check_fails 2 "fold 0/3 of its text only" "a fold is not fused" "$BIN/kf-fuse" --target "$TMP/fold0" --aligned "$TMP/again" --out "$TMP/x"
check_fails 2 "fold 0/3 of its text only" "nor compared" "$BIN/kf-eval" --logits a="$TMP/fold0"
check_fails 2 "fold 3/3: must be I/N" "a fold is one of N" "$BIN/kf-extract" --model tests/models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/x" --fold 3/3

check "another map where tokens begin together" align --out "$TMP/byte-exact" --vocab-map exact
check_fails 2 "method" "an unknown method" align --out "$TMP/x" --method dtw-all
check_fails 2 "out" "no output" align
check_fails 2 "2/2" "a part that is none" align --out "$TMP/x" --shard 2/2
check_fails 1 "$TMP/nothing" "a source that is not there" "$BIN/kf-align" --source "$TMP/nothing" --target "$TMP/gemma3-tiny" --out "$TMP/x"
check_fails 1 "corpus" "a corpus is no logits" "$BIN/kf-align" --source "$TMP/corpus" --target "$TMP/gemma3-tiny" --out "$TMP/x"
check_fails 1 "source" "a set made from other inputs is kept" "$BIN/kf-align" --source "$TMP/qwen2-tiny" --target "$TMP/gemma3-tiny" --out "$TMP/again"
check "another corpus" "$BIN/kf-prepare" --quiet --out "$TMP/corpus2" --shards 2 --domain z README.md
check "its logits" "$BIN/kf-extract" --quiet --model tests/models/qwen2-tiny --corpus "$TMP/corpus2" --out "$TMP/other"
check_fails 1 "different corpora" "sets of different corpora" "$BIN/kf-align" --source "$TMP/other" --target "$TMP/gemma3-tiny" --out "$TMP/x"
check "logits without the byte path" "$BIN/kf-extract" --quiet --model tests/models/llama-tiny --corpus "$TMP/corpus" --out "$TMP/bare" --byte-path no
check "byte does what it can without it, and says so" says "warning: .*/bare has no masses inside tokens" "$BIN/kf-align" --source "$TMP/bare" --target "$TMP/gemma3-tiny" --out "$TMP/bare-byte"
check "the set says so, too" grep -q '"path": *"bound"' "$TMP/bare-byte/manifest.json"
check "ce sums to the same over what both cover" python3 - "$BIN" "$TMP/bare-byte" "$TMP/llama-tiny-gemma3-tiny" <<'END'
import json, math, subprocess, sys
show = lambda d: map(json.loads, subprocess.run([sys.argv[1] + "/kf-inspect", d, "--json"], capture_output=True, check=True).stdout.splitlines())
differs = 0
for a, b in zip(show(sys.argv[2]), show(sys.argv[3]), strict=True):
    x, y = ([c for c in d["ce"] if c is not None] for d in (a, b))
    assert len(x) == len(y)
    differs += x != y
    # the first covered token may begin inside a token of the source: its masses differ there
    assert abs(sum(x) - sum(y)) < 0.01 * len(x) + 3, (sum(x), sum(y))
    for ids, lps in zip(a["top_ids"], a["top_logprobs"]):
        assert sum(map(math.exp, lps)) <= 1.000001
assert differs
END
check "warping does not" "$BIN/kf-align" --quiet --source "$TMP/bare" --target "$TMP/gemma3-tiny" --out "$TMP/bare-dtw" --method dtw --vocab-map exact
# Of a piece that is nothing but white space OpenLLaMA's tokenizer keeps no token.
printf '{"text": "some words here some words here \\n      "}\n' > "$TMP/blank.jsonl"
"$BIN/kf-prepare" --quiet --out "$TMP/blank" --doc-bytes 36 "$TMP/blank.jsonl"
"$BIN/kf-extract" --quiet --model tests/models/endtoend/openllama --corpus "$TMP/blank" --out "$TMP/blank-a"
"$BIN/kf-extract" --quiet --model tests/models/qwen2-tiny --corpus "$TMP/blank" --out "$TMP/blank-b"
for m in byte dtw; do
	check "a source without tokens in a piece, $m" "$BIN/kf-align" --quiet --source "$TMP/blank-a" --target "$TMP/blank-b" --out "$TMP/blank-ab-$m" --method $m
	check "a target without, $m" "$BIN/kf-align" --quiet --source "$TMP/blank-b" --target "$TMP/blank-a" --out "$TMP/blank-ba-$m" --method $m
	check "and fused, $m" "$BIN/kf-fuse" --quiet --target "$TMP/blank-a" --aligned "$TMP/blank-ba-$m" --out "$TMP/blank-t-$m"
done
check "no set is left of a failure" test ! -e "$TMP/x/manifest.json"
# Nor is anything credited to a model for such a piece, read or run.
"$BIN/kf-eval" --logits "a=$TMP/blank-a" --logits "b=$TMP/blank-b" --report "$TMP/blank.json" >/dev/null
"$BIN/kf-eval" --model a=tests/models/endtoend/openllama --model b=tests/models/qwen2-tiny --corpus "$TMP/blank" --report "$TMP/blank-run.json" >/dev/null
check "what a tokenizer keeps nothing of is not compared" python3 -c 'import json,sys; r = json.load(open(sys.argv[1])); assert r["documents"][""] == 1, r["documents"]' "$TMP/blank.json"
check "nor where the models are run" python3 - "$TMP/blank.json" "$TMP/blank-run.json" <<'END'
import json, sys
read, run = (json.load(open(f)) for f in sys.argv[1:])
assert (read["documents"], read["bytes"]) == (run["documents"], run["bytes"]), (read["documents"], read["bytes"], run["documents"], run["bytes"])
for m in "ab":
    assert abs(read["bits_per_byte"][m][""] - run["bits_per_byte"][m][""]) < 1e-2, (read["bits_per_byte"], run["bits_per_byte"])
END
