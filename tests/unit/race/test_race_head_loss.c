/* The same kernels with every access to memory watched: tests/emu/race.cc. That finds what it finds in any order. */
#define ORDERS 1
#include "tests/unit/emu/test_head_loss.c"
