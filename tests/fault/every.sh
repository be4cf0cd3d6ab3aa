# Every stage, with a fault at some of its system calls that write and of its allocations, and signals that ask it to end. make test-long: at all of them.
. tests/lib.sh
python3 tests/fault/faults.py "$BIN" "${BIN%/bin}/tests/inject.so" --sample 2 --hows kill,half,short,EIO,ENOSPC,full,once,on,lib,INT,again
