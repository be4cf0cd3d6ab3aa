# make gpu-check and make gpu-bench, run on the emulator: that all their parts work, are written down, and that what fails is told. (What
# they find out, only a device can tell.)
. tests/lib.sh

EMU=$BIN/../emu B=$TMP/build
mkdir -p "$B/bin" "$B/gpu"
for p in "$BIN"/kf-*; do ln -s "$(realpath "$p")" "$B/bin/"; done
for p in extract train eval; do ln -sf "$(realpath "$EMU/kf-$p")" "$B/bin/kf-$p"; done
for p in check bench; do ln -s "$(realpath "$EMU/gpu/$p")" "$B/gpu/$p"; done
cp docs/gpu.md "$TMP/gpu.md"
gpu() { python3 tests/gpu/gpu.py "$B" "$@" --quick --into "$TMP/gpu.md" --json "$TMP/json"; }

check "gpu-check" gpu check
check "gpu-check: every part has passed" python3 - "$TMP"/json/check-*.json <<'END'
import json, sys
r = json.load(open(sys.argv[1]))
parts = {k for k, v in r.items() if isinstance(v, dict)}
assert parts == {"parity", "extract cuda-f32", "extract cuda-bf16", "answers f32", "answers bf16", "loss curve f32", "loss curve bf16"}, parts
assert all(r[k]["passed"] for k in parts)
assert r["device"] == "emulator" and all(r["parity"][c]["comparisons"] > 100 for c in ("f32", "bf16"))
END
check "gpu-bench" gpu bench --shapes tiny
check "gpu-bench: every figure is there" python3 - "$TMP"/json/bench-*.json <<'END'
import json, sys
r = json.load(open(sys.argv[1]))
ours = ["extract", "extract, text to set", "train", "train, 8-bit moments", "decode, one text", "decode, 32 texts"]
assert all(r["tiny"][w]["tokens_per_second"] > 0 for w in ours), r["tiny"]
assert r["tiny"]["extract, text to set"]["limit"] in ("device", "host") and r["tiny"]["extract, text to set"]["tokens"] > 300
assert r["attention"] == r["tiny"]["extract"]["attention"] == r["tiny"]["train"]["attention_backward"] == "our own kernels", r
assert {k["kernel"]: k["by"] for k in r["kernels"] if "by" in k} == dict.fromkeys(
    ["attention", "attention_dx", "attention, soft cap", "attention_dx, soft cap"], "our own kernels"), r["kernels"]
assert len(r["kernels"]) > 20 and all(k["microseconds"] > 0 for k in r["kernels"])
END
check "both are sections of the page" test "$(grep -c '^emulator, compute capability 8.0' "$TMP/gpu.md")" = 2 -a "$(grep -c 'Not run yet' "$TMP/gpu.md")" = 0
# A device that fails in one part: it is told, and the others are there.
KF_EMU_FAIL_AT=900 check_fails 1 'gpu: failed: ' "gpu-bench: what fails does not end it" gpu bench --shapes tiny
check "gpu-bench: the parts that went well are there" python3 -c 'import glob, json, os, sys
r = json.load(open(max(glob.glob(sys.argv[1] + "/json/bench-*.json"), key=os.path.getmtime)))
works = r["tiny"].values()
assert any("failed" in w and "emulated device failed" in w["failed"] for w in works) and any("tokens_per_second" in w for w in works), r["tiny"]' "$TMP"
rm "$B/gpu/bench"
check_fails 1 'gpu: .*bench' "without the programs" gpu check
