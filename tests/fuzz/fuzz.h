/* A fuzz target: one reader, given bytes from anywhere. Whatever it answers is right; a crash, a hang, a leak, or a
 * sanitizer's word is not. With clang the target is libFuzzer's (make fuzz); else driver.c runs it over the seeds and changes of
 * them (make test).
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes as a file, for readers that take a path; the same one each time. Never fails. */
const char *fuzz_file(const uint8_t *data, size_t size);
/* A folder in memory that holds only what was put there since the last call. */
const char *fuzz_dir(void);
void fuzz_put(const char *dir, const char *name, const void *data, size_t size);

/* An answer must come with a word about it: an error without text is a bug. */
void fuzz_answer(kf_status rc, const kf_err *err);
/* Read all of it, so that a sanitizer sees what was promised to be there. */
void fuzz_touch(const void *p, size_t size);

#endif
