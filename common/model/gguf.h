/* GGUF files, versions 2 and 3, little-endian: metadata and tensors over a memory map.
 *
 * Everything is checked when the file is opened: counts against the bytes
 * there are before anything is allocated, string and array lengths, types,
 * products of dimensions, alignment, ranges inside the file, duplicate names,
 * tensors that overlap. A model in several files (STEM-00001-of-00003.gguf)
 * is opened by the first, and is one. After that, what is handed out can be read without a
 * further look. Format: ggml's docs/gguf.md.
 */
#ifndef KF_MODEL_GGUF_H
#define KF_MODEL_GGUF_H

#include "common/base/mem.h"
#include "common/model/arch.h"
#include "common/model/tensor.h"
#include "common/text/tokenizer.h"

typedef enum {
	KF_GGUF_U8, KF_GGUF_I8, KF_GGUF_U16, KF_GGUF_I16, KF_GGUF_U32, KF_GGUF_I32, KF_GGUF_F32, KF_GGUF_BOOL,
	KF_GGUF_STRING, KF_GGUF_ARRAY, KF_GGUF_U64, KF_GGUF_I64, KF_GGUF_F64, KF_GGUF_TYPES
} kf_gguf_type;

/* One metadata entry. Borrowed from the file. */
typedef struct {
	const char *key;
	kf_gguf_type type, item;  /* item: of an array */
	uint64_t n;               /* bytes of a string, items of an array, else 1 */
	const uint8_t *data;      /* the value; an array's first item */
	size_t size;              /* bytes of it */
} kf_gguf_entry;

typedef struct {
	const char *name;
	kf_dtype dtype;
	int n_dims;               /* 1 to 3: trailing dimensions of 1 are dropped */
	uint64_t cols, rows;      /* GGUF's first and second dimension */
	uint64_t stack;           /* and third: matrices of one shape, one after another (experts) */
	const uint8_t *data;      /* borrowed from the map */
	size_t size;              /* of all */
} kf_gguf_tensor;

typedef struct kf_gguf kf_gguf;

/* Errors: KF_ENOTFOUND, KF_EIO; KF_EDATA for damage, with the place; KF_EUNSUPPORTED for version 1,
 * big-endian files and tensor types we do not read, named. */
kf_status kf_gguf_open(const char *path, kf_gguf **out, kf_err *err) KF_MUST_CHECK;
/* The same from memory, borrowed until close; name stands for the path in messages. */
kf_status kf_gguf_open_memory(const void *data, size_t n, const char *name, kf_gguf **out, kf_err *err) KF_MUST_CHECK;
void kf_gguf_close(kf_gguf *g);          /* accepts NULL */
const char *kf_gguf_path(const kf_gguf *g);

const char *kf_gguf_type_name(kf_gguf_type t);  /* "u32" */
int kf_gguf_entries(const kf_gguf *g);
const kf_gguf_entry *kf_gguf_entry_at(const kf_gguf *g, int i);          /* in file order */
const kf_gguf_entry *kf_gguf_find(const kf_gguf *g, const char *key);    /* NULL when absent */
int kf_gguf_tensors(const kf_gguf *g);
const kf_gguf_tensor *kf_gguf_tensor_at(const kf_gguf *g, int i);
const kf_gguf_tensor *kf_gguf_tensor_find(const kf_gguf *g, const char *name);

/* Typed lookups: KF_ENOTFOUND when the key is absent, KF_EDATA when it is of
 * another type or out of [min, max]. An integer may have any integer type. */
kf_status kf_gguf_int(const kf_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out, kf_err *err) KF_MUST_CHECK;
kf_status kf_gguf_real(const kf_gguf *g, const char *key, double *out, kf_err *err) KF_MUST_CHECK;
kf_status kf_gguf_bool(const kf_gguf *g, const char *key, bool *out, kf_err *err) KF_MUST_CHECK;
/* A NUL-terminated copy in arena; KF_EDATA when there is a NUL in it. */
kf_status kf_gguf_string(const kf_gguf *g, const char *key, kf_arena *arena, const char **out, kf_err *err) KF_MUST_CHECK;
kf_status kf_gguf_strings(const kf_gguf *g, const char *key, kf_arena *arena, const char *const **out, uint64_t *n,
	kf_err *err) KF_MUST_CHECK;

/* The descriptor of the model inside (arch_gguf.c has the list). What we would not honour is refused by name. */
kf_status kf_arch_from_gguf(const kf_gguf *g, kf_arch *out, kf_err *err) KF_MUST_CHECK;

/* The vocabulary inside, in arena memory and borrowed from the map. */
kf_status kf_gguf_vocab(const kf_gguf *g, kf_arena *arena, kf_vocab_spec *out, kf_err *err) KF_MUST_CHECK;

#endif
