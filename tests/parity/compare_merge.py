#!/usr/bin/env python3
"""How far two merged models are apart: compare_merge.py FOLDER FOLDER. Prints one JSON object.

beyond_rounding counts values further apart than two steps of float32, and 2e-10 for sums that cancel: elements that
one of the two kept and the other did not, being equal in size to others at the edge of what is kept.
"""
import glob
import json
import sys

import torch
from safetensors import safe_open


def tensors(folder):
    for path in sorted(glob.glob(folder + "/*.safetensors")):
        with safe_open(path, "pt") as f:
            for name in f.keys():
                yield name, path


a, b = dict(tensors(sys.argv[1])), dict(tensors(sys.argv[2]))
assert a.keys() == b.keys(), a.keys() ^ b.keys()
values, beyond, largest = 0, 0, 0.0
for name in a:
    with safe_open(a[name], "pt") as f, safe_open(b[name], "pt") as g:
        x, y = f.get_tensor(name).float(), g.get_tensor(name).float()
    assert x.shape == y.shape, name
    apart = (x - y).abs()
    step = torch.maximum(x.abs(), y.abs()) * 2.0**-23 + 2.0**-33
    values += x.numel()
    beyond += int((apart > 2 * step).sum())
    largest = max(largest, float(apart.max()))
print(json.dumps({"values": values, "beyond_rounding": beyond, "largest_difference": largest}))
