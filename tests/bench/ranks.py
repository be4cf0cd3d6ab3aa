"""make bench-ranks: kf-train on SmolLM2-135M as one process and as two, with a thread each, in turn; and what each process holds in memory.

    ranks.py BUILD [--rounds N] [--steps N] [--batch-tokens N] [--skip-memory]

Writes BUILD/bench/ranks.json. Rates by the clock are those of kf-train's log (a step from its first document to the weights of all
processes together again), without loading and writing the model; the step after loading, which warms up, is left out. Rates by
processor time are of the same steps: tokens by the processor seconds of the busiest process; on a machine with other work they are the steadier
ones. Run as root, or on fewer cores than processes, Open MPI is told that this is meant.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time

MODEL = "data/models/smollm2-135m.gguf"
ENV = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1",
           OMPI_MCA_hwloc_base_binding_policy="none", PRTE_MCA_rmaps_default_mapping_policy=":oversubscribe",
           PRTE_MCA_hwloc_default_binding_policy="none")


def call(*cmd):
    if subprocess.run(cmd, stdout=subprocess.DEVNULL).returncode != 0:
        sys.exit("bench: failed: " + " ".join(cmd))


TICK = os.sysconf("SC_CLK_TCK")


def watch(out, memory, seconds, stop):
    """Of every process that writes to out: the largest resident memory, in MB, without pages of files and shared memory; and its
    processor seconds when each record of the log was first seen."""
    while not stop.wait(0.05):
        try:
            with open(out + "/log.jsonl") as f:
                records = sum(1 for _ in f)
        except OSError:
            records = 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = open("/proc/%s/cmdline" % pid).read().split("\0")
                if not words[0].endswith("kf-train") or out not in words:
                    continue
                for line in open("/proc/%s/status" % pid):
                    if line.startswith("RssAnon:"):
                        memory[pid] = max(memory.get(pid, 0), int(line.split()[1]) / 1024)
                times = open("/proc/%s/stat" % pid).read().rpartition(")")[2].split()
                seconds.setdefault(pid, {}).setdefault(records, (int(times[11]) + int(times[12])) / TICK)
            except (OSError, IndexError):
                pass


class Bench:
    def __init__(self, build):
        self.build = build
        self.work = build + "/bench/ranks"
        os.makedirs(self.work, exist_ok=True)
        domains = ["data/text/%s.jsonl" % d for d in ("prose", "docs", "python", "c")]
        call(build + "/bin/kf-prepare", "--quiet", "--out", self.work + "/corpus", "--split", "train", "--docs-per-domain", "12",
             "--doc-bytes", "512", "--shards", "1", *domains)
        call(build + "/bin/kf-extract", "--quiet", "--model", MODEL, "--corpus", self.work + "/corpus", "--out", self.work + "/logits")

    def train(self, processes, *options):
        """The steps of the log, each process's memory, and each one's processor seconds by the number of records."""
        out = self.work + "/out"
        shutil.rmtree(out, ignore_errors=True)
        cmd = ["mpirun", "-n", str(processes)] if processes > 1 else []
        cmd += [self.build + "/mpi/kf-train", "--model", MODEL, "--targets", self.work + "/logits", "--out", out, "--threads", "1",
                "--save-every", "0", "--quiet", *options]
        memory, seconds, stop = {}, {}, threading.Event()
        watcher = threading.Thread(target=watch, args=(out, memory, seconds, stop))
        watcher.start()
        p = subprocess.run(cmd, env=ENV)
        stop.set()
        watcher.join()
        if p.returncode != 0:
            sys.exit("bench: failed: " + " ".join(cmd))
        with open(out + "/log.jsonl") as f:
            steps = [json.loads(line) for line in f]
        shutil.rmtree(out)
        return steps, sorted(mb for mb in memory.values() if mb > 10), list(seconds.values())

    def speed(self, rounds, steps, batch):
        rates, by_cpu, losses = {1: [], 2: []}, {1: [], 2: []}, {}
        for r in range(rounds):
            for n in (1, 2) if r % 2 == 0 else (2, 1):
                log, _, seconds = self.train(n, "--batch-tokens", str(batch), "--max-steps", str(steps + 1))
                if len(log) <= steps:
                    sys.exit("bench: the text is %d steps of %d tokens, and the first is not counted: fewer --steps" % (len(log), batch))
                before = [0] + [s["tokens"] for s in log]
                log = [(s["tokens"] - b, s["tokens_per_second"], s["loss"]) for s, b in zip(log, before)]
                losses[n] = [loss for _, _, loss in log]
                log = log[1:]
                rates[n].append(sum(t for t, _, _ in log) / sum(t / rate for t, rate, _ in log))
                by_cpu[n].append(sum(t for t, _, _ in log) / max(s[steps + 1] - s[1] for s in seconds if steps + 1 in s))
                print("%d process%s: %.1f tokens/s, %.1f a processor second of the busiest" %
                      (n, "es"[:2 * (n > 1)], rates[n][-1], by_cpu[n][-1]), flush=True)
        figures = {}
        for name, r in (("clock", rates), ("processor", by_cpu)):
            ratios = [b / a for a, b in zip(r[1], r[2])]
            figures[name] = {"one": [round(x, 1) for x in r[1]], "two": [round(x, 1) for x in r[2]],
                             "ratios": [round(x, 3) for x in ratios], "ratio": round(statistics.median(ratios), 3)}
        return {"batch_tokens": batch, "steps": steps, **figures, "largest_difference_of_losses": max(abs(a / b - 1) for a, b in zip(losses[1], losses[2]))}

    def memory(self):
        result = {}
        for moments in ("f32", "8bit"):
            for n in (1, 2, 4):
                _, mb, _ = self.train(n, "--batch-tokens", "128", "--max-steps", "1", "--micro-tokens", "128", "--moments", moments)
                result["%s, %d" % (moments, n)] = [round(x) for x in mb]
                print("%s moments, %d processes: %s MB each" % (moments, n, result["%s, %d" % (moments, n)]), flush=True)
        return result


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--batch-tokens", type=int, default=2048)
    p.add_argument("--skip-memory", action="store_true")
    a = p.parse_args()
    b = Bench(a.build)
    result = {"date": time.strftime("%Y-%m-%d"), "speed": b.speed(a.rounds, a.steps, a.batch_tokens)}
    if not a.skip_memory:
        result["memory_mb"] = b.memory()
    with open(a.build + "/bench/ranks.json", "w") as f:
        json.dump(result, f, indent=1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
