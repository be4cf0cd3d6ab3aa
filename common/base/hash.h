/* Fingerprints: XXH3 128-bit, of bytes, files and other fingerprints. They tell
 * content apart; they are no defence against somebody who forges it. */
#ifndef KF_BASE_HASH_H
#define KF_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

typedef struct { uint64_t hi, lo; } kf_fp;

#define KF_FP_HEX 33 /* characters of a fingerprint in hexadecimal, and the NUL */

kf_fp kf_fp_of(const void *p, size_t n);
uint64_t kf_hash64(const void *p, size_t n);      /* XXH3 64-bit: block checksums, hash tables */
kf_status kf_fp_file(const char *path, kf_fp *out, kf_err *err) KF_MUST_CHECK;
void kf_fp_hex(kf_fp fp, char out[KF_FP_HEX]);
bool kf_fp_parse(const char *hex, kf_fp *out);
static inline bool kf_fp_equal(kf_fp a, kf_fp b) { return a.hi == b.hi && a.lo == b.lo; }

/* Streaming. kf_hasher_new returns NULL on no memory. */
typedef struct kf_hasher kf_hasher;
kf_hasher *kf_hasher_new(void);
void kf_hasher_add(kf_hasher *h, const void *p, size_t n);
kf_fp kf_hasher_fp(const kf_hasher *h);
void kf_hasher_free(kf_hasher *h);

#endif
