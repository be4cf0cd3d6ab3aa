# The same at every call and every allocation; then with two threads, where their order is not the same twice, at some. Second runs beside a
# first mostly wait for one another, so they are tried beside the rest.
. tests/lib.sh
faults() { python3 tests/fault/faults.py "$BIN" "${BIN%/bin}/tests/inject.so" --times --jobs "${TEST_JOBS:-$(nproc)}" "$@"; }
faults --hows stop,gone >"$TMP/twice" 2>&1 &
faults --hows kill,half,short,EIO,ENOSPC,full,once,on,lib,TERM,INT,HUP,again
wait; cat "$TMP/twice"
faults --threads 2 --sample 200 | sed 's/^\(ok\|not ok\) /&two threads: /'
