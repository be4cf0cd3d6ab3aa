"""Check files against the form that Axolotl's kd_trainer takes (docs/import.md), and against the set they are of.

    python3 tests/cli/check_axolotl.py RECORDS.jsonl FILE.jsonl [renormalize]

RECORDS is the set as kf-export --format jsonl (or kf-inspect --json) tells it. Row j must be about input_ids[j + 1].
"""
import json
import math
import sys


def check(record, row, renormalize):
    assert set(row) == {"input_ids", "attention_mask", "labels", "target_token_ids", "target_logprobs", "target_mask"}, row.keys()
    n = len(row["input_ids"])
    assert n > 0 and all(len(v) == n for v in row.values()), {k: len(v) for k, v in row.items()}
    assert row["attention_mask"] == [1] * n
    assert all(type(i) is int and i >= 0 for i in row["input_ids"])
    tokens, bos = record["tokens"], int(record["bos"])
    assert row["input_ids"][bos:] == tokens
    context = record.get("context", [0] * (len(tokens) + 1))
    assert row["labels"][0] == -100
    for j in range(1, n):
        p = j - bos
        assert row["labels"][j] == (-100 if context[p] else tokens[p]), (j, row["labels"][j])
    taught = 0
    for j in range(n):
        ids, lps, mask = row["target_token_ids"][j], row["target_logprobs"][j], row["target_mask"][j]
        assert 0 < len(ids) == len(lps) == len(mask)
        assert all(type(x) is float for x in lps) and all(type(x) is int for x in ids + mask)
        if mask == [0]:
            assert ids == [0] and lps == [-1e9]
        else:
            assert set(mask) == {1} and j + 1 < n and row["labels"][j + 1] != -100
        p = j + 1 - bos
        want = record["top_ids"][p] if j + 1 < n and not context[p] else []
        if want and record.get("weight", [1] * (p + 1))[p] == 0:
            want = []
        if not want:
            assert mask == [0], j
            continue
        taught += 1
        assert ids == want and len(set(ids)) == len(ids)
        total = math.log(sum(map(math.exp, record["top_logprobs"][p]))) if renormalize else 0
        assert all(abs(x - min(y - total, 0)) < 1e-5 for x, y in zip(lps, record["top_logprobs"][p])), (j, lps)
        assert sum(map(math.exp, lps)) < 1.05
        assert not renormalize or abs(sum(map(math.exp, lps)) - 1) < 0.05
    return taught


def main():
    renormalize = "renormalize" in sys.argv[3:]
    records = [r for r in map(json.loads, open(sys.argv[1])) if r["bos"] or r["tokens"]]
    rows = [json.loads(line) for line in open(sys.argv[2])]
    assert len(records) == len(rows), (len(records), len(rows))
    taught = sum(check(a, b, renormalize) for a, b in zip(records, rows))
    assert taught > 0
    print(len(rows), "documents,", taught, "positions")


if __name__ == "__main__":
    main()
