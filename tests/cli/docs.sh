# What README.md, CHANGELOG.md and docs/ name is there: programs' options in the commands that are shown and in the text, make's targets and variables,
# files and headings that are linked to. And every option of a program is on some page.
. tests/lib.sh

cat > "$TMP/docs.py" <<'PY'
import glob, os, re, shlex, subprocess, sys
bin, what = sys.argv[1:]
pages = {p: open(p, encoding="utf-8").read() for p in ["README.md", "CHANGELOG.md", *sorted(glob.glob("docs/*.md"))]}
programs = sorted(os.path.basename(p) for p in glob.glob(bin + "/kf-*"))
shown = {p: subprocess.run([f"{bin}/{p}", "--help"], capture_output=True, text=True, check=True).stdout for p in programs}
options = {p: set(re.findall(r"^ +(--[a-z0-9-]+)", text, re.M)) | {"--help"} for p, text in shown.items()}
# Of other people's programs, and forms of a name.
OTHERS = set("--account --bind-to --cpus-per-task --gres --mpi --ntasks --time --qos --requeue --map-by".split())
wrong = []

def commands(text):
    """Indented lines, joined where they end in a backslash: what is shown to be typed, and what is said of it left out."""
    for line in re.sub(r"\\\n +", "", text).split("\n"):
        if line.startswith("    "): yield re.sub(r"\s#\s.*", "", line.strip())

if what == "options":
    for page, text in pages.items():
        for line in commands(text):
            for part in re.split(r"; |\| |&& ", line):
                m = re.search(r"(?:^|[\s/])(kf-[a-z]+)\s(.*)", part)
                if not m or m[1] not in options: continue
                try: words = shlex.split(m[2].replace("…", ""))
                except ValueError: words = m[2].split()
                for w in words:
                    w = w.strip("[]").split("=")[0]
                    if w.startswith("--") and len(w) > 2 and w not in options[m[1]]: wrong.append(f"{page}: {m[1]} has no {w}: {line}")
        every = set.union(*options.values()) | OTHERS
        for w in re.findall(r"`(--[a-z0-9-]+)", text):
            if w not in every: wrong.append(f"{page}: no program has {w}")
elif what == "pages":
    said = "\n".join(pages.values())
    for p in programs:
        for o in options[p] - {"--help", "--version", "--completion"}:
            if not re.search(re.escape(o) + r"(?![a-z0-9-])", said): wrong.append(f"{p} {o} is on no page")
elif what == "links":
    def anchors(text):
        return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", h).lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)", text, re.M)}
    for page, text in pages.items():
        for to in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in to: continue
            path, _, anchor = to.partition("#")
            path = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not os.path.exists(path): wrong.append(f"{page}: {to}: no such file")
            elif anchor and anchor not in anchors(open(path, encoding="utf-8").read()): wrong.append(f"{page}: {to}: no such heading")
        for path in re.findall(r"`((?:tests|data|common|docs|extract|align|fuse|train|merge|eval|slurm)/[\w./-]+\.\w+)`", text):
            if not glob.glob(path) and not path.startswith(("data/models/", "data/text/", "data/tasks/", "data/bench/")): wrong.append(f"{page}: {path}: no such file")
elif what == "make":
    known = subprocess.run(["make", "-npRr", "help"], capture_output=True, text=True).stdout
    targets = set(re.findall(r"^([a-zA-Z][\w-]*)\s*:", known, re.M)) | {"gpu-check", "gpu-bench", "cuda-deps"}
    where = ["Makefile", "*.mk", "data/*.mk", "tests/*.mk", "tests/*.sh", "tests/*/*.sh", "tests/*/*.bash", "tests/bench/*.py"]
    sources = "".join(open(p, encoding="utf-8").read() for pattern in where for p in glob.glob(pattern))
    for page, text in pages.items():
        for line in [*commands(text), *re.findall(r"`(make [^`]+)`", text)]:
            m = re.search(r"^(?:[A-Z_]+=\S+ )*make\s(.*)", line)
            if not m: continue
            for w in re.split(r"\s{2,}|,", m[1])[0].replace("…", "").split():
                if w.startswith("-") or not re.match(r"[A-Za-z]", w): continue
                name, value, _ = w.partition("=")
                if value and not re.search(rf"\b{re.escape(name)}\b", sources): wrong.append(f"{page}: nothing takes {name}: {line}")
                if not value and re.fullmatch(r"[a-z][a-z-]+", w) and not w.startswith("slurm-") and w not in targets: wrong.append(f"{page}: no target {w}: {line}")
elif what == "tree": # docs/contributing.md: dependencies point down, and no stage includes another
    may = {"base": [], "text": ["base"], "store": ["base"], "ops": ["base"], "model": ["base", "text", "store", "ops"]}
    for path in glob.glob("*/**/*.[ch]", recursive=True) + glob.glob("common/**/*.cu*", recursive=True) + glob.glob("common/**/*.cpp", recursive=True):
        top, *rest = path.split("/")
        if top.startswith("build") or top == "tests": continue
        for to in re.findall(r'^#include "([^"]+)"', open(path, encoding="utf-8").read(), re.M):
            into, *below = to.split("/")
            if not os.path.exists(to): continue
            if top != "common": ok = into in (top, "common")
            else: ok = into == "common" and below[0] in (rest[0], *may[rest[0]])
            if not ok: wrong.append(f"{path} includes {to}")
print("\n".join(sorted(set(wrong))))
sys.exit(bool(wrong))
PY
check "options that pages name are there" python3 "$TMP/docs.py" "$BIN" options
check "options of programs are on a page" python3 "$TMP/docs.py" "$BIN" pages
check "files and headings that pages link to are there" python3 "$TMP/docs.py" "$BIN" links
check "make's targets and variables that pages name are there" python3 "$TMP/docs.py" "$BIN" make
check "what includes what points down" python3 "$TMP/docs.py" "$BIN" tree
