# The same with many bits.
FLIPS=2000 . tests/fault/flips.sh
