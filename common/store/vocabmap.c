#include "common/store/vocabmap.h"

#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/file.h"
#include "common/base/opt.h"

#define MAP_FORMAT 1
#define MAP_TOKENS (1 << 22)          /* of a vocabulary */
#define MAP_BODY ((uint64_t)1 << 29)  /* bytes uncompressed */
#define MAP_FILE ((size_t)1 << 28)
static const uint8_t magic[5] = { 'K', 'F', 'M', 'A', 'P' };

/* ---- in memory ---- */

kf_status kf_vocabmap_new(const kf_vocabmap_key *key, const char *source, const char *target, kf_vocabmap **out, kf_err *err)
{
	kf_vocabmap *m = kf_zalloc(1, sizeof *m);
	size_t n = (size_t)key->n;

	*out = NULL;
	if (!m) return kf_fail(err, KF_ENOMEM, "no memory for a vocabulary map");
	kf_arena_init(&m->arena);
	m->key = *key;
	m->source = kf_arena_strdup(&m->arena, source, strlen(source));
	m->target = kf_arena_strdup(&m->arena, target, strlen(target));
	m->to = KF_ARENA_NEW(&m->arena, int32_t, n);
	m->distance = KF_ARENA_NEW(&m->arena, uint32_t, n);
	m->equal = KF_ARENA_NEW(&m->arena, uint8_t, n);
	m->count = KF_ARENA_NEW(&m->arena, uint64_t, n);
	m->spelled[0] = KF_ARENA_NEW(&m->arena, char *, n);
	m->spelled[1] = KF_ARENA_NEW(&m->arena, char *, (size_t)key->m);
	if (!m->source || !m->target || !m->to || !m->distance || !m->equal || !m->count || !m->spelled[0] || !m->spelled[1]) {
		kf_vocabmap_free(m);
		return kf_fail(err, KF_ENOMEM, "no memory for a vocabulary map of %d tokens", (int)key->n);
	}
	memset(m->to, 0xff, n * sizeof *m->to);
	memset(m->distance, 0xff, n * sizeof *m->distance);
	memset(m->equal, 0, n * sizeof *m->equal);
	memset(m->count, 0, n * sizeof *m->count);
	memset(m->spelled[0], 0, n * sizeof *m->spelled[0]);
	memset(m->spelled[1], 0, (size_t)key->m * sizeof *m->spelled[1]);
	*out = m;
	return KF_OK;
}

void kf_vocabmap_free(kf_vocabmap *m)
{
	if (!m) return;
	kf_arena_release(&m->arena);
	kf_free(m);
}

/* ---- identity ---- */

kf_fp kf_vocabmap_fp(const kf_vocabmap_key *key)
{
	char hex[3][KF_FP_HEX] = { "", "", "" }, text[512];
	int n;

	kf_fp_hex(key->source, hex[0]);
	kf_fp_hex(key->target, hex[1]);
	if (key->counted) kf_fp_hex(key->corpus, hex[2]);
	n = snprintf(text, sizeof text, "map %d %s %s %d %s %d %s", MAP_FORMAT, key->method, hex[0], (int)key->n, hex[1], (int)key->m,
		hex[2]);
	return kf_fp_of(text, (size_t)n);
}

kf_status kf_vocabmap_fits(const kf_vocabmap_key *there, const kf_vocabmap_key *here, const char *path, kf_err *err)
{
	const char *what = NULL;

	if (strcmp(there->method, here->method) != 0)
		return kf_fail(err, KF_EMISMATCH, "%s is a map of method %s, not %s: name another file, or remove this one to have it made again",
			path, there->method, here->method);
	if (!kf_fp_equal(there->source, here->source) || there->n != here->n) what = "source's tokenizer";
	else if (!kf_fp_equal(there->target, here->target) || there->m != here->m) what = "target's tokenizer";
	else if (there->counted != here->counted || (there->counted && !kf_fp_equal(there->corpus, here->corpus))) what = "corpus";
	if (what)
		return kf_fail(err, KF_EMISMATCH, "%s was made for another %s: name another file, or remove this one to have it made again",
			path, what);
	return KF_OK;
}

/* ---- writing ---- */

static json_t *side_json(const char *name, kf_fp fp, int32_t n)
{
	char hex[KF_FP_HEX];

	kf_fp_hex(fp, hex);
	return json_pack("{s:s,s:s,s:i}", "name", name, "fingerprint", hex, "tokens", (int)n);
}

static char *head_text(const kf_vocabmap *m, const char *program)
{
	char hex[KF_FP_HEX];
	json_t *o;
	char *text = NULL;

	kf_fp_hex(kf_vocabmap_fp(&m->key), hex);
	o = json_pack("{s:s,s:s,s:s,s:s,s:s,s:o,s:o}", "kfuse", "vocabulary map", "method", m->key.method, "identity", hex,
		"program", program, "version", KF_VERSION, "source", side_json(m->source, m->key.source, m->key.n),
		"target", side_json(m->target, m->key.target, m->key.m));
	kf_fp_hex(m->key.corpus, hex);
	if (o && (!m->key.counted || json_object_set_new(o, "corpus", json_string(hex)) == 0))
		text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(o);
	return text;
}

static void put_body(const kf_vocabmap *m, kf_buf *out)
{
	for (int32_t i = 0; i < m->key.n; i++) kf_buf_u32(out, (uint32_t)m->to[i]);
	for (int32_t i = 0; i < m->key.n; i++) kf_buf_u32(out, m->distance[i]);
	kf_buf_put(out, m->equal, (size_t)m->key.n);
	for (int32_t i = 0; i < m->key.n; i++) kf_buf_u64(out, m->count[i]);
	for (int side = 0; side < 2; side++)
		for (int32_t i = 0; i < (side ? m->key.m : m->key.n); i++) {
			const char *s = m->spelled[side][i] ? m->spelled[side][i] : "";

			kf_buf_put(out, s, strlen(s) + 1);
		}
}

kf_status kf_vocabmap_write(const kf_vocabmap *m, const char *path, const char *program, kf_err *err)
{
	kf_buf body = { 0 }, rest = { 0 }, file = { 0 };
	char *head = head_text(m, program);
	size_t bound, got;
	kf_status rc;

	if (!head) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for what %s is made from (or a model's name is no UTF-8)", path);
		goto out;
	}
	put_body(m, &body);
	kf_buf_u32(&rest, (uint32_t)strlen(head));
	kf_buf_put(&rest, head, strlen(head));
	kf_buf_u64(&rest, body.len);
	bound = ZSTD_compressBound(body.len);
	kf_buf_reserve(&rest, bound);
	if ((rc = kf_buf_check(&body, err)) != KF_OK || (rc = kf_buf_check(&rest, err)) != KF_OK) goto out;
	got = ZSTD_compress(rest.data + rest.len, bound, body.data, body.len, 9);
	if (ZSTD_isError(got)) {
		rc = kf_fail(err, KF_ENOMEM, "cannot compress %s: %s", path, ZSTD_getErrorName(got));
		goto out;
	}
	rest.len += got;
	kf_buf_put(&file, magic, sizeof magic);
	kf_buf_u8(&file, 0);
	kf_buf_u8(&file, MAP_FORMAT);
	kf_buf_u8(&file, 0);
	kf_buf_u64(&file, kf_hash64(rest.data, rest.len));
	kf_buf_put(&file, rest.data, rest.len);
	if ((rc = kf_buf_check(&file, err)) == KF_OK) rc = kf_file_write_atomic(path, file.data, file.len, err);
out:
	free(head);
	kf_buf_release(&body);
	kf_buf_release(&rest);
	kf_buf_release(&file);
	return rc;
}

/* ---- reading ---- */

static bool get_fp(const json_t *o, const char *name, kf_fp *out)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s && strlen(s) == KF_FP_HEX - 1 && kf_fp_parse(s, out);
}

static bool get_side(const json_t *o, const char **name, kf_fp *fp, int32_t *n)
{
	json_int_t v = json_integer_value(json_object_get(o, "tokens"));

	*name = json_string_value(json_object_get(o, "name"));
	*n = (int32_t)v;
	return *name && get_fp(o, "fingerprint", fp) && v >= 0 && v <= MAP_TOKENS;
}

static bool get_key(const json_t *o, kf_vocabmap_key *key, const char **source, const char **target)
{
	const char *method = json_string_value(json_object_get(o, "method"));
	const char *kfuse = json_string_value(json_object_get(o, "kfuse"));
	kf_fp identity;

	memset(key, 0, sizeof *key);
	if (!kfuse || strcmp(kfuse, "vocabulary map") != 0 || !method || strlen(method) >= sizeof key->method) return false;
	memcpy(key->method, method, strlen(method) + 1);
	key->counted = json_object_get(o, "corpus") != NULL;
	return get_side(json_object_get(o, "source"), source, &key->source, &key->n) &&
		get_side(json_object_get(o, "target"), target, &key->target, &key->m) &&
		(!key->counted || get_fp(o, "corpus", &key->corpus)) && get_fp(o, "identity", &identity) &&
		kf_fp_equal(identity, kf_vocabmap_fp(key));
}

/* The body's bytes; spellings point into them. */
static bool get_body(kf_vocabmap *m, const uint8_t *data, size_t size)
{
	kf_cur c = kf_cur_of(data, size);
	const uint8_t *equal;

	for (int32_t i = 0; i < m->key.n; i++) m->to[i] = (int32_t)kf_cur_u32(&c);
	for (int32_t i = 0; i < m->key.n; i++) m->distance[i] = kf_cur_u32(&c);
	if (!(equal = kf_cur_bytes(&c, (size_t)m->key.n))) return false;
	memcpy(m->equal, equal, (size_t)m->key.n);
	for (int32_t i = 0; i < m->key.n; i++) m->count[i] = kf_cur_u64(&c);
	if (c.bad) return false;
	for (int32_t i = 0; i < m->key.n; i++)
		if (m->to[i] < -1 || m->to[i] >= m->key.m || m->equal[i] > 1 || (m->to[i] < 0) != (m->distance[i] == UINT32_MAX))
			return false;
	for (int side = 0; side < 2; side++)
		for (int32_t i = 0; i < (side ? m->key.m : m->key.n); i++) {
			const uint8_t *end = kf_cur_left(&c) ? memchr(c.p, 0, kf_cur_left(&c)) : NULL;

			if (!end) return false;
			m->spelled[side][i] = (char *)(uintptr_t)c.p;
			c.p = end + 1;
		}
	return kf_cur_left(&c) == 0;
}

static kf_status parse(const char *path, const kf_buf *file, kf_vocabmap **out, kf_err *err)
{
	kf_cur c = kf_cur_of(file->data, file->len);
	const uint8_t *start = kf_cur_bytes(&c, 8), *head;
	const char *source, *target;
	kf_vocabmap_key key;
	json_t *o = NULL;
	uint64_t hash, size;
	uint32_t n;
	uint8_t *body;
	size_t got;
	kf_status rc;

	if (!start || memcmp(start, magic, sizeof magic) != 0 || start[5] != 0)
		return kf_fail(err, KF_EDATA, "%s is no vocabulary map", path);
	if (start[6] != MAP_FORMAT || start[7] != 0)
		return kf_fail(err, KF_EUNSUPPORTED, "%s is a vocabulary map of format %d; this program reads format %d", path, start[6], MAP_FORMAT);
	hash = kf_cur_u64(&c);
	rc = kf_fail(err, KF_EDATA, "%s: damaged; remove it to have the map made again", path);
	if (c.bad || hash != kf_hash64(c.p, kf_cur_left(&c))) return rc;
	n = kf_cur_u32(&c);
	if (!(head = kf_cur_bytes(&c, n)) || !(o = json_loadb((const char *)head, n, 0, NULL))) return rc;
	size = kf_cur_u64(&c);
	/* zstd packs at most about 1 : 30000 */
	if (c.bad || !get_key(o, &key, &source, &target) || size > MAP_BODY || size / 65536 > kf_cur_left(&c) ||
	    size < 17 * (uint64_t)key.n + (uint64_t)key.n + (uint64_t)key.m)
		goto out;
	if ((rc = kf_vocabmap_new(&key, source, target, out, err)) != KF_OK) goto out;
	if (!(body = kf_arena_alloc(&(*out)->arena, size + 1, 1))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to read %s", path);
		goto out;
	}
	got = ZSTD_decompress(body, size, c.p, kf_cur_left(&c));
	if (ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation)
		rc = kf_fail(err, KF_ENOMEM, "no memory to read %s", path);
	else if (ZSTD_isError(got) || got != size || !get_body(*out, body, size))
		rc = kf_fail(err, KF_EDATA, "%s: damaged; remove it to have the map made again", path);
out:
	json_decref(o);
	if (rc != KF_OK) {
		kf_vocabmap_free(*out);
		*out = NULL;
	}
	return rc;
}

kf_status kf_vocabmap_read(const char *path, kf_vocabmap **out, kf_err *err)
{
	kf_buf file = { 0 };
	kf_status rc;

	*out = NULL;
	if ((rc = kf_file_read(path, MAP_FILE, &file, err)) == KF_OK) rc = parse(path, &file, out, err);
	kf_buf_release(&file);
	return rc;
}
