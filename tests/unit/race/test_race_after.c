/* The same kernels with every access to memory watched: tests/emu/race.cc. */
#include "tests/unit/emu/test_after.c"
