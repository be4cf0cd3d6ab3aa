"""Every stage with a fault at every system call that writes and at every allocation (tests/fault/inject.c).

    faults.py BIN INJECT [--sample N] [--stages A,B] [--hows kill,EIO,…] [--threads N] [--sites] [--jobs N]

Asked to end (TERM, INT, HUP; again: SIGTERM twice): the signal comes at the N-th such call. What keeps what it finished says so, puts what is
unfinished away and ends by the signal, unless it is done before it looks; the others, and any that is asked twice, end at once. Twice at
once (stop): a run is held at the N-th such call while the same command is given a second time, which must wait, refuse or find all done;
then the first goes on, or (gone) is killed. After each fault: what the stage wrote is whole or unfinished, and says so; an error ends the program with status 1 and a message
that tells what and why; and the same command, given again, ends with the bytes of an undisturbed run. Prints a line a stage and
class of faults: "ok NAME: 1,234 faults …: 0 lost, 0 crashed", or "not ok" with what happened.
"""
import argparse, hashlib, json, multiprocessing, os, random, re, shutil, signal, subprocess, sys, tempfile, time

HANG = 120       # seconds; a run takes a fraction of one
REASON = {"EIO": "Input/output error", "ENOSPC": "No space left", "full": "No space left"}
ON = 500         # of memory that is short from some allocation on at most so many
LIBRARY = 300    # of the allocations of libraries in C++ at most so many
TWICE = 100      # of calls to hold a run at at most so many
ASK = 100        # of calls to ask a run to end at at most so many
WAITS = 1.5      # seconds after which a second run is taken to wait until it can tell, or be done
BUSY = re.compile("being written by|is there already")
KINDS = {"call": ("kill", "half", "short", "EIO", "ENOSPC", "full"), "memory": ("once", "on"), "library": ("lib",), "twice": ("stop", "gone"),
         "asked": ("TERM", "INT", "HUP", "again")}
ASKED = "stopped by SIG%s; the same command goes on from what is finished"
ENDED = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
AT_ONCE = ("kf-eval", "kf-report", "kf-export", "kf-inspect")    # these keep nothing unfinished
MEMORY = re.compile("memory|thread", re.I)
SANITIZER = re.compile("AddressSanitizer: CHECK failed: sanitizer_linux")     # it cannot begin a thread for want of memory, and ends the program
M = "tests/models"
TEXT = [("prose", "It is a truth universally acknowledged, that a man in possession of a fortune must be in want of a wife."),
        ("code", "def f(x):\n    return x + 1\n\nprint(f(3), 'ünï日本')\n"), ("prose", "However little known the feelings of such a man"),
        ("code", "for (i = 0; i < n; i++) sum += a[i];\n")]
QUIZ = ['{"task": "quiz", "kind": "choice", "licence": "none"}',
        '{"id": "a", "prompt": "The colour of snow is", "choices": ["white", "black"], "answer": 0}',
        '{"task": "sums", "kind": "match", "normalize": "number", "max_tokens": 4}', '{"prompt": "1 + 1 =", "answer": 2}']


# ---- stages -------------------------------------------------------------------------------------------------------------

# A stage is given by its command; by what it writes below W: name -> kind (set, model, trained: folders that are whole when their
# last file is there; file); by what is in W before; and by the commands after which everything must be as undisturbed.
class Stage:
	def __init__(self, name, cmd, outputs, before=None, after=None, sometimes=()):
		self.name, self.cmd, self.outputs, self.before = name, cmd, outputs, before
		self.after = after or [cmd]
		self.sometimes = sometimes         # names left over in some cases only


UNFINISHED = re.compile(r"\.(part|tmp|lock)$|\.partial/|(^|/)lock")    # what is put away when a run is asked to end
LAST = {"set": "manifest.json", "model": "config.json", "trained": "config.json"}
UNTIMED = re.compile(rb'"(tokens_per_second|seconds)": ?[-+0-9.e]+,?')
NO_CONTENT = re.compile(r"times\.log$|map\.lock$|\.partial\.lock$")    # a lock's file says nothing once its process is gone


def stages(bin, top, threads):
	w, given = f"{top}/w", f"{top}/in"
	kf = lambda name, *args: [f"{bin}/kf-{name}", *args, "--quiet"] + (["--threads", str(threads)] if name not in ("report", "join") else [])
	corpus, target, source, aligned = (f"{given}/{x}" for x in ("corpus", "target", "source", "aligned"))

	def do(*cmd):
		r = subprocess.run(cmd, capture_output=True, text=True)
		if r.returncode:
			sys.exit(f"not ok the sets to begin with\n#   {' '.join(cmd)}\n#   {r.stderr}")

	chat = lambda out: kf("prepare", "--out", out, "--shards", "2", f"{given}/talks.jsonl")
	prepare = lambda out: kf("prepare", "--out", out, "--shards", "2", f"{given}/text.jsonl")
	extract = lambda model, out, *more: kf("extract", "--model", f"{M}/{model}", "--corpus", corpus, "--out", out, "--top-k", "4", *more)
	align = lambda out, *more: kf("align", "--source", source, "--target", target, "--out", out, *more)
	fuse = kf("fuse", "--target", target, "--aligned", aligned)
	training = lambda out, *more: kf("train", "--model", f"{M}/llama-tiny", "--targets", target, "--valid", corpus, "--out", out, "--lambda", "0.5",
		"--epochs", "2", "--batch-tokens", "160", "--lr", "1e-3", "--save-every", "1", "--keep-epochs", *more)
	train = training(f"{w}/out")
	merge = lambda out, method, *more: kf("merge", "--pivot", f"{M}/llama-tiny", "--models", f"{M}/llama-tiny", "--models", f"{M}/llama-tiny",
		"--method", method, "--max-shard-bytes", "100000", "--out", out, *more)

	def half(of):      # a set that a run left unfinished
		def make():
			shutil.copytree(of, f"{w}/out")
			os.rename(f"{w}/out/manifest.json", f"{w}/out/manifest.part.json")
			os.unlink(f"{w}/out/shard-00001.mdb")
		return make

	def copy(of):      # what --replace takes away
		return lambda: shutil.copytree(of, f"{w}/out")

	def damaged(of):
		def make():
			shutil.copytree(of, f"{w}/out")
			with open(f"{w}/out/shard-00001.mdb", "r+b") as f:
				f.seek(-5000, 2)
				f.write(b"damage")
		return make

	def old(*names):
		def make():
			for n in names:
				with open(f"{w}/{n}", "w") as f:
					f.write("{}\n")
		return make

	out = f"{w}/out"
	repair = [f"{bin}/kf-inspect", out, "--repair"]
	talks = f"{given}/talks"

	def begin():       # what the stages begin with
		os.makedirs(given)
		with open(f"{given}/text.jsonl", "w") as f:
			for i, (domain, text) in enumerate(TEXT):
				f.write(json.dumps({"id": f"t{i}", "domain": domain, "text": text}) + "\n")
		with open(f"{given}/quiz.jsonl", "w") as f:
			f.write("\n".join(QUIZ) + "\n")
		with open(f"{given}/talks.jsonl", "w") as f:
			for i in range(3000):
				f.write(json.dumps({"id": f"talk {i} " + "x" * 40, "messages": [{"role": r, "content": f"{r} {i}"} for r in ("user", "assistant")]}) + "\n")
		do(*prepare(corpus))
		do(*extract("llama-tiny", target))
		do(*extract("qwen2-tiny", source))
		do(*align(aligned))
		do(*fuse, "--out", f"{given}/targets", "--trace", f"{given}/trace.jsonl")
		for part in "01":
			do(*extract("llama-tiny", f"{given}/part{part}", "--shard", f"{part}/2"))
		do(*kf("export", "--set", source, "--out", f"{given}/source.jsonl"))
		do(*kf("eval", "--corpus", corpus, "--logits", f"a={target}", "--logits", f"b={source}", "--report", f"{given}/eval.json"))
		do(*chat(talks))
		do(*training(f"{given}/trained", "--max-steps", "1"))
		do(*merge(f"{given}/merged", "task-arithmetic"))

	return [
		Stage("kf-prepare", prepare(out), {"out": "set"}),
		Stage("kf-extract", extract("llama-tiny", out), {"out": "set"}),
		Stage("kf-generate", kf("generate", "--model", f"{M}/llama-tiny", "--corpus", corpus, "--out", out, "--texts", "1", "--tokens", "3"), {"out": "set"}),
		Stage("kf-extract --stream", extract("llama-tiny", out, "--stream", "yes", "--stream-tokens", "40", "--batch-tokens", "20", "--scratch", w),
			{"out": "set"}),
		Stage("kf-extract, again", extract("llama-tiny", out), {"out": "set"}, before=half(target)),
		Stage("kf-join", kf("join", "--out", out, f"{given}/part0", f"{given}/part1"), {"out": "set"}),
		Stage("kf-align", align(out), {"out": "set"}),
		Stage("kf-align --map", align(out, "--method", "dtw", "--vocab-map", "stats", "--map", f"{w}/map"), {"out": "set", "map": "file"}),
		Stage("kf-fuse", fuse + ["--out", out, "--report", f"{w}/report.json", "--trace", f"{w}/trace.jsonl"],
			{"out": "set", "report.json": "file", "trace.jsonl": "file"}, before=old("report.json", "trace.jsonl")),
		Stage("kf-fuse --fit", fuse + ["--fit", f"{w}/fit.json"], {"fit.json": "file"}),
		Stage("kf-train", train, {"out": "trained"}),
		Stage("kf-merge", merge(out, "ties"), {"out": "model"}),
		Stage("kf-extract --replace", extract("llama-tiny", out, "--replace"), {"out": "set"}, before=copy(source)),
		Stage("kf-train --replace", train + ["--replace"], {"out": "trained"}, before=copy(f"{given}/trained")),
		Stage("kf-merge --replace", merge(out, "ties", "--replace"), {"out": "model"}, before=copy(f"{given}/merged")),
		Stage("kf-eval", kf("eval", "--model", f"a={M}/llama-tiny", "--corpus", corpus, "--tasks", f"{given}/quiz.jsonl", "--report", f"{w}/r.json",
			"--markdown", f"{w}/r.md", "--outputs", f"{w}/o.jsonl"), {"r.json": "file", "r.md": "file", "o.jsonl": "file"}, before=old("r.json")),
		Stage("kf-report", kf("report", "--out", f"{w}/page.html", "--eval", f"{given}/eval.json", "--trace", f"{given}/trace.jsonl",
			"--set", target, "--set", f"{given}/targets"), {"page.html": "file"}, before=old("page.html")),
		Stage("kf-import", kf("import", "--corpus", corpus, "--input", f"{given}/source.jsonl", "--tokenizer", f"{M}/qwen2-tiny", "--out", out,
			"--top-k", "4"), {"out": "set"}),
		Stage("kf-export", kf("export", "--set", target, "--out", f"{w}/e.jsonl"), {"e.jsonl": "file"}, before=old("e.jsonl")),
		Stage("kf-export, a folder", kf("export", "--set", target, "--out", out, "--format", "axolotl"), {"out": "files"}),
		Stage("kf-inspect --repair", repair, {"out": "dropped"}, before=damaged(target), after=[repair, extract("llama-tiny", out)]),
		# heads of documents that take more memory than a reader begins with
		Stage("kf-inspect --repair of talks", repair, {"out": "dropped"}, before=damaged(talks), after=[repair, chat(out)]),
	], given, w, begin


# ---- the state of the disk ----------------------------------------------------------------------------------------------

def read(path):
	with open(path, "rb") as f:
		data = f.read()
	return UNTIMED.sub(b"", data) if path.endswith(".json") or path.endswith(".jsonl") else data


def tree(w):
	"""Files below w: name -> content's hash."""
	t = {}
	for folder, _, names in os.walk(w):
		for n in names:
			if not NO_CONTENT.search(n):
				path = os.path.join(folder, n)
				t[os.path.relpath(path, w)] = hashlib.sha1(read(path)).hexdigest()
	return t


def below(t, name):
	return {k: v for k, v in t.items() if k.startswith(name + "/")}


def broken(stage, t, ref, before):
	"""What is wrong with a state: something that looks finished and is not. None: nothing."""
	for name, kind in stage.outputs.items():
		if kind == "file":
			if name in t and t[name] != ref[name] and t[name] != before.get(name):
				return f"{name} is neither the old nor the new one"
		elif kind == "files":
			for k, v in below(t, name).items():
				if not k.endswith((".part", "/lock")) and ref.get(k) != v:
					return f"{k} is not what it would be"
		elif kind == "dropped":
			if f"{name}/manifest.json" in t and f"{name}/shard-00001.mdb" in t and t[f"{name}/shard-00001.mdb"] != before[f"{name}/shard-00001.mdb"]:
				return "the set looks whole"
		elif f"{name}/{LAST[kind]}" in before and all(t.get(k) == v for k, v in below(before, name).items()):
			pass    # what is to be replaced, as it was
		elif f"{name}/{LAST[kind]}" in t:
			for k, v in below(ref, name).items():
				if t.get(k) != v and not (kind == "trained" and k in (f"{name}/kfuse.json", f"{name}/log.jsonl")):
					return f"{name} looks finished, but {k} is " + ("not what it would be" if k in t else "missing")
	return None


# ---- runs ---------------------------------------------------------------------------------------------------------------

class Tester:
	def __init__(self, args, top):
		self.args, self.top = args, top
		self.list, self.given, self.w, self.begin = stages(args.bin, top, args.threads)
		self.log = f"{top}/fault.log"
		# what a message may name: what is below top, and the folders that an output's folder is in
		self.named = [f"{top}/", "standard output"] + [f"cannot create folder {top[:i]}: " for i in range(1, len(top) + 1)]
		self.failed = False

	def reset(self, stage):
		shutil.rmtree(self.w, ignore_errors=True)
		os.mkdir(self.w)
		if stage.before:
			stage.before()

	def run(self, cmd, fault=None):
		env = dict(os.environ)
		if fault:
			env.update(LD_PRELOAD=self.args.inject, FAULT=fault, FAULT_LOG=self.log)
			if os.path.exists(self.log):
				os.unlink(self.log)
		p = subprocess.Popen(cmd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
		try:
			out, err = p.communicate(timeout=HANG)
		except subprocess.TimeoutExpired:
			p.kill()
			p.communicate()
			return None, "it hangs"
		text = (out + err).decode(errors="replace")
		return -signal.SIGABRT if "Sanitizer" in text or "runtime error:" in text else p.returncode, text

	def said(self):
		with open(self.log) as f:
			return f.read()

	def finish(self, stage, ref, memo):
		"""The stage's commands again, from the state that is there. None: as undisturbed. The same state needs it once."""
		t = tree(self.w)
		key = hashlib.sha1(repr(sorted(t.items())).encode()).digest()
		if key not in memo:
			memo[key] = self.finish_now(stage, ref)
		return memo[key]

	def finish_now(self, stage, ref):
		for cmd in stage.after:
			rc, text = self.run(cmd)
			if rc != 0 and not (rc == 1 and "is not complete; run the command that makes it" in text):
				return f"the next run ends with status {rc}: {text.strip()[-300:]}"
		t = tree(self.w)
		for k in sorted(set(t) | set(ref)):
			if t.get(k) != ref.get(k):
				return f"after the next run {k} " + ("is left over" if k not in ref else "is missing" if k not in t else "differs")
		return None

	def reference(self, stage):
		self.reset(stage)
		before = tree(self.w)
		rc, text = self.run(stage.cmd)
		if rc != 0:
			return None, None, None, text
		direct = tree(self.w)
		for cmd in stage.after[1:]:
			rc, text = self.run(cmd)
		return before, direct, tree(self.w), text

	def case(self, stage, fault, refs, memo):
		"""One fault. Returns (class, text): None: it did not happen, 'ok', or what went wrong."""
		before, direct, ref = refs
		kind, how, n = fault.split(":")
		self.reset(stage)
		rc, text = self.run(stage.cmd, fault)
		said = self.said()
		if " fault" not in said:
			return (None, "") if rc == 0 else ("failed", f"status {rc} without a fault: {text[-300:]}")
		t = tree(self.w)
		if rc is None:
			return "hung", text
		if how in KINDS["asked"] and rc != 0:
			wrong = self.ended(stage, how, rc, text, t, before)
			if wrong:
				return "failed", wrong
		elif how in ("kill", "half"):
			if rc != -signal.SIGKILL:
				return "failed", f"status {rc}, not killed"
		elif rc == 0:
			for k in direct:
				if t.get(k) != direct[k]:
					return "lost", f"status 0, but {k} " + ("differs" if k in t else "is missing")
		elif rc == 1:
			if kind in ("memory", "library"):
				if not MEMORY.search(text):
					return "silent", f"it does not speak of memory: {text.strip()[-300:]}"
			elif how != "short" and REASON[how] not in text:
				return "silent", f"it does not say why: {text.strip()[-300:]}"
			elif not any(x in text for x in self.named):
				return "silent", f"it names no file: {text.strip()[-300:]}"
		elif kind != "library" and not SANITIZER.search(text):
			return "crashed", f"status {rc}: {text.strip()[-300:]}"
		wrong = broken(stage, t, ref if "dropped" not in stage.outputs.values() else direct, before)
		if wrong:
			return "lost", wrong
		wrong = self.finish(stage, ref, memo)
		if rc in ENDED and how != "again" and not wrong:
			return "ended", ""
		return ("lost", wrong) if wrong else ("ok", "") if rc in (0, 1, -signal.SIGKILL, *ENDED) else ("died", "")

	def ended(self, stage, how, rc, text, t, before):
		"""What is wrong with how a run ended that was asked to. None: nothing."""
		sig = "TERM" if how == "again" else how
		if rc != -getattr(signal, "SIG" + sig):
			return f"status {rc}, not ended by SIG{sig}: {text.strip()[-300:]}"
		if how == "again" or stage.name.startswith(AT_ONCE):
			return f"it was to end at once: {text.strip()[-300:]}" if "stopped by" in text else None
		if ASKED % sig not in text:
			return f"it does not say so: {text.strip()[-300:]}"
		left = [k for k in t if k not in before and UNFINISHED.search(k)] + [n for _, _, names in os.walk(self.w) for n in names if n.endswith(".lock")]
		return f"{left} is left" if left else None

	def twice(self, stage, fault, refs, memo):
		"""A run is held at a call, and another begins."""
		before, direct, ref = refs
		n = int(fault.split(":")[2])
		self.reset(stage)
		env = dict(os.environ, LD_PRELOAD=self.args.inject, FAULT=f"call:stop:{n}", FAULT_LOG=self.log)
		first = subprocess.Popen(stage.cmd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
		held = os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
		if held.si_code != os.CLD_STOPPED:
			text = b"".join(first.communicate()).decode(errors="replace")
			return (None, "") if first.returncode == 0 else ("failed", f"status {first.returncode} without a fault: {text}")
		second = subprocess.Popen(stage.cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
		try:
			second.wait(WAITS)
		except subprocess.TimeoutExpired:
			pass
		os.kill(first.pid, signal.SIGKILL if "gone" in fault else signal.SIGCONT)
		ends = []
		for p in (first, second):
			try:
				out, err = p.communicate(timeout=HANG)
			except subprocess.TimeoutExpired:
				p.kill()
				p.communicate()
				return "hung", f"run {len(ends) + 1} of two"
			ends.append((p.returncode, (out + err).decode(errors="replace").strip()))
		# what was repaired already is a set that lacks something, and is said to be
		told = re.compile(BUSY.pattern + "|is not complete") if "dropped" in stage.outputs.values() else BUSY
		for rc, text in ends:
			if rc not in (0, -signal.SIGKILL) and not (rc == 1 and told.search(text)):
				return "crashed" if rc < 0 or rc > 1 else "failed", f"status {rc}: {text[-300:]}"
		if "gone" not in fault and not any(rc == 0 for rc, _ in ends):
			return "failed", f"neither run ended well: {ends[0][1][-200:]}; {ends[1][1][-200:]}"
		if any(rc == 0 for rc, _ in ends):
			t = tree(self.w)
			for k in direct:
				if t.get(k) != direct[k]:
					return "lost", f"{k} " + ("differs" if k in t else "is missing")
		wrong = broken(stage, tree(self.w), ref, before) or self.finish(stage, ref, memo)
		return ("lost", wrong) if wrong else ("ok", "")

	def count(self, stage, kind):
		self.reset(stage)
		rc, text = self.run(stage.cmd, f"{kind + ':once' if kind in ('memory', 'library') else 'call:kill'}:0")
		said = self.said()
		if rc != 0:
			return None
		if kind not in ("memory", "library"):
			return [line.split() for line in said.splitlines()]
		lines = said.split()
		self.sites = {}
		for n, site in enumerate(lines[2:], 1):
			self.sites.setdefault(site, n)
		return int(lines[0])

	def choose(self, n, most=0):
		"""Which of 1..n: all, or a sample spread over them that is the same each time."""
		s = min(x for x in (self.args.sample, most, n) if x) if n else 0
		if not s or n <= s:
			return range(1, n + 1)
		return sorted(random.Random(n).sample(range(1, n + 1), s))

	def faults(self, stage, kind):
		counted = self.count(stage, kind)
		if counted is None:
			return None, []
		if kind == "library":
			return counted, [f"library:once:{n}" for n in self.choose(counted, LIBRARY)]
		if kind == "memory":
			return counted, [f"memory:{how}:{n}" for how, most in (("once", 0), ("on", ON)) if how in self.args.hows
				for n in (sorted(self.sites.values()) if self.args.sites else self.choose(counted, most))]
		if kind == "twice":
			return len(counted), [f"twice:{how}:{n}" for how in ("stop", "gone") if how in self.args.hows
				for n in self.choose(len(counted), TWICE)]
		if kind == "asked":
			return len(counted), [f"call:{how}:{n}" for how in KINDS[kind] if how in self.args.hows
				for n in sorted({1, *self.choose(len(counted), ASK)})]
		all = []
		for how in ("kill", "half", "short", "EIO", "ENOSPC", "full"):
			if how not in self.args.hows:
				continue
			which = [i for i, (_, _, c) in enumerate(counted, 1) if how in ("kill", "EIO") or c == "w" or (c == "s" and how in ("ENOSPC", "full"))]
			all += [f"call:{how}:{which[k - 1]}" for k in self.choose(len(which))]
		return len(counted), all

	def where(self, said):
		"""The fault's allocation, and the program's part of how it came about, as functions and lines."""
		lines = said.splitlines()
		text = lines[:1]
		for line in lines[1:]:
			m = re.match(r"(.*/)?([^/(]+)\(([^+)]*)\+?(0x[0-9a-f]+)?\)", line)
			if not m or "inject" in m[2]:
				continue
			if m[2].startswith("kf-") and m[4]:
				got = subprocess.run(["addr2line", "-fse", f"{self.args.bin}/{m[2]}", hex(int(m[4], 16) - 1)], capture_output=True, text=True)
				text.append(" ".join(got.stdout.split()))
			else:
				text.append(f"{m[2]} {m[3]}")
			if text[-1].startswith("main "):
				break
		return " < ".join(text[:14])

	def stage(self, stage, kind):
		begin = time.time()
		before, direct, ref, text = self.reference(stage)
		if before is None:
			self.tell(False, f"{stage.name}: undisturbed", [text])
			return 0
		n, faults = self.faults(stage, kind)
		if n == 0:
			return 0
		if n is None:
			print(f"skip {stage.name}: faults - the calls of a process cannot be trapped here", flush=True)
			return 0
		memo, done, died, ended, bad, lines = {}, 0, 0, 0, {}, []
		for fault in faults:
			verdict, text = (self.twice if kind == "twice" else self.case)(stage, fault, (before, direct, ref), memo)
			if verdict is None:
				continue
			done += 1
			if verdict == "died":
				died += 1
			elif verdict == "ended":
				ended += 1
			elif verdict != "ok":
				bad[verdict] = bad.get(verdict, 0) + 1
				if len(lines) < self.args.show:
					lines.append(f"{fault}: {verdict}: {text} [{self.where(self.said()) if kind in ('memory', 'library') else self.said().strip()}]")
		what = {"memory": "allocations", "library": "allocations in C++ libraries"}.get(kind, "system calls that write")
		tally = ", ".join(f"{bad.get(k, 0)} {k}" for k in ("lost", "crashed")) + "".join(f", {v} {k}" for k, v in bad.items() if k not in ("lost", "crashed"))
		if died:
			tally += f" ({died} ended by the library)"
		if kind == "asked":
			tally += f" ({ended} ended)"
			# files are written at the end, when there is nothing more to ask
			if not ended and not all("again" in f for f in faults) and set(stage.outputs.values()) != {"file"}:
				bad["deaf"] = len(faults)
				lines.append("every run went on to its end")
		kinds = "signals" if kind == "asked" else "second runs during a first held" if kind == "twice" else "faults"
		self.tell(not bad, f"{stage.name}: {done:,} {kinds} at {n:,} {what}: {tally}", lines, time.time() - begin)
		return done

	def tell(self, good, text, lines, seconds=None):
		first = ("ok " if good else "not ok ") + text + (f" ({seconds:.0f} s)" if seconds and self.args.times else "")
		print("\n#   ".join([first, *lines]), flush=True)      # at once: others write beside
		self.failed = self.failed or not good


def main():
	p = argparse.ArgumentParser()
	p.add_argument("bin")
	p.add_argument("inject")
	p.add_argument("--sample", type=int, default=0, help="faults of a kind and stage; 0: all")
	p.add_argument("--sites", action="store_true", help="of allocations that come about by the same calls only the first")
	p.add_argument("--stages", help="only those with one of these words")
	p.add_argument("--hows", default=",".join(h for k in KINDS.values() for h in k))
	p.add_argument("--threads", type=int, default=1)
	p.add_argument("--show", type=int, default=8, help="how many failures to show of a stage")
	p.add_argument("--times", action="store_true")
	p.add_argument("--jobs", type=int, default=1, help="stages at once")
	args = p.parse_args()
	args.hows = args.hows.split(",")
	for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):      # as a shell gives them, whoever runs this
		signal.signal(sig, signal.SIG_DFL)
	# under a sanitizer: what is preloaded comes before it; its look for leaks would be trapped
	os.environ["ASAN_OPTIONS"] = "verify_asan_link_order=0:detect_leaks=0"
	args.inject = os.path.abspath(args.inject)
	top = tempfile.mkdtemp(prefix="kfuse-faults.")
	words = args.stages and args.stages.split(",")
	wanted = lambda name: not words or any(x == name.removeprefix("kf-") or (len(x) > 3 and x in name) for x in words)
	units = [(i, kind) for i, s in enumerate(Tester(args, top).list) if wanted(s.name) for kind, hows in KINDS.items() if set(hows) & set(args.hows)]
	try:
		with multiprocessing.Pool(args.jobs, begin, (args, top)) as pool:
			results = pool.map(one, units, chunksize=1)
	finally:
		shutil.rmtree(top, ignore_errors=True)
	print(f"# {sum(done for done, _ in results):,} faults in all")
	return 1 if any(failed for _, failed in results) else 0


# ---- several at once: each process has sets of its own and takes a stage and a class of faults after another ----

def begin(args, top):
	global tester, broken_sets
	tester = Tester(args, tempfile.mkdtemp(dir=top))
	try:
		tester.begin()
		broken_sets = False
	except SystemExit as e:
		print(e, flush=True)
		broken_sets = True


def one(unit):
	i, kind = unit
	tester.failed = broken_sets
	return 0 if broken_sets else tester.stage(tester.list[i], kind), tester.failed


sys.exit(main())
