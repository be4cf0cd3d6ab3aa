#!/usr/bin/env python3
"""Merging with mergekit: the peer of kf-merge.

    mergekit_merge.py METHOD OUT PIVOT MODEL MODEL...

METHOD is linear, ties or sce, in float32. Prints one JSON object; imports are not counted, reading the models is.
"""
import json
import os
import resource
import sys
import time

import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

method, out, pivot, *models = sys.argv[1:]
torch.set_num_threads(os.cpu_count())
own = {"linear": {"weight": 1.0}, "ties": {"weight": 1.0, "density": 0.6}, "sce": {}}[method]
config = {"merge_method": method, "dtype": "float32", "models": [{"model": m, "parameters": own} if own else {"model": m}
                                                                 for m in models]}
if method != "linear":
    config["base_model"] = pivot
if method == "sce":
    config["parameters"] = {"select_topk": 0.1}
start, cpu = time.time(), time.process_time()
run_merge(MergeConfiguration.model_validate(config), out, MergeOptions(write_model_card=False, quiet=True))
os.sync()
print(json.dumps({"seconds": time.time() - start, "cpu_seconds": time.process_time() - cpu,
                  "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
