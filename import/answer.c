#include "import/answer.h"

#include <math.h>
#include <stdlib.h>

#include "common/store/json.h"

/* ---- JSON ---- */

/* Where a string that begins at p ends, at its second quote; end where it has none. */
static char *string_end(char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++) p += *p == '\\' && p + 1 < end;
	return p;
}

/* jansson has no keys with NUL: in keys, and nowhere else, it becomes a character that no text has, U+FFFE. */
static json_t *without_nul(const uint8_t *line, size_t n, json_error_t *je)
{
	char *copy = malloc(n + 1), *end = copy + n;
	json_t *o;

	if (!copy) return NULL;
	memcpy(copy, line, n);
	for (char *p = copy; (p = memchr(p, '"', (size_t)(end - p)));) {
		char *last = string_end(p, end), *after = last + 1;

		while (after < end && strchr(" \t\r\n", *after)) after++;
		for (; p < last && after < end && *after == ':'; p++)
			if (*p == '\\' && p + 6 <= last && memcmp(p, "\\u0000", 6) == 0) memcpy(p + 2, "fffe", 4);
			else p += *p == '\\';
		p = last < end ? last + 1 : end;
	}
	o = json_loadb(copy, n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, je);
	free(copy);
	return o;
}

kf_status import_parse(const uint8_t *line, size_t n, const char *where, json_t **out, kf_err *err)
{
	json_error_t je;

	*out = json_loadb((const char *)line, n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &je);
	if (!*out && json_error_code(&je) == json_error_null_byte_in_key) *out = without_nul(line, n, &je);
	return *out ? KF_OK : kf_fail(err, KF_EDATA, "%s: not valid JSON: %s (byte %d)", where, je.text, je.position);
}

/* ---- values ---- */

kf_status import_nomem(const import_answer *a, kf_err *err)
{
	return kf_fail(err, KF_ENOMEM, "%s: no memory for its lists", a->where);
}

const char *import_shown(const uint8_t *p, size_t n, char out[49])
{
	size_t len = 0;

	for (size_t i = 0; i < n && len < 45; i++) out[len++] = p[i] < 0x20 || p[i] == 0x7f || p[i] == '"' ? '.' : (char)p[i];
	while (len && len < n && ((uint8_t)out[len - 1] & 0xc0) == 0x80) len--;  /* no half character at the end */
	if (len && len < n && (uint8_t)out[len - 1] >= 0xc0) len--;
	if (len < n) memcpy(out + len, "...", 3), len += 3;
	out[len] = 0;
	return out;
}

void import_candidate(import_answer *a, uint32_t row, uint32_t at, const char *key, const import_names *names)
{
	const import_name name = { key, strlen(key) };

	/* U+FFFD is any half character, or several: that it is the token of this text is unlikely */
	a->cand[at] = import_name_is_half(name) ? -1 : import_names_find(names, name);
	if (a->cand[at] >= 0 || a->nameless.s) return;
	a->nameless = name;
	a->nameless_row = row;
}

kf_status import_list(const import_answer *a, const json_t *o, const char *what, const json_t **out, kf_err *err)
{
	const json_t *v = json_object_get(o, what);

	*out = NULL;
	if (!v || json_is_null(v)) return KF_OK;
	if (!json_is_array(v)) return kf_fail(err, KF_EDATA, "%s: \"%s\" is not a list", a->where, what);
	if (json_array_size(v) > (1u << 26)) return kf_fail(err, KF_EDATA, "%s: \"%s\" is too long", a->where, what);
	*out = v;
	return KF_OK;
}

kf_status import_number(const import_answer *a, const json_t *v, const char *what, size_t at, float *out, kf_err *err)
{
	double x;

	*out = NAN;
	if (!v || json_is_null(v)) return KF_OK;
	if (!json_is_number(v)) return kf_fail(err, KF_EDATA, "%s: item %zu of \"%s\" is not a number", a->where, at, what);
	x = json_number_value(v);
	*out = x <= -KF_JSON_INFINITE ? -INFINITY : (float)x;
	return KF_OK;
}

kf_status import_id(const import_answer *a, const json_t *v, const char *what, size_t at, int32_t *out, kf_err *err)
{
	json_int_t id = json_integer_value(v);

	if (!json_is_integer(v) || id < 0 || id > INT32_MAX)
		return kf_fail(err, KF_EDATA, "%s: item %zu of \"%s\" is not a token's id", a->where, at, what);
	*out = (int32_t)id;
	return KF_OK;
}

kf_status import_answer_alloc(import_answer *a, size_t n, size_t rows, size_t cands, kf_arena *arena, kf_err *err)
{
	if (cands > UINT32_MAX / 2) return kf_fail(err, KF_EDATA, "%s: it has too many candidates", a->where);
	a->n = (uint32_t)n;
	a->rows = (uint32_t)rows;
	a->id = KF_ARENA_NEW(arena, int32_t, n + 1);
	a->name = KF_ARENA_NEW(arena, import_name, n + 1);
	a->lp = KF_ARENA_NEW(arena, float, n + 1);
	a->off = KF_ARENA_NEW(arena, uint32_t, rows + 1);
	a->cand = KF_ARENA_NEW(arena, int32_t, cands + 1);
	a->cand_lp = KF_ARENA_NEW(arena, float, cands + 1);
	if (!a->id || !a->name || !a->lp || !a->off || !a->cand || !a->cand_lp) return import_nomem(a, err);
	for (size_t i = 0; i < n; i++) {
		a->id[i] = -1;
		a->name[i] = (import_name){ 0 };
		a->lp[i] = NAN;
	}
	memset(a->off, 0, (rows + 1) * sizeof *a->off);
	return KF_OK;
}

/* ---- forms ---- */

kf_status import_body(const json_t *line, const char *where, const json_t **body, const json_t **choice, kf_err *err)
{
	const json_t *b = line, *r = json_object_get(line, "response"), *e, *c;

	*body = *choice = NULL;
	if ((e = json_object_get(line, "error")) && !json_is_null(e)) {
		const char *text = json_is_string(e) ? json_string_value(e) : json_string_value(json_object_get(e, "message"));

		return kf_fail(err, KF_EDATA, "%s: the server answered with an error: %.200s", where, text ? text : "(no message)");
	}
	if (json_is_object(r)) {
		const json_t *status = json_object_get(r, "status_code");

		if (json_is_integer(status) && json_integer_value(status) != 200)
			return kf_fail(err, KF_EDATA, "%s: the server answered with status %lld", where, (long long)json_integer_value(status));
		b = json_is_object(json_object_get(r, "body")) ? json_object_get(r, "body") : r;
		if ((e = json_object_get(b, "error")) && !json_is_null(e)) return import_body(b, where, body, choice, err);
	}
	*body = b;
	if ((c = json_object_get(b, "choices")) && json_is_array(c)) {
		if (json_array_size(c) > 1)
			return kf_fail(err, KF_EDATA, "%s: the response has %zu choices: one document a line, with n = 1", where, json_array_size(c));
		*choice = json_array_get(c, 0);
	}
	return KF_OK;
}

static bool has(const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);

	return v && !json_is_null(v);
}

kf_status import_answer_read(const json_t *line, const char *where, kf_import_format format, const import_names *names,
	kf_arena *arena, import_answer *out, kf_err *err)
{
	static const char *const wanted[] = { "neither \"tokens\" (jsonl), \"prompt_logprobs\" (vllm) nor \"logprobs\" of a choice (openai)",
		"no \"tokens\"", "no \"prompt_logprobs\"", "no \"logprobs\" of a choice" };
	const json_t *body, *choice;
	kf_status rc;

	*out = (import_answer){ .where = where, .bos = -1 };
	if ((format == KF_IMPORT_AUTO || format == KF_IMPORT_JSONL) && has(line, "tokens"))
		return import_answer_jsonl(line, names, arena, out, err);
	out->server = true;
	if ((rc = import_body(line, where, &body, &choice, err)) != KF_OK) return rc;
	if ((format == KF_IMPORT_AUTO || format == KF_IMPORT_VLLM) && (has(body, "prompt_logprobs") || has(choice, "prompt_logprobs")))
		return import_answer_vllm(body, choice, names, arena, out, err);
	if ((format == KF_IMPORT_AUTO || format == KF_IMPORT_OPENAI) && has(choice, "logprobs"))
		return import_answer_openai(choice, names, arena, out, err);
	return kf_fail(err, KF_EDATA, "%s: the record has %s", where, wanted[format]);
}
