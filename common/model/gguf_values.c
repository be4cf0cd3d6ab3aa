#include "common/model/gguf.h"

#include <inttypes.h>
#include <string.h>

/* Metadata by key and type. */

static kf_status need(const kf_gguf *g, const char *key, const kf_gguf_entry **e, kf_err *err)
{
	if ((*e = kf_gguf_find(g, key))) return KF_OK;
	return kf_fail(err, KF_ENOTFOUND, "%s: lacks the metadata entry %s", kf_gguf_path(g), key);
}

static kf_status wrong_type(const kf_gguf *g, const kf_gguf_entry *e, const char *want, kf_err *err)
{
	return kf_fail(err, KF_EDATA, "%s: %s is of type %s, where %s was expected", kf_gguf_path(g), e->key,
		kf_gguf_type_name(e->type), want);
}

kf_status kf_gguf_int(const kf_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out, kf_err *err)
{
	const kf_gguf_entry *e;
	kf_status rc = need(g, key, &e, err);
	kf_cur c;
	int64_t v;

	if (rc != KF_OK) return rc;
	c = kf_cur_of(e->data, e->size);
	switch (e->type) {
	case KF_GGUF_U8: v = kf_cur_u8(&c); break;
	case KF_GGUF_I8: v = (int8_t)kf_cur_u8(&c); break;
	case KF_GGUF_U16: v = kf_cur_u16(&c); break;
	case KF_GGUF_I16: v = (int16_t)kf_cur_u16(&c); break;
	case KF_GGUF_U32: v = kf_cur_u32(&c); break;
	case KF_GGUF_I32: v = (int32_t)kf_cur_u32(&c); break;
	case KF_GGUF_U64:
	case KF_GGUF_I64:
		v = (int64_t)kf_cur_u64(&c);
		break; /* above 2^63 becomes negative: out of range below */
	default: return wrong_type(g, e, "an integer", err);
	}
	if (v < min || v > max || (e->type == KF_GGUF_U64 && v < 0))
		return kf_fail(err, KF_EDATA, "%s: %s is %" PRId64 ", which is not between %" PRId64 " and %" PRId64,
			kf_gguf_path(g), key, v, min, max);
	*out = v;
	return KF_OK;
}

kf_status kf_gguf_real(const kf_gguf *g, const char *key, double *out, kf_err *err)
{
	const kf_gguf_entry *e;
	kf_status rc = need(g, key, &e, err);
	kf_cur c;

	if (rc != KF_OK) return rc;
	c = kf_cur_of(e->data, e->size);
	if (e->type == KF_GGUF_F32) {
		*out = (double)kf_cur_f32(&c);
	} else if (e->type == KF_GGUF_F64) {
		uint64_t u = kf_cur_u64(&c);
		memcpy(out, &u, 8);
	} else {
		return wrong_type(g, e, "a real number", err);
	}
	return KF_OK;
}

kf_status kf_gguf_bool(const kf_gguf *g, const char *key, bool *out, kf_err *err)
{
	const kf_gguf_entry *e;
	kf_status rc = need(g, key, &e, err);

	if (rc != KF_OK) return rc;
	if (e->type != KF_GGUF_BOOL) return wrong_type(g, e, "a bool", err);
	*out = e->data[0] != 0;
	return KF_OK;
}

static kf_status zero_byte(const kf_gguf *g, const char *key, kf_err *err)
{
	return kf_fail(err, KF_EDATA, "%s: a string of %s has a zero byte in it", kf_gguf_path(g), key);
}

kf_status kf_gguf_string(const kf_gguf *g, const char *key, kf_arena *arena, const char **out, kf_err *err)
{
	const kf_gguf_entry *e;
	kf_status rc = need(g, key, &e, err);

	if (rc != KF_OK) return rc;
	if (e->type != KF_GGUF_STRING) return wrong_type(g, e, "a string", err);
	if (memchr(e->data, 0, e->size)) return zero_byte(g, key, err);
	if (!(*out = kf_arena_strdup(arena, (const char *)e->data, e->size)))
		return kf_fail(err, KF_ENOMEM, "%s: no memory for the value of %s", kf_gguf_path(g), key);
	return KF_OK;
}

kf_status kf_gguf_strings(
	const kf_gguf *g, const char *key, kf_arena *arena, const char *const **out, uint64_t *n, kf_err *err)
{
	const kf_gguf_entry *e;
	kf_status rc = need(g, key, &e, err);
	const char **list;
	char *text;
	kf_cur c;

	if (rc != KF_OK) return rc;
	if (e->type != KF_GGUF_ARRAY || e->item != KF_GGUF_STRING)
		return wrong_type(g, e, "an array of strings", err);
	/* One block for all of them: each string's length took the 8 bytes that pay for its NUL. */
	list = KF_ARENA_NEW(arena, const char *, (size_t)e->n);
	text = KF_ARENA_NEW(arena, char, e->size);
	if (!list || !text) return kf_fail(err, KF_ENOMEM, "%s: no memory for the strings of %s", kf_gguf_path(g), key);
	c = kf_cur_of(e->data, e->size);
	for (uint64_t i = 0; i < e->n; i++) {
		size_t len = (size_t)kf_cur_u64(&c);
		const uint8_t *p = kf_cur_bytes(&c, len);
		if (memchr(p, 0, len)) return zero_byte(g, key, err);
		memcpy(text, p, len);
		text[len] = 0;
		list[i] = text;
		text += len + 1;
	}
	*out = list;
	*n = e->n;
	return KF_OK;
}
