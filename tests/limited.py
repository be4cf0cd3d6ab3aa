#!/usr/bin/env python3
"""Run a command with less memory, and say what it took: limited.py MB COMMAND...

In a memory control group of its own with that limit (version 1 or 2, where one can be made: as root, as a rule), which counts
the pages of mapped files as well; they are evicted first, or they would count elsewhere (--evict FOLDER). MB 0: no limit.
The last line is JSON: status, seconds, cpu_seconds, resident_mb (at most, mapped files included), group_mb (the group's
most; null: there was no group), limit_mb. The command's own output goes to standard error.
"""
import json
import os
import subprocess
import sys
import time

GROUPS = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"), ("/sys/fs/cgroup", "memory.max", "memory.peak")]


def make_group(limit):
    for root, maximum, peak in GROUPS:
        path = "%s/kfuse-limited-%d" % (root, os.getpid())
        try:
            os.mkdir(path)
        except OSError:
            continue
        try:
            with open("%s/%s" % (path, maximum), "w") as f:
                f.write(str(limit))
            return path, path + "/" + peak
        except OSError:
            os.rmdir(path)
    return None, None


def evict(folder):
    for name in os.listdir(folder):
        fd = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def run(limit_mb, command, folder=None):
    if folder:
        evict(folder)
    group, peak = make_group(limit_mb * 1000000) if limit_mb else (None, None)

    def enter():
        if group:
            with open(group + "/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))

    start = time.monotonic()
    p = subprocess.Popen(command, stdout=sys.stderr, preexec_fn=enter)
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    result = {"status": p.returncode, "seconds": round(time.monotonic() - start, 2),
              "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2), "resident_mb": round(usage.ru_maxrss / 1000 * 1.024),
              "group_mb": None, "limit_mb": limit_mb or None}
    if group:
        try:
            with open(peak) as f:
                result["group_mb"] = round(int(f.read()) / 1e6)
        except OSError:  # version 2 of an older kernel: it was held to, but how near it came is not told
            result["group_mb"] = limit_mb
        os.rmdir(group)
    return result


if __name__ == "__main__":
    args = sys.argv[1:]
    folder = None
    if args[:1] == ["--evict"]:
        folder, args = args[1], args[2:]
    r = run(int(args[0]), args[1:], folder)
    print(json.dumps(r))
    sys.exit(0 if r["status"] == 0 else 1)
