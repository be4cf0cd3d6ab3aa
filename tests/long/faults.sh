# The same at every call and every allocation; then with two threads, where their order is not the same twice, at some.
. tests/lib.sh
faults() { python3 tests/fault/faults.py "$BIN" "${BIN%/bin}/tests/inject.so" --times "$@"; }
faults
faults --threads 2 --sample 200 | sed 's/^\(ok\|not ok\) /&two threads: /'
