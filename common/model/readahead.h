/* A thread that brings tensors of a memory-mapped model into memory before they are used.
 *
 *     kf_reader_want(r, t, false)   layer l + 1's, while layer l is at work
 *     kf_reader_wait(r, err)        what was wanted is there
 *     kf_weights_drop(t)            (weights.h) used: its pages may go
 *
 * What has been read stays as long as the kernel has the room; a use of what it has not is slower, never wrong.
 */
#ifndef KF_MODEL_READAHEAD_H
#define KF_MODEL_READAHEAD_H

#include "common/model/tensor.h"

typedef struct kf_reader kf_reader;

kf_status kf_reader_new(kf_reader **out, kf_err *err) KF_MUST_CHECK;
/* What is still wanted is not read any more. Accepts NULL. */
void kf_reader_free(kf_reader *r);

/* Returns at once. first: before everything else that waits. t is borrowed until it has been read. */
kf_status kf_reader_want(kf_reader *r, const kf_tensor *t, bool first, kf_err *err) KF_MUST_CHECK;
/* Until everything that was wanted has been read. KF_EIO: the file cannot be read (it has become shorter, or its
 * disk failed); the tensor is named. */
kf_status kf_reader_wait(kf_reader *r, kf_err *err) KF_MUST_CHECK;

typedef struct {
	uint64_t bytes;            /* of tensors read, from disk or from the kernel's cache: it does not say */
	double reading, waited;    /* seconds the thread was at it; seconds that kf_reader_wait took */
} kf_reader_stats;

kf_reader_stats kf_reader_get_stats(kf_reader *r);

/* Rows of a matrix that will be asked for one by one: index (n) ascends. Reading starts, nobody waits. */
void kf_reader_hint_rows(const kf_tensor *t, const int32_t *index, size_t n);
/* Bytes of the tensor's pages that are in memory now, its own page ends included; 0 when the kernel does not tell. */
uint64_t kf_reader_cached(const kf_tensor *t);

#endif
