/* Files of tensors: one, or several with an index (model.safetensors.index.json, pytorch_model.bin.index.json).
 * safetensors; or, when the name ends in .bin, PyTorch's zip archives with a pickle, of which nothing is executed (pickle.h).
 *
 * A safetensors file is the header's length (64-bit, little-endian), a JSON header that names for
 * each tensor its dtype, shape and byte range, and the data. Checked when opened:
 * the header's size, every shape's product against its range, ranges inside the
 * file and not overlapping, duplicate names, and that the index and the files agree.
 */
#ifndef KF_MODEL_SAFETENSORS_H
#define KF_MODEL_SAFETENSORS_H

#include <jansson.h>

#include "common/model/tensor.h"

typedef struct kf_safetensors kf_safetensors;

/* Open dir/model.safetensors; without it, the files that dir/model.safetensors.index.json names; without either, pytorch_model.bin
 * or its index in the same way. So does transformers: where both are there, one was left by an earlier model.
 * KF_ENOTFOUND when there is neither. A dtype other than F32, F16 and BF16 is refused only for
 * tensors that are asked for: kf_safetensors_check. */
kf_status kf_safetensors_open_dir(const char *dir, kf_safetensors **out, kf_err *err) KF_MUST_CHECK;
/* One file. */
kf_status kf_safetensors_open(const char *path, kf_safetensors **out, kf_err *err) KF_MUST_CHECK;
/* The same from memory, borrowed until close; name stands for the path in messages. */
kf_status kf_safetensors_open_memory(const void *data, size_t n, const char *name, kf_safetensors **out,
	kf_err *err) KF_MUST_CHECK;
void kf_safetensors_close(kf_safetensors *s);          /* accepts NULL */

typedef struct {
	kf_tensor t;             /* name, dtype, shape, data; borrowed from s. rows = 1 for a vector */
	const char *dtype;       /* as the file names it: "BF16" */
	bool readable;           /* t.dtype is set: F32, F16 or BF16, with one or two dimensions */
	int file;                /* index for kf_safetensors_path */
	int n_dims;              /* as in the file */
} kf_st_tensor;

int kf_safetensors_count(const kf_safetensors *s);
const kf_st_tensor *kf_safetensors_at(const kf_safetensors *s, int i);            /* by name */
const kf_st_tensor *kf_safetensors_find(const kf_safetensors *s, const char *name); /* NULL when absent */
const char *kf_safetensors_path(const kf_safetensors *s, int file);

/* KF_OK when readable, else KF_EUNSUPPORTED naming file, tensor and dtype or shape. */
kf_status kf_safetensors_check(const kf_safetensors *s, const kf_st_tensor *t, kf_err *err) KF_MUST_CHECK;

#endif
