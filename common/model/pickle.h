/* The tensors that a pickle of PyTorch's names, without executing it.
 *
 * A pickle is a program for a stack machine that can call anything. This reader knows the few instructions, and the
 * few names, that a saved dictionary of tensors consists of, and does what they mean itself; whatever else it meets
 * is refused by name. Nothing is looked up, imported or called.
 */
#ifndef KF_MODEL_PICKLE_H
#define KF_MODEL_PICKLE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/mem.h"

#define KF_PICKLE_DIMS 8

/* Strings are borrowed from the bytes and end where len says. */
typedef struct { const char *s; size_t len; } kf_pickle_str;

typedef struct {
	kf_pickle_str name, storage;       /* storage: the name of the file it lies in */
	const char *dtype;                 /* as safetensors says it: "F32" */
	int n_dims;
	uint64_t dim[KF_PICKLE_DIMS];
	uint64_t offset, elements;         /* in elements of the storage; contiguous, row-major */
} kf_pickle_tensor;

/* out (n), in arena. Errors: KF_EDATA for damage with the place, KF_EUNSUPPORTED for what is not such a dictionary;
 * name stands for the file in messages. */
kf_status kf_pickle_tensors(const uint8_t *data, size_t size, const char *name, kf_arena *arena,
	const kf_pickle_tensor **out, size_t *n, kf_err *err) KF_MUST_CHECK;

#endif
