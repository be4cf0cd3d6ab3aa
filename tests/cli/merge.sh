# kf-merge on tiny models: every method, what it writes, what it refuses.
. tests/lib.sh

# perturbed FROM TO SEED [STEP]: a copy of a folder whose every float32 tensor has small numbers added.
cat >"$TMP/perturbed.py" <<'END'
import array, json, os, random, shutil, struct, sys
src, dst, seed = sys.argv[1:4]
step = float(sys.argv[4]) if len(sys.argv) > 4 else 2.0**-12
random.seed(int(seed))
shutil.copytree(src, dst)
path = dst + "/model.safetensors"
raw = open(path, "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
data = bytearray(raw[8 + n:])
for name, t in sorted(json.loads(raw[8:8 + n]).items()):
    if name == "__metadata__": continue
    a, b = t["data_offsets"]
    v = array.array("f"); v.frombytes(data[a:b])
    data[a:b] = array.array("f", [x + step * random.randint(-64, 64) for x in v]).tobytes()
open(path, "wb").write(raw[:8 + n] + data)
END
# edit FOLDER CODE: change its safetensors file; CODE sees header (a dictionary) and values(name) -> array, put(name, array).
cat >"$TMP/edit.py" <<'END'
import array, json, struct, sys
path = sys.argv[1] + "/model.safetensors"
raw = open(path, "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
header, data = json.loads(raw[8:8 + n]), bytearray(raw[8 + n:])
def values(name):
    a, b = header[name]["data_offsets"]
    v = array.array("f"); v.frombytes(data[a:b]); return v
def put(name, v):
    a, b = header[name]["data_offsets"]; data[a:b] = v.tobytes()
exec(sys.argv[2])
text = json.dumps(header).encode(); text += b" " * (-len(text) % 8)
open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)
END
# same FOLDER FOLDER: the same tensors, to the bit, in whatever order their files have them.
cat >"$TMP/same.py" <<'END'
import json, struct, sys
def tensors(folder):
    raw = open(folder + "/model.safetensors", "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    return {name: (t["dtype"], t["shape"], raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]])
            for name, t in json.loads(raw[8:8 + n]).items() if name != "__metadata__"}
a, b = map(tensors, sys.argv[1:])
assert a == b, [k for k in a.keys() | b.keys() if a.get(k) != b.get(k)]
END
M=tests/models/llama-tiny
for i in 1 2 3; do python3 "$TMP/perturbed.py" $M "$TMP/m$i" $i || exit; done
merge() { "$BIN/kf-merge" --out "$@"; }
same() { python3 "$TMP/same.py" "$@"; }
three() { local out=$1; shift; merge "$out" --quiet --pivot $M --models "$TMP/m1" --models "$TMP/m2" --models "$TMP/m3" "$@"; }

for method in sce varm linear task-arithmetic ties dare dare-ties; do
	check "$method" three "$TMP/$method" --method $method --threads 1
	check "$method, two threads" three "$TMP/$method.2" --method $method --threads 2
	for f in model.safetensors merge.json kfuse.json; do check_same "$method: $f does not depend on threads" "$TMP/$method/$f" "$TMP/$method.2/$f"; done
done
check "slerp" merge "$TMP/slerp" --quiet --method slerp --models "$TMP/m1" --models "$TMP/m2" --t 0.25
for f in config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json special_tokens_map.json; do
	check "sce writes $f" test -s "$TMP/sce/$f"
done
differ() { ! cmp -s "$TMP/$1/model.safetensors" "$TMP/$2/model.safetensors"; }
for p in "sce varm" "varm linear" "ties dare" "dare dare-ties" "linear slerp"; do check "not the same: $p" differ $p; done
check "what was written is a model" "$BIN/kf-prepare" --quiet --out "$TMP/corpus" $M/tokenizer_config.json
check "and runs" "$BIN/kf-extract" --quiet --model "$TMP/sce" --corpus "$TMP/corpus" --out "$TMP/logits"

# Settings of the tokenizer that say how it is to be used, but not what would make another of it or is not there.
cp -r $M "$TMP/set"
python3 - "$TMP/set/tokenizer_config.json" <<'END'
import json, sys
c = json.load(open(sys.argv[1]))
c.update(padding_side="left", truncation_side="left", model_max_length=10 ** 30, stride=16, temperature=0.5, note='a "b"', model_input_names=["input_ids", "attention_mask"],
    name_or_path="x/y", vocab_file="v", image_token="<image>", auto_map={"AutoTokenizer": ["a.B", None]}, extra_special_tokens={"a": "<b>"}, processor_class="P")
json.dump(c, open(sys.argv[1], "w"))
END
check "settings of a tokenizer" merge "$TMP/set-out" --quiet --method linear --models "$TMP/set" --models "$TMP/m1"
check "merged again" merge "$TMP/set-again" --quiet --method linear --models "$TMP/set-out" --models "$TMP/m1"
check_same "they stay" "$TMP/set-out/tokenizer_config.json" "$TMP/set-again/tokenizer_config.json"
check "as they were" python3 - "$TMP/set-out/tokenizer_config.json" <<'END'
import json, sys
c = json.load(open(sys.argv[1]))
assert (c["padding_side"], c["truncation_side"], c["model_max_length"], c["stride"], c["temperature"], c["note"], c["model_input_names"]) == \
    ("left", "left", 1000000000000000019884624838656, 16, 0.5, 'a "b"', ["input_ids", "attention_mask"]), c
assert isinstance(c["stride"], int) and isinstance(c["model_max_length"], int)
assert not {"name_or_path", "vocab_file", "image_token", "auto_map", "extra_special_tokens", "processor_class"} & set(c), c
END

# One model whose change counts in full is that model; the pivot alone stays the pivot.
check "one model" merge "$TMP/same" --quiet --method task-arithmetic --pivot $M --models "$TMP/m1"
check "task-arithmetic of one model is the model" same "$TMP/same" "$TMP/m1"
check "no change" merge "$TMP/still" --quiet --method sce --pivot $M --models $M --models $M
check "without changes the pivot is left" same "$TMP/still" $M
check "bf16 stays bf16" \
	merge "$TMP/gemma" --quiet --models tests/models/gemma3-tiny --models tests/models/gemma3-tiny --method linear
check "norms of Gemma come through" same "$TMP/gemma" tests/models/gemma3-tiny
check "to f32 and back" \
	merge "$TMP/gemma32" --quiet --models tests/models/gemma3-tiny --method linear --dtype f32
check "bf16 from f32" merge "$TMP/gemma16" --quiet --models "$TMP/gemma32" --method linear --dtype bf16
check "is the same" same "$TMP/gemma16" tests/models/gemma3-tiny
check "f16 from f32" merge "$TMP/half" --quiet --models "$TMP/m1" --models "$TMP/m2" --method linear --dtype f16
check "f16 stays f16" merge "$TMP/halves" --quiet --models "$TMP/half" --models "$TMP/half" --method linear
check "f16 is read" same "$TMP/halves" "$TMP/half"
check "bf16 of the same" merge "$TMP/brain" --quiet --models "$TMP/half" --method linear --dtype bf16
check "f16 and bf16 and f32 together" merge "$TMP/types" --quiet --pivot "$TMP/m1" --models "$TMP/half" --models "$TMP/brain" --method sce
check "become f32" grep -q '"torch_dtype": "float32"\|"dtype": "float32"' "$TMP/types/config.json"
check "several files in, one out" merge "$TMP/qwen" --quiet --models tests/models/qwen2-tiny --method linear
check "one in, several out" \
	merge "$TMP/sharded" --quiet --models "$TMP/qwen" --method linear --max-shard-bytes 60000
check "with an index" test -s "$TMP/sharded/model.safetensors.index.json"
check "read again" merge "$TMP/joined" --quiet --models "$TMP/sharded" --method linear
check_same "several files hold the same" "$TMP/joined/model.safetensors" "$TMP/qwen/model.safetensors"

# Options that a definition in docs/merge.md has, against that definition computed here.
check "linear with weights" three "$TMP/w13" --method linear --weights 1,3,0
check "linear, not divided" three "$TMP/w13no" --method linear --weights 1,3,0 --normalize no
check "slerp at a quarter" merge "$TMP/slerp4" --quiet --method slerp --models "$TMP/m1" --models "$TMP/m2" --t 0.25
check "slerp's default" merge "$TMP/slerp2" --quiet --method slerp --models "$TMP/m1" --models "$TMP/m2"
python3 "$TMP/perturbed.py" $M "$TMP/far1" 7 1; python3 "$TMP/perturbed.py" $M "$TMP/far2" 8 1
check "slerp between models that are far apart" merge "$TMP/slerp-far" --quiet --method slerp --models "$TMP/far1" --models "$TMP/far2" --t 0.25
check "ties, not divided" three "$TMP/tiesno" --method ties --normalize no --density 0.5
check "ties, divided" three "$TMP/ties5" --method ties --density 0.5
check "dare of one" merge "$TMP/dare1" --quiet --method dare --pivot $M --models "$TMP/m1" --density 0.25 --seed 3
check "task-arithmetic, divided" three "$TMP/task" --method task-arithmetic --normalize yes --weights 1,2,3
check "options are what is computed" python3 - "$TMP" $M <<'END'
import array, json, math, struct, sys
T, pivot = sys.argv[1:]
def load(folder):
    raw = open(folder + "/model.safetensors", "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for k, t in json.loads(raw[8:8 + n]).items():
        if k == "__metadata__": continue
        v = array.array("f"); v.frombytes(raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]]); out[k] = v
    return out
P, m1, m2, m3, far1, far2 = map(load, (pivot, *(T + "/" + x for x in ("m1", "m2", "m3", "far1", "far2"))))
M = m1, m2, m3
def near(folder, want):
    got = load(T + "/" + folder)
    assert got.keys() == P.keys()
    for k in P:
        for g, w in zip(got[k], want(k)): assert abs(g - w) < 1e-6 * (1 + abs(w)), (folder, k, g, w)
def mix(k, models, weights): return [math.fsum(w * x for w, x in zip(weights, xs)) for xs in zip(*(m[k] for m in models))]
near("w13", lambda k: mix(k, M, (.25, .75, 0)))
near("w13no", lambda k: mix(k, M, (1, 3, 0)))
near("task", lambda k: mix(k, (P, *M), (0, 1 / 6, 2 / 6, 3 / 6)))
angles = []
def slerp(k, one, two, t):
    a, b = one[k], two[k]
    c = math.fsum(x * y for x, y in zip(a, b)) / math.sqrt(math.fsum(x * x for x in a) * math.fsum(x * x for x in b))
    angles.append(c)
    if abs(c) > .9995: return mix(k, (one, two), (1 - t, t))
    o = math.acos(c)
    return mix(k, (one, two), (math.sin((1 - t) * o) / math.sin(o), math.sin(t * o) / math.sin(o)))
near("slerp4", lambda k: slerp(k, m1, m2, .25))
near("slerp2", lambda k: slerp(k, m1, m2, .5))
near("slerp-far", lambda k: slerp(k, far1, far2, .25))
assert max(map(abs, angles)) > .9995 and min(map(abs, angles)) < .5, angles
# varm: by sums of squares, tensor by tensor
varm = json.load(open(T + "/varm/merge.json"))["tensors"]
for k in P:
    s = [math.fsum((x - p) ** 2 for x, p in zip(m[k], P[k])) for m in M]
    assert all(abs(w - x / sum(s)) < 1e-9 for w, x in zip(varm[k]["weights"], s)), (k, varm[k], s)
    assert max(s) > 1.0001 * min(s), k
# ties: the models that agree, their sum or their mean
def ties(k, divided, density=.5):
    n, kept = len(P[k]), []
    for m in M:
        d = array.array("f", [x - p for x, p in zip(m[k], P[k])])
        large = sorted(range(n), key=lambda i: (-abs(d[i]), i))[:max(1, int(density * n))]
        kept.append([0] * n)
        for i in large: kept[-1][i] = d[i]
    for p, *d in zip(P[k], *kept):
        s = sum(d); of = [x for x in d if x * s > 0]
        yield p + (sum(of) / (len(of) if divided else 1) if of else 0)
near("ties5", lambda k: ties(k, True))
near("tiesno", lambda k: ties(k, False))
# dare: a quarter is kept, and counts four times
dare, kept, n = load(T + "/dare1"), 0, 0
for k in P:
    for p, m, g in zip(P[k], m1[k], dare[k]):
        if m == p: continue
        n += 1
        if g != p:
            kept += 1
            assert abs(g - p - 4 * (m - p)) < 1e-6 * (1 + abs(g)), (k, p, m, g)
assert n > 20000 and abs(kept / n - .25) < 5 * math.sqrt(.25 * .75 / n), (kept, n)
options = lambda f: json.load(open(f"{T}/{f}/kfuse.json"))["options"]
assert [options(m)["density"] for m in ("ties", "dare", "dare-ties")] == [.6] * 3 and options("sce")["select"] == .1 and options("slerp2")["t"] == .5
assert [options(m)["normalize"] for m in ("linear", "ties", "dare-ties", "task-arithmetic", "dare")] == [True, True, False, False, False], options("dare-ties")
assert options("linear")["weights"] == [1, 1, 1] and options("varm")["granularity"] == "tensor"
END

# What it is about, and again.
grep -q "mean weight 0\." < <(merge "$TMP/report" --pivot $M --models "$TMP/m1" --models "$TMP/m2" --method varm) && ok "says the mean weights" || not_ok "says the mean weights"
check "merge.json has them by tensor" python3 - "$TMP/varm/merge.json" <<'END'
import json, sys
r = json.load(open(sys.argv[1]))
w = [t["weights"] for t in r["tensors"].values()]
assert len(w) == 20 and all(len(x) == 3 and abs(sum(x) - 1) < 1e-12 for x in w), w
assert abs(sum(m["mean_weight"] for m in r["models"]) - 1) < 1e-12
END
weights() { python3 -c 'import json, sys; print(len({tuple(t["weights"]) for t in json.load(open(sys.argv[1]))["tensors"].values()}))' "$1/merge.json"; }
for g in model:1 layer:4 module:10 tensor:20; do
	check "varm by ${g%:*}" three "$TMP/by-${g%:*}" --method varm --granularity "${g%:*}"
	n=$(weights "$TMP/by-${g%:*}")
	check "varm by ${g%:*} has ${g#*:} sets of weights, found $n" test "$n" -eq "${g#*:}"
done
touch -d '2001-01-01' "$TMP/sce/config.json" "$TMP/stamp"
again() { merge "$TMP/sce" --pivot $M --models "$TMP/m1" --models "$TMP/m2" --models "$TMP/m3" --method sce | grep -q "up to date" && test "$TMP/sce/config.json" -nt "$TMP/stamp"; }
check "again: up to date, with a new time stamp" again
check_fails 1 'sce holds another merge \(--select was 0.1' "other options are refused" \
	three "$TMP/sce" --method sce --select 0.2
check_fails 1 'another merge \(another model 2, no model 3' "other models are refused" \
	merge "$TMP/sce" --pivot $M --models "$TMP/m1" --models "$TMP/m3"
check_fails 1 'is not empty and holds no merged model' "a folder with other things is refused" three "$TMP/m1"
check "a seed is dare's" three "$TMP/dare7" --method dare --seed 7
check "another seed, other elements" differ dare dare7
check "sce has none: up to date" three "$TMP/sce" --method sce --seed 7

# Wrong usage.
check_fails 2 '2 numbers, but there are 3 --models' "too few weights" \
	three "$TMP/x" --method linear --weights 1,2
check_fails 2 'numbers with commas' "weights that are none" three "$TMP/x" --method linear --weights 1,two,3
check_fails 2 'their sum is 0' "weights of no sum" three "$TMP/x" --method linear --weights 1,1,-2
check_fails 2 'weights has no meaning with --method sce' "weights for sce" three "$TMP/x" --weights 1,1,1
check_fails 2 'must be from 0 to 1' "density above 1" three "$TMP/x" --method ties --density 1.5
check_fails 2 'must be more than 0' "density 0" three "$TMP/x" --method dare --density 0
check_fails 2 'density has no meaning' "density for sce" three "$TMP/x" --density 0.5
check_fails 2 'must be more than 0' "select 0" three "$TMP/x" --method sce --select 0
check_fails 2 'select .*must be from 0 to 1' "select above 1" three "$TMP/x" --select 2
check_fails 2 'must be from 0 to 1' "t above 1" three "$TMP/x" --method slerp --t 1.1
check_fails 2 'two --models, not 3' "slerp of three" three "$TMP/x" --method slerp
check_fails 2 'two --models or more' "sce of one" merge "$TMP/x" --pivot $M --models "$TMP/m1"
check_fails 2 'a --pivot, which is missing' "ties without a pivot" \
	merge "$TMP/x" --method ties --models "$TMP/m1" --models "$TMP/m2"
check_fails 2 'granularity layer has no meaning' "granularity for sce" three "$TMP/x" --granularity layer
check_fails 2 'mergekit has not' "varm as mergekit does it" three "$TMP/x" --method varm --compat mergekit
check_fails 2 'models' "no models" merge "$TMP/x" --method linear
check_fails 2 'method' "an unknown method" three "$TMP/x" --method mean

# Models that do not belong together, and damaged ones.
pair() { merge "$TMP/x" --quiet --pivot $M --models "$TMP/m1" --models "$1"; }
check_fails 1 'qwen2-tiny is a qwen2 model, .*llama-tiny a llama one' "another architecture" \
	pair tests/models/qwen2-tiny
check_fails 1 'llama-untied: tensor model.embed_tokens.weight is 430 x 32, in .*llama-tiny it is 400 x 40' "other shapes" \
	pair tests/models/llama-untied
cp -r $M "$TMP/untied"; sed -i 's/"tie_word_embeddings": true/"tie_word_embeddings": false/' "$TMP/untied/config.json"
python3 "$TMP/edit.py" "$TMP/untied" 'e = header["model.embed_tokens.weight"]; n = len(data); data.extend(bytes(64000)); header["lm_head.weight"] = dict(e, data_offsets=[n, n + 64000])'
check_fails 1 'untied has tensor lm_head.weight, which .*llama-tiny lacks' "a head of its own" \
	pair "$TMP/untied"
check_fails 1 'm1 lacks tensor lm_head.weight, which .*untied has' "no head of its own" \
	merge "$TMP/x" --pivot "$TMP/untied" --models "$TMP/m1" --models "$TMP/m2"
cp -r $M "$TMP/base"; sed -i 's/"rope_theta": [0-9.]*/"rope_theta": 500.0/' "$TMP/base/config.json"
check_fails 1 "base computes in another way than .*rotary embedding is 500, not 100000" "another rotary embedding" \
	pair "$TMP/base"
python3 - $M/tokenizer.json >"$TMP/small.json" <<'END'
import json, sys
t = json.load(open(sys.argv[1]))
t["model"].update(vocab={k: v for k, v in t["model"]["vocab"].items() if v < 40}, merges=[])
t["added_tokens"] = [a for a in t["added_tokens"] if a["id"] < 40]
json.dump(t, sys.stdout)
END
while read -r family change what; do # the same tensors, and other predictions
	for m in one two; do rm -rf "$TMP/$m"; cp -r "tests/models/families/$family" "$TMP/$m"; cp "$TMP/small.json" "$TMP/$m/tokenizer.json"; done
	sed -i "s/$change/" "$TMP/two/config.json"
	check_fails 1 "two computes in another way than .*$what" "$family: another ${what%% is *}" merge "$TMP/x" --method linear --models "$TMP/one" --models "$TMP/two"
done <<'END'
gpt-neox "rotary_pct":\s0.25/"rotary_pct":0.5 share of a head that is rotary
gpt-neox "use_parallel_residual":\strue/"use_parallel_residual":false order of attention and MLP
mixtral-2-of-4 "num_experts_per_tok":\s2/"num_experts_per_tok":1 number of experts a token
gemma2 "attn_logit_softcapping":\s1.5/"attn_logit_softcapping":2.5 soft cap of attention
gemma2 "final_logit_softcapping":\s4.0/"final_logit_softcapping":5.0 soft cap of logits
END
cp -r tests/models/endtoend/mpt "$TMP/mpt"
check "an MPT" merge "$TMP/mpt-merged" --quiet --method linear --models "$TMP/mpt" --models tests/models/endtoend/mpt
check "has whole numbers where transformers 5 wants them" grep -q '"attn_pdrop": *0[,}]' "$TMP/mpt-merged/config.json"
cp -r $M "$TMP/words"
python3 - "$TMP/words/tokenizer.json" <<'END'
import json, sys
t = json.load(open(sys.argv[1]))
v = t["model"]["vocab"]; v["x"], v["y"] = v["y"], v["x"]
json.dump(t, open(sys.argv[1], "w"))
END
cp -r tests/models/qwen2-tiny "$TMP/base-of-chat"
sed -i 's/"eos_token": *"<|im_end|>"/"eos_token": "<|endoftext|>"/' "$TMP/base-of-chat/special_tokens_map.json" "$TMP/base-of-chat/tokenizer_config.json"
check "a base model of another EOS than the chat model's" "$BIN/kf-merge" --quiet --method linear --models tests/models/qwen2-tiny --models "$TMP/base-of-chat" --out "$TMP/of-base"
check_fails 1 'words has another tokenizer than tests/models/llama-tiny' "another tokenizer" pair "$TMP/words"
cp -r $M "$TMP/lacks"; python3 "$TMP/edit.py" "$TMP/lacks" 'header.pop("model.norm.weight")'
check_fails 1 'lacks.*tensor model.norm.weight' "a tensor missing" pair "$TMP/lacks"
cp -r $M "$TMP/extra"; python3 "$TMP/edit.py" "$TMP/extra" 'header["model.layers.7.mlp.up_proj.weight"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}; data.extend(bytes(4))'
check_fails 1 'extra.*tensor model.layers.7.mlp.up_proj.weight' "a tensor too many" pair "$TMP/extra"
cp -r $M "$TMP/nan"; python3 "$TMP/edit.py" "$TMP/nan" 'v = values("model.layers.1.mlp.up_proj.weight"); v[43] = float("nan"); put("model.layers.1.mlp.up_proj.weight", v)'
cp -r $M "$TMP/inf"; python3 "$TMP/edit.py" "$TMP/inf" 'v = values("model.norm.weight"); v[3] = float("-inf"); put("model.norm.weight", v)'
for method in sce varm linear task-arithmetic ties dare dare-ties; do
	check_fails 1 'nan: tensor model.layers.1.mlp.up_proj.weight has a NaN at row 1, column 3' "$method: a NaN" pair "$TMP/nan" --method $method
done
check_fails 1 'nan: tensor model.layers.1.mlp.up_proj.weight has a NaN at row 1, column 3' "slerp: a NaN" merge "$TMP/x" --quiet --method slerp --models "$TMP/m1" --models "$TMP/nan"
check_fails 1 'inf: tensor model.norm.weight has an infinite value at row 0, column 3' "an infinity" \
	pair "$TMP/inf"
check_fails 1 'nan: tensor .* has a NaN' "a NaN in the pivot" \
	merge "$TMP/x" --quiet --pivot "$TMP/nan" --models "$TMP/m1" --models "$TMP/m2"
check_fails 1 'beyond the range of F16; --dtype bf16' "too large for f16" \
	merge "$TMP/x" --quiet --method task-arithmetic --pivot $M --models "$TMP/m1" --weights 1e9 --dtype f16
check_fails 1 'no-such' "no such model" pair "$TMP/no-such"
check "nothing is left of what failed" test ! -e "$TMP/x" -a -z "$(ls -d "$TMP"/x.* 2>/dev/null)"

# A limit on file sizes stands for a disk that fills up.
limited() (trap '' XFSZ; ulimit -f 100; three "$TMP/limited" "$@")
check_fails 1 '.*limited.*: File too large' "no room" limited
check "no model looks complete" test ! -e "$TMP/limited"
check "with room again" three "$TMP/limited"
check_same "the same" "$TMP/limited/model.safetensors" "$TMP/sce/model.safetensors"
cp -r tests/models/llama-tiny "$TMP/"$'m\xe9'
check "a path that is no UTF-8" "$BIN/kf-merge" --method linear --models "$TMP/"$'m\xe9' --models tests/models/llama-tiny --out "$TMP/latin"
check "its record has question marks" grep -q '"path": ".*/m?"' "$TMP/latin/merge.json"

# Templates that the models have by name are kept, all of them; tokens that only a number names stay named where another class is written.
python3 - "$TMP" <<'END'
import json, os, shutil, sys
tmp = sys.argv[1]
for name, base in (("listed", "llama-tiny"), ("classless", "qwen2-tiny")):
    shutil.copytree("tests/models/" + base, f"{tmp}/{name}")
    at = f"{tmp}/{name}/tokenizer_config.json"
    c = json.load(open(at))
    if name == "listed": c["chat_template"] = [{"name": "default", "template": "{{ bos_token }}D"}, {"name": "tool_use", "template": "{{ tools }}"}]
    else:
        c = {"model_max_length": 2048}
        if os.path.exists(f"{tmp}/{name}/special_tokens_map.json"): os.remove(f"{tmp}/{name}/special_tokens_map.json")
    json.dump(c, open(at, "w"))
END
check "models with templates by name, and a pivot without" "$BIN/kf-merge" --quiet --method ties --pivot tests/models/llama-tiny --models "$TMP/listed" --out "$TMP/merged-listed"
check "all are kept" python3 -c 'import json, sys; t = json.load(open(sys.argv[1])); assert [x["name"] for x in t["chat_template"]] == ["default", "tool_use"], t["chat_template"]' "$TMP/merged-listed/tokenizer_config.json"
check "a tokenizer of no class" "$BIN/kf-merge" --quiet --method linear --models "$TMP/classless" --models "$TMP/classless" --out "$TMP/merged-classless"
check "still has its end of text" python3 -c 'import json, sys; t = json.load(open(sys.argv[1])); assert t["eos_token"] and t["tokenizer_class"] == "PreTrainedTokenizerFast", t' "$TMP/merged-classless/tokenizer_config.json"
